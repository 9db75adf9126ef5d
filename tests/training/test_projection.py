"""A projection that starts from the principal components of the training images' features."""
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from torch import nn
from torch.nn.functional import cosine_similarity

import main
from architectures.backbones import Backbone
from architectures.network import Network
from datasets import batches
from datasets.base import ImageList
from datasets.rows import row_loader
from datasets.samplers import select
from evaluation.embed import command
from parameters import get_options
from training import projection
from utilities.table import read_rows

CPU = torch.device("cpu")
ROWS = torch.randn(60, 7, generator=torch.Generator().manual_seed(0)) * torch.arange(1.0, 8.0) + 2


def network_of(embed_dim, width=7):
    torch.manual_seed(1)
    return Network(Backbone(nn.Identity(), width, pooled=True), embed_dim)


def loader_of(rows, sampler=None):
    labels = [i // 4 for i in range(len(rows))]
    images = ImageList([str(i) for i in range(len(rows))], labels, [str(i) for i in range(15)])
    return row_loader(rows.numpy()[None], images, sampler, batch_size=16)


def started(network, loader):
    projection.start_from_components(network, loader, bs=16, amp="none", device=CPU)
    return network


def test_components_are_those_of_another_library():
    found = projection.principal_components(ROWS)
    expected = PCA(svd_solver="full").fit(ROWS.double().numpy()).components_
    signs = np.sign((found.numpy() * expected).sum(1, keepdims=True))
    np.testing.assert_allclose(found.numpy() * signs, expected, atol=1e-10)
    largest = found[torch.arange(7), found.abs().argmax(1)]
    assert (largest > 0).all()


def test_as_many_dimensions_as_the_feature_keep_every_similarity():
    network = started(network_of(7), loader_of(ROWS))
    embedding = network(ROWS).embedding
    found = cosine_similarity(embedding[:30], embedding[30:])
    torch.testing.assert_close(found, cosine_similarity(ROWS[:30], ROWS[30:]), atol=1e-6, rtol=0)


def test_the_rows_are_the_first_components_at_the_norm_of_random_weights():
    before = network_of(3).projection.weight.detach()
    found = started(network_of(3), loader_of(ROWS)).projection
    expected = projection.principal_components(ROWS)[:3].float() * before.norm() / 3**0.5
    torch.testing.assert_close(found.weight.detach(), expected)
    torch.testing.assert_close(found.weight.norm(), before.norm())
    assert not found.bias.any()


def test_rows_beyond_the_feature_stay_random():
    before = network_of(9).projection.weight.detach()
    after = started(network_of(9), loader_of(ROWS)).projection.weight.detach()
    assert torch.equal(after[7:], before[7:])
    assert not torch.isclose(after[:7], before[:7]).any()


def test_looking_at_features_moves_no_batch():
    def indices(look):
        sampler = select("class_random", labels=[i // 4 for i in range(60)], bs=8, samples_per_class=4, seed=3)
        loader = loader_of(ROWS, sampler)
        if look:
            started(network_of(3), loader)
        return torch.cat([batch.index for _ in range(2) for batch in batches(loader)])
    assert torch.equal(indices(True), indices(False))


def test_of_many_images_an_even_part_is_seen(monkeypatch):
    monkeypatch.setattr(projection, "IMAGES", 20)
    network = network_of(3)
    network.train()
    found = projection.training_features(network, loader_of(ROWS), bs=16, amp="none", device=CPU)
    assert torch.equal(found, ROWS[::3])
    assert network.training


@pytest.mark.parametrize(("flags", "expected"), [
    ([], "random"),
    (["--freeze"], "pca"),
    (["--freeze", "--recipe", "paper"], "random"),
    (["--dataset", "embeddings", "--source_path", "x.npy"], "pca"),
    (["--dataset", "embeddings", "--source_path", "x.npy", "--projection_init", "random"], "random"),
])
def test_defaults(flags, expected):
    assert get_options(flags).projection_init == expected


@pytest.mark.parametrize("more", [["--embed_dim", "none", "--freeze", "--n_epochs", "0"], ["--checkpoint", "x.pt"]])
def test_refused_where_no_projection_starts(more, capsys):
    with pytest.raises(SystemExit, match="2"):
        main.main(["--projection_init", "pca", *more])
    assert "--projection_init has no effect" in capsys.readouterr().err


def test_a_network_that_was_trained_keeps_its_projection(monkeypatch):
    monkeypatch.setattr(projection, "start_from_components", lambda *_, **__: pytest.fail("started again"))
    opt = SimpleNamespace(projection_init="pca", embed_dim=3, checkpoint="best.pt")
    projection.start_projection(opt, None, None, CPU)


@pytest.mark.parametrize("more", [[], ["--freeze"]])
def test_a_run_starts_from_the_similarities_of_its_backbone(folder, tmp_path, more, capsys):
    common = ["--dataset", "image_folder", "--source_path", str(folder), "--save_path", str(tmp_path),
              "--n_epochs", "0", "--arch", "convnet_normalize", "--image_size", "16", "--bs", "8",
              "--kernels", "0", "--no-figures", "--device", "cpu", "--relation", "none", "--memory", "none",
              "--pair_weighting", "uniform", "--evaluation_metrics", "e_recall@1", "mAP_r",
              "dists@intra_over_inter", *more]
    found = {}
    for name, flags in {"none": [], "128": ["--projection_init", "pca"]}.items():
        assert main.main([*common, "--embed_dim", name, "--savename", name, *flags]) == 0, capsys.readouterr().err
        row = read_rows(tmp_path / "image_folder" / name / "metrics.csv")[0]
        found[name] = {metric: float(value) for metric, value in row.items()}
    assert found["128"] == pytest.approx(found["none"], abs=1e-5)


def test_rows_alone_are_evaluated(tmp_path):
    """A network without a parameter."""
    np.save(tmp_path / "rows.npy", np.random.default_rng(0).normal(size=(24, 8)).astype(np.float32))
    lines = [f"=a{i}.png,{i // 3}" for i in range(24)]
    (tmp_path / "labels.csv").write_text("path,label\n" + "\n".join(lines) + "\n")
    argv = ["--dataset", "embeddings", "--source_path", str(tmp_path / "rows.npy"), "--embed_dim", "none", "--memory",
            "none", "--bs", "8", "--n_epochs", "0", "--no-figures", "--save_path", str(tmp_path / "runs"), "--device",
            "cpu"]
    assert main.main([*argv, "--savename", "a", "--relation", "none", "--pair_weighting", "uniform"]) == 0
    checkpoint = tmp_path / "runs" / "embeddings" / "a" / "last.pt"
    out = tmp_path / "e"
    assert command.main([str(checkpoint), str(tmp_path / "rows.npy"), "--out", str(out), "--metrics"]) == 0
    assert (out / "labels.csv").read_text().splitlines()[1].startswith("./=a0.png,")
