"""Several processes with their shares of a batch train as one process with all of it, for every criterion."""
import csv
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import torch.multiprocessing as multiprocessing

from criteria import CRITERIA
from criteria.method import LMMetric
from datasets.base import Batch
from tests.test_main import PLAIN, flags, folder  # noqa: F401  (a fixture)
from tests.training.methods import POLICIES, batch, build, gradients
from tests.training.test_resume import compare
from training.large_batch import LargeBatchStep
from utilities import checkpoint, distributed

STEPS, WORLD = 3, 2
PLAINEST = "gpw alone"   # without relation, policy and memory: nothing learns behind the features
PROXIES = "proxies of the classes"
CASES = [*CRITERIA, PLAINEST, PROXIES, *POLICIES]
ROOT = Path(__file__).parents[2]


def parts_of(case):
    """Network, method and miner: the full method with a criterion, or with a policy."""
    if case == PLAINEST:
        return plainest()
    if case == PROXIES:
        return build("gpw", proxies=True)
    return build("multisimilarity", policy=POLICIES[case]) if case in POLICIES else build(case)


def train(case, rank=0, world=1):
    """Terms, gradients and the memory of past batches, step by step, of this process's share of each batch."""
    network, method, miner = parts_of(case)
    compute, found = LargeBatchStep(network, method, miner), []
    optimizer = torch.optim.SGD([*network.parameters(), *method.parameters()], lr=0.01)
    for step in range(STEPS):
        optimizer.zero_grad()
        outcome = compute(Batch(*(part.chunk(world)[rank] for part in batch(step))))
        found.append({"terms": {name: term.detach() for name, term in outcome.terms.items()},
                      "gradients": gradients(network, method),
                      "queue": method.xbm.row.clone() if method.xbm else torch.empty(0)})
        optimizer.step()
    return found


def learned_statistics(rank, world):
    """What batch norm that is not frozen knows after a step."""
    network, method, miner = build("gpw", frozen=False)
    LargeBatchStep(network, method, miner)(Batch(*(part.chunk(world)[rank] for part in batch())))
    return [buffer for name, buffer in network.named_buffers() if "running" in name]


def plainest():
    """A network, its loss and nothing else."""
    network, method, miner = build("gpw", memory="none", learned=False)
    return network, LMMetric(method.base), miner


