"""Whether the context lives, against scikit-learn, NumPy and an analysis of variance by hand."""
import numpy as np
import pytest
import torch
from sklearn.metrics import r2_score

from architectures.memory import select as select_memory
from criteria import select
from criteria.method import CrossBatchMemory, MemoryTarget
from criteria.method.context_health import (
    Contexts,
    class_share,
    context_numbers,
    context_record,
    has_health,
    held_out_context,
)
from datasets.base import Batch
from evaluation.report.context import CONTEXT
from tests.criteria.method.small_method import DIM, LABEL, build, step

CPU = torch.device("cpu")
INDEX = torch.arange(12)


def random_contexts(images=30, dim=7, classes=4):
    """Contexts that are decoded with an error, of unequal classes."""
    label = torch.randint(classes, (images,))
    context = torch.rand(images, dim) + 0.5 * torch.rand(classes, dim)[label]
    decoded = context + 0.2 * torch.randn(images, dim) + 0.1
    target = context + 0.1 * torch.rand(images, dim)
    return Contexts(context, target, decoded, 3 * torch.randn(images, dim) + 5, label)


def anova(x, label):
    """Epsilon squared, (SS between - df between MS within) / SS total, summed over dimensions by loops."""
    between = within = total = 0.0
    groups = [x[label == one] for one in np.unique(label)]
    for d in range(x.shape[1]):
        mean = x[:, d].mean()
        total += sum((value - mean) ** 2 for value in x[:, d])
        for group in groups:
            own = group[:, d].mean()
            between += len(group) * (own - mean) ** 2
            within += sum((value - own) ** 2 for value in group[:, d])
    mean_square = within / (len(x) - len(groups))
    return (between - (len(groups) - 1) * mean_square) / total


def test_the_numbers_are_those_of_other_libraries():
    rows = random_contexts()
    found = context_numbers(rows)
    c, target, decoded, e, label = (part.double().numpy() for part in rows)
    assert list(found) == list(CONTEXT)
    assert found["context_std"] == pytest.approx(c.std(0, ddof=1).mean())
    assert found["context_ratio"] == pytest.approx(np.sqrt(c.var(0).sum() / e.var(0).sum()))
    assert found["context_r2"] == pytest.approx(r2_score(target, decoded, multioutput="variance_weighted"))
    assert found["context_class_share"] == pytest.approx(anova(c, label))


def test_the_class_share_is_zero_by_chance_and_one_where_classes_are_points():
    generator = torch.Generator().manual_seed(0)
    label = torch.arange(40).repeat_interleave(3)
    shares = []
    for _ in range(50):
        noise = torch.randn(120, 5, dtype=torch.double, generator=generator)
        shares.append(class_share(noise, label).item())
    # without the correction it would be 39 / 119
    assert np.mean(shares) == pytest.approx(0, abs=4 * np.std(shares) / np.sqrt(50))
    assert class_share(torch.randn(40, 5, dtype=torch.double)[label], label) == 1


def test_what_is_not_defined_is_left_out():
    rows = random_contexts()
    half = torch.full_like(rows.context, 0.5)
    constant = rows._replace(context=half, target=half)
    assert context_numbers(constant) == {"context_std": 0, "context_ratio": 0}
    alone = rows._replace(label=torch.arange(30))
    assert set(CONTEXT) - set(context_numbers(alone)) == {"context_class_share"}


def test_a_mean_decodes_nothing():
    rows = random_contexts()
    mean = rows._replace(decoded=rows.target.mean(0).expand_as(rows.target))
    assert context_numbers(mean)["context_r2"] == pytest.approx(0, abs=1e-6)
    assert context_numbers(rows._replace(decoded=rows.target))["context_r2"] == 1


@pytest.mark.parametrize("memory, decode, expected", [
    ("realnvp", "mode", True), ("mlp", "sample", True), ("realnvp", "off", False), ("constant", "mode", False),
])
def test_it_is_measured_where_a_context_of_the_image_is_decoded(memory, decode, expected):
    network, _ = build()
    network.memory = select_memory(memory, DIM, decode=decode)
    assert has_health(network) == expected
    network.memory = None
    assert not has_health(network)


@pytest.mark.parametrize("decode", ["mode", "sample"])
def test_a_record_compares_the_relations_context_with_the_decoded_one_and_moves_nothing(decode):
    network, method = build(memory="mlp")
    network.memory.decoding = decode
    network.memory.net.insert(0, torch.nn.BatchNorm1d(DIM))  # whose statistics move in training mode
    features, related, _ = step(network, method)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    found = context_record(method, network, related, LABEL, INDEX)
    assert network.memory.training
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    network.eval()
    decoded = network.memory.context(features.embedding, INDEX).detach().double()
    true = related.context_logit.sigmoid().detach().double()
    assert found["context_r2"] == pytest.approx(r2_score(true, decoded, multioutput="variance_weighted"), rel=1e-6)


def test_held_out_batches_count_as_one_set():
    batches = [Batch(torch.randn(12, 3, 16, 16), LABEL + shift, INDEX) for shift in (0, 2)]
    network, method = build()
    step(network, method)
    method.relation.order = "batch"  # which draws nothing
    found = held_out_context(method, network, batches, CPU)
    with torch.no_grad():
        rows = [method.relate(network, network(batch.image)).context_logit.sigmoid() for batch in batches]
    context = torch.cat(rows).double()
    label = torch.cat([LABEL, LABEL + 2])
    assert found["context_std"] == pytest.approx(context.std(0).mean().item())
    assert found["context_class_share"] == pytest.approx(anova(context.numpy(), label.numpy()))


def test_held_out_batches_leave_the_draws_of_training_alone():
    batches = [Batch(torch.randn(12, 3, 16, 16), LABEL, INDEX) for _ in range(2)]
    network, method = build()
    state = method.relation.stream.state_dict()["state"].clone()
    found = held_out_context(method, network, batches, CPU)
    assert found == held_out_context(method, network, batches, CPU)
    assert torch.equal(state, method.relation.stream.state_dict()["state"])


def test_held_out_images_leave_no_training_image_out_of_the_neighbours():
    """They are counted from 0 too, in a set of their own."""
    network, method = build()
    xbm = CrossBatchMemory(select("gpw", n_classes=4, embed_dim=DIM), DIM, size=12)
    method.memory_target = MemoryTarget("neighbours", xbm)
    xbm.remember(torch.randn(12, DIM), LABEL, INDEX)
    batches = [Batch(torch.randn(12, 3, 16, 16), LABEL, INDEX)]
    found = held_out_context(method, network, batches, CPU)
    xbm.index += 100
    assert found == held_out_context(method, network, batches, CPU)
