import random
import sys
import warnings

import numpy as np
import pytest
import torch

from evaluation import METRICS, evaluate, retrieval
from evaluation.clustering import kmeans, nmi
from evaluation.neighbours import nearest_neighbours
from evaluation.retrieval import class_members, map_at_r, mean_average_precision, recall_at_k
from tests.evaluation.sets import SETS, clusters, perfect
from tests.oracles import metrics as oracle
from utilities.errors import RunError, UsageError
from utilities.pairwise import average_precision, positive_mask

NAMES = ["e_recall@1", "e_recall@4", "nmi", "mAP_r", "mAP"]


def expected(rows, label, name):
    order, label = oracle.rankings(rows.numpy()), label.tolist()
    if name == "nmi":
        return oracle.nmi(label, kmeans(rows, len(set(label)), seed=0).tolist())
    if name.startswith("e_recall"):
        return oracle.recall_at_k(order, label, int(name.split("@")[1]))
    return {"mAP_r": oracle.map_at_r, "mAP": oracle.mean_average_precision}[name](order, label)


@pytest.mark.parametrize("backend", ["torch", "auto"])
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("data", SETS)
def test_each_metric_alone_equals_its_oracle(data, name, backend):
    rows, label = SETS[data]()
    rows = torch.nn.functional.normalize(rows, dim=1)
    found = evaluate(rows, label, [name], backend=backend)
    assert found == {name: pytest.approx(expected(rows, label, name), abs=1e-9)}


@pytest.mark.parametrize("data", SETS)
def test_together_as_alone_in_any_block(data):
    rows, label = SETS[data]()
    together = evaluate(rows, label, NAMES, block=5)
    assert together == {name: evaluate(rows, label, [name])[name] for name in NAMES}
    assert list(together) == NAMES and all(type(value) is float for value in together.values())


def test_fractions_by_hand():
    label = torch.tensor([0, 0, 0, 1, 1, 2])
    index = torch.tensor([[3, 1, 4, 2, 5],   # hits at ranks 2 and 4 of R = 2
                          [0, 2, 3, 4, 5],   # 1, 2
                          [5, 3, 4, 0, 1],   # 4, 5
                          [0, 4, 1, 2, 5],   # 2 of R = 1
                          [3, 0, 1, 2, 5],   # 1
                          [0, 1, 2, 3, 4]])  # class of one: no query
    assert recall_at_k(index, label, 1) == pytest.approx(2 / 5)
    assert recall_at_k(index, label, 2) == pytest.approx(4 / 5)
    assert map_at_r(index, label) == pytest.approx((1 / 4 + 1 + 0 + 0 + 1) / 5)
    line = torch.tensor([0.0, 10.0, 24.0, 39.0, 85.0]).deg2rad()
    rows = torch.stack([line.cos(), line.sin()], 1)  # nearest first: 1234, 0234, 3104, 2104, 3210
    found = mean_average_precision(rows, torch.tensor([0, 1, 0, 1, 0]))
    by_class = [(1 / 2 + 2 / 4) / 2, 1 / 3, (1 / 3 + 2 / 4) / 2, 1 / 2, (1 / 2 + 2 / 4) / 2]
    assert found == pytest.approx(sum(by_class) / 5)


def test_map_equals_the_shared_average_precision():
    rows, label = clusters(9, classes=12, per_class=5)
    ap = average_precision((rows @ rows.T).double(), positive_mask(label))
    assert mean_average_precision(rows, label) == pytest.approx(ap.mean().item(), abs=1e-6)


def test_perfect_embeddings_score_exactly_one():
    rows, label = perfect()
    names = ["e_recall@1", "e_recall@5", "mAP_r", "mAP"]
    assert evaluate(rows, label, names) == dict.fromkeys(names, 1.0)


def test_a_duplicate_of_another_class_is_a_miss():
    rows = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    assert evaluate(rows, torch.tensor([0, 1, 0, 1]), ["e_recall@1"])["e_recall@1"] == 0
    assert evaluate(rows, torch.tensor([0, 0, 1, 1]), ["e_recall@1"])["e_recall@1"] == 1


def test_length_of_rows_does_not_matter():
    rows, label = clusters(2)
    scaled = rows * torch.rand(len(rows), 1, generator=torch.Generator().manual_seed(0)).add(0.5)
    names = ["e_recall@1", "e_recall@4", "mAP_r", "mAP"]
    assert evaluate(scaled, label, names) == pytest.approx(evaluate(rows, label, names))


def test_k_beyond_the_set_looks_at_everything():
    rows, label = SETS["overlapping"]()
    assert evaluate(rows, label, ["e_recall@1000"])["e_recall@1000"] == 1.0
    assert evaluate(rows[:2], torch.tensor([0, 0]), ["e_recall@4", "mAP_r", "mAP"]) == {
        "e_recall@4": 1.0, "mAP_r": 1.0, "mAP": 1.0}


def test_equal_to_pytorch_metric_learning():
    calculator = pytest.importorskip("pytorch_metric_learning.utils.accuracy_calculator")
    from pytorch_metric_learning.distances import CosineSimilarity
    from pytorch_metric_learning.utils.inference import CustomKNN
    names = ("precision_at_1", "mean_average_precision_at_r")
    theirs = calculator.AccuracyCalculator(include=names, k="max_bin_count", knn_func=CustomKNN(CosineSimilarity()))
    for seed in range(3):
        rows, label = clusters(seed, classes=9, per_class=6)
        their = theirs.get_accuracy(rows, label)
        ours = evaluate(rows, label, ["e_recall@1", "mAP_r"])
        assert ours["e_recall@1"] == pytest.approx(their["precision_at_1"])
        assert ours["mAP_r"] == pytest.approx(their["mean_average_precision_at_r"])