def work(rank, place):
    """What one of the processes does."""
    torch.set_num_threads(1)
    os.environ |= {"WORLD_SIZE": str(WORLD), "RANK": str(rank), "LOCAL_RANK": str(rank), "MASTER_ADDR": "127.0.0.1",
                   "MASTER_PORT": (place / "port").read_text()}
    distributed.join(torch.device("cpu"), 10)
    found = {case: train(case, rank, WORLD) for case in CASES}
    rows = torch.arange(6.0).view(2, 3) + 10 * rank
    found["gathered"] = distributed.gather_rows(rows)
    found["from_first"] = distributed.broadcast_from_first({"a": 0.1, "b": 2.0} if rank == 0 else None, ["a", "b"],
                                                 torch.device("cpu"))
    found["statistics"] = learned_statistics(rank, WORLD)
    found["largest"] = distributed.largest(15 * rank, torch.device("cpu"))
    torch.save(found, place / f"{rank}.pt")
    distributed.leave()


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What each of two processes found, and what one process alone finds."""
    place = tmp_path_factory.mktemp("processes")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        (place / "port").write_text(str(free.getsockname()[1]))
    multiprocessing.start_processes(work, (place,), nprocs=WORLD, start_method="spawn")
    return [torch.load(place / f"{rank}.pt", weights_only=False) for rank in range(WORLD)]


@pytest.mark.skipif(sys.platform != "linux", reason="gloo over loopback is tested on Linux")
@pytest.mark.parametrize("case", CASES)
def test_as_one_process(found, case):
    close = {"rtol": 1e-7, "atol": 1e-10}
    for rank in range(WORLD):
        for step, (here, alone) in enumerate(zip(found[rank][case], train(case))):
            for kind in ("terms", "gradients"):
                assert here[kind].keys() == alone[kind].keys()
                for name in alone[kind]:
                    torch.testing.assert_close(here[kind][name], alone[kind][name], **close,
                                               msg=lambda m, at=(rank, step, name): f"{at}: {m}")
    for first, second in zip(found[0][case], found[1][case]):
        assert torch.equal(first["queue"], second["queue"])
        assert all(torch.equal(first["gradients"][name], second["gradients"][name]) for name in first["gradients"])
    remembers = parts_of(case)[1].xbm is not None
    assert remembers == bool(found[0][case][-1]["queue"].abs().sum() > 0)


def test_exchange(found):
    for one in found:
        assert one["gathered"].tolist() == [[0, 1, 2], [3, 4, 5], [10, 11, 12], [13, 14, 15]]
        assert one["from_first"] == {"a": 0.1, "b": 2.0}
        assert one["largest"] == 15


def test_batch_norm_that_learns_knows_the_same_in_all_processes(found):
    own = [learned_statistics(rank, WORLD) for rank in range(WORLD)]               # of each half alone
    for first, second, one, other in zip(found[0]["statistics"], found[1]["statistics"], *own):
        assert torch.equal(first, second) and not torch.equal(one, other)
        torch.testing.assert_close(first, (one + other) / 2)


def test_one_process_is_left_alone():
    rows = torch.randn(2, 3)
    assert distributed.gather_rows(rows) is rows
    assert (distributed.rank(), distributed.world(), distributed.own_gpu()) == (0, 1, None)
    assert distributed.broadcast_from_first({"a": 1.0}, ["a"], torch.device("cpu")) == {"a": 1.0}
    assert distributed.largest(15, torch.device("cpu")) == 15
    distributed.sum_in_place([rows])
    distributed.join(torch.device("cpu"), 10)
    assert distributed.world() == 1


@pytest.mark.parametrize("gpus, own, backend", [(4, 3, "nccl"), (2, 1, "gloo"), (1, 0, "gloo")])
def test_processes_share_gpus_where_there_are_more_of_them(monkeypatch, gpus, own, backend):
    for name, value in {"WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "4", "LOCAL_RANK": "3"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    assert distributed.own_gpu() == own
    joined = []
    monkeypatch.setattr(distributed.dist, "init_process_group", lambda *args, **kwargs: joined.append((args, kwargs)))
    device = torch.device("cuda", own)
    distributed.join(device, 1)
    [(args, kwargs)] = joined
    assert args == (backend,) and kwargs["device_id"] == (device if backend == "nccl" else None)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="torchrun over loopback is tested on Linux")
def test_the_command_gives_the_metrics_of_one_process(folder, tmp_path):  # noqa: F811
    argv = flags(folder, tmp_path, "--n_epochs", "1", "--arch", "convnet_frozen_normalize",
                 "--xbm_size", "20", "--xbm_start", "1", "--lr", "1e-4", "--eval_bootstrap", "10")
    run = [str(ROOT / "main.py"), *argv, "--savename"]
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    there = os.environ | {"OMP_NUM_THREADS": "1"}
    subprocess.run([*launch, *run, "two"], check=True, env=there, capture_output=True)
    subprocess.run([sys.executable, *run, "one"], check=True, env=there, capture_output=True)
    same_metrics(tmp_path, "one", "two")
    assert sorted(os.listdir(tmp_path / "image_folder")) == ["one", "two"]         # only the first process wrote


@pytest.mark.skipif(sys.platform != "linux", reason="torchrun over loopback is tested on Linux")
def test_an_error_in_one_process_alone_ends_all_with_its_sentence(folder, tmp_path):  # noqa: F811
    """The second process fails in its third step; the first waits for it in an exchange, and does not hang."""
    failing = tmp_path / "failing.py"
    failing.write_text(FAILING)
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", str(failing)]
    started = time.monotonic()
    found = subprocess.run([*launch, *flags(folder, tmp_path, "--savename", "a", *PLAIN)],
                           capture_output=True, text=True, timeout=200,
                           env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)})
    assert found.returncode != 0 and time.monotonic() - started < 150
    said = [line for line in found.stderr.splitlines() if line.startswith("main.py: ")]
    assert "main.py: /images/broken.png cannot be decoded." in said
    assert all("Process 0 ends too" in line for line in said[1:])


FAILING = """
import sys
import main
from utilities import distributed
from utilities.errors import RunError

