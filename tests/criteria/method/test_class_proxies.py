"""The term with proxies of classes against a naive loop."""
import math

import pytest
import torch

from criteria import PairWeights, select
from criteria.method.class_proxies import ClassProxies
from criteria.method.pairs import pairs_of
from criteria.method.weighting import Sharpness
from utilities.pairwise import unit

CLASSES, DIM = 5, 4


def batch(seed=0, size=6):
    generator = torch.Generator().manual_seed(seed)
    z = torch.randn(size, DIM, generator=generator, dtype=torch.float64)
    return z.requires_grad_(), torch.randint(CLASSES, (size,), generator=generator)


def term(**arguments):
    torch.manual_seed(1)
    return ClassProxies(CLASSES, DIM, **arguments).double()


def naive(z, label, proxies, weight, sharpness):
    """The formula with loops; the shares are numbers, so that no gradient passes through them."""
    total = 0
    for row, y in zip(z, label.tolist()):
        s = [row @ p / (row.norm() * p.norm()) for p in proxies]
        others = [k for k in range(len(s)) if k != y]
        size = [math.exp(sharpness * s[k].item()) for k in others]
        total = total + sum(q / sum(size) * s[k] for q, k in zip(size, others)) - s[y]
    return weight * total / len(z)


@pytest.mark.parametrize("sharpness", [0.0, 3.0, 20.0])
def test_value_and_gradients_are_those_of_the_formula(sharpness):
    proxies, (z, label) = term(weight=0.7, sharpness=sharpness), batch()
    values = proxies(z, label), naive(z, label, proxies.proxies, 0.7, sharpness)
    torch.testing.assert_close(*values)
    gradients = [torch.autograd.grad(value, (z, proxies.proxies)) for value in values]
    for ours, theirs in zip(*gradients):
        torch.testing.assert_close(ours, theirs)
        assert ours.abs().max() > 0


def test_it_is_the_plain_pair_loss_where_the_proxies_are_the_other_images():
    """One anchor: with a proxy of each class in the batch, the anchor's pairs are those with the proxies."""
    proxies, (z, _) = term(sharpness=7.0), batch(size=1)
    label = torch.tensor([2])
    rows, labels = torch.cat([unit(z), unit(proxies.proxies)]), torch.cat([label, torch.arange(CLASSES)])
    pairs = pairs_of(rows, labels, 1)
    weights = [Sharpness().weights(torch.full((1, 1), b), sign, pairs)[0] for sign, b in enumerate((0.0, 7.0))]
    weight = PairWeights(*weights)
    torch.testing.assert_close(proxies(z, label), select("gpw", n_classes=CLASSES, embed_dim=DIM)(
        rows, labels, None, weight, 1))


def test_length_of_rows_and_their_order_do_not_matter():
    proxies, (z, label) = term(), batch()
    order = torch.randperm(len(label), generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(proxies(3 * z[order], label[order]), proxies(z, label))


def test_with_one_class_images_are_only_pulled():
    proxies, (z, label) = ClassProxies(1, DIM).double(), batch()
    loss = proxies(z, 0 * label)
    torch.testing.assert_close(loss, -(unit(z) @ unit(proxies.proxies).T).mean())
    assert torch.autograd.grad(loss, z)[0].isfinite().all()


def test_a_larger_sharpness_counts_nearer_classes_more():
    """At the same similarities the pushing mean rises from the plain mean towards the largest."""
    z, label = batch()
    values = [term(sharpness=b)(z, label).item() for b in (0.0, 5.0, 50.0, 5000.0)]
    assert values == sorted(values) and values[0] < values[-1]


def test_the_optimizer_has_the_proxies_at_their_rate_without_decay():
    proxies = term(lr=0.3)
    assert proxies.param_groups() == [{"params": [proxies.proxies], "lr": 0.3, "weight_decay": 0.0}]
