import numpy as np
import pytest
import torch
from sklearn.metrics import adjusted_mutual_info_score, normalized_mutual_info_score
from sklearn.metrics.cluster import pair_confusion_matrix

from evaluation.metrics import clustering
from evaluation.metrics.clustering import ami, contingency, f1, nmi
from evaluation.metrics.kmeans import kmeans
from tests.evaluation.sets import SETS, clusters
from tests.oracles import metrics as oracle

METRICS = {"nmi": nmi, "f1": f1, "ami": ami}


def noisy(seed, classes, number, noise):
    """Labels, and clusters that agree with them but for a share of the rows."""
    g = torch.Generator().manual_seed(seed)
    label = torch.randint(0, classes, (number,), generator=g)
    wrong = torch.rand(number, generator=g) < noise
    return label, torch.where(wrong, torch.randint(0, classes, (number,), generator=g), label)


PAIRS = {"few": noisy(0, 4, 40, 0.4), "random": noisy(1, 5, 50, 1.0), "many_classes": noisy(2, 40, 60, 0.3),
         "perfect": noisy(3, 6, 50, 0.0), "all_alone": (torch.arange(9), torch.arange(9).flip(0)),
         "one_class": (torch.zeros(20), torch.arange(20) % 3), "one_cluster": (torch.arange(20) % 3, torch.zeros(20)),
         "one_of_each": (torch.zeros(7), torch.ones(7)), "two_rows": (torch.tensor([0, 1]), torch.tensor([5, 5])),
         "class_of_one": (torch.tensor([0, 0, 0, 1, 1, 7]), torch.tensor([2, 2, 3, 3, 3, 2]))}


@pytest.mark.parametrize("name", METRICS)
@pytest.mark.parametrize("pair", PAIRS)
def test_equal_to_the_definition(pair, name):
    label, cluster = PAIRS[pair]
    found = METRICS[name](contingency(label, cluster))[0].item()
    assert found == pytest.approx(getattr(oracle, name)(label.tolist(), cluster.tolist()), abs=1e-9)


@pytest.mark.parametrize("name", METRICS)
@pytest.mark.parametrize("data", [*SETS, "line", "wide"])
def test_equal_to_the_definition_on_clusters_of_k_means(data, name):
    rows, label = {"line": lambda: clusters(7, width=1), "wide": lambda: clusters(8, width=2048)}.get(
        data, SETS.get(data))()
    cluster = kmeans(rows, len(label.unique()), seed=3)
    found = METRICS[name](contingency(label, cluster))[0].item()
    assert found == pytest.approx(getattr(oracle, name)(label.tolist(), cluster.tolist()), abs=1e-9)


@pytest.mark.parametrize("name", METRICS)
@pytest.mark.parametrize("pair", ["few", "random", "many_classes", "perfect", "all_alone", "class_of_one"])
def test_left_out_is_the_metric_of_the_other_classes(pair, name):
    label, cluster = PAIRS[pair]
    found = METRICS[name](contingency(label, cluster))
    for value, out in zip(found[1:].tolist(), label.unique().tolist(), strict=True):
        keep = label != out
        assert value == pytest.approx(getattr(oracle, name)(label[keep].tolist(), cluster[keep].tolist()), abs=1e-9)


@pytest.mark.parametrize("pair", PAIRS)
def test_equal_to_scikit_learn(pair):
    label, cluster = (part.numpy() for part in PAIRS[pair])
    table = contingency(*PAIRS[pair])
    assert nmi(table)[0].item() == pytest.approx(normalized_mutual_info_score(label, cluster), abs=1e-12)
    assert ami(table)[0].item() == pytest.approx(adjusted_mutual_info_score(label, cluster), abs=1e-9)
    (_, false), (missed, true) = pair_confusion_matrix(label, cluster)
    if false + missed + true:
        assert f1(table)[0].item() == pytest.approx(2 * true / (2 * true + false + missed), abs=1e-12)


def test_equal_to_pytorch_metric_learning():
    calculator = pytest.importorskip("pytorch_metric_learning.utils.accuracy_calculator")
    rows, label = clusters(1, classes=8, per_class=9)
    cluster = kmeans(rows, 8)
    theirs = calculator.AccuracyCalculator(include=("NMI", "AMI"), kmeans_func=lambda x, n: cluster)
    their, table = theirs.get_accuracy(rows, label), contingency(label, cluster)
    assert nmi(table)[0].item() == pytest.approx(their["NMI"]) and ami(table)[0].item() == pytest.approx(their["AMI"])


def test_by_hand():
    table = contingency(torch.tensor([0, 0, 0, 1, 1]), torch.tensor([4, 4, 9, 9, 9]))
    assert f1(table)[0].item() == pytest.approx(2 * 2 / (4 + 4))            # TP: one pair in cluster 4, one in 9
    assert f1(table)[1:].tolist() == pytest.approx([1.0, 2 * 1 / (3 + 1)])
    assert sorted(table.count.tolist()) == [1, 2, 2]
    assert table.class_size.tolist() == [3, 2] and table.cluster_size.tolist() == [2, 3]


def test_names_of_classes_and_clusters_do_not_matter():
    label, cluster = PAIRS["few"]
    order = torch.randperm(len(label), generator=torch.Generator().manual_seed(0))
    for metric in METRICS.values():
        whole = metric(contingency(label, cluster))
        assert torch.allclose(metric(contingency(label[order] + 1000, -7 * cluster[order])), whole, atol=1e-12)


def test_expectation_in_small_tables(monkeypatch):
    table = contingency(*PAIRS["few"])
    whole = ami(table)
    monkeypatch.setattr(clustering, "CELLS", 7)
    assert torch.allclose(ami(table), whole, atol=1e-14) and torch.equal(ami(table, left_out=False), whole[:1])


def test_random_clusters_have_no_adjusted_information():
    label = torch.arange(3000) % 30
    values = [ami(contingency(label, torch.from_numpy(np.random.RandomState(s).randint(0, 30, 3000))), False)[0]
              for s in range(20)]
    assert abs(torch.stack(values).mean()) < 2e-3 and nmi(contingency(label, label.flip(0)))[0] > 0.5
