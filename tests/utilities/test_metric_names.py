"""Which of two values of a metric is better, for every metric that there is."""
import math

import pytest

from evaluation import METRICS
from utilities.metric_names import is_better, is_share

# of each metric a worse value, then a better one
ORDERED = {
    "dists@intra": (0.5, 0.2),
    "dists@inter": (0.2, 0.5),
    "dists@intra_over_inter": (1.2, 0.4),
    "rho_spectrum@<m>": (math.inf, 0.1),
    "fnmr@<rate>": (0.4, 0.1),
}
SCORES = {"e_recall@<k>", "c_recall@<k>", "precision@<k>", "c_precision@<k>", "r_precision", "c_r_precision", "mrr",
          "c_mrr", "mAP", "c_mAP", "mAP_r", "c_mAP_r", "mAP_1000", "c_mAP_1000", "mAP_lim", "c_mAP_lim", "mAP_c",
          "c_mAP_c", "nmi", "c_nmi", "f1", "c_f1", "ami"}
NUMBERS = {"<k>": "1", "<m>": "1", "<rate>": "0.05"}


@pytest.mark.parametrize("pattern", METRICS)
def test_every_metric_has_a_direction(pattern):
    assert (pattern in ORDERED) != (pattern in SCORES), "say here which of two values is better"
    worse, better = ORDERED.get(pattern, (0.3, 0.6))
    name = pattern
    for kind, number in NUMBERS.items():
        name = name.replace(kind, number)
    for metric in (name, f"val_{name}"):
        assert is_better(metric, better, worse)
        assert not is_better(metric, worse, better)
        assert not is_better(metric, better, better)


@pytest.mark.parametrize("metric", ["e_recall@1", "fnmr@0.1"])
def test_nan_is_never_better_and_any_number_is_better_than_nan(metric):
    assert is_better(metric, 0.5, math.nan)
    assert not is_better(metric, math.nan, 0.5)
    assert not is_better(metric, math.nan, math.nan)


def test_distances_and_spectra_are_no_shares():
    assert not is_share("dists@inter") and not is_share("val_rho_spectrum@1")
    assert is_share("fnmr@0.1") and is_share("val_e_recall@1")
