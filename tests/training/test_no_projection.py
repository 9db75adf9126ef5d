"""--embed_dim none: an embedding is the pooled feature itself."""
import pytest
import torch
from torch.nn.functional import normalize

import architectures
import main
from datasets import batches
from evaluation import evaluate
from parameters import get_options
from training.building import build_loaders, prepared_network, read_splits
from utilities import checkpoint
from utilities.table import read_rows

CPU = torch.device("cpu")
PLAIN = ["--relation", "none", "--pair_weighting", "uniform"]

pytestmark = pytest.mark.slow


@pytest.fixture
def flags(glyphs, tmp_path):
    return [*glyphs, "--glyphs_images_per_class", "5", "--save_path", str(tmp_path), "--no-figures",
            "--embed_dim", "none"]


def trained(flags, tmp_path, *more):
    """The network's tensors after a run, and its folder."""
    name = f"run{len(list(tmp_path.glob('glyphs/*')))}"
    assert main.main([*flags, *more, "--savename", name]) == 0
    folder = tmp_path / "glyphs" / name
    return checkpoint.load(folder / "last.pt"), folder


def test_without_epochs_the_backbone_is_evaluated(flags, tmp_path):
    _, folder = trained(flags, tmp_path, "--n_epochs", "0")
    opt = get_options([*flags, "--n_epochs", "0"])
    torch.manual_seed(opt.seed)
    splits = read_splits(opt)
    network = prepared_network(opt, CPU).eval()
    loaders = build_loaders(opt, splits, network, CPU)
    features = []
    labels = []
    with torch.no_grad():
        for image, label, _ in batches(loaders["test"], CPU):
            maps = network.backbone(image)
            features.append(maps.mean((2, 3)) + maps.amax((2, 3)))
            labels.append(label)
    rows = normalize(torch.cat(features))
    expected = evaluate(rows, torch.cat(labels), ["e_recall@1", "mAP_r"])
    row = read_rows(folder / "metrics.csv")[-1]
    assert {name: float(row[name]) for name in expected} == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("more", [
    [], PLAIN, ["--recipe", "paper"], ["--memory", "realnvp"], ["--accumulate", "4"],
    [*PLAIN, "--loss", "softtriplet"], [*PLAIN, "--loss", "multisimilarity", "--xbm_size", "20", "--xbm_start", "0"],
    [*PLAIN, "--proxies_weight", "1"], ["--optim", "rmsprop", "--ema", "0.9"],
    ["--freeze", "--memory", "realnvp", "--accumulate", "4"],
])
def test_backbone_trains_and_everything_has_its_width(flags, tmp_path, more):
    start, _ = trained(flags, tmp_path, *more, "--n_epochs", "0")
    state, folder = trained(flags, tmp_path, *more)
    assert not [name for name in state["network"] if name.startswith("projection")]
    moved = [name for name, tensor in state["network"].items() if not torch.equal(tensor, start["network"][name])]
    first = moved[0].partition(".")[0]
    assert first == ("memory" if "--freeze" in more else "backbone")
    network, _ = architectures.restore(folder / "last.pt")
    assert network.embed_dim == network.feature_dim == 128
    assert network.embed(torch.rand(2, 3, 32, 32)).shape == (2, 128)


def test_large_batch_in_chunks_has_the_gradient_of_the_whole(flags, tmp_path):
    whole, _ = trained(flags, tmp_path, "--arch", "convnet_frozen")
    parts, _ = trained(flags, tmp_path, "--arch", "convnet_frozen", "--accumulate", "5")
    for name, tensor in whole["network"].items():
        torch.testing.assert_close(parts["network"][name], tensor, rtol=1e-3, atol=1e-4)


def test_a_run_continues_and_its_checkpoint_is_evaluated(flags, tmp_path, capsys):
    whole, _ = trained(flags, tmp_path, "--n_epochs", "2")
    _, run = trained(flags, tmp_path)
    assert main.main(["--resume", str(run), "--n_epochs", "2"]) == 0
    parts = checkpoint.load(run / "last.pt")
    assert all(torch.equal(tensor, parts["network"][name]) for name, tensor in whole["network"].items())
    capsys.readouterr()
    assert main.main(["--evaluate_only", "--checkpoint", str(run / "last.pt"), "--device", "cpu"]) == 0
    row = read_rows(run / "metrics.csv")[-1]
    assert f"{100 * float(row['mAP_r']):.1f} |" in capsys.readouterr().out


@pytest.mark.parametrize("more, words", [
    (["--warmup_epochs", "1"], "pass --warmup_epochs 0"),
    (["--freeze"], "nothing of the network to train"),
    (["--memory_hidden", "8"], "--memory_hidden has no effect with --memory none"),
    (["--embed_dim", "nothing"], "nothing is not a whole number"),
])
def test_what_a_projection_would_be_needed_for_is_refused(flags, capsys, more, words):
    with pytest.raises(SystemExit):
        main.main([*flags, *more])
    assert words in capsys.readouterr().err


def test_a_checkpoint_of_another_width_is_refused_with_the_flag(flags, tmp_path, capsys):
    _, folder = trained(flags, tmp_path, "--n_epochs", "0")
    start = ["--checkpoint", str(folder / "last.pt"), "--embed_dim", "16", "--memory", "none"]
    assert main.main([*flags, *start]) == 2
    assert "Pass --embed_dim none" in capsys.readouterr().err


def test_a_loss_that_the_width_does_not_suit_is_refused_before_data_are_read(flags, capsys):
    parts = ["--loss_adversarial_separation_parts", "3", "--source_path", "/absent"]
    assert main.main([*flags, *PLAIN, "--loss", "adversarial_separation", *parts]) == 2
    assert "divide --embed_dim 128" in capsys.readouterr().err
