import pytest
import torch

from evaluation.metrics.bootstrap import ratio_interval
from evaluation.metrics.per_class import class_sums, class_table

NAMES = ["owl", "wren", "crow", "jay"]
LABEL = torch.tensor([3, 0, 3, 1, 0, 3])
QUERY = torch.tensor([True, True, True, False, True, True])
VALUE = torch.tensor([1.0, 0.5, 0.0, 9.0, 0.25, 0.5])


def test_sums_leave_out_what_is_no_query():
    total, count = class_sums(VALUE, QUERY, LABEL)
    assert total.tolist() == [0.75, 0, 1.5]
    assert count.tolist() == [2, 0, 3]
    assert (total.sum() / count.sum()).item() == VALUE[QUERY].double().mean().item()
    assert ratio_interval(total, count, 50)[0] >= 0.375


def test_worst_class_first_and_classes_of_one_image_last():
    lines = class_table({"e_recall@1": VALUE, "mAP": 1 - VALUE}, QUERY, LABEL, NAMES)
    assert lines == [
        {"class": "owl", "images": 2, "e_recall@1": 0.375, "mAP": 0.625},
        {"class": "jay", "images": 3, "e_recall@1": 0.5, "mAP": pytest.approx(0.5)},
        {"class": "wren", "images": 1},
    ]


def test_the_first_metric_decides_the_order():
    lines = class_table({"mAP": 1 - VALUE, "e_recall@1": VALUE}, QUERY, LABEL, NAMES)
    assert [line["class"] for line in lines] == ["jay", "owl", "wren"]
