"""Retrieval metrics against plain loops, and what evaluate promises of all metrics."""
import random

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from evaluation import METRICS, QueryMetric, SetMetric, evaluate, parse_metric, query_values
from evaluation.metrics import retrieval
from evaluation.ranking import exact
from tests.evaluation.sets import SETS, clusters, generator, perfect
from tests.oracles import metrics as oracle
from utilities.errors import RunError, UsageError
from utilities.pairwise import average_precision, positive_mask

NAMES = ["e_recall@1", "e_recall@4", "precision@1", "precision@5", "r_precision", "mrr", "mAP",
         "mAP_r", "mAP_1000", "mAP_lim", "mAP_c"]
WIDE = {
    "one number": lambda: (clusters(3)[0][:, :1], clusters(3)[1]),
    "wide": lambda: clusters(8, width=2048),
}
ORACLES = {
    "recall": oracle.recall_at_k,
    "precision": oracle.precision_at_k,
    "r_precision": oracle.r_precision,
    "mrr": oracle.mrr,
    "mAP_r": oracle.map_at_r,
    "mAP": oracle.mean_average_precision,
    "mAP_1000": lambda order, label: oracle.mean_average_precision(order, label, 1000),
    "mAP_lim": lambda order, label: oracle.mean_average_precision(order, label, 1023),
    "mAP_c": lambda order, label: oracle.mean_average_precision(order, label, largest(label)),
}


def largest(label):
    return max(label.count(y) for y in label)


def stem_of(name):
    return name.partition("@")[0].removeprefix("c_").removeprefix("e_")


def expected(order, label, name):
    """The oracle of a metric from its rankings, but for rounding."""
    k = name.partition("@")[2]
    numbers = [int(k)] if k else []
    value = ORACLES[stem_of(name)](order, label.tolist(), *numbers)
    return pytest.approx(value, abs=1e-12)


def test_every_retrieval_metric_is_tested():
    known = {stem_of(name) for name, kind in METRICS.items() if isinstance(kind, QueryMetric)}
    assert known == {stem_of(name) for name in NAMES} == set(ORACLES)


@pytest.mark.parametrize("backend", ["torch", "auto"])
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("data", SETS)
def test_each_metric_alone_equals_its_oracle(data, name, backend):
    rows, label = SETS[data]()
    rows = normalize(rows, dim=1)
    found = evaluate(rows, label, [name], backend=backend)
    assert found == {name: expected(oracle.rankings(rows.numpy()), label, name)}


@pytest.mark.parametrize("data", ["overlapping", "singletons", *WIDE])
def test_rows_as_given_rank_by_distance(data):
    rows, label = (SETS | WIDE)[data]()
    rows = rows * torch.rand(len(rows), 1, generator=generator(0)).add(0.5)
    distance = (rows[:, None].double() - rows.double()).square().sum(-1)
    distance.fill_diagonal_(-1)
    order = distance.sort(dim=1, stable=True).indices[:, 1:].tolist()
    for name in NAMES:
        assert evaluate(rows, label, [name])[name] == expected(order, label, name)


@pytest.mark.parametrize("data", ["overlapping", "singletons", "wide"])
def test_unit_rows_rank_by_cosine(data):
    rows, label = (SETS | WIDE)[data]()
    rows = rows * torch.rand(len(rows), 1, generator=generator(0)).add(0.5)
    order = oracle.rankings(normalize(rows.double(), dim=1).float().numpy())
    for name in ("c_recall@1", "c_mAP_r", "c_mAP", "c_mrr", "c_precision@3"):
        assert evaluate(rows, label, [name])[name] == expected(order, label, name)


@pytest.mark.parametrize("data", SETS)
@pytest.mark.parametrize("precision", ["float32", "half"])
def test_together_as_alone_in_any_block_backend_and_precision(data, precision):
    rows, label = SETS[data]()
    alone = {}
    for name in NAMES:
        alone |= evaluate(rows, label, [name])
    for backend, block in (("torch", 5), ("auto", 1), ("auto", 1024)):
        together = evaluate(rows, label, NAMES, backend=backend, block=block, precision=precision)
        assert together == alone
        assert list(together) == NAMES
    assert {type(value) for value in alone.values()} == {float}


