import numpy as np
import pytest
import torch
from sklearn.metrics import adjusted_mutual_info_score, normalized_mutual_info_score
from sklearn.metrics.cluster import pair_confusion_matrix

from evaluation.metrics import clustering
from evaluation.metrics.clustering import ami, contingency, f1, nmi
from evaluation.metrics.kmeans import kmeans
from tests.evaluation.sets import SETS, clusters, generator
from tests.oracles import metrics as oracle

METRICS = {"nmi": nmi, "f1": f1, "ami": ami}
WIDTHS = {"line": lambda: clusters(7, width=1), "wide": lambda: clusters(8, width=2048)}


def noisy(seed, classes, number, noise):
    """Labels, and clusters that agree with them but for a share of the rows."""
    g = generator(seed)
    label = torch.randint(0, classes, (number,), generator=g)
    wrong = torch.rand(number, generator=g) < noise
    other = torch.randint(0, classes, (number,), generator=g)
    return label, torch.where(wrong, other, label)


PAIRS = {
    "few": noisy(0, 4, 40, 0.4),
    "random": noisy(1, 5, 50, 1.0),
    "many_classes": noisy(2, 40, 60, 0.3),
    "perfect": noisy(3, 6, 50, 0.0),
    "all_alone": (torch.arange(9), torch.arange(9).flip(0)),
    "one_class": (torch.zeros(20), torch.arange(20) % 3),
    "one_cluster": (torch.arange(20) % 3, torch.zeros(20)),
    "one_of_each": (torch.zeros(7), torch.ones(7)),
    "two_rows": (torch.tensor([0, 1]), torch.tensor([5, 5])),
    "class_of_one": (torch.tensor([0, 0, 0, 1, 1, 7]), torch.tensor([2, 2, 3, 3, 3, 2])),
}
metrics = pytest.mark.parametrize("name", METRICS)


def expected(name, label, cluster):
    return pytest.approx(getattr(oracle, name)(label.tolist(), cluster.tolist()), abs=1e-9)


@metrics
@pytest.mark.parametrize("pair", PAIRS)
def test_equal_to_the_definition(pair, name):
    value = METRICS[name](contingency(*PAIRS[pair]))[0]
    assert value.item() == expected(name, *PAIRS[pair])


@metrics
@pytest.mark.parametrize("data", [*SETS, *WIDTHS])
def test_equal_to_the_definition_on_clusters_of_k_means(data, name):
    rows, label = (SETS | WIDTHS)[data]()
    cluster = kmeans(rows, len(label.unique()), seed=3)
    value = METRICS[name](contingency(label, cluster))[0]
    assert value.item() == expected(name, label, cluster)


@metrics
@pytest.mark.parametrize("pair", ["few", "random", "many_classes", "perfect", "all_alone",
                                  "class_of_one"])
def test_left_out_is_the_metric_of_the_other_classes(pair, name):
    label, cluster = PAIRS[pair]
    found = METRICS[name](contingency(label, cluster))
    for value, out in zip(found[1:].tolist(), label.unique(), strict=True):
        keep = label != out
        assert value == expected(name, label[keep], cluster[keep])


@pytest.mark.parametrize("pair", PAIRS)
def test_equal_to_scikit_learn(pair):
    table = contingency(*PAIRS[pair])
    label, cluster = map(torch.Tensor.numpy, PAIRS[pair])
    their_nmi = normalized_mutual_info_score(label, cluster)
    their_ami = adjusted_mutual_info_score(label, cluster)
    assert nmi(table)[0].item() == pytest.approx(their_nmi, abs=1e-12)
    assert ami(table)[0].item() == pytest.approx(their_ami, abs=1e-9)
    _, false, missed, true = pair_confusion_matrix(label, cluster).flatten()
    if false + missed + true:
        their_f1 = 2 * true / (2 * true + false + missed)
        assert f1(table)[0].item() == pytest.approx(their_f1, abs=1e-12)


def test_equal_to_pytorch_metric_learning():
    pytest.importorskip("faiss")  # which theirs searches with
    calculator = pytest.importorskip("pytorch_metric_learning.utils.accuracy_calculator")
    rows, label = clusters(1, classes=8, per_class=9)
    cluster = kmeans(rows, 8)
    theirs = calculator.AccuracyCalculator(include=("NMI", "AMI"),
                                           kmeans_func=lambda rows, number: cluster)
    accuracy = theirs.get_accuracy(rows, label)
    table = contingency(label, cluster)
    assert nmi(table)[0].item() == pytest.approx(accuracy["NMI"])
    assert ami(table)[0].item() == pytest.approx(accuracy["AMI"])


def test_nothing_in_common_is_no_information():
    label = torch.arange(18) // 6
    assert nmi(contingency(label, torch.arange(18) % 6))[0] == 0


def test_by_hand():
    table = contingency(torch.tensor([0, 0, 0, 1, 1]), torch.tensor([4, 4, 9, 9, 9]))
    # one pair in cluster 4 is of one class, and one in 9
    both = 2 * 2 / (4 + 4)
    assert f1(table).tolist() == pytest.approx([both, 1.0, 2 * 1 / (3 + 1)])
    assert sorted(table.count.tolist()) == [1, 2, 2]
    assert table.class_size.tolist() == [3, 2]
    assert table.cluster_size.tolist() == [2, 3]


@metrics
def test_names_of_classes_and_clusters_do_not_matter(name):
    label, cluster = PAIRS["few"]
    order = torch.randperm(len(label), generator=generator(0))
    whole = METRICS[name](contingency(label, cluster))
    renamed = METRICS[name](contingency(label[order] + 1000, -7 * cluster[order]))
    assert torch.allclose(renamed, whole, atol=1e-12)


def test_expectation_in_small_tables(monkeypatch):
    table = contingency(*PAIRS["few"])
    whole = ami(table)
    monkeypatch.setattr(clustering, "CELLS", 7)
    assert torch.allclose(ami(table), whole, atol=1e-14)
    assert torch.equal(ami(table, left_out=False), whole[:1])


def test_random_clusters_have_no_adjusted_information():
    label = torch.arange(3000) % 30
    values = []
    for seed in range(20):
        cluster = torch.from_numpy(np.random.RandomState(seed).randint(0, 30, 3000))
        values.append(ami(contingency(label, cluster), left_out=False)[0])
    assert abs(torch.stack(values).mean()) < 2e-3
    assert nmi(contingency(label, label.flip(0)))[0] > 0.5
