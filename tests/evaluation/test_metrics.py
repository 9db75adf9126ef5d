"""Retrieval metrics against plain loops, and what evaluate promises of all metrics."""
import random

import numpy as np
import pytest
import torch

from evaluation import METRICS, QueryMetric, evaluate, parse_metric, query_values
from evaluation.metrics import retrieval
from evaluation.ranking import exact
from tests.evaluation.sets import SETS, clusters, perfect
from tests.oracles import metrics as oracle
from utilities.errors import RunError, UsageError
from utilities.pairwise import average_precision, positive_mask

NAMES = ["e_recall@1", "e_recall@4", "precision@1", "precision@5", "r_precision", "mrr", "mAP", "mAP_r", "mAP_1000",
         "mAP_lim", "mAP_c"]
WIDE = {"one number": lambda: (clusters(3, width=8)[0][:, :1], clusters(3)[1]),
        "wide": lambda: clusters(8, width=2048)}


def expected(order, label, name):
    """The oracle of a metric from its rankings."""
    stem, _, k = name.removeprefix("c_").removeprefix("e_").partition("@")
    largest = max(label.count(y) for y in label)
    cuts = {"mAP": None, "mAP_1000": 1000, "mAP_lim": 1023, "mAP_c": largest}
    if stem in cuts:
        return oracle.mean_average_precision(order, label, cuts[stem])
    if k:
        return {"recall": oracle.recall_at_k, "precision": oracle.precision_at_k}[stem](order, label, int(k))
    return {"r_precision": oracle.r_precision, "mrr": oracle.mrr, "mAP_r": oracle.map_at_r}[stem](order, label)


def test_every_retrieval_metric_is_tested():
    asked = {name for name, metric in METRICS.items() if isinstance(metric, QueryMetric)}
    tested = {name.partition("@")[0] for name in NAMES}
    assert {name.partition("@")[0].removeprefix("c_").removeprefix("e_") for name in asked} == {
        name.removeprefix("e_") for name in tested}


@pytest.mark.parametrize("backend", ["torch", "auto"])
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("data", SETS)
def test_each_metric_alone_equals_its_oracle(data, name, backend):
    rows, label = SETS[data]()
    rows = torch.nn.functional.normalize(rows, dim=1)
    found = evaluate(rows, label, [name], backend=backend)
    assert found == {name: pytest.approx(expected(oracle.rankings(rows.numpy()), label.tolist(), name), abs=1e-12)}


@pytest.mark.parametrize("data", ["overlapping", "singletons", *WIDE])
def test_euclidean_on_rows_as_given_and_cosine_on_unit_rows(data):
    rows, label = (SETS | WIDE)[data]()
    rows = rows * torch.rand(len(rows), 1, generator=torch.Generator().manual_seed(0)).add(0.5)
    apart = ((rows[:, None].double() - rows.double()) ** 2).sum(-1).numpy()
    near = [sorted((j for j in range(len(rows)) if j != i), key=lambda j: (apart[i, j], j)) for i in range(len(rows))]
    unit = torch.nn.functional.normalize(rows.double(), dim=1).float()
    for name in NAMES:
        assert evaluate(rows, label, [name])[name] == pytest.approx(expected(near, label.tolist(), name), abs=1e-12)
    if rows.shape[1] > 1:                                                          # in one dimension all cosines tie
        by_cosine = oracle.rankings(unit.numpy())
        for name in ("c_recall@1", "c_mAP_r", "c_mAP", "c_mrr", "c_precision@3"):
            want = expected(by_cosine, label.tolist(), name)
            assert evaluate(rows, label, [name])[name] == pytest.approx(want, abs=1e-12)


@pytest.mark.parametrize("data", SETS)
@pytest.mark.parametrize("precision", ["float32", "half"])
def test_together_as_alone_in_any_block_backend_and_precision(data, precision):
    rows, label = SETS[data]()
    alone = {name: evaluate(rows, label, [name])[name] for name in NAMES}
    for backend, block in (("torch", 5), ("auto", 1), ("auto", 1024)):
        together = evaluate(rows, label, NAMES, backend=backend, block=block, precision=precision)
        assert together == alone and list(together) == NAMES
    assert all(type(value) is float for value in alone.values())


