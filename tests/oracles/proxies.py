"""Losses over proxies of classes."""
import math

from tests.oracles.common import log_one_plus_sum


def proxyanchor(x, label, triplets, w_pos, w_neg, placement, params, alpha=32.0, delta=0.1, lr=None):
    proxies = [p / math.sqrt(p @ p) for p in params["proxies"]]
    pull, push, present = 0.0, 0.0, 0
    for k, proxy in enumerate(proxies):
        own = [i for i in range(len(label)) if label[i] == k]
        others = [i for i in range(len(label)) if label[i] != k]
        present += bool(own)
        pull += log_one_plus_sum((w_pos[i, 0], -alpha * (x[i] @ proxy - delta)) for i in own)
        push += log_one_plus_sum((w_neg[i, 0], alpha * (x[i] @ proxy + delta)) for i in others)
    return pull / present + push / len(proxies)


PROXY_ORACLES = {"proxyanchor": proxyanchor}
