"""The cross-batch memory against a plain list of past embeddings."""
import copy

import pytest
import torch

from batchminer import select as select_miner
from criteria import PairWeights, select
from criteria.method.pairs import pairs_of
from criteria.method.weighting import Sharpness
from criteria.method.xbm import CrossBatchMemory
from utilities.errors import UsageError
from utilities.pairwise import unit

DIM, BATCH, IMAGES = 5, 6, 40


def unweighted(rows, labels, anchors):
    return None


def steps(number, seed=0):
    """Batches of z, label (two of each of three classes) and image index, as training would bring them."""
    generator = torch.Generator().manual_seed(seed)
    for _ in range(number):
        z = unit(torch.randn(BATCH, DIM, generator=generator, dtype=torch.float64)).requires_grad_()
        label = torch.randperm(6, generator=generator)[:3].repeat(2)
        yield z, label, torch.randperm(IMAGES, generator=generator)[:BATCH]


@pytest.mark.parametrize("size", [4, 6, 15, 1000])
@pytest.mark.parametrize("name", ["gpw", "multisimilarity", "smoothap"])
def test_the_term_is_the_loss_against_a_plain_list_of_the_past(name, size):
    criterion, past = select(name, n_classes=6, embed_dim=DIM), []
    memory = CrossBatchMemory(criterion, DIM, size, start=2, weight=0.7).double()
    for number, (z, label, index) in enumerate(steps(9), start=1):
        kept = [(row, y) for row, y, i in past if i not in index.tolist()]
        loss = memory(criterion, z, label, index, unweighted)
        if number > 2 and kept:
            rows = torch.cat([z, torch.stack([row for row, _ in kept])])
            labels = torch.cat([label, torch.tensor([y for _, y in kept])])
            expected = 0.7 * criterion(rows, labels, anchors=BATCH)
            torch.testing.assert_close(loss, expected, rtol=1e-12, atol=1e-12)
            gradients = [torch.autograd.grad(value, z)[0] for value in (loss, expected)]
            torch.testing.assert_close(*gradients, rtol=1e-9, atol=1e-12)
            assert gradients[0].abs().max() > 0
        else:
            assert loss.item() == 0
        past = (past + list(zip(z.detach(), label.tolist(), index.tolist())))[-size:]


def test_an_image_is_not_compared_with_its_own_past():
    criterion = select("gpw", n_classes=6, embed_dim=DIM)
    memory = CrossBatchMemory(criterion, DIM, 50, start=0).double()
    z, label, index = next(steps(1))
    memory(criterion, z, label, index, unweighted)
    assert len(memory.references(index)[0]) == 0
    assert len(memory.references(index + IMAGES)[0]) == BATCH
    assert memory(criterion, z, label, index, unweighted).item() == 0              # nothing but its own past


def test_anchors_are_the_batch_and_candidates_are_everything():
    class Spy:
        def __init__(self):
            self.miner, self.seen = select_miner("random", seed=3), []

        def __call__(self, rows, labels, anchors):
            self.seen.append((labels, anchors, self.miner(rows, labels, anchors)))
            return self.seen[-1][2]

    criterion, spy = select("margin", n_classes=6, embed_dim=DIM), Spy()
    memory = CrossBatchMemory(criterion, DIM, 30, start=0, miner=spy).double()
    for z, label, index in steps(30):
        memory(criterion, z, label, index, unweighted)
    reached = set()
    for labels, anchors, triplets in spy.seen:
        assert anchors == BATCH and (triplets.anchor < BATCH).all()
        assert (labels[triplets.anchor] == labels[triplets.positive]).all()
        assert (labels[triplets.anchor] != labels[triplets.negative]).all()
        reached |= set(triplets.positive.tolist()) | set(triplets.negative.tolist())
    assert max(reached) > 2 * BATCH


def test_sharpness_weights_reach_over_the_memory():
    z = unit(torch.randn(9, DIM, dtype=torch.float64))
    label = torch.tensor([0, 0, 1, 1, 0, 1, 2, 2, 0])
    pairs = pairs_of(z, label, 4)
    rows = [Sharpness().weights(torch.full((1, 1), b), sign, pairs) for sign, b in enumerate((5.0, 20.0))]
    criterion = select("gpw", n_classes=3, embed_dim=DIM)
    loss = criterion(z, label, None, PairWeights(*(w[0] for w in rows)), anchors=4)
    assert loss != criterion(z, label, anchors=4)


def test_resumes_bit_for_bit():
    def build():
        return CrossBatchMemory(criterion, DIM, 15, start=1, miner=select_miner("random", seed=5)).double()
    criterion = select("margin", n_classes=6, embed_dim=DIM)
    memory, batches = build(), list(steps(8))
    for batch in batches[:4]:
        memory(criterion, *batch, unweighted)
    state = copy.deepcopy(memory.state_dict())
    expected = [memory(criterion, *batch, unweighted) for batch in batches[4:]]
    fresh = build()
    fresh.load_state_dict(state)
    assert [fresh(criterion, *batch, unweighted) for batch in batches[4:]] == expected


def test_proxy_losses_refuse_it():
    with pytest.raises(UsageError, match="ProxyAnchor.*--xbm_size 0"):
        CrossBatchMemory(select("proxyanchor", n_classes=3, embed_dim=DIM), DIM, 10)


@pytest.mark.parametrize("kind", [torch.int32, torch.uint8, torch.int64])
def test_labels_and_numbers_of_any_whole_type_are_remembered(kind):
    criterion = select("gpw", n_classes=6, embed_dim=DIM)
    memory = CrossBatchMemory(criterion, DIM, 12).double()
    for z, label, index in steps(3):
        memory(criterion, z, label.to(kind), index.to(kind), unweighted)
    assert memory.label.tolist()[:BATCH] == label.tolist()


def test_images_without_numbers_are_refused():
    criterion = select("gpw", n_classes=6, embed_dim=DIM)
    z, label, _ = next(steps(1))
    with pytest.raises(UsageError, match="pass their numbers as `index`"):
        CrossBatchMemory(criterion, DIM, 12).double()(criterion, z, label, None, unweighted)
