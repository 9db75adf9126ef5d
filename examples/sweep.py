"""Tune flags of main.py with Optuna, on validation classes: python examples/sweep.py --help

Each trial is a run of its own with --use_tv_split, so that the test classes choose nothing. The
study lies in one SQLite file: start the same command on several machines that see it, and they
share its trials. Edit `suggest` to tune other flags. Needs `pip install optuna`.
"""
import argparse
import json
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from parameters import explicit_flags, get_options  # noqa: E402
from utilities.command_line import Formatter, Parser  # noqa: E402
from utilities.errors import RunError, UsageError, answer  # noqa: E402
from utilities.metric_names import is_lower_better  # noqa: E402
from utilities.optional import require  # noqa: E402
from utilities.ranges import positive_int  # noqa: E402
from utilities.text import counted  # noqa: E402

# What a sweep decides for its runs.
FIXED = ("--savename", "--use_tv_split", "--resume", "--config")


def suggest(trial) -> dict[str, str]:
    """The flags of a trial; https://optuna.readthedocs.io lists what can be suggested."""
    lr = trial.suggest_float("lr", 1e-5, 1e-2, log=True)
    decay = trial.suggest_float("decay", 1e-5, 1e-2, log=True)
    embed_dim = trial.suggest_categorical("embed_dim", [64, 128, 256])
    return {"lr": f"{lr:.3g}", "decay": f"{decay:.3g}", "embed_dim": f"{embed_dim}"}


def words(flags: dict[str, str]) -> list[str]:
    """Flags as they are typed."""
    return [word for name, value in flags.items() for word in (f"--{name}", value)]


def command(flags: list[str]) -> list[str]:
    """A run of main.py."""
    return [sys.executable, str(ROOT / "main.py"), *flags]


def score(folder: Path, metric: str) -> float:
    """The best value of the metric on the validation classes, over the epochs of a finished run."""
    result = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    best = result["best"].get(metric)
    if best is None:
        raise RunError(f"{folder} has no finite {metric}.")
    return best["value"]


def objective(opt: argparse.Namespace, fixed: list[str]) -> Callable:
    """What Optuna optimises: a trial in, its score out."""
    def run(trial) -> float:
        chosen = suggest(trial)
        clash = chosen.keys() & explicit_flags(fixed).keys()
        if clash:
            raise UsageError(f"--{min(clash)} is tuned by suggest: leave it out, or edit suggest.")
        trial.set_user_attr("flags", chosen)
        name = f"{opt.study}-{trial.number}"
        flags = [*fixed, *words(chosen), "--use_tv_split", "--savename", name]
        made = get_options(flags)
        folder = Path(made.save_path, made.dataset, name)
        if folder.exists():
            raise UsageError(f"{folder} is there already, from another sweep: name another --study.")
        if subprocess.run(command(flags), check=False).returncode:
            raise RunError(f"trial {trial.number} has failed.")
        return score(folder, opt.metric)
    return run


def sweep(opt: argparse.Namespace, fixed: list[str]) -> None:
    """Run trials until the study has as many as asked for, and print the command of the best."""
    refuse(fixed, opt.metric)
    require("A sweep", "optuna")
    import optuna

    storage = f"sqlite:///{opt.storage}"
    study = optuna.create_study(
        study_name=opt.study,
        storage=storage,
        direction="minimize" if is_lower_better(opt.metric) else "maximize",
        sampler=optuna.samplers.TPESampler(seed=opt.search_seed),
        load_if_exists=True,
    )
    complete = optuna.trial.TrialState.COMPLETE
    enough = optuna.study.MaxTrialsCallback(opt.trials, states=(complete,))
    if len(study.get_trials(states=(complete,))) < opt.trials:
        # a failed trial is kept as such; a sweep of failures alone ends
        study.optimize(objective(opt, fixed), n_trials=2 * opt.trials, callbacks=[enough], catch=RunError)
    if not study.get_trials(states=(complete,)):
        raise RunError("no trial has come to its end; the messages above say why.")
    best = study.best_trial
    trials = counted(len(study.trials), "trial")
    print(f"The best of {trials}: val_{opt.metric} {best.value:.4f}. Train on all training classes:")
    print(shlex.join(["python", "main.py", *fixed, *words(best.user_attrs["flags"])]))


def refuse(fixed: list[str], metric: str) -> None:
    """A UsageError for a flag that a sweep gives itself; main.py's own sentence for a wrong one."""
    for flag in fixed:
        if flag.partition("=")[0] in FIXED:
            raise UsageError(f"{flag} is for the sweep to say: leave it out.")
    names = get_options([*fixed, "--use_tv_split"]).storage_metrics
    if metric not in names:
        raise UsageError(f"--metric {metric} is not among --storage_metrics ({', '.join(names)}): add it there.")


def build_parser() -> Parser:
    """The sweep's own flags; all others are those of main.py."""
    parser = Parser(
        prog="python examples/sweep.py",
        usage="python examples/sweep.py [flags] [flags of main.py]",
        description=__doc__.partition("\n")[0],
        formatter_class=Formatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--study", default="sweep", metavar="NAME", help="Name of the study, and of its runs.")
    add("--storage", default="sweep.db", metavar="FILE", help="SQLite file of the study; machines may share it.")
    add("--trials", type=positive_int, default=20, help="Finished trials of the study, of all machines together.")
    add("--metric", default="e_recall@1", help="Metric on the validation classes that chooses.")
    add("--search_seed", type=int, default=0, help="""
        Seed of the search; give each machine another one, so that they do not begin alike.""")
    return parser


def main(argv: list[str]) -> int:
    """Run the command line; returns the exit code."""
    opt, fixed = build_parser().parse_known_args(argv)
    return answer("sweep.py", lambda: sweep(opt, fixed))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
