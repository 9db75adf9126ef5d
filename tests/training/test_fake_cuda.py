"""Whole runs as on a GPU, on any machine: no mix of devices, no unknown wait, no wrong generator."""
import contextlib

import pytest
import torch
from torch.nn.functional import one_hot

import main
from criteria import CRITERIA
from criteria.method import LMMetric
from datasets.samplers import SAMPLERS
from datasets.samplers.storage import StorageSampler
from tests.fake_cuda import FakeCuda, HostWaits, MixedDevices, WrongGenerator, fake_cuda
from tests.training.methods import same
from training import restored
from training.guard import FiniteGuard
from training.records import StepRecorder
from training.run import Progress

# What a step waits for by the design of its parts (docs/training.md, "Waiting for the GPU").
MINED = {"nonzero", "index by mask"}
RANKED = {"_local_scalar_dense"}
MEMORY = {"index by mask"}
BY_RANKS = {"smoothap", "supap", "recallatk"}
BY_STORAGE = [name for name, sampler in SAMPLERS.items() if sampler.needs_storage]
PLAIN = ["--relation", "none", "--memory", "none", "--pair_weighting", "uniform"]
# Where the host reads the device between steps: a row of the records, an evaluation, a checkpoint.
BETWEEN_STEPS = [
    (main, "finish_epoch"),
    (main, "log_step"),
    (main, "adapt_miner"),
    (FiniteGuard, "check"),
    (Progress, "mean_terms"),
    (StorageSampler, "plan"),
]

pytestmark = pytest.mark.slow


def flags(folder, out, *more):
    """Two steps and an evaluation on the GPU."""
    return [
        *("--dataset", "image_folder", "--source_path", str(folder), "--save_path", str(out)),
        *("--device", "cuda", "--kernels", "0", "--no-figures", "--debug", "--savename", "run"),
        *("--arch", "convnet_normalize", "--not_pretrained", "--image_size", "16"),
        *("--bs", "8", "--samples_per_class", "2", "--embed_dim", "64", "--n_epochs", "1", "--steps_per_epoch", "2"),
        *("--log_every", "2", "--evaluation_metrics", "e_recall@1"),
        *("--storage_metrics", "e_recall@1"),
        *more,
    ]


@contextlib.contextmanager
def watched(allowed=()):
    """A GPU for which no step of training but the first, which starts things up, waits for more."""
    with fake_cuda() as gpu, pytest.MonkeyPatch.context() as patch:
        for place, name in BETWEEN_STEPS:
            patch.setattr(place, name, gpu.reading(getattr(place, name)))
        train = main.train
        add = StepRecorder.add

        def strict_after_a_step(*arguments, **more):
            add(*arguments, **more)
            gpu.allowed = set(allowed)

        patch.setattr(StepRecorder, "add", strict_after_a_step)
        patch.setattr(main, "train", gpu.reading(train))
        # a checkpoint holds plain tensors
        patch.setitem(restored.KINDS, FakeCuda, torch.Tensor)
        yield gpu


def run(argv, allowed=()):
    """A run of the command line on a GPU."""
    with watched(allowed):
        assert main.main(argv) == 0


def allowed_of(loss):
    """What a step with this loss waits for."""
    criterion = CRITERIA[loss]
    mined = MINED if criterion.needs_triplets else set()
    return mined | (RANKED if loss in BY_RANKS else set())


PUBLISHED = ["--recipe", "paper", "--memory_levels", "1", "--memory_steps", "1"]
# The losses whose weights enter in other ways; all others take long together.
QUICK = ("margin", "proxyanchor", "smoothap")
LOSSES = [*QUICK, *(pytest.param(name, marks=pytest.mark.slow) for name in CRITERIA if name not in QUICK)]


@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss_trains(folder, tmp_path, loss):
    run(flags(folder, tmp_path, "--loss", loss), allowed_of(loss))


@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss_trains_by_the_published_recipe(folder, tmp_path, loss):
    run(flags(folder, tmp_path, "--loss", loss, *PUBLISHED), allowed_of(loss))


MEASURED = [
    *("e_recall@1", "c_recall@2", "precision@2", "r_precision", "mrr", "mAP", "mAP_r", "mAP_c"),
    *("nmi", "f1", "dists@intra", "dists@inter", "rho_spectrum@1", "fnmr@0.1"),
]
PARTS = {
    "cross-batch memory": (["--xbm_size", "16", "--xbm_start", "0"], MEMORY),
    "in chunks": (["--accumulate", "4"], ()),
    "float16": (["--amp", "fp16"], ()),
    "bfloat16, averages, clipped": (["--amp", "bf16", "--ema", "0.9", "--grad_clip", "1"], ()),
    "attention": (["--relation", "attention"], ()),
    "proxies": (["--proxies_weight", "1"], ()),
    "frozen": (["--freeze", "--freeze_views", "1"], ()),
    "warm-up": (["--warmup_epochs", "1"], ()),
    "evaluation": (["--evaluation_metrics", *MEASURED, "--eval_context", "2"], ()),
}


