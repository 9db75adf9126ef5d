"""Which run `--resume` continues, by which flags, and whether it may.

A checkpoint holds the state of everything that the next steps follow from. The flags are those of the run; one that is
given again must be the same, but for those that decide nothing of the result or only how long it takes.
"""
from argparse import Namespace
from pathlib import Path

from evaluation.run_files import REPORT, continuations
from parameters import NOT_REPEATED, acceptable_flags, get_options, parser_with_defaults
from training import restored
from utilities import checkpoint
from utilities.errors import UsageError
from utilities.files import read_json, section
from utilities.flags import as_recorded, value_as_typed
from utilities.metric_names import measured
from utilities.rules import completed
from utilities.tested import has_test
from utilities.text import counted

LAST = "last.pt"
MAY_CHANGE = {"n_epochs", "kernels", "source_path", "save_path", "savename", "device", "gpu", "resume", "debug",
              "checkpoint_minutes", "map_images", "map_thumbnails", "explorer_images", "eval_per_class", "figures",
              "tensorboard", "log_online", "project", "group", "cache", "cache_path", "compile", "weights_dir",
              "timeout_minutes"}
# those of which options.json tells the present value
RECORDED = MAY_CHANGE - NOT_REPEATED - {"savename", "save_path"}
# those for which a finished run is drawn anew
DRAWN = {"map_images", "map_thumbnails", "explorer_images", "eval_per_class", "figures"}


def options(argv: list[str], explicit: dict) -> Namespace:
    """The flags of a run: those given, and where it is continued all others as it had them.

    Of a run that was left before its first checkpoint, the given flags override those in its
    options.json, with their consequences.
    """
    opt = parser_with_defaults(explicit).parse_args(argv)
    folder = run_folder(opt)
    if folder is None:
        return get_options(argv)
    refuse_other_place(opt, explicit, folder)
    content = read_json(folder / "options.json")
    recorded = acceptable_flags(section(content, "flags"))
    state = state_of(opt)
    if state is None:
        return get_options(argv, begun=recorded)
    trained = dict(state["options"])
    if continuations(content):
        # a continuation may have been left before its first checkpoint
        trained |= {flag: recorded[flag] for flag in RECORDED & recorded.keys()}
    if "arch" in explicit:
        explicit["arch"] = completed(trained | explicit)
    refuse_other_run(recorded, state["options"], folder)
    refuse_differences(trained, explicit, folder)
    opt = get_options(argv, trained=trained)
    refuse_fewer_epochs(state, opt, folder)
    return opt


def refuse_other_place(opt, explicit: dict, folder: Path) -> None:
    """A UsageError where flags name another folder than that of the run, which is written to."""
    if opt.resume == "auto":
        return
    # a link may lead to it
    places = (folder.absolute(), folder.resolve())
    is_there = {
        "save_path": Path(opt.save_path).resolve() in [place.parent.parent.resolve() for place in places],
        "savename": opt.savename in [place.name for place in places],
    }
    for flag in is_there.keys() & explicit.keys():
        if not is_there[flag]:
            value = getattr(opt, flag)
            raise UsageError(f"--{flag} {value}: --resume {opt.resume} goes on in {folder}; leave it out.")


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
    restored.refuse_foreign(state)
    return state


def past_of(opt) -> dict | None:
    """What that checkpoint says of how far the run is and of its images, without its weights."""
    state = state_of(opt)
    parts = ("progress", "history", "classes", "images")
    return state and {part: state[part] for part in parts if part in state}


def refuse_differences(trained: dict, explicit: dict, path: Path) -> None:
    """A UsageError that lists the flags given with other values than the run has."""
    free = MAY_CHANGE
    if trained.get("scheduler") == "cosine" or trained.get("batch_mining") == "parametric":
        free = free - {"n_epochs"}  # rates, or what the miner is told, depend on it
    if "none" in (explicit.get("cache"), trained.get("cache")):
        free = free - {"cache"}  # cached images are shrunk first, so that other pixels are cut from them
    differing = []
    for flag, value in explicit.items():
        given = value_as_typed(value)
        had = value_as_typed(trained[flag]) if flag in trained else "no such flag"
        if flag not in free and given != had:
            differing.append(f"--{flag} {given} (the run has {had})")
    if differing:
        raise UsageError(f"--resume continues {path} as it was begun, but these flags differ: {'; '.join(differing)}. "
                         "Leave them out, or start a new run.")


def refuse_other_run(recorded: dict, trained: dict, folder: Path) -> None:
    """A UsageError where the options.json beside a checkpoint has the flags of another run."""
    for flag in sorted(recorded.keys() & trained.keys() - MAY_CHANGE):
        there = value_as_typed(recorded[flag])
        own = value_as_typed(trained[flag])
        if there != own:
            raise UsageError(f"--resume: {folder} holds the records of another run (--{flag} {there}, and {own} in the "
                             "checkpoint); put the checkpoint into a folder of its own.")


def refuse_fewer_epochs(state: dict, opt, path: Path) -> None:
    """A UsageError where the run is beyond its last epoch, or was not evaluated there."""
    progress = state["progress"]
    least = progress["epoch"]
    is_within = progress["sums"] is not None
    row = state["history"][-1]
    metrics = opt.evaluation_metrics
    is_evaluated = measured(row, metrics) or measured(row, metrics, "val_")
    has_metrics = has_test(vars(opt)) or opt.use_tv_split
    if is_within or (has_metrics and not is_evaluated):
        least += 1
    if opt.n_epochs < least:
        begun = " and has begun another" if is_within else ""
        raise UsageError(
            f"--n_epochs {opt.n_epochs}: {path} has trained "
            f"{counted(progress['epoch'], 'epoch')}{begun}; "
            f"pass at least {least}, or start a new run."
        )


def changed_flags(content: dict, opt) -> dict[str, dict]:
    """The flags that differ from those in options.json, each before and now."""
    recorded = section(content, "flags")
    changed = {}
    for flag in sorted(RECORDED):
        now = as_recorded(getattr(opt, flag))
        if recorded.get(flag, now) != now:
            changed[flag] = {"before": recorded[flag], "now": now}
    return changed


def is_finished(opt, state: dict, folder: Path) -> bool:
    """Whether nothing is left to do: no step, no results, and no picture to draw otherwise."""
    progress = state["progress"]
    result = read_json(folder / "result.json")
    if progress["epoch"] < opt.n_epochs or result.get("steps") != progress["step"]:
        return False
    changed = changed_flags(read_json(folder / "options.json"), opt)
    if DRAWN & changed.keys():
        return False
    return not opt.figures or (folder / REPORT).is_file()