@pytest.mark.parametrize("data", ["overlapping", "ties", "singletons", "collapsed"])
def test_tiny_tables_change_nothing(data, monkeypatch):
    rows, label = SETS[data]()
    whole = evaluate(rows, label, NAMES)
    monkeypatch.setattr(exact, "CELLS", 70)
    monkeypatch.setattr(exact, "SCRATCH", 40)
    assert evaluate(rows, label, NAMES, block=3) == whole


def test_another_gallery():
    query, label = clusters(1, per_class=4)
    gallery, gallery_label = clusters(1, per_class=6)
    # class 5 has nothing to find
    gallery_label[gallery_label == 5] = 9
    found = evaluate(query, label, NAMES, gallery=gallery, gallery_labels=gallery_label)
    score = (query.double() @ gallery.double().T).float()
    order = score.sort(dim=1, descending=True, stable=True).indices
    hits = gallery_label[order] == label[:, None]
    values = {name: [] for name in ("e_recall@1", "precision@5", "mrr", "mAP", "r_precision")}
    for hit in hits[label != 5].tolist():
        ranks = [rank for rank, right in enumerate(hit, start=1) if right]
        precisions = [m / rank for m, rank in enumerate(ranks, start=1)]
        values["e_recall@1"].append(hit[0])
        values["precision@5"].append(sum(hit[:5]) / 5)
        values["mrr"].append(1 / ranks[0])
        values["mAP"].append(sum(precisions) / len(ranks))
        values["r_precision"].append(sum(hit[:len(ranks)]) / len(ranks))
    for name, value in values.items():
        assert found[name] == pytest.approx(np.mean(value), abs=1e-12)
    assert len(values["mrr"]) == 20


@pytest.mark.parametrize(("metric", "depth", "values"), [
    (retrieval.r_precision, 5, [0.5, 1, 0, 0]),
    (retrieval.reciprocal_rank, 5, [1 / 2, 1, 1 / 4, 1 / 2]),
    (retrieval.map_at_r, 5, [1 / 4, 1, 0, 0]),
    (retrieval.recall_at_k, 1, [0, 1, 0, 0]),
    (retrieval.recall_at_k, 2, [1, 1, 0, 1]),
    (retrieval.precision_at_k, 4, [0.5, 0.5, 0.25, 0.25]),
    (retrieval.average_precision, 4, [1 / 2, 1, 1 / 8, 1 / 2]),
])
def test_fractions_by_hand(metric, depth, values):
    rank = torch.tensor([[2.0, 4.0], [1.0, 2.0], [4.0, 5.0], [2.0, torch.inf]])
    count = torch.tensor([2, 2, 2, 1])
    assert metric(rank, count, depth).tolist() == pytest.approx(values)


def test_values_of_queries_and_lonely_rows():
    rows, label = SETS["singletons"]()
    values, query = query_values(rows, label, ["e_recall@1", "nmi", "mrr"])
    assert list(values) == ["e_recall@1", "mrr"]
    assert query.sum() == 14
    for value in values.values():
        assert value.dtype == torch.float64
        assert not value[~query].any()
    assert evaluate(rows, label, ["mrr"])["mrr"] == values["mrr"][query].mean().item()


def test_map_equals_the_shared_average_precision():
    rows, label = clusters(9, classes=12, per_class=5)
    ap = average_precision((rows @ rows.T).double(), positive_mask(label))
    found = evaluate(rows, label, ["mAP"])
    assert found["mAP"] == pytest.approx(ap.mean().item(), abs=1e-6)


def test_perfect_embeddings_score_exactly_one():
    names = ["e_recall@1", "e_recall@5", "c_recall@1", "precision@1", "r_precision", "mrr",
             "mAP_r", "mAP", "c_mAP_c", "mAP_1000", "mAP_lim"]
    assert evaluate(*perfect(), names) == dict.fromkeys(names, 1.0)


@pytest.mark.parametrize("data", SETS)
def test_recall_at_1_is_precision_at_1(data):
    found = evaluate(*SETS[data](), ["e_recall@1", "precision@1"])
    assert found["e_recall@1"] == found["precision@1"]


@pytest.mark.parametrize(("label", "recall"), [([0, 1, 0, 1], 0), ([0, 0, 1, 1], 1)])
def test_a_duplicate_of_another_class_is_a_miss(label, recall):
    rows = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    assert evaluate(rows, torch.tensor(label), ["e_recall@1"]) == {"e_recall@1": recall}


