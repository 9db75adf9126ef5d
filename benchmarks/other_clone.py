"""A step of the method in another clone of the project, so that a change can be measured in one run.

The clone computes in a process of its own, which takes a step for each line that it reads.
"""
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path


def step_of(folder: str, argv: list[str], device: str) -> Callable[[], None]:
    """The method's step in the clone at `folder`, with these flags; SystemExit where it fails."""
    process = subprocess.Popen(
        [sys.executable, __file__, device, *argv], cwd=folder, text=True, bufsize=1,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )

    def step() -> None:
        process.stdin.write("\n")
        if not process.stdout.readline():
            sys.exit(f"{folder}: the process of this clone has ended; what it printed says why.")

    step()
    return step


def serve(name: str, argv: list[str]) -> None:
    """Take steps until there is nothing more to read."""
    sys.path.insert(0, str(Path.cwd()))
    import torch

    from benchmarks.step import method_step
    from benchmarks.turns import wait
    from utilities.allocator import keep_freed_memory
    from utilities.device import set_arithmetic

    set_arithmetic()
    device = torch.device(name)
    if device.type == "cpu":
        keep_freed_memory()
    step, _ = method_step(argv, device)
    for _ in sys.stdin:
        step()
        wait()
        print("taken", flush=True)


if __name__ == "__main__":
    serve(sys.argv[1], sys.argv[2:])
