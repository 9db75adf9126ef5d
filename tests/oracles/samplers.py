"""What the samplers by embeddings choose, as loops over the formulas; rows x are lists of float64
vectors.

What is drawn at random is an argument, so that the choice can be compared row by row.
"""
import math

import numpy as np
from scipy.linalg import sqrtm
from scipy.stats import multivariate_normal, wasserstein_distance


def squared(x, i, j):
    return float(np.sum((x[i] - x[j]) ** 2))


def minima(x, chosen):
    """Squared distance of every row to the nearest chosen one."""
    return [min(squared(x, i, c) for c in chosen) for i in range(len(x))]


def greedy_centres(x, first, number):
    """Greedy k-centre: always the row farthest from those chosen, the first of equally far ones."""
    chosen = [first]
    while len(chosen) < number:
        far = minima(x, chosen)
        chosen.append(max((i for i in range(len(x)) if i not in chosen), key=lambda i: far[i]))
    return chosen


def softened_choices(x, chosen):
    """The rows that the softened greedy may take next."""
    far = minima(x, chosen)
    return {i for i in range(len(x)) if i not in chosen and far[i] >= np.percentile(far, 97)}


def gaussian(x, ridge=1e-6):
    """Log-density of every row under the rows' own Gaussian, its variances raised by a share of
    their mean."""
    x = np.array(x)
    covariance = np.cov(x.T)
    covariance = covariance + ridge * np.trace(covariance) / len(covariance) * np.eye(
        len(covariance)
    )
    return [multivariate_normal.logpdf(row, x.mean(0), covariance) for row in x]


def d2_first(x, noise):
    """The row nearest to mean + sum_i noise_i (x_i - mean) / sqrt(M - 1)."""
    mean = sum(x) / len(x)
    draw = mean + sum(n * (row - mean) for n, row in zip(noise, x)) / math.sqrt(len(x) - 1)
    return min(range(len(x)), key=lambda i: np.linalg.norm(x[i] - draw))


def d2_probabilities(x, chosen, power):
    """The chance of every row to be the next centre."""
    density = gaussian(x)
    weight = [
        0.0
        if i in chosen
        else math.exp(density[i] - max(density)) * sum(squared(x, i, c) for c in chosen) ** power
        for i in range(len(x))
    ]
    return [w / sum(weight) for w in weight]


def d2_centres(x, noise, waiting, power):
    """Centres by exponential races: the candidate with the least waiting_i / p_i is i with chance
    p_i."""
    chosen = [d2_first(x, noise)]
    for wait in waiting:
        p = d2_probabilities(x, chosen, power)
        chosen.append(min((i for i in range(len(x)) if p[i] > 0), key=lambda i: wait[i] / p[i]))
    return chosen


def distances(x):
    return [float(np.linalg.norm(x[i] - x[j])) for i in range(len(x)) for j in range(i)]


def histogram_distance(x, subset, bins=50):
    """Wasserstein distance between the histograms of distances of all rows and of those of a subset
    (positions)."""
    everywhere, there = distances(x), distances([x[i] for i in subset])
    edges = np.linspace(min(everywhere), max(everywhere), bins + 1)
    middle = (edges[:-1] + edges[1:]) / 2
    return wasserstein_distance(
        middle, middle, np.histogram(everywhere, edges)[0], np.histogram(there, edges)[0]
    )


def frechet_distance(x, subset):
    """Between the Gaussians of all rows and of a subset (positions)."""
    x = np.array(x)
    y = x[list(subset)]
    s, t = np.atleast_2d(np.cov(x.T)), np.atleast_2d(np.cov(y.T))
    return float(np.sum((x.mean(0) - y.mean(0)) ** 2) + np.trace(s + t - 2 * np.real(sqrtm(s @ t))))
