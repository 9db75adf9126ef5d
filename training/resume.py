"""Which run `--resume` continues, and whether it may.

A checkpoint holds the state of everything that the next steps follow from. The flags are those of the run; one that is
given again must be the same, but for those that decide nothing of the result or only how long it takes.
"""
from pathlib import Path

from utilities import checkpoint
from utilities.errors import UsageError

LAST = "last.pt"
MAY_CHANGE = {"n_epochs", "kernels", "source_path", "save_path", "savename", "device", "gpu", "resume", "debug",
              "checkpoint_minutes", "map_images", "map_thumbnails", "explorer_images", "eval_per_class", "figures",
              "tensorboard", "log_online", "project", "group", "cache", "cache_path", "compile", "weights_dir"}


def run_folder(resume: str, save_path: str, dataset: str, savename: str) -> Path | None:
    """The folder of the run to continue: that of a given checkpoint, the given folder, or with 'auto' that of this
    name, None where there is none yet."""
    folder = Path(save_path) / dataset / savename if resume == "auto" else Path(resume)
    if folder.is_file():
        return folder.parent
    if (folder / LAST).is_file() or (resume == "auto" and folder.is_dir()):
        return folder
    if resume == "auto":
        return None
    raise UsageError(f"--resume {resume}: there is no {LAST} to continue from; give a run's folder, its {LAST}, or "
                     "'auto'.")


def continues(resume: str | None, save_path: str, dataset: str, savename: str) -> bool:
    """Whether `--resume` finds a checkpoint, which then replaces every weight of the network."""
    folder = run_folder(resume, save_path, dataset, savename) if resume else None
    return folder is not None and (Path(resume).is_file() or (folder / LAST).is_file())


def state_of(resume: str, folder: Path) -> dict | None:
    """The checkpoint of a run to continue: the given file, else the folder's last, None where the run was killed before
    its first one. A checkpoint without the state of training is refused."""
    path = Path(resume) if Path(resume).is_file() else folder / LAST
    if not path.is_file():
        return None
    state = checkpoint.load(path)
    if "progress" not in state:
        raise UsageError(f"--resume {path}: this checkpoint holds a network but not the state of its training; pass "
                         f"--checkpoint {path} to start from its weights.")
    return state


def refuse_differences(trained: dict, explicit: dict, path: Path) -> None:
    """A UsageError that lists the flags given with other values than the run has."""
    free = MAY_CHANGE - ({"n_epochs"} if trained.get("scheduler") == "cosine" else set())   # its rates depend on it
    had = {flag: _shown(value) for flag, value in trained.items()}
    differing = [f"--{flag} {_shown(value)} (the run has {had.get(flag, 'no such flag')})"
                 for flag, value in explicit.items() if flag not in free and had.get(flag) != _shown(value)]
    if differing:
        raise UsageError(f"--resume continues {path} as it was begun, but these flags differ: {'; '.join(differing)}. "
                         "Leave them out, or start a new run.")


def _shown(value) -> str:
    return " ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