def test_k_beyond_the_set_looks_at_everything():
    rows, label = SETS["overlapping"]()
    assert evaluate(rows, label, ["e_recall@1000"]) == {"e_recall@1000": 1.0}
    names = ["e_recall@4", "mAP_r", "mAP"]
    assert evaluate(rows[:2], torch.tensor([0, 0]), names) == dict.fromkeys(names, 1.0)


@pytest.mark.parametrize("seed", range(3))
def test_equal_to_pytorch_metric_learning(seed):
    calculator = pytest.importorskip("pytorch_metric_learning.utils.accuracy_calculator")
    from pytorch_metric_learning.distances import CosineSimilarity
    from pytorch_metric_learning.utils.inference import CustomKNN
    names = {
        "e_recall@1": "precision_at_1",
        "mAP_r": "mean_average_precision_at_r",
        "r_precision": "r_precision",
        "mAP": "mean_average_precision",
        "mrr": "mean_reciprocal_rank",
    }
    rows, label = clusters(seed, classes=9, per_class=6)
    theirs = calculator.AccuracyCalculator(include=tuple(names.values()), k=len(rows) - 1,
                                           knn_func=CustomKNN(CosineSimilarity()))
    accuracy = theirs.get_accuracy(rows, label)
    for name, value in evaluate(rows, label, list(names)).items():
        assert value == pytest.approx(accuracy[names[name]])


def test_map_equals_scikit_learn():
    from sklearn.metrics import average_precision_score
    rows, label = clusters(11, classes=5, per_class=9)
    score = rows.double() @ rows.double().T
    same = positive_mask(label)
    theirs = []
    for i in range(len(rows)):
        others = torch.arange(len(rows)) != i
        theirs.append(average_precision_score(same[i, others], score[i, others]))
    found = evaluate(rows, label, ["mAP"])
    assert found["mAP"] == pytest.approx(np.mean(theirs), abs=1e-9)


def test_global_randomness_untouched():
    def states():
        numpy_state = np.random.get_state()[1].tolist()
        return random.getstate(), numpy_state, torch.get_rng_state().tolist()

    before = states()
    evaluate(*clusters(0), [*NAMES, "nmi", "c_nmi", "f1", "fnmr@0.1"], bootstrap=20)
    assert states() == before


def test_gradients_and_inputs_untouched():
    rows, label = clusters(0)
    rows = (2 * rows).requires_grad_()
    copy = rows.detach().clone()
    evaluate(rows, label, [*NAMES, "nmi"])
    assert torch.equal(rows, copy)
    assert rows.grad is None


@pytest.mark.parametrize("name", [
    "recall@1", "e_recall@0", "e_recall", "e_recall@1.5", "nmi@1", "MAP", "mAP_r ", "e_recall@-1",
    "rho_spectrum", "rho_spectrum@1.5", "fnmr@2", "dists@x",
])
def test_an_unknown_metric_is_refused_with_the_list(name):
    with pytest.raises(UsageError, match="--evaluation_metrics") as error:
        evaluate(*clusters(0), ["nmi", name])
    for known in (name, *METRICS):
        assert known in str(error.value)


@pytest.mark.parametrize(("name", "words"), [
    ("recall@1", "Did you mean e_recall@<k>"),
    ("e_recall@<k>", "write a number for <k>"),
])
def test_a_wrong_name_gets_advice(name, words):
    with pytest.raises(UsageError, match=words):
        evaluate(*clusters(0), [name])


def test_refused_sets():
    rows, label = clusters(0)
    with pytest.raises(UsageError, match="do not fit"):
        evaluate(rows, label[:-1], ["nmi"])
    with pytest.raises(UsageError, match="gallery_labels"):
        evaluate(rows, label, ["mrr"], gallery=rows)
    with pytest.raises(UsageError, match="cannot be searched"):
        evaluate(rows, label, ["mrr"], gallery=rows[:, :3], gallery_labels=label)
    for number in (0, 1):
        with pytest.raises(RunError, match="metrics need two or more"):
            evaluate(rows[:number], label[:number], ["nmi"])
    for name in NAMES:
        with pytest.raises(RunError, match="every class has a single image"):
            evaluate(rows, torch.arange(len(rows)), [name])