adapt_miner = main.adapt_miner

def failing(run):
    if distributed.rank() == 1 and run.progress.step == 2:
        raise RunError("/images/broken.png cannot be decoded.")
    adapt_miner(run)

main.adapt_miner = failing
sys.exit(main.main())
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="torchrun over loopback is tested on Linux")
def test_two_machines_that_are_stopped_and_continued_end_as_one_process(folder, tmp_path):  # noqa: F811
    """Two torchrun agents of one process each, as on two machines, and a SIGTERM between that only one of them hears,
    at no step of a record."""
    argv = flags(folder, tmp_path, "--n_epochs", "3", "--arch", "convnet_frozen_normalize",
                 "--xbm_size", "20", "--xbm_start", "1", "--lr", "1e-4", "--resume", "auto", "--log_every", "5")
    there = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        end = f"--rdzv_endpoint=127.0.0.1:{free.getsockname()[1]}"
    launch = [sys.executable, "-m", "torch.distributed.run", "--nnodes=2", "--nproc_per_node=1", "--rdzv_backend=c10d",
              "--rdzv_id=test", end]
    stopping = tmp_path / "stopping.py"
    stopping.write_text(STOPPING)
    for script, name in ((stopping, "two"), (ROOT / "main.py", "two"), (ROOT / "main.py", "whole")):
        nodes = [subprocess.Popen([*launch, str(script), *argv, "--savename", name], env=there,
                                  stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) for _ in range(2)]
        said = [node.communicate(timeout=240)[1] for node in nodes]
        assert all((node.returncode == 0) == (script.name == "main.py") for node in nodes), said
        if script is stopping:
            assert (said[0] + said[1]).count("Stopped by SIGTERM") == 2
            assert checkpoint.load(tmp_path / "image_folder" / "two" / "last.pt")["progress"]["step"] == 4
    compare(tmp_path, "two", "whole")
    subprocess.run([sys.executable, str(ROOT / "main.py"), *argv, "--savename", "one"], check=True, env=there,
                   capture_output=True)
    same_metrics(tmp_path, "one", "two")


STOPPING = """
import os, signal, sys
import main
from utilities import distributed

adapt_miner = main.adapt_miner

def stopping(run):
    if run.progress.step == 4 and distributed.rank() == 1:
        os.kill(os.getpid(), signal.SIGTERM)
    adapt_miner(run)

main.adapt_miner = stopping
sys.exit(main.main())
"""


def same_metrics(out, one, other):
    """Whether the metrics of two runs agree as far as their sums were taken in another order."""
    tables = [list(csv.DictReader((out / "image_folder" / name / "metrics.csv").open())) for name in (one, other)]
    for first, second in zip(*tables, strict=True):
        assert first.keys() == second.keys()
        for name in first:
            assert float(second[name] or 0) == pytest.approx(float(first[name] or 0), rel=1e-3, abs=1e-3), name


@pytest.mark.skipif(sys.platform != "linux", reason="torchrun over loopback is tested on Linux")
def test_an_error_of_one_process_ends_all_with_its_sentence(folder, tmp_path):  # noqa: F811
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    argv = flags(folder, tmp_path, "--data_sampler", "random", *PLAIN, "--bs", "15")
    found = subprocess.run([*launch, str(ROOT / "main.py"), *argv], capture_output=True, text=True, timeout=200,
                           env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert found.returncode != 0 and "--bs 15 cannot be shared by 2 processes" in found.stderr
    assert not (tmp_path / "image_folder").exists()
