"""Count the project files and the depth of the stack in one training step, on the CPU.

    python benchmarks/structure.py [flags of main.py]

The step begins when the loop has its batch and ends when `Optimisation.step` returns. For a plain
loss and for the full method the table shows three counts beside their goals:

files    distinct files of the project whose functions are called. A file of the project is a .py
         file below the root, outside .venv. The file of the loop counts only if another of its
         functions is called.
depth    the most frames of the project on top of each other, above the loop.
returns  calls into a file that was entered before in this step, from code of another file: the file
         of a call differs from the file of the call before it.

Left out are the files of LEFT_OUT (records, guard, logging) with all that they call, and everything
up to the last frame of datasets/: the fetching of the batch. The loop is the function that calls
`Optimisation.step`. Below the table stand the files in the order of their first call, and the
deepest stack.
"""
import contextlib
import io
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType, FrameType
from unittest import mock

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import main  # noqa: E402
from parameters import get_options  # noqa: E402
from training.optimisation import Optimisation  # noqa: E402
from utilities.cells import markdown  # noqa: E402

PLAIN = ("--loss", "margin", "--relation", "none", "--pair_weighting", "uniform")
STEPS = {"plain loss": PLAIN, "full method": ()}
GOALS = {
    "plain loss": {"files": 9, "depth": 6, "returns": 40},
    "full method": {"files": 21, "depth": 12, "returns": 40},
}
SMALL = (
    "--device", "cpu", "--n_epochs", "1", "--bs", "24", "--image_size", "16", "--kernels", "0",
    "--glyphs_classes", "24", "--glyphs_images_per_class", "24", "--log_every", "1000",
    "--no-figures", "--evaluation_metrics", "e_recall@1",
)
FETCHING = "datasets/"
LEFT_OUT = (
    "training/guard.py", "training/records.py", "training/trackers.py", "utilities/interruption.py",
    "utilities/logger.py",
)
WARM_UP = 3


def project_file(code: CodeType) -> str | None:
    """The path of a code object below the root; None for this file and what is not of the project."""
    path = Path(code.co_filename)
    if path == Path(__file__) or not path.is_relative_to(ROOT):
        return None
    path = path.relative_to(ROOT)
    return None if path.parts[0] == ".venv" else path.as_posix()


@dataclass
class StepProfile:
    """A profile function for sys.setprofile that keeps the calls of one step.

    loop: the code of the training loop. files: the file of every call, in order. deepest: the
    functions of the deepest stack above the loop.
    """

    loop: CodeType
    files: list[str] = field(default_factory=list)
    deepest: list[str] = field(default_factory=list)

    def __call__(self, frame: FrameType, event: str, _) -> None:
        """Note a call; forget all calls when a frame of datasets/ ends."""
        if event not in ("call", "return"):
            return
        file = project_file(frame.f_code)
        if file is None:
            return
        if file.startswith(FETCHING):
            self.files.clear()
            self.deepest.clear()
        elif event == "call":
            self.note(frame, file)

    def note(self, frame: FrameType, file: str) -> None:
        """Keep a call, unless it is the loop's or belongs to a file that is left out."""
        stack = self.stack(frame)
        if not stack or any(name.startswith(LEFT_OUT) for name in stack):
            return
        self.files.append(file)
        if len(stack) > len(self.deepest):
            self.deepest = stack

    def stack(self, frame: FrameType | None) -> list[str]:
        """"file function" of every frame of the project above the loop, the lowest first."""
        names = []
        while frame is not None and frame.f_code is not self.loop:
            file = project_file(frame.f_code)
            if file is not None:
                names.append(f"{file} {frame.f_code.co_name}")
            frame = frame.f_back
        return names[::-1]

    @property
    def entered(self) -> list[str]:
        """The files in the order of their first call."""
        return list(dict.fromkeys(self.files))

    @property
    def counts(self) -> dict[str, int]:
        """Files, depth and returns."""
        changes = sum(file != before for before, file in zip(self.files, self.files[1:]))
        files = len(self.entered)
        returns = changes + 1 - files if files else 0
        return {"files": files, "depth": len(self.deepest), "returns": returns}


@contextlib.contextmanager
def profiled_step():
    """Inside, the step after WARM_UP steps is profiled; gives a list that then holds the profile."""
    take = Optimisation.step
    profiles = []
    steps = 0

    def step(self, *arguments, **keywords):
        nonlocal steps
        norm = take(self, *arguments, **keywords)
        steps += 1
        sys.setprofile(None)
        if steps == WARM_UP:
            profiles.append(StepProfile(loop=sys._getframe(1).f_code))
            sys.setprofile(profiles[0])
        return norm

    with mock.patch.object(Optimisation, "step", step):
        try:
            yield profiles
        finally:
            sys.setprofile(None)


def measure(flags: list[str]) -> StepProfile:
    """Train for a few steps with these flags of main.py and profile one of them."""
    printed = io.StringIO()
    with tempfile.TemporaryDirectory() as folder, profiled_step() as profiles:
        argv = [*SMALL, "--save_path", folder, *flags]
        # A wrong flag is answered here, before the output is hidden.
        get_options(argv)
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            code = main.main(argv)
    if code:
        sys.exit(printed.getvalue())
    return profiles[0]


def row(name: str, profile: StepProfile) -> dict[str, str]:
    """The cells of one step: each count with its goal."""
    goals = GOALS[name]
    return {count: f"{value} (at most {goals[count]})" for count, value in profile.counts.items()}


def run(more: list[str]) -> None:
    """Measure both steps and print the table, the files and the deepest stacks."""
    profiles = {name: measure([*flags, *more]) for name, flags in STEPS.items()}
    print(markdown({name: row(name, profile) for name, profile in profiles.items()}))
    for name, profile in profiles.items():
        print(f"\n{name}, files: {', '.join(profile.entered)}")
        print(f"\n{name}, deepest stack:")
        print("\n".join(f"  {line}" for line in profile.deepest))


if __name__ == "__main__":
    run(sys.argv[1:])
