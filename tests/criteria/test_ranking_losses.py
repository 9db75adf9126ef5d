"""Losses over rankings: values by hand, bounds and limits, the library where it is right, blocks
and their memory."""
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.func import grad, vmap
from torch.utils._python_dispatch import TorchDispatchMode

from criteria import PairWeights, ranking, select
from parameters import get_options
from tests.criteria.test_criteria import batch, build, random_weights
from tests.oracles.common import sigmoid
from training.building import build_method, build_network

NAMES = ("smoothap", "supap", "recallatk")
over_rankings = pytest.mark.parametrize("name", NAMES)


def one_query(name, positives, negatives, w_positive=None, w_negative=None, **arguments):
    """The loss of a single query that sees items at the given similarities, and the items
    (requiring gradients)."""
    items = torch.tensor(
        [[s] for s in (*positives, *negatives)], dtype=torch.float64, requires_grad=True
    )
    label = torch.tensor([0] * (1 + len(positives)) + [1] * len(negatives))
    weight = None
    if w_positive:
        weight = PairWeights(
            torch.tensor([[7.0, *w_positive, *(7.0 for _ in negatives)]], dtype=torch.float64),
            torch.tensor([[7.0, *(7.0 for _ in positives), *w_negative]], dtype=torch.float64),
        )
    criterion = select(name, n_classes=2, embed_dim=1, **arguments)
    return criterion(
        torch.cat([torch.ones_like(items[:1]), items]), label, None, weight, anchors=1
    ), items


def test_perfect_embeddings():
    """Classes of 3 and 2, each in one point: nothing stands above a positive but, by half, the
    other one of three."""
    label = torch.tensor([0, 0, 0, 1, 1])
    x = torch.eye(2, dtype=torch.float64)[label]

    def value(name, **arguments):
        return select(name, n_classes=2, embed_dim=2, **arguments)(x, label).item()

    assert value("smoothap") == pytest.approx(0, abs=1e-30)
    assert value("smoothap", exclude_self=True) == pytest.approx(0, abs=1e-30)
    assert value("supap") == pytest.approx(0, abs=1e-30)
    assert value("supap", alpha=1.25) == pytest.approx(0.5 * 0.25)
    assert value("supap", beta=-0.5, calibration=0.25) == pytest.approx(0.25 * 0.5)
    assert value("recallatk", ks=(1, 3)) == pytest.approx(
        (3 * (sigmoid(1.5 - 1) + sigmoid(1.5 - 3)) / 2 + 2 * (sigmoid(1 - 1) + sigmoid(1 - 3)) / 2)
        / 5
    )


# exact, a tie among them
POSITIVES, NEGATIVES = (0.5, 0.25), (0.5, 0.375, -1.0)
WEIGHTS = (2.0, 3.0), (0.5, 4.0, 0.0)


def test_smoothap_by_hand():
    # sigmoids of multiples of 1
    loss, _ = one_query("smoothap", POSITIVES, NEGATIVES, *WEIGHTS, tau=0.125)
    first = 0.5 * sigmoid(0) + 4 * sigmoid(-1)
    second = 0.5 * sigmoid(2) + 4 * sigmoid(1)
    itself = 0.5 * sigmoid(-4) + 4 * sigmoid(-5)
    aps = [
        (1 + sigmoid(4) + 3 * sigmoid(-2), first),
        (1 + sigmoid(6) + 2 * sigmoid(2), second),
        (1 + 2 * sigmoid(-4) + 3 * sigmoid(-6), itself),
    ]
    assert loss.item() == pytest.approx(1 - sum(p / (p + n) for p, n in aps) / 3, rel=1e-12)
    loss, _ = one_query("smoothap", POSITIVES, NEGATIVES, *WEIGHTS, tau=0.125, exclude_self=True)
    aps = [(1 + 3 * sigmoid(-2), first), (1 + 2 * sigmoid(2), second)]
    assert loss.item() == pytest.approx(1 - sum(p / (p + n) for p, n in aps) / 2, rel=1e-12)


