"""What the benchmarks of whole runs compute from their runs: differing states, kills, rates, peak memory."""
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tqdm import tqdm

from benchmarks import kill_and_resume, loader, processes, scale, scaling, step, synchronisations
from utilities.cells import markdown

ROOT = Path(__file__).parent.parent.parent


def state(**changes):
    """A small nested state with changes at its top."""
    return {"step": 3, "weights": {"a": torch.arange(3.0)}, "history": [1, (2.0, "x")]} | changes


@pytest.mark.parametrize("changes, paths", [
    ({}, []),
    ({"step": 4}, ["/step"]),
    ({"step": 3.0}, ["/step"]),
    ({"more": 1}, ["/more"]),
    ({"weights": {"a": torch.tensor([0, 1, 2.5])}}, ["/weights/a"]),
    ({"weights": {"a": 1}}, ["/weights/a"]),
    ({"history": [1, (2.0, "y")]}, ["/history/1/1"]),
    ({"history": [1, (2.0,)]}, ["/history/1/1"]),
])
def test_two_states_differ_where_they_differ(changes, paths):
    assert kill_and_resume.differences(state(), state(**changes)) == paths
    assert kill_and_resume.differences(state(**changes), state()) == paths


def test_rows_of_steps_are_compared_without_time_and_memory():
    row = {"step": "4", "loss": "0.5", "images_per_second": "3", "data_wait": "0.1", "peak_memory_mib": "7"}
    assert kill_and_resume.unmeasured(row) == {"step": "4", "loss": "0.5"}


def test_a_run_is_killed_until_it_is_left_alone():
    sleeper = [sys.executable, "-c", "import time; time.sleep(1)"]
    with tqdm(disable=True) as bar:
        assert kill_and_resume.kill_until_done(sleeper, [0.05, 0.1], bar) == 2
        assert kill_and_resume.kill_until_done([sys.executable, "-c", ""], [60.0], bar) == 0
        with pytest.raises(SystemExit, match="broken"):
            kill_and_resume.kill_until_done([sys.executable, "-c", "raise SystemExit('broken')"], [], bar)


def test_rates_are_compared_with_one_process():
    assert scaling.row(150.0, 100.0, 2) == {"images / s": "150", "ratio": "1.50", "ideal": "0.75"}


def test_the_peak_of_a_step_is_what_it_holds_at_once():
    def one_after_the_other():
        for _ in range(4):
            torch.zeros(2**18)

    def together():
        return [torch.zeros(2**18) for _ in range(4)]

    device = torch.device("cpu")
    assert step.peak_mib(one_after_the_other, device) == pytest.approx(1, abs=0.3)
    assert step.peak_mib(together, device) == pytest.approx(4, abs=0.3)


def test_a_loop_waits_for_slow_batches_only():
    assert loader.waiting(range(5), 0.01) < 0.2
    assert loader.waiting((slow for slow in range(3) if not loader.time.sleep(0.05)), 0.001) > 0.8


def test_generated_images_have_their_size_and_repeat():
    first = loader.picture(40, 30, 0.5, seed=1)
    assert first.size == (40, 30) and first.mode == "RGB"
    assert first.tobytes() == loader.picture(40, 30, 0.5, seed=1).tobytes()
    assert first.tobytes() != loader.picture(40, 30, 0.5, seed=2).tobytes()


def test_a_table_shows_the_ratio_to_the_first_and_further_cells(capsys):
    loader.report("title", {"plain": 100.0, "ours": 250.0}, 2, {"ours": {"waiting": "7 %"}})
    rows = {
        "plain": {"images / s": "50", "ratio": "1.00"},
        "ours": {"images / s": "125", "ratio": "2.50", "waiting": "7 %"},
    }
    assert capsys.readouterr().out == f"\n**title**\n\n{markdown(rows)}\n"


def test_what_the_host_waits_for_is_counted():
    number = torch.ones(())
    assert synchronisations.waits(number.item, 3, False) == {"aten::_local_scalar_dense": 3}
    assert synchronisations.waits(synchronisations.nothing, 3, False) == {}


@pytest.mark.parametrize("event, kind", [
    ("cudaStreamSynchronize", "cudaStreamSynchronize"),
    ("cudaDeviceSynchronize", "cudaDeviceSynchronize"),
    ("Memcpy DtoH (Device -> Pageable)", "Memcpy DtoH"),
    ("Memcpy HtoD (Pinned -> Device)", None),
    ("cudaLaunchKernel", None),
])
def test_events_of_the_profiler_are_told_apart(event, kind):
    assert synchronisations.kind_of_wait(event) == kind


def test_the_cost_of_a_process_is_its_own():
    busy = "import time\nend = time.process_time() + 0.3\nwhile time.process_time() < end: pass"
    cost = processes.cost_of(["-c", busy])
    assert 0.3 <= cost.cpu_seconds < 1 and cost.cpu_seconds <= cost.seconds + 0.1


def test_the_memory_of_a_process_is_its_own():
    # in a small process, since the kernel counts from the fork on
    code = """
from benchmarks.processes import cost_of
for size in (1, 500):
    print(cost_of(["-c", f"bytearray({size} * 2**20)"]).peak_mib)
"""
    small, large = map(float, subprocess.check_output([sys.executable, "-c", code], cwd=ROOT, text=True).split())
    assert small < 100 and 500 <= large < 600


def test_a_process_that_fails_is_shown():
    with pytest.raises(SystemExit, match="broken"):
        processes.cost_of(["-c", "raise SystemExit('broken')"])


def test_a_process_is_ended_at_the_first_row_of_its_table(tmp_path):
    table = tmp_path / "steps.csv"
    code = f"import time; open({str(table)!r}, 'w').write('step\\n1\\n'); time.sleep(60)"
    assert processes.cost_of(["-c", code], until=table).seconds < 30
    # one that ends without a row is not waited for
    assert processes.cost_of(["-c", ""], until=tmp_path / "none").seconds < 30


@pytest.mark.parametrize("split, images, classes", [("train", 59_551, 11_318), ("test", 60_502, 11_316)])
def test_the_drawn_data_have_the_size_of_online_products(split, images, classes):
    rows = list(scale.rows_of(split, 1))
    assert len({path for path, _, _ in rows}) == len(rows) == images
    assert len({number for _, number, _ in rows}) == classes
    assert len({name for _, _, name in rows}) == scale.SUPER_CLASSES


@pytest.mark.slow
def test_every_command_runs_at_a_small_share_of_the_scale(tmp_path):
    cells = scale.measure(tmp_path, 0.005, only=None)
    assert list(cells) == list(scale.stages(scale.Places(tmp_path, tmp_path, tmp_path), 0.005))
    assert float(cells["explorer of all"]["page MiB"]) > 0