@pytest.mark.parametrize("name", [*NAMES, "nmi", "dists@intra", "rho_spectrum@1", "fnmr@0.1"])
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_nan_and_infinity_refused(name, value):
    rows, label = clusters(0)
    rows[3, 0] = value
    with pytest.raises(RunError, match="hold NaN or infinity .the first is row 3"):
        evaluate(rows, label, [name])


@pytest.mark.parametrize(("name", "number"), [
    ("e_recall@10", 10), ("rho_spectrum@-1", -1), ("fnmr@0.1", 0.1), ("nmi", 0),
])
def test_parse_metric(name, number):
    assert parse_metric(name)[1] == number


@pytest.mark.gpu
def test_gpu_equals_cpu():
    rows, label = clusters(0, classes=20, per_class=20)
    expected_values = evaluate(rows, label, NAMES)
    assert evaluate(rows.cuda(), label, NAMES) == pytest.approx(expected_values, abs=1e-12)


def test_metrics_may_be_any_iterable():
    assert evaluate(*clusters(0), iter(["mrr", "nmi"])) == evaluate(*clusters(0), ["mrr", "nmi"])


@pytest.mark.parametrize(("options", "words"), [
    ({"backend": "fiass"}, "Did you mean faiss"), ({"precision": "double"}, "half"), ({"block": 0}, "search block"),
    ({"seed": None}, "seed: None"), ({"seed": 2**70}, "seed"), ({"bootstrap": -1}, "bootstrap"),
])
def test_options_are_looked_at_even_where_nothing_is_searched(options, words):
    with pytest.raises(UsageError, match=words):
        evaluate(*clusters(0), ["nmi"], **options)


def test_numbers_of_numpy_are_numbers():
    plain = evaluate(*clusters(0), ["nmi", "mrr"], seed=3, context=2, bootstrap=5)
    assert evaluate(*clusters(0), ["nmi", "mrr"], seed=np.int64(3), context=np.int16(2), bootstrap=np.int64(5)) == plain


@pytest.mark.parametrize("metric", [
    QueryMetric(lambda rank, count, depth: 1.0, 1), QueryMetric(lambda rank, count, depth: rank, 2),
    SetMetric(lambda whole, number: 0.5), SetMetric(lambda whole, number: torch.tensor(0.5)),
])
def test_what_a_metric_of_ones_own_gives_is_checked(monkeypatch, metric):
    monkeypatch.setitem(METRICS, "own", metric)
    with pytest.raises(UsageError, match="metric own: its function gave .*: give "):
        evaluate(*clusters(0), ["own"])


def test_a_metric_of_ones_own_may_give_truth_values(monkeypatch):
    monkeypatch.setitem(METRICS, "own", QueryMetric(lambda rank, count, depth: (rank <= 1).any(1), 1, first=True))
    found = evaluate(*clusters(0), ["own", "e_recall@1"])
    assert found["own"] == found["e_recall@1"]


def test_rows_without_numbers_are_refused():
    with pytest.raises(UsageError, match="have no numbers"):
        evaluate(torch.zeros(4, 0), torch.tensor([0, 0, 1, 1]), ["nmi"])


def test_a_zero_row_has_cosine_zero_with_all_but_its_duplicates():
    """In a narrow set too, where distances decide."""
    g = np.random.default_rng(0)
    cluster = np.eye(8)[0] + 0.002 * g.normal(size=(40, 8))
    rows = np.vstack([cluster, np.zeros((2, 8)), [[0.3, 0.95, *[0] * 6]] * 2])
    label = np.array([0, *[9] * 39, 2, 2, 0, 0])
    # after the 39 of the cluster, of cosine near 1, and before the zero rows
    assert query_values(rows, label, ["c_mrr"])[0]["c_mrr"][0] == pytest.approx(1 / 40)
    rows = np.array([[0, 0], [1, 0], [0, 1], [0, 0], [1, 1.0]])
    values = query_values(rows, np.array([0, 1, 1, 0, 1]), ["c_mrr"])[0]["c_mrr"]
    assert values[[0, 3]].tolist() == [1, 1]


@pytest.mark.parametrize("scale", [1e-310, 1e-45, 1e300])
def test_rows_of_any_scale(scale):
    rows = np.random.default_rng(0).normal(size=(30, 4)).astype(np.float16)
    label = np.arange(30) % 5
    names = ["e_recall@1", "c_recall@1", "nmi"]
    found = evaluate(rows.astype(np.float64) * scale, label, names)
    assert found == pytest.approx(evaluate(rows, label, names))