@pytest.mark.parametrize("data", ["overlapping", "ties", "singletons", "collapsed"])
def test_tiny_tables_change_nothing(data, monkeypatch):
    rows, label = SETS[data]()
    whole = evaluate(rows, label, NAMES)
    monkeypatch.setattr(exact, "CELLS", 70)
    monkeypatch.setattr(exact, "SCRATCH", 40)
    assert evaluate(rows, label, NAMES, block=3) == whole


def test_a_gallery_apart():
    query, label = clusters(1, per_class=4)
    among, there = clusters(1, per_class=6)
    there = torch.where(there == 5, 9, there)                                      # class 5 has nothing to find
    score = (query.double() @ among.double().T).float()
    order = score.sort(dim=1, descending=True, stable=True).indices.tolist()
    found, names = evaluate(query, label, NAMES, gallery=among, gallery_labels=there), there.tolist()
    values = {name: [] for name in ("e_recall@1", "precision@5", "mrr", "mAP", "r_precision")}
    for i, y in enumerate(label.tolist()):
        hits = [names[j] == y for j in order[i]]
        if not any(hits):
            continue
        ranks = [r for r, hit in enumerate(hits, start=1) if hit]
        values["e_recall@1"].append(hits[0])
        values["precision@5"].append(sum(hits[:5]) / 5)
        values["mrr"].append(1 / ranks[0])
        values["mAP"].append(sum(m / r for m, r in enumerate(ranks, start=1)) / len(ranks))
        values["r_precision"].append(sum(hits[:len(ranks)]) / len(ranks))
    for name, value in values.items():
        assert found[name] == pytest.approx(np.mean(value), abs=1e-12)
    assert len(values["mrr"]) == 20


def test_fractions_by_hand():
    rank = torch.tensor([[2.0, 4.0], [1.0, 2.0], [4.0, 5.0], [2.0, torch.inf]])
    count = torch.tensor([2, 2, 2, 1])
    by_hand = {retrieval.r_precision: [0.5, 1, 0, 0], retrieval.reciprocal_rank: [1 / 2, 1, 1 / 4, 1 / 2],
               retrieval.map_at_r: [1 / 4, 1, 0, 0]}
    for metric, values in by_hand.items():
        assert metric(rank, count, 5).tolist() == pytest.approx(values)
    assert retrieval.recall_at_k(rank, count, 1).tolist() == [0, 1, 0, 0]
    assert retrieval.recall_at_k(rank, count, 2).tolist() == [1, 1, 0, 1]
    assert retrieval.precision_at_k(rank, count, 4).tolist() == [0.5, 0.5, 0.25, 0.25]
    assert retrieval.average_precision(rank, count, 4).tolist() == pytest.approx([1 / 2, 1, 1 / 8, 1 / 2])


def test_values_of_queries_and_lonely_rows():
    rows, label = SETS["singletons"]()
    values, query = query_values(rows, label, ["e_recall@1", "nmi", "mrr"])
    assert list(values) == ["e_recall@1", "mrr"] and query.sum() == 14
    assert all(v.dtype == torch.float64 and not v[~query].any() for v in values.values())
    assert evaluate(rows, label, ["mrr"])["mrr"] == values["mrr"][query].mean().item()


def test_map_equals_the_shared_average_precision():
    rows, label = clusters(9, classes=12, per_class=5)
    ap = average_precision((rows @ rows.T).double(), positive_mask(label))
    assert evaluate(rows, label, ["mAP"])["mAP"] == pytest.approx(ap.mean().item(), abs=1e-6)


def test_perfect_embeddings_score_exactly_one():
    rows, label = perfect()
    names = ["e_recall@1", "e_recall@5", "c_recall@1", "precision@1", "r_precision", "mrr", "mAP_r", "mAP", "c_mAP_c",
             "mAP_1000", "mAP_lim"]
    assert evaluate(rows, label, names) == dict.fromkeys(names, 1.0)


def test_recall_at_1_is_precision_at_1():
    for data in SETS:
        found = evaluate(*SETS[data](), ["e_recall@1", "precision@1"])
        assert found["e_recall@1"] == found["precision@1"]


def test_a_duplicate_of_another_class_is_a_miss():
    rows = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    assert evaluate(rows, torch.tensor([0, 1, 0, 1]), ["e_recall@1"])["e_recall@1"] == 0
    assert evaluate(rows, torch.tensor([0, 0, 1, 1]), ["e_recall@1"])["e_recall@1"] == 1


