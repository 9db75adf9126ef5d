"""A context that lives: standardised logits, a loss of its own, and what the memory learns to decode."""
import numpy as np
import pytest
import torch
from torch import nn

from architectures.memory import select as select_memory
from criteria import select
from criteria.method import CrossBatchMemory, MemoryTarget, SecondLoss
from criteria.method.memory_target import NEAREST
from tests.criteria.method.small_method import DIM, LABEL, build, step
from utilities.errors import UsageError
from utilities.pairwise import unit

INDEX = torch.arange(12)


def test_standardised_logits_have_mean_zero_and_deviation_one_in_every_dimension():
    network, method = build(context_norm=nn.BatchNorm1d(DIM, affine=False))
    plain = build()[1]
    plain.load_state_dict(method.state_dict(), strict=False)
    features, related, _ = step(network, method)
    raw = plain.relate(network, features).context_logit.detach().double().numpy()
    expected = (raw - raw.mean(0)) / np.sqrt(raw.var(0) + 1e-5)
    np.testing.assert_allclose(related.context_logit.detach(), expected, atol=1e-4)
    torch.testing.assert_close(related.z, unit(features.embedding + related.context_logit.sigmoid()))


def test_standardised_logits_of_held_out_images_leave_the_statistics_alone():
    norm = nn.BatchNorm1d(DIM, affine=False)
    network, method = build(context_norm=norm)
    features, _, _ = step(network, method)
    before = norm.running_mean.clone()
    method.eval()
    method.relate(network, features)
    assert torch.equal(norm.running_mean, before) and before.abs().sum() > 0


def test_the_loss_of_the_context_is_that_of_its_unit_rows_and_trains_the_relation_alone():
    loss = SecondLoss(select("gpw", n_classes=4, embed_dim=DIM), weight=0.5)
    network, method = build(context_loss=loss)
    _, related, terms = step(network, method)
    c = related.context_logit.sigmoid()
    rows = c / c.norm(dim=1, keepdim=True)
    torch.testing.assert_close(terms["metric_context"], 0.5 * method.base(rows, LABEL))
    torch.testing.assert_close(terms["total"], sum(v for k, v in terms.items() if k != "total"))
    terms["metric_context"].backward()
    assert all(p.grad is not None for p in method.relation.projection.parameters())
    assert all(p.grad is None for p in network.projection.parameters())
    assert all(p.grad is None for p in network.memory.parameters())


def naive_target(rows):
    """sqrt(D) unit(mean) of each list of rows."""
    means = np.stack([np.mean(own, axis=0) for own in rows])
    return np.sqrt(means.shape[1]) * means / np.linalg.norm(means, axis=1, keepdims=True)


def test_the_target_of_positives_is_their_mean_and_an_image_alone_stands_for_itself():
    label = torch.tensor([0, 0, 0, 1, 1, 2])
    z = torch.randn(6, DIM, dtype=torch.double)
    u = (z / z.norm(dim=1, keepdim=True)).numpy()
    found = MemoryTarget("positives")(z, label, INDEX[:6])
    others = [[1, 2], [0, 2], [0, 1], [4], [3], [5]]
    np.testing.assert_allclose(found, naive_target([u[own] for own in others]), atol=1e-12)


def test_the_target_of_neighbours_is_the_mean_of_the_nearest_that_are_remembered():
    base = select("gpw", n_classes=4, embed_dim=DIM)
    xbm = CrossBatchMemory(base, DIM, size=30)
    target = MemoryTarget("neighbours", xbm)
    z = unit(torch.randn(12, DIM))
    alone = target(z, LABEL, INDEX)
    torch.testing.assert_close(alone, DIM ** 0.5 * z)  # nothing is remembered
    past = unit(torch.randn(30, DIM))
    xbm.remember(past, torch.zeros(30, dtype=torch.long), torch.arange(30))  # 0 to 11 are the batch itself
    expected = []
    for row in z.numpy():
        similarity = past[12:].numpy() @ row
        expected.append(past[12:].numpy()[np.argsort(-similarity)[:NEAREST]])
    found = target(z, LABEL, INDEX)
    np.testing.assert_allclose(found, naive_target(expected), rtol=1e-4, atol=1e-5)


def test_neighbours_need_a_cross_batch_memory():
    with pytest.raises(UsageError, match="--xbm_size"):
        MemoryTarget("neighbours")


def test_the_memory_learns_its_target_which_gets_no_gradient():
    network, method = build(memory="mlp", memory_target=MemoryTarget("positives"))
    features, related, terms = step(network, method)
    target = method.memory_target(related.z, LABEL, INDEX)
    assert not target.requires_grad
    expected = network.memory.nll(target, features.embedding).mean()
    torch.testing.assert_close(terms["memory_nll"], expected)
    assert not torch.isclose(expected, network.memory.nll(related.context_logit, features.embedding).mean())


@pytest.mark.parametrize("name", ["realnvp", "mlp"])
@pytest.mark.parametrize("condition, seen", [
    ("unit", lambda e: e / e.norm(dim=1, keepdim=True)),
    ("scaled", lambda e: DIM ** 0.5 * e / e.norm(dim=1, keepdim=True)),
    ("raw", lambda e: e),
])
def test_what_a_memory_sees_of_the_embedding(name, condition, seen):
    e = 3 * torch.randn(12, DIM)
    memory = select_memory(name, DIM, hidden=8, couplings=2, condition=condition)
    with torch.no_grad():
        for parameter in memory.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    torch.testing.assert_close(memory.condition(e), seen(e))
    longer = memory.decode(2 * e)
    assert torch.allclose(memory.decode(e), longer, atol=1e-6) == (condition != "raw")


def test_other_rows_of_the_batch_change_no_decoded_context():
    """With standardised logits too a test image needs no batch."""
    network, method = build(context_norm=nn.BatchNorm1d(DIM, affine=False))
    step(network, method)
    image = torch.randn(4, 3, 16, 16)
    torch.testing.assert_close(network.embed(image)[:1], network.embed(image[:1]))
