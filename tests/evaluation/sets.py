"""Embeddings that metrics must survive: overlapping, duplicated, tied, lonely, one class, perfect."""
import numpy as np
import torch


def clusters(seed: int, classes: int = 6, per_class: int = 7, width: int = 8, noise: float = 1.0):
    """Unit rows around class centres, classes interleaved, and their labels."""
    g = torch.Generator().manual_seed(seed)
    label = torch.arange(classes).repeat(per_class)                                # (N,)
    rows = torch.randn(classes, width, generator=g)[label] + noise * torch.randn(len(label), width, generator=g)
    return torch.nn.functional.normalize(rows, dim=1), label


def duplicates():
    """Every row three times, labels mixed, so that a row's duplicates are its nearest and may be of other classes."""
    rows, _ = clusters(1, classes=4, per_class=4)
    rows = rows.repeat(3, 1)
    return rows, torch.randint(0, 4, (len(rows),), generator=torch.Generator().manual_seed(2))


def ties():
    """Rows on the corners of a square and a cube: most similarities are equal."""
    g = torch.Generator().manual_seed(3)
    rows = torch.eye(4)[torch.randint(0, 4, (60,), generator=g)]
    return rows, torch.randint(0, 5, (60,), generator=g)


def singletons():
    """Two classes of several images and six of one."""
    rows, _ = clusters(4, classes=4, per_class=5)
    return rows, torch.tensor([0] * 6 + [1] * 8 + list(range(10, 16)))[torch.from_numpy(np.random.RandomState(0)
                                                                                       .permutation(20))]


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


SETS = {"overlapping": lambda: clusters(0), "tight": lambda: clusters(6, noise=0.3), "duplicates": duplicates,
        "ties": ties, "singletons": singletons, "one_class": one_class, "collapsed": collapsed, "perfect": perfect}
