"""Embeddings that metrics must survive: overlapping, duplicated, tied, lonely, perfect."""
import torch
from torch.nn.functional import normalize

from evaluation.ranking.exact import exact_scores
from evaluation.ranking.rows import plain_rows


def generator(seed):
    return torch.Generator().manual_seed(seed)


def exact_similarity(query, gallery):
    """The exact similarity of all rows, (Q, N)."""
    return exact_scores(plain_rows(query), plain_rows(gallery))


def clusters(seed, classes=6, per_class=7, width=8, noise=1.0):
    """Unit rows around class centres, classes interleaved, and their labels."""
    g = generator(seed)
    label = torch.arange(classes).repeat(per_class)  # (N,)
    centre = torch.randn(classes, width, generator=g)
    rows = centre[label] + noise * torch.randn(len(label), width, generator=g)
    return normalize(rows, dim=1), label


def random_labels(seed, classes, number):
    return torch.randint(classes, (number,), generator=generator(seed))


def duplicates():
    """Every row three times, labels mixed: a row's duplicates may be of other classes."""
    rows, _ = clusters(1, classes=4, per_class=4)
    return rows.repeat(3, 1), random_labels(2, 4, 48)


def ties():
    """Rows along four axes: most similarities are equal."""
    return torch.eye(4)[random_labels(3, 4, 60)], random_labels(4, 5, 60)


def singletons():
    """Two classes of several images and six of one."""
    rows, _ = clusters(4, classes=4, per_class=5)
    label = torch.tensor([0] * 6 + [1] * 8 + list(range(10, 16)))
    return rows, label[torch.randperm(20, generator=generator(0))]


def one_class():
    rows, label = clusters(5)
    return rows, torch.zeros_like(label)


def collapsed():
    """All rows equal: every ranking is by index alone."""
    return torch.full((50, 3), 3 ** -0.5), torch.arange(50) % 7


def perfect():
    """Classes far apart, rows of a class equal."""
    label = torch.tensor([2, 0, 1, 2, 1, 0, 0, 1, 2, 2])
    return torch.eye(3)[label], label


SETS = {
    "overlapping": lambda: clusters(0),
    "tight": lambda: clusters(6, noise=0.3),
    "duplicates": duplicates,
    "ties": ties,
    "singletons": singletons,
    "one_class": one_class,
    "collapsed": collapsed,
    "perfect": perfect,
}
