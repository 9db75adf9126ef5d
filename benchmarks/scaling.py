"""Images a second of whole training runs in several processes, as ratios to one process in the same call.

    python benchmarks/scaling.py [--processes N ...] [--rounds R] [--device cpu|cuda] [flags of main.py]

Each competitor is `torchrun --nproc_per_node=N main.py` on the embedded data set, one GPU or one CPU thread a process,
with the same batch in all, so that all of them train alike. The competitors take turns; a run's rate is the median of
images_per_second in its steps.csv without the first epoch, and medians over the runs are compared. "ideal": the share
of N times the rate of one process. The head (relation, policy, losses) is computed by every process on the whole batch,
so the larger the backbone is beside it, the nearer it comes to 1.
"""
import argparse
import csv
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))


from utilities.cells import markdown  # noqa: E402

FLAGS = ["--n_epochs", "3", "--eval_every", "3", "--map_images", "0", "--explorer_images", "0", "--log_every", "5",
         "--evaluation_metrics", "e_recall@1"]


def rate(out: Path, name: str, processes: int, device: str, more: list[str]) -> float:
    """Images a second of one run."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}",
               str(ROOT / "main.py"), "--device", device, "--save_path", str(out), "--savename", name, *FLAGS, *more]
    run = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    if run.returncode:
        sys.exit(run.stderr.strip().splitlines()[-1] if run.stderr else f"{name} failed")
    rows = list(csv.DictReader((out / "glyphs" / name / "steps.csv").open()))
    return statistics.median(float(row["images_per_second"]) for row in rows if row["epoch"] != "1")


def main() -> None:
    """Measure in turns and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    opt, more = parser.parse_known_args()
    found: dict[int, list[float]] = {number: [] for number in opt.processes}
    with tempfile.TemporaryDirectory() as folder:
        for turn in range(opt.rounds):
            for number in opt.processes:
                found[number].append(rate(Path(folder), f"p{number}-{turn}", number, opt.device, more))
    median = {number: statistics.median(rates) for number, rates in found.items()}
    first, one = opt.processes[0], median[opt.processes[0]]
    print(f"{opt.device}, {opt.rounds} rounds {' '.join(more)}".strip())
    print(markdown({f"{number} process{'es' if number > 1 else ''}": {
        "images / s": f"{value:.0f}", "ratio": f"{value / one:.2f}", "ideal": f"{value / one * first / number:.2f}"}
        for number, value in median.items()}))


if __name__ == "__main__":
    main()
