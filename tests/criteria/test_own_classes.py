"""A criterion or miner of the user's own file, by `module.Class`."""
import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import batchminer
import criteria
from batchminer.base import Miner, Triplets
from criteria import Margin
from criteria.base import Criterion
from parameters import get_options
from training.building import build_method, build_miner, build_network
from utilities.errors import UsageError

MAIN = Path(__file__).parents[2] / "main.py"
LOSS = '''
import torch
from criteria.base import Criterion


class Centred(Criterion):
    """Mean similarity to the own of some learned centres."""

    accepts_weight = "pair"

    def __init__(self, n_classes, scale=2.0):
        super().__init__()
        self.scale = scale
        self.centres = torch.nn.Parameter(torch.ones(n_classes, 1))

    def loss(self, x, label, triplets, weight, anchors=None):
        own = self.centres[label] * x
        return self.scale * (1 - own).square().mean()


class OnTriplets(Criterion):
    needs_triplets = True

    def loss(self, x, label, triplets, weight, anchors=None):
        similar = x @ x.T
        gap = similar[triplets.anchor, triplets.negative] - similar[triplets.anchor, triplets.positive]
        return gap.sum() / max(1, len(gap))


class NoCriterion:
    pass


class NoDefault(Criterion):
    def __init__(self, margin):
        super().__init__()
'''
MINER = '''
from batchminer.base import ClassBlocks, Miner, admissible


class First(Miner):
    """The first positive and the first negative."""

    def mine(self, embedding, label, generator, anchors=None):
        blocks = ClassBlocks(label, anchors)
        zero = blocks.positives * 0
        keep = (blocks.positives > 0) & (blocks.negatives > 0)
        return admissible(keep, blocks.positive(zero), blocks.negative(zero))
'''
SMALL = [
    "--glyphs_classes",
    "8",
    "--glyphs_images_per_class",
    "8",
    "--bs",
    "16",
    "--n_epochs",
    "1",
    "--log_every",
    "1",
    "--device",
    "cpu",
    "--no-figures",
]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A current folder with files of losses and miners; what they import is forgotten
    afterwards."""
    files = {
        "own_losses": LOSS,
        "own_miners": MINER,
        "broken_losses": "import no_such_library",
        "unfinished_losses": "class Unfinished(:",
    }
    for name, text in files.items():
        (tmp_path / f"{name}.py").write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path
    for name in files:
        sys.modules.pop(name, None)


def select(name, **arguments):
    return criteria.select(name, n_classes=3, embed_dim=4, **arguments)


def test_a_loss_of_an_own_file_gets_the_sizes_that_it_takes(folder):
    criterion = select("own_losses.Centred")
    assert criterion.centres.shape == (3, 1)
    assert criterion.scale == 2
    assert criterion.is_class_specific()
    x = torch.ones(2, 4, requires_grad=True)
    loss = criterion(x * 0.5, torch.tensor([0, 1]))
    loss.backward()
    assert loss.item() == 0.5
    assert x.grad.abs().min() > 0


def test_a_class_without_constructor_of_its_own(folder):
    criterion = select("own_losses.OnTriplets")
    triplets = batchminer.Triplets(*torch.tensor([[0], [1], [2]]))
    x = torch.tensor([[1.0, 0], [1, 0], [0, 1]])
    assert criterion(x, torch.tensor([0, 0, 1]), triplets).item() == -1
    with pytest.raises(UsageError, match="was given none: pass --batch_mining distance"):
        criterion(x, torch.tensor([0, 0, 1]))


def test_a_miner_of_an_own_file(folder):
    miner = batchminer.select("own_miners.First", seed=5)
    assert miner.stream.seed == 5
    triplets = miner(torch.randn(4, 2), torch.tensor([0, 1, 0, 2]))
    assert [t.tolist() for t in triplets] == [[0, 2], [2, 0], [1, 1]]


@pytest.mark.parametrize(
    "name,words",
    [
        (
            "no_such_file.Loss",
            "--loss no_such_file.Loss: there is no module no_such_file: put no_such_file.py "
            "beside main.py or in the current folder.",
        ),
        (
            "broken_losses.Loss",
            "--loss broken_losses.Loss: module broken_losses fails on import: "
            "ModuleNotFoundError: No module named 'no_such_library'",
        ),
        (
            "unfinished_losses.Loss",
            "--loss unfinished_losses.Loss: module unfinished_losses fails on import: "
            "SyntaxError: invalid syntax (unfinished_losses.py, line 1)",
        ),
        (
            "own_losses.Cenred",
            "--loss own_losses.Cenred: own_losses has no class Cenred. Did you mean Centred?",
        ),
        (
            "own_losses.NoCriterion",
            "--loss own_losses.NoCriterion: NoCriterion must be a subclass of "
            "criteria.base.Criterion.",
        ),
        (
            "own_losses.NoDefault",
            "--loss own_losses.NoDefault: its constructor's argument margin needs a "
            "default, which you set in the file.",
        ),
    ],
)
def test_what_cannot_work_is_refused_in_one_sentence(folder, name, words):
    with pytest.raises(UsageError) as refusal:
        select(name)
    assert str(refusal.value) == words


def test_a_miner_must_be_a_miner(folder):
    with pytest.raises(
        UsageError, match="--batch_mining own_losses.Centred: .* subclass of batchminer.base.Miner"
    ):
        batchminer.select("own_losses.Centred")


def test_the_options_of_an_own_loss(folder):
    opt = get_options(["--loss", "own_losses.Centred"])
    assert (opt.loss, opt.batch_mining, opt.pair_weight_on) == (
        "own_losses.Centred",
        "none",
        "term",
    )
    paper = get_options(["--recipe", "paper", "--loss", "own_losses.OnTriplets"])
    assert (paper.batch_mining, paper.pair_weight_on) == ("none", "term")
    given = get_options(["--loss", "own_losses.OnTriplets", "--batch_mining", "own_miners.First"])
    assert given.batch_mining == "own_miners.First"
    with pytest.raises(SystemExit):
        get_options(["--loss", "own_losses.Centred", "--loss_margin_nu", "1"])


def test_method_and_miner_are_built_from_own_classes(folder):
    opt = get_options(["--loss", "own_losses.OnTriplets", "--pair_weighting", "uniform"])
    with pytest.raises(UsageError, match="--loss own_losses.OnTriplets needs triplets"):
        build_method(opt, build_network(opt), 6)
    opt.batch_mining = "own_miners.First"
    method = build_method(opt, build_network(opt), 6)
    assert type(method.base).__name__ == "OnTriplets"
    assert type(build_miner(opt)).__name__ == "First"
    opt.pair_weighting = "learned"
    with pytest.raises(UsageError, match="OnTriplets takes no pair weights"):
        build_method(opt, build_network(opt), 6)


def test_main_trains_with_an_own_loss(folder):
    command = [
        sys.executable,
        str(MAIN),
        *SMALL,
        "--loss",
        "own_losses.Centred",
        "--savename",
        "own",
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    run = folder / "runs" / "glyphs" / "own"
    flags = json.loads((run / "options.json").read_text())["flags"]
    assert flags["loss"] == "own_losses.Centred"
    with open(run / "steps.csv", newline="") as file:
        assert len(list(csv.DictReader(file))) == 2


class PerImage(Criterion):
    """One value an image."""

    def loss(self, x, label, triplets, weight, anchors):
        return x.sum(1)


class Unfinished(Criterion):
    """Without a formula."""


class Pairs(Miner):
    """A tuple in the place of triplets."""

    def mine(self, x, label, generator, anchors):
        return label, label


def test_what_an_own_class_gives_is_checked():
    rows, label = torch.eye(4), torch.arange(4)
    with pytest.raises(UsageError, match="PerImage.loss gave Tensor \\(4,\\): give a scalar"):
        PerImage()(rows, label)
    with pytest.raises(NotImplementedError, match="Unfinished has no method loss"):
        Unfinished()(rows, label)
    with pytest.raises(UsageError, match="Pairs.mine gave a tuple"):
        Pairs()(rows, label)
    with pytest.raises(NotImplementedError, match="Miner has no method mine"):
        Miner()(rows, label)


@pytest.mark.parametrize("called", [PerImage(), Miner()])
def test_labels_that_do_not_fit_are_refused(called):
    with pytest.raises(UsageError, match="with labels"):
        called(torch.eye(4), torch.arange(3))
    with pytest.raises(UsageError, match="whole numbers"):
        called(torch.eye(4), torch.rand(4))
    for label in ([0, 1, 2, 3], torch.arange(4).numpy()):
        with pytest.raises(UsageError, match="not Tensor \\(4, 4\\) with (list|ndarray)"):
            called(torch.eye(4), label)
    with pytest.raises(UsageError, match="real numbers"):
        called(torch.eye(4).long(), torch.arange(4))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32])
def test_labels_of_any_whole_type_are_the_same_classes(dtype):
    loss = Margin(n_classes=4)
    loss.beta.data = torch.tensor([1.0, 2.0, 3.0, 4.0])
    rows = torch.randn(8, 5)
    label = torch.tensor([1, 1, 2, 2, 3, 3, 1, 2])
    triplets = Triplets(torch.tensor([0, 2, 4]), torch.tensor([1, 3, 5]), torch.tensor([2, 0, 0]))
    assert torch.equal(loss(rows, label.to(dtype), triplets), loss(rows, label, triplets))


class Doubled(Margin):
    """A subclass that writes no constructor."""

    def loss(self, *batch):
        return 2 * super().loss(*batch)


class Near(Miner):
    """A miner with a constructor of its own, which takes no seed."""

    def __init__(self, k=2):
        super().__init__()
        self.k = k


class Nearer(Near):
    """A subclass of it."""


def test_a_constructor_that_is_written_is_inherited():
    batch = torch.randn(8, 5), torch.arange(8) // 2
    triplets = Triplets(*torch.tensor([[0, 1, 2], [2, 3, 4]]).T)
    assert Doubled(4, margin=0.5)(*batch, triplets) == 2 * Margin(4, margin=0.5)(*batch, triplets) > 0
    with pytest.raises(UsageError, match="margin: -1 is not"):
        Doubled(4, margin=-1)
    assert Nearer(k=3).k == 3
    with pytest.raises(UsageError, match="Wider: the constructor that it inherits takes no width"):
        type("Wider", (Margin,), {"__annotations__": {"width": float}, "width": 1.0})


def test_a_miner_without_a_seed_still_draws_by_the_seed_of_the_run(monkeypatch):
    monkeypatch.setattr(batchminer, "own_class", lambda *_: Near)
    first, again, other = (batchminer.select("own.Near", seed, k=3) for seed in (1, 1, 2))
    numbers = [torch.rand(3, generator=miner.stream.on(torch.device("cpu"))) for miner in (first, again, other)]
    assert torch.equal(numbers[0], numbers[1]) and not torch.equal(numbers[0], numbers[2])


@pytest.mark.parametrize("given", [
    (torch.tensor([0]), torch.tensor([1]), torch.tensor([2, 3])),
    (torch.tensor([0.0]), torch.tensor([1.0]), torch.tensor([2.0])),
    ([0], [1], [2]),
])
def test_triplets_that_are_none_are_refused(given):
    class Odd(Miner):
        def mine(self, x, label, generator, anchors):
            return Triplets(*given)

    with pytest.raises(UsageError, match="Odd.mine gave .* give three tensors"):
        Odd()(torch.eye(4), torch.arange(4))
