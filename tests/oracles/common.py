"""What the definitions of all criteria and miners are written with."""
import math


def positives(label, i):
    return [j for j in range(len(label)) if j != i and label[j] == label[i]]


def negatives(label, i):
    return [j for j in range(len(label)) if label[j] != label[i]]


def relu(value):
    return max(value, 0.0)


def sigmoid(value):
    return 1 / (1 + math.exp(-value)) if value >= 0 else math.exp(value) / (1 + math.exp(value))


def log_one_plus_sum(terms):
    """log(1 + sum w exp(e)) of (w, e) pairs."""
    return math.log1p(math.fsum(w * math.exp(e) for w, e in terms))