def test_supap_by_hand_with_ties():
    """H: one at the tie, sigmoid below, half more above, the line from delta on; positives count
    whole, also tied."""
    arguments = {"tau": 0.0625, "rho": 8.0, "delta": 0.125, "alpha": 0.75, "beta": 0.25}
    pieces = {
        0: 1,
        -2: sigmoid(-2),
        -24: sigmoid(-24),
        4: 0.5 + sigmoid(2) + 8 * 0.125,
        2: 0.5 + sigmoid(2),
        -20: sigmoid(-20),
    }
    first, second = pieces[0] + pieces[-2] + pieces[-24], pieces[4] + pieces[2] + pieces[-20]
    ranked = 1 - (1 / (1 + first) + 2 / (2 + second)) / 2
    hinges = (0.25 + 0.5) / 2 + (0.25 + 0.125 + 0) / 3
    loss, _ = one_query("supap", POSITIVES, NEGATIVES, **arguments)
    assert loss.item() == pytest.approx(0.5 * ranked + 0.5 * hinges, rel=1e-12)
    loss, _ = one_query("supap", POSITIVES, NEGATIVES, *WEIGHTS, calibration=0.75, **arguments)
    first, second = 0.5 * pieces[0] + 4 * pieces[-2], 0.5 * pieces[4] + 4 * pieces[2]
    ranked = 1 - (1 / (1 + first) + (1 + 2) / (1 + 2 + second)) / 2
    hinges = (2 * 0.25 + 3 * 0.5) / 2 + (0.5 * 0.25 + 4 * 0.125) / 3
    assert loss.item() == pytest.approx(0.25 * ranked + 0.75 * hinges, rel=1e-12)
    tied, _ = one_query("supap", (0.5, 0.5), (0.75,), calibration=0.0, **arguments)
    assert tied.item() == pytest.approx(1 - 2 / (2 + pieces[4]), rel=1e-12)


def test_recallatk_by_hand():
    loss, _ = one_query(
        "recallatk", POSITIVES, NEGATIVES, *WEIGHTS, ks=(1, 4), tau1=2.0, tau2=0.125
    )
    first = 3 * sigmoid(-2) + 0.5 * sigmoid(0) + 4 * sigmoid(-1)
    second = 2 * sigmoid(2) + 0.5 * sigmoid(2) + 4 * sigmoid(1)
    recalls = [sigmoid((k - 1 - above) / 2) for k in (1, 4) for above in (first, second)]
    assert loss.item() == pytest.approx(1 - sum(recalls) / 4, rel=1e-12)


def test_the_bound_of_supap_is_a_continuous_line_beyond_delta():
    def bound(lead):
        loss, _ = one_query("supap", (0.0,), (lead,), calibration=0.0)
        # H / (1 + H) -> H
        return (loss / (1 - loss)).item()

    assert bound(-1e-9) == pytest.approx(0.5, abs=1e-6) and bound(0.0) == 1
    assert bound(0.05) == pytest.approx(0.5 + sigmoid(5), rel=1e-12)
    assert bound(0.05 + 1e-9) == pytest.approx(bound(0.05), abs=1e-6)
    # rho = 100
    assert bound(0.25) - bound(0.15) == pytest.approx(10, rel=1e-9)
    heights = [bound(lead / 100) for lead in range(-20, 21)]
    assert heights == sorted(heights)
    assert all(h >= (i >= 20) for i, h in enumerate(heights))


similarities = st.lists(st.integers(-16, 16).map(lambda n: n / 16), min_size=1, max_size=6)


@settings(deadline=None)
@given(similarities, similarities)
def test_supap_is_at_least_one_minus_average_precision(positives, negatives):
    loss, _ = one_query("supap", positives, negatives, calibration=0.0)
    rank = [[sum(t >= s for t in items) for items in (positives, negatives)] for s in positives]
    # ties count, as in the paper's step
    ap = sum(p / (p + n) for p, n in rank) / len(positives)
    assert loss.item() >= 1 - ap - 1e-12


@over_rankings
@settings(deadline=None)
@given(positives=similarities, negatives=similarities)
def test_a_nearer_negative_never_lowers_the_loss(name, positives, negatives):
    loss, items = one_query(name, positives, negatives)
    (gradient,) = torch.autograd.grad(loss, items)
    assert (gradient[len(positives) :] >= 0).all()
    # r+ has no gradient to turn it round
    if name == "supap":
        assert (gradient[: len(positives)] <= 0).all()
    nearer, _ = one_query(name, positives, [s + 1 / 16 for s in negatives])
    assert nearer.item() >= loss.item() - 1e-12


def test_recallatk_tends_to_recall():
    """For sharp sigmoids rank k counts half: the mean of recall@(k-1) and recall@k."""
    x, label, _ = batch("mixed sizes")
    s = (x @ x.T).fill_diagonal_(-9)
    for k in (1, 2, 4):
        recalls = []
        for q in range(len(label)):
            same = [j for j in range(len(label)) if j != q and label[j] == label[q]]
            ranks = [1 + int((s[q] > s[q, j]).sum()) for j in same]
            recalls += [sum(r <= top for r in ranks) / len(same) for top in (k - 1, k)]
        loss = build("recallatk", arguments={"ks": (k,), "tau1": 1e-3, "tau2": 1e-6})(x, label)
        assert loss.item() == pytest.approx(1 - sum(recalls) / len(recalls), abs=1e-9)


