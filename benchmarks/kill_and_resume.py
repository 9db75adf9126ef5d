"""Kill a run by SIGKILL at random moments, continue it each time, and compare its end with that of a run left alone.

    python benchmarks/kill_and_resume.py [--kills N] [--seed S] [flags of main.py]

A run of the full method on few glyphs is begun, killed after a random time, continued with --resume auto and killed
again, until it ends; then the next run, until N kills are spent. Moments fall on start-up, steps, evaluations and
writes of checkpoints alike. Prints after each run whether metrics.csv and every tensor and number of last.pt (but for
measured times) equal those of the uninterrupted run, and at the end the count. Exit code 1 where one differs.
"""
import argparse
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

import torch  # noqa: E402
from tqdm import tqdm  # noqa: E402

from utilities import checkpoint  # noqa: E402

FLAGS = ["--device", "cpu", "--glyphs_classes", "24", "--glyphs_images_per_class", "12", "--bs", "24", "--n_epochs",
         "12", "--eval_every", "2", "--map_images", "0", "--xbm_size", "48", "--xbm_start", "4",
         "--checkpoint_minutes", "0.002"]


def command(out: Path, name: str, more: list[str]) -> list[str]:
    """The command of a run that continues where it was killed."""
    return [sys.executable, str(ROOT / "main.py"), "--save_path", str(out), "--savename", name, "--resume", "auto",
            *FLAGS, *more]


def state_of(run: Path) -> dict:
    """What must be equal of a run: its metrics, and its last checkpoint without paths and times."""
    state = checkpoint.load(run / "last.pt")
    del state["options"]
    state["progress"] = {k: v for k, v in state["progress"].items() if not k.endswith("seconds")}
    return {"metrics.csv": (run / "metrics.csv").read_text()} | state


def differences(a, b, path: str = "") -> list[str]:
    """Where two nested states differ."""
    if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
        return [] if torch.equal(a, b) else [path]
    if isinstance(a, dict) and isinstance(b, dict):
        return [d for k in a.keys() | b.keys() for d in differences(a.get(k), b.get(k), f"{path}/{k}")]
    if isinstance(a, list | tuple) and isinstance(b, list | tuple) and len(a) == len(b):
        return [d for i, (x, y) in enumerate(zip(a, b)) for d in differences(x, y, f"{path}/{i}")]
    return [] if a == b else [path]


def kill_until_done(out: Path, name: str, more: list[str], kills: int, longest: float, clock: random.Random,
                    bar: tqdm) -> int:
    """One run with at most so many kills, each after a random time up to `longest` seconds; how many there were."""
    for done in range(kills + 1):
        process = subprocess.Popen(command(out, name, more), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        try:
            _, error = process.communicate(timeout=None if done == kills else clock.uniform(0, longest))
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.communicate()
            bar.update()
            continue
        if process.returncode:
            sys.exit(error.decode())
        return done
    raise AssertionError("the last round has no time limit")


def main() -> None:
    """Run, kill, continue, compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    opt, more = parser.parse_known_args()
    with tempfile.TemporaryDirectory() as folder:
        out, clock = Path(folder), random.Random(opt.seed)
        started = time.perf_counter()
        subprocess.run(command(out, "alone", more), check=True, capture_output=True)
        longest = 1.3 * (time.perf_counter() - started)
        expected = state_of(out / "glyphs" / "alone")
        left, number, equal = opt.kills, 0, 0
        with tqdm(total=opt.kills, desc="kills", unit="kill") as bar:
            while left > 0:
                number += 1
                spent = kill_until_done(out, f"killed{number}", more, left, longest, clock, bar)
                differing = differences(expected, state_of(out / "glyphs" / f"killed{number}"))
                equal += spent if not differing else 0
                left -= spent
                tqdm.write(f"run {number}: killed {spent} times, "
                           + ("equal bit for bit" if not differing else f"differs in {differing[:5]}"))
    print(f"{equal} of {opt.kills} kills left no trace")
    sys.exit(equal < opt.kills)


if __name__ == "__main__":
    main()