def test_k_beyond_the_set_looks_at_everything():
    rows, label = SETS["overlapping"]()
    assert evaluate(rows, label, ["e_recall@1000"])["e_recall@1000"] == 1.0
    assert evaluate(rows[:2], torch.tensor([0, 0]), ["e_recall@4", "mAP_r", "mAP"]) == {
        "e_recall@4": 1.0, "mAP_r": 1.0, "mAP": 1.0}


def test_equal_to_pytorch_metric_learning():
    calculator = pytest.importorskip("pytorch_metric_learning.utils.accuracy_calculator")
    from pytorch_metric_learning.distances import CosineSimilarity
    from pytorch_metric_learning.utils.inference import CustomKNN
    theirs = {"e_recall@1": "precision_at_1", "mAP_r": "mean_average_precision_at_r", "r_precision": "r_precision",
              "mAP": "mean_average_precision", "mrr": "mean_reciprocal_rank"}
    for seed in range(3):
        rows, label = clusters(seed, classes=9, per_class=6)
        both = calculator.AccuracyCalculator(include=tuple(theirs.values()), k=len(rows) - 1,
                                             knn_func=CustomKNN(CosineSimilarity())).get_accuracy(rows, label)
        ours = evaluate(rows, label, list(theirs))
        assert ours == pytest.approx({name: both[their] for name, their in theirs.items()})


def test_map_equals_scikit_learn():
    from sklearn.metrics import average_precision_score
    rows, label = clusters(11, classes=5, per_class=9)
    score, same = (rows.double() @ rows.double().T).numpy(), positive_mask(label).numpy()
    keep = ~np.eye(len(rows), dtype=bool)
    theirs = np.mean([average_precision_score(same[i][keep[i]], score[i][keep[i]]) for i in range(len(rows))])
    assert evaluate(rows, label, ["mAP"])["mAP"] == pytest.approx(theirs, abs=1e-9)


def test_global_randomness_untouched():
    random.seed(1)
    np.random.seed(1)
    torch.manual_seed(1)
    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()
    evaluate(*clusters(0), [*NAMES, "nmi", "c_nmi", "f1", "fnmr@0.1"], bootstrap=20)
    assert random.getstate() == before[0]
    assert np.random.get_state()[1].tolist() == before[1] and torch.equal(torch.get_rng_state(), before[2])


def test_gradients_and_inputs_untouched():
    rows, label = clusters(0)
    rows = (2 * rows).requires_grad_()
    copy = rows.detach().clone()
    evaluate(rows, label, [*NAMES, "nmi"])
    assert torch.equal(rows, copy) and rows.grad is None


def test_refusals():
    rows, label = clusters(0)
    for name in ("recall@1", "e_recall@0", "e_recall", "e_recall@1.5", "nmi@1", "MAP", "mAP_r ", "e_recall@-1",
                 "rho_spectrum", "rho_spectrum@1.5", "fnmr@2", "dists@x"):
        with pytest.raises(UsageError, match="--evaluation_metrics") as error:
            evaluate(rows, label, ["nmi", name])
        assert name in str(error.value) and all(known in str(error.value) for known in METRICS)
    with pytest.raises(UsageError, match="Did you mean 'e_recall@<k>'"):
        evaluate(rows, label, ["recall@1"])
    with pytest.raises(UsageError, match="write a number for <k>"):
        evaluate(rows, label, ["e_recall@<k>"])
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
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_nan_and_infinity_refused(name, value):
    rows, label = clusters(0)
    rows[3, 0] = value
    with pytest.raises(RunError, match="hold NaN or infinity .the first is row 3"):
        evaluate(rows, label, [name])


def test_parse_metric():
    assert parse_metric("e_recall@10")[1] == 10 and parse_metric("rho_spectrum@-1")[1] == -1
    assert parse_metric("fnmr@0.1")[1] == 0.1 and parse_metric("nmi")[1] == 0


@pytest.mark.gpu
def test_gpu_equals_cpu():
    rows, label = clusters(0, classes=20, per_class=20)
    assert evaluate(rows.cuda(), label, NAMES) == pytest.approx(evaluate(rows, label, NAMES), abs=1e-12)
