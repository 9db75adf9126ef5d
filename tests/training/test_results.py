"""What a run says of its test images agrees with its metrics."""
import csv
from types import SimpleNamespace

import pytest
import torch

from datasets.base import ImageList, Splits
from evaluation import evaluate
from training import results
from training.results import Embedded, draw_pictures
from utilities.logger import RunFolder

OPTIONS = {"map_images": 0, "explorer_images": 0, "eval_per_class": False, "image_size": 32, "seed": 1,
           "search_backend": "torch", "search_precision": "float", "eval_block": 512}


@pytest.mark.parametrize("spread", [1.0, 1e-2, 1e-3, 1e-4])
def test_confusions_add_up_to_the_misses_however_close_the_rows_are(tmp_path, monkeypatch, spread):
    generator = torch.Generator().manual_seed(0)
    rows = torch.nn.functional.normalize(torch.ones(16) + spread * torch.randn(240, 16, generator=generator), dim=1)
    label = torch.arange(240) % 40
    names = [f"class {c}" for c in range(40)]
    images = ImageList([tmp_path / f"{i}.png" for i in range(240)], label.tolist(), names)
    monkeypatch.setattr(results, "have_images", lambda splits: False)
    monkeypatch.setattr(results, "search_arguments", lambda opt: {})
    draw_pictures(SimpleNamespace(**OPTIONS), Embedded(rows, label), Splits(images, None, images), RunFolder(tmp_path))
    with open(tmp_path / "confusions.csv", newline="") as file:
        wrong = sum(int(line["count"]) for line in csv.DictReader(file))
    assert 1 - wrong / 240 == pytest.approx(evaluate(rows, label, ["e_recall@1"])["e_recall@1"])
