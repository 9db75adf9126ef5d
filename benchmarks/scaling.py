"""Images a second of whole training runs in several processes, as ratios to one process.

    python benchmarks/scaling.py [--processes N ...] [--rounds R] [--device cpu|cuda]
                                 [flags of main.py]

Each competitor is `torchrun --nproc_per_node=N main.py` on the built-in data set, one GPU or one
CPU thread a process, with the same batch in all, so that all train alike. The competitors take
turns. The rate of a run is the median of images_per_second in its steps.csv without the first
epoch; the medians over the runs are compared. "ideal": the fraction of N times the rate of one
process. Every process computes relation, policy and losses on the whole batch; the larger the
backbone, the nearer this fraction comes to 1.
"""
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.turns import parser_of  # noqa: E402
from utilities.cells import markdown  # noqa: E402
from utilities.table import read_rows  # noqa: E402

FLAGS = [
    "--n_epochs", "3", "--eval_every", "3", "--no-figures", "--log_every", "5",
    "--evaluation_metrics", "e_recall@1",
]


def rate(out: Path, name: str, processes: int, more: list[str]) -> float:
    """Images a second of one run."""
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone",
        f"--nproc_per_node={processes}", str(ROOT / "main.py"), "--save_path", str(out),
        "--savename", name, *FLAGS, *more,
    ]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    run = subprocess.run(command, capture_output=True, text=True, env=environment)
    if run.returncode:
        sys.exit(run.stderr or f"{name} failed")
    steps = read_rows(out / "glyphs" / name / "steps.csv")
    rows = [row for row in steps if row["epoch"] != "1"]
    return statistics.median(float(row["images_per_second"]) for row in rows)


def row(value: float, single: float, processes: int) -> dict[str, str]:
    """The cells of one competitor; value: its rate, single: that of one process."""
    ratio = value / single
    ideal = ratio / processes
    return {"images / s": f"{value:.0f}", "ratio": f"{ratio:.2f}", "ideal": f"{ideal:.2f}"}


def main() -> None:
    """Measure in turns and print the table."""
    parser = parser_of(__doc__, processes=[1, 2], rounds=3)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    opt, more = parser.parse_known_args()
    rates: dict[int, list[float]] = {number: [] for number in opt.processes}
    with tempfile.TemporaryDirectory() as folder:
        for turn in range(opt.rounds):
            for number in opt.processes:
                flags = ["--device", opt.device, *more]
                rates[number].append(rate(Path(folder), f"p{number}-{turn}", number, flags))
    medians = {number: statistics.median(values) for number, values in rates.items()}
    fewest = opt.processes[0]
    single = medians[fewest] / fewest
    print(opt.device, opt.rounds, "rounds", *more)
    print(markdown({f"{n} process(es)": row(value, single, n) for n, value in medians.items()}))


if __name__ == "__main__":
    main()