def test_map_equals_scikit_learn():
    from sklearn.metrics import average_precision_score
    rows, label = clusters(11, classes=5, per_class=9)
    score, same = (rows.double() @ rows.double().T).numpy(), positive_mask(label).numpy()
    keep = ~np.eye(len(rows), dtype=bool)
    theirs = np.mean([average_precision_score(same[i][keep[i]], score[i][keep[i]]) for i in range(len(rows))])
    assert evaluate(rows, label, ["mAP"])["mAP"] == pytest.approx(theirs, abs=1e-9)


def test_map_in_tiny_tables(monkeypatch):
    rows, label = SETS["ties"]()
    whole = mean_average_precision(rows, label)
    monkeypatch.setattr("evaluation.neighbours.CELLS", 70)
    assert mean_average_precision(rows, label, block=3) == whole


def test_order_keys_sort_as_similarity_then_index():
    score = torch.tensor([[-0.0, 0.0, -1.0, 1.0, -1e-30, 1e-30, 1.0]])
    order = retrieval._order_key(score).argsort(1, descending=True)
    assert order.tolist() == [[3, 6, 5, 0, 1, 4, 2]]


def test_class_members():
    assert class_members(torch.tensor([7, -2, 7, 7, 5, -2])).tolist() == [
        [0, 2, 3], [1, 5, -1], [0, 2, 3], [0, 2, 3], [4, -1, -1], [1, 5, -1]]


def test_global_randomness_untouched():
    random.seed(1)
    np.random.seed(1)
    torch.manual_seed(1)
    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()
    evaluate(*clusters(0), NAMES)
    assert random.getstate() == before[0]
    assert np.random.get_state()[1].tolist() == before[1] and torch.equal(torch.get_rng_state(), before[2])


def test_gradients_and_inputs_untouched():
    rows, label = clusters(0)
    rows = (2 * rows).requires_grad_()
    copy = rows.detach().clone()
    evaluate(rows, label, NAMES)
    assert torch.equal(rows, copy) and rows.grad is None


@pytest.mark.parametrize("without_faiss", [False, True])
def test_clustering(without_faiss, monkeypatch):
    if without_faiss:
        monkeypatch.setitem(sys.modules, "faiss", None)
    rows, label = clusters(3, classes=8, per_class=20)
    assert nmi(rows, torch.from_numpy(kmeans(rows, 8, seed=2)), seed=2) == pytest.approx(1)
    assert np.array_equal(kmeans(rows, 8, seed=5), kmeans(rows, 8, seed=5))
    assert any(not np.array_equal(kmeans(rows, 8, seed=5), kmeans(rows, 8, seed=s)) for s in range(5))
    assert set(kmeans(rows, 8).tolist()) == set(range(8))
    found = nmi(rows, label, seed=1)
    assert found == pytest.approx(oracle.nmi(label.tolist(), kmeans(rows, 8, seed=1).tolist()))
    assert found == nmi(rows, label + 100, seed=1) and 0.3 < found < 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert nmi(torch.ones(6, 2), torch.arange(6) % 3) == pytest.approx(0, abs=0.6)


def test_refusals():
    rows, label = clusters(0)
    for name in ("recall@1", "e_recall@0", "e_recall", "e_recall@1.5", "nmi@1", "MAP", "mAP_r ", "e_recall@-1"):
        with pytest.raises(UsageError, match="--evaluation_metrics") as error:
            evaluate(rows, label, ["nmi", name])
        assert name in str(error.value) and all(known in str(error.value) for known in METRICS)
    with pytest.raises(UsageError, match="Did you mean 'e_recall@<k>'"):
        evaluate(rows, label, ["recall@1"])
    with pytest.raises(UsageError, match="write a number for <k>"):
        evaluate(rows, label, ["e_recall@<k>"])
    with pytest.raises(UsageError, match="do not fit"):
        evaluate(rows, label[:-1], ["nmi"])
    with pytest.raises(RunError, match="metrics need two or more"):
        evaluate(rows[:1], label[:1], ["nmi"])
    for name in NAMES[:2] + NAMES[3:]:
        with pytest.raises(RunError, match="every class has a single image"):
            evaluate(rows, torch.arange(len(rows)), [name])


@pytest.mark.parametrize("name", NAMES)
def test_nan_refused(name):
    rows, label = clusters(0)
    rows[3, 0] = float("nan")
    with pytest.raises(RunError, match="hold NaN or infinity .the first is row 3"):
        evaluate(rows, label, [name])


def test_one_search_serves_all(monkeypatch):
    depths = []

    def counted(*args, **kwargs):
        depths.append(args[2])
        return nearest_neighbours(*args, **kwargs)
    monkeypatch.setattr("evaluation.nearest_neighbours", counted)
    rows, label = clusters(0)
    evaluate(rows, label, NAMES)
    assert depths == [6]
    evaluate(rows, label, ["nmi", "mAP"])
    assert depths == [6]


@pytest.mark.gpu
def test_gpu_equals_cpu():
    rows, label = clusters(0, classes=20, per_class=20)
    names = ["e_recall@1", "e_recall@4", "mAP_r", "mAP"]
    assert evaluate(rows.cuda(), label, names) == pytest.approx(evaluate(rows, label, names), abs=1e-12)