@pytest.mark.parametrize("part", PARTS)
def test_every_part_trains(folder, tmp_path, part):
    more, allowed = PARTS[part]
    run(flags(folder, tmp_path, "--loss", "gpw", *more), allowed)


@pytest.mark.parametrize("sampler", BY_STORAGE)
def test_every_sampler_by_storage_trains(folder, tmp_path, sampler):
    run(flags(folder, tmp_path, "--loss", "gpw", "--data_sampler", sampler))


def state_of(out):
    return torch.load(out / "image_folder" / "run" / "last.pt", weights_only=True)


@pytest.mark.parametrize("more", [(), ("--data_sampler", "d2_coreset", "--amp", "fp16")])
def test_a_resumed_run_ends_as_the_uninterrupted_one(folder, tmp_path, more):
    argv = flags(folder, tmp_path / "whole", "--loss", "gpw", *more, "--n_epochs", "2")
    run(argv)
    argv[argv.index("--save_path") + 1] = str(tmp_path / "parts")
    for epochs in ("1", "2"):
        argv[-1] = epochs
        run([*argv, "--resume", "auto"])
    whole = state_of(tmp_path / "whole")
    parts = state_of(tmp_path / "parts")
    for name in ("network", "method", "optimisation", "sampler", "random"):
        same(whole[name], parts[name])


def test_its_numbers_are_those_of_the_cpu(folder, tmp_path):
    # one step: Adam makes a large step of a gradient's rounding
    argv = flags(folder, tmp_path / "gpu", "--loss", "gpw", "--steps_per_epoch", "1")
    run(argv)
    argv[argv.index("--save_path") + 1] = str(tmp_path / "cpu")
    argv[argv.index("cuda")] = "cpu"
    assert main.main(argv) == 0
    on_gpu = state_of(tmp_path / "gpu")
    on_cpu = state_of(tmp_path / "cpu")
    loss = on_cpu["history"][-1]["loss"]
    assert on_gpu["history"][-1]["loss"] == pytest.approx(loss, rel=1e-5)
    assert on_gpu["history"][0]["e_recall@1"] == on_cpu["history"][0]["e_recall@1"]


def drawn(device, generator_device):
    generator = torch.Generator(generator_device)
    return torch.rand(3, device=device, generator=generator)


PLANTED = {
    "a tensor of the CPU": (MixedDevices, lambda x: x + torch.zeros(len(x), 1)),
    "a target of the CPU": (MixedDevices, lambda x: torch.zeros(x.shape).add_(x)),
    "a generator of the CPU": (WrongGenerator, lambda x: drawn(x.device, "cpu")),
    "a generator of the GPU": (WrongGenerator, lambda x: drawn("cpu", x.device)),
    "item": (HostWaits, lambda x: x.sum().item()),
    "a condition": (HostWaits, lambda x: x.sum() > 0 or x),
    "cpu": (HostWaits, lambda x: x.cpu()),
    "tolist": (HostWaits, lambda x: x.tolist()),
    "nonzero": (HostWaits, lambda x: x.nonzero()),
    "a mask": (HostWaits, lambda x: x[x > 0]),
    "a mask that is set": (HostWaits, lambda x: x.clone().index_put_([x > 0], x.sum())),
    "unique": (HostWaits, lambda x: x.unique()),
    "one_hot": (HostWaits, lambda x: one_hot(x.argmax(1))),
    "repeat_interleave": (HostWaits, lambda x: x.repeat_interleave(x.argmax(1), dim=0)),
    "numbers of the host": (HostWaits, lambda x: torch.tensor([1, 2], device=x.device)),
    "an index of the host": (HostWaits, lambda x: x[[0, 1]]),
    "a tensor that is sent": (HostWaits, lambda x: torch.zeros(3).to(x.device)),
}


@pytest.mark.parametrize("name", PLANTED)
def test_what_is_planted_in_a_step_is_found(folder, tmp_path, monkeypatch, name):
    error, planted = PLANTED[name]
    relate = LMMetric.relate

    def faulty(self, network, features):
        related = relate(self, network, features)
        if features.embedding.requires_grad:
            planted(related.z.detach())
        return related

    monkeypatch.setattr(LMMetric, "relate", faulty)
    with pytest.raises(error):
        run(flags(folder, tmp_path, "--loss", "gpw", *PLAIN))


@pytest.mark.parametrize("loss", ["margin", "smoothap"])
def test_a_known_wait_is_found_where_it_is_not_allowed(folder, tmp_path, loss):
    with pytest.raises(HostWaits):
        run(flags(folder, tmp_path, "--loss", loss, *PLAIN))
