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


def name_of(opt) -> str:
    """The name of the run's folder."""
    return opt.savename or f"{opt.recipe}-{opt.loss}-s{opt.seed}"


def run_folder(opt) -> Path | None:
    """The folder of the run that `--resume` continues: that of a given checkpoint, the given folder, or with 'auto'
    that of this name. None without `--resume`, and with 'auto' where there is none yet."""
    if not opt.resume:
        return None
    auto = opt.resume == "auto"
    folder = Path(opt.save_path, opt.dataset, name_of(opt)) if auto else Path(opt.resume)
    if folder.is_file():
        return folder.parent
    if (folder / LAST).is_file() or (auto and folder.is_dir()):
        return folder
    if auto:
        return None
    raise UsageError(f"--resume {opt.resume}: there is no {LAST} to continue from; give a run's folder, its {LAST}, or "
                     "'auto'.")


def checkpoint_of(opt) -> Path | None:
    """The checkpoint that `--resume` continues: the given file, else the folder's last; None where the run was killed
    before its first one."""
    folder = run_folder(opt)
    if folder is None:
        return None
    path = Path(opt.resume)
    if not path.is_file():
        path = folder / LAST
    return path if path.is_file() else None


def state_of(opt) -> dict | None:
    """The content of that checkpoint, if there is one. One without the state of training is refused."""
    path = checkpoint_of(opt)
    if path is None:
        return None
    state = checkpoint.load(path)
    if "progress" not in state:
        raise UsageError(f"--resume {path}: this checkpoint holds a network but not the state of its training; pass "
                         f"--checkpoint {path} to start from its weights.")
    return state


def refuse_differences(trained: dict, explicit: dict, path: Path) -> None:
    """A UsageError that lists the flags given with other values than the run has."""
    free = MAY_CHANGE
    if trained.get("scheduler") == "cosine":
        free = free - {"n_epochs"}  # its rates depend on it
    differing = []
    for flag, value in explicit.items():
        given = shown(value)
        had = shown(trained[flag]) if flag in trained else "no such flag"
        if flag not in free and given != had:
            differing.append(f"--{flag} {given} (the run has {had})")
    if differing:
        raise UsageError(f"--resume continues {path} as it was begun, but these flags differ: {'; '.join(differing)}. "
                         "Leave them out, or start a new run.")


def shown(value) -> str:
    """The value of a flag as it is typed."""
    return " ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