def test_recallatk_takes_its_ks_from_the_command_line():
    opt = get_options(["--loss", "recallatk", "--loss_recallatk_ks", "1", "10"])
    criterion = build_method(opt, build_network(opt), 6).base
    assert criterion.lengths.tolist() == [1, 10] and not criterion.state_dict()


@pytest.mark.parametrize("size", [2, 3, 5])
def test_smoothap_equals_the_library_where_it_is_right(size):
    """pytorch-metric-learning 2.9.0 groups rows by the number of classes: right where that is the
    class size."""
    losses = pytest.importorskip("pytorch_metric_learning.losses")
    label = torch.arange(size).repeat_interleave(size)
    x = torch.nn.functional.normalize(torch.randn(size * size, 8, dtype=torch.float64), dim=-1)
    # in float32
    theirs = losses.SmoothAPLoss(temperature=0.01)(x, label)
    torch.testing.assert_close(build("smoothap")(x, label).float(), theirs, rtol=1e-5, atol=1e-6)


def graph_of(node):
    """Names of all backward nodes."""
    return set().union(
        {type(node).__name__}, *(graph_of(child) for child, _ in node.next_functions if child)
    )


@over_rankings
@pytest.mark.parametrize("anchors", [None, 4])
@pytest.mark.parametrize("entries", [1, 60])
def test_blocks_change_nothing(name, anchors, entries, monkeypatch):
    criterion, (x, label, _) = build(name), batch("mixed sizes")
    number = len(label) if anchors is None else anchors
    x.requires_grad_()
    for columns in (1, len(label)):
        weight = PairWeights(*(w.requires_grad_() for w in random_weights(number, columns)))

        def results(weight=weight):
            loss = criterion(x, label, None, weight, anchors)
            return loss, *torch.autograd.grad(loss, [x, *weight])

        whole = results()
        assert "InBlocksBackward" not in graph_of(whole[0].grad_fn)
        with monkeypatch.context() as patch:
            patch.setattr(ranking, "ENTRIES", entries)
            blocked = results()
        assert "InBlocksBackward" in graph_of(blocked[0].grad_fn)
        torch.testing.assert_close(blocked, whole, rtol=1e-12, atol=1e-14)


@over_rankings
def test_blocks_pass_vmap_and_grad(name, monkeypatch):
    criterion, (x, label, _) = build(name), batch("mixed sizes")
    weight = random_weights(len(label), len(label), leading=(3,))

    def loss(z, positive, negative):
        return criterion(z, label, None, PairWeights(positive, negative))

    def gradients():
        return vmap(grad(loss), in_dims=(None, 0, 0))(x, *weight)

    whole = gradients()
    monkeypatch.setattr(ranking, "ENTRIES", 60)
    torch.testing.assert_close(gradients(), whole, rtol=1e-12, atol=1e-14)


class Watch(TorchDispatchMode):
    """Records the size of the largest tensor made, and how often the host waits for a value."""

    largest = waits = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        self.waits += function is torch.ops.aten._local_scalar_dense.default
        self.largest = max(
            [
                self.largest,
                *(
                    t.numel()
                    for t in (out if isinstance(out, (tuple, list)) else [out])
                    if isinstance(t, torch.Tensor)
                ),
            ]
        )
        return out


@over_rankings
def test_no_tensor_outgrows_a_block_and_the_host_waits_once(name, monkeypatch):
    criterion, size = select(name, n_classes=8, embed_dim=4), 128
    # 16 a class: 15 or 16 ranked
    label = torch.arange(size) % 8
    x = torch.nn.functional.normalize(torch.randn(size, 4), dim=-1).requires_grad_()
    for entries, bound in ((2**24, 16 * size * size), (4 * size * size, 4 * size * size)):
        monkeypatch.setattr(ranking, "ENTRIES", entries)
        with Watch() as watch:
            torch.autograd.grad(criterion(x, label), x)
        assert 0.9 * bound <= watch.largest <= bound and watch.waits == 1


@over_rankings
def test_in_float32_the_gradient_of_a_batch_of_duplicates_is_finite(name):
    label = torch.arange(12) // 3
    x = torch.nn.functional.normalize(torch.ones(12, 5), dim=-1).requires_grad_()
    loss = select(name, n_classes=4, embed_dim=5)(x, label)
    (gradient,) = torch.autograd.grad(loss, x)
    assert loss.isfinite() and gradient.isfinite().all()
