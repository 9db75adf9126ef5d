"""Kill a run by SIGKILL at random moments, continue it, and compare its end with an unkilled run.

    python benchmarks/kill_and_resume.py [--kills N] [--seed S] [flags of main.py]

A run of the full method on few glyphs starts, is killed after a random time (drawn by S), continued
with --resume auto and killed again, until it ends. Then the next run starts, until there were N kills.
The moments fall on start-up, steps, evaluations and writes of checkpoints. After each run the
script says whether metrics.csv, steps.csv and every tensor and number of last.pt (except measured
times and memory) equal those of the uninterrupted run, and at the end how many. Exit code 1 where one differs.
"""
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

import torch  # noqa: E402
from tqdm import tqdm  # noqa: E402

from benchmarks.turns import parser_of  # noqa: E402
from utilities import checkpoint  # noqa: E402
from utilities.table import read_rows  # noqa: E402

FLAGS = [
    "--device", "cpu", "--glyphs_classes", "24", "--glyphs_images_per_class", "12", "--bs", "24",
    "--n_epochs", "12", "--eval_every", "2", "--map_images", "0", "--xbm_size", "48",
    "--xbm_start", "4", "--log_every", "4", "--checkpoint_minutes", "0.002", "--resume", "auto",
]
MEASURED = ("images_per_second", "data_wait", "peak_memory_mib")
ABSENT = object()


def command(out: Path, name: str, more: list[str]) -> list[str]:
    """The command of a run that continues where it was killed."""
    program = [sys.executable, str(ROOT / "main.py")]
    return [*program, "--save_path", str(out), "--savename", name, *FLAGS, *more]


def state_of(run: Path) -> dict:
    """What must be equal of a run: its metrics, and its last checkpoint without paths and times."""
    state = checkpoint.load(run / "last.pt")
    del state["options"]
    for key in list(state["progress"]):
        if key.endswith("seconds"):
            del state["progress"][key]
    steps = [unmeasured(row) for row in read_rows(run / "steps.csv")]
    return {"metrics.csv": (run / "metrics.csv").read_text(), "steps.csv": steps} | state


def unmeasured(row: dict) -> dict:
    """A row of steps.csv without time and memory, which differ from run to run."""
    return {name: value for name, value in row.items() if name not in MEASURED}


def differences(a, b, path: str = "") -> list[str]:
    """The paths at which two nested states are not equal bit for bit."""
    if type(a) is not type(b):
        return [path]
    if isinstance(a, torch.Tensor):
        return [] if torch.equal(a, b) else [path]
    if isinstance(a, list | tuple):
        return differences(dict(enumerate(a)), dict(enumerate(b)), path)
    if not isinstance(a, dict):
        return [] if a == b else [path]
    paths = []
    for key in a.keys() | b.keys():
        paths += differences(a.get(key, ABSENT), b.get(key, ABSENT), f"{path}/{key}")
    return paths


def kill_until_done(words: list[str], moments: list[float], bar: tqdm) -> int:
    """One run, killed after each of these times (s), at last left alone; the number of its kills.

    `subprocess.run` ends a run whose time is over with SIGKILL.
    """
    for done, moment in enumerate([*moments, None]):
        try:
            run = subprocess.run(words, capture_output=True, timeout=moment)
        except subprocess.TimeoutExpired:
            bar.update()
            continue
        if run.returncode:
            sys.exit(run.stderr.decode())
        return done
    raise AssertionError("the last round has no time limit")


def main() -> None:
    """Run, kill, continue, compare."""
    opt, more = parser_of(__doc__, kills=50, seed=0).parse_known_args()
    generator = random.Random(opt.seed)
    left = opt.kills
    traceless = 0
    bar = tqdm(total=opt.kills, desc="kills", unit="kill")
    with tempfile.TemporaryDirectory() as folder, bar:
        out = Path(folder)
        started = time.perf_counter()
        subprocess.run(command(out, "alone", more), check=True, capture_output=True)
        longest = 1.3 * (time.perf_counter() - started)
        expected = state_of(out / "glyphs" / "alone")
        while left > 0:
            name = f"killed after {opt.kills - left}"
            moments = [generator.uniform(0, longest) for _ in range(left)]
            spent = kill_until_done(command(out, name, more), moments, bar)
            differing = differences(expected, state_of(out / "glyphs" / name))
            if not differing:
                traceless += spent
            left -= spent
            tqdm.write(f"{spent} kills: {differing[:5] or 'equal bit for bit'}")
    print(f"{traceless} of {opt.kills} kills left no trace")
    sys.exit(traceless < opt.kills)


if __name__ == "__main__":
    main()
