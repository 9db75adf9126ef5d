"""Kill a run by SIGKILL at random moments, continue it, and compare its end with an unkilled run.

    python benchmarks/kill_and_resume.py [--kills N] [--seed S] [flags of main.py]

A run of the full method on few glyphs starts, is killed after a random time, continued with
--resume auto and killed again, until it ends. Then the next run starts, until there were N kills.
The moments fall on start-up, steps, evaluations and writes of checkpoints. After each run the
script says whether metrics.csv and every tensor and number of last.pt (except measured times) equal
those of the uninterrupted run, and at the end how many. Exit code 1 where one differs.
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

FLAGS = [
    "--device", "cpu", "--glyphs_classes", "24", "--glyphs_images_per_class", "12", "--bs", "24",
    "--n_epochs", "12", "--eval_every", "2", "--map_images", "0", "--xbm_size", "48",
    "--xbm_start", "4", "--checkpoint_minutes", "0.002", "--resume", "auto",
]


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
    return {"metrics.csv": (run / "metrics.csv").read_text()} | state


def leaves(state, path: str = "") -> dict[str, object]:
    """The values of a nested state by their paths."""
    if isinstance(state, list | tuple):
        state = dict(enumerate(state))
    if not isinstance(state, dict):
        return {path: state}
    found = {path: type(state)}
    for key, value in state.items():
        found |= leaves(value, f"{path}/{key}")
    return found


def differences(a, b) -> list[str]:
    """The paths at which two nested states differ."""
    a = leaves(a)
    b = leaves(b)
    both = a.keys() & b.keys()
    return [path for path in a.keys() | b.keys() if path not in both or not equal(a[path], b[path])]


def equal(a, b) -> bool:
    """Whether two tensors, or two other values, are equal bit for bit."""
    if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
        return torch.equal(a, b)
    return type(a) is type(b) and a == b


def kill_until_done(words: list[str], moments: list[float], bar: tqdm) -> int:
    """One run, killed after each of these times (s), at last left alone; the number of its kills."""
    for done, moment in enumerate([*moments, None]):
        process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        try:
            _, error = process.communicate(timeout=moment)
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
