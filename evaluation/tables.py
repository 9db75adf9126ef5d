"""Result tables from run folders: `python -m evaluation.tables RUN [RUN ...]`.

Runs that differ in nothing but the seed are one row: mean, standard deviation and number. Values are those of the
last epoch, so that all rows have equal steps. Only files of the runs are read.
"""
import argparse
import json
import statistics
import sys
from pathlib import Path

NOT_PART_OF_THE_ROW = ("seed", "save_path", "savename", "gpu", "device", "kernels", "debug", "log_every", "eval_every",
                       "source_path", "repeat", "tensorboard", "log_online", "project", "group", "decode")
NO_SHARES = ("dists@", "rho_spectrum@")  # metrics that are shown as they are


def metric_table(rows: dict[str, dict[str, float]]) -> str:
    """Markdown table of metrics, shares in percent, one row per name, with their intervals where there are any."""
    return markdown({name: {metric: with_interval(row, metric) for metric in metric_names(row)}
                     for name, row in rows.items()})


def metric_names(row: dict[str, float]) -> list[str]:
    """The metrics in a row, without the ends of their intervals."""
    ends = {metric + end for metric in row for end in ("_low", "_high")}
    return [metric for metric in row if metric not in ends]


def with_interval(row: dict[str, float], metric: str) -> str:
    """A metric as it is shown, with its interval where the row has one."""
    cells = [shown(metric, row[metric + end]) for end in ("", "_low", "_high") if metric + end in row]
    return cells[0] + (f" [{cells[1]}, {cells[2]}]" if len(cells) == 3 else "")


def shown(metric: str, value: float) -> str:
    """A share in percent; a distance or a divergence as it is."""
    return f"{value:.3f}" if metric.startswith(NO_SHARES) else f"{100 * value:.1f}"


def markdown(rows: dict[str, dict[str, str]]) -> str:
    """Markdown table with aligned columns; a missing cell shows as '-'."""
    columns = list(dict.fromkeys(column for row in rows.values() for column in row))
    table = [["", *columns], *([name, *(row.get(column, "-") for column in columns)] for name, row in rows.items())]
    widths = [max(len(line[i]) for line in table) for i in range(len(table[0]))]
    lines = ["| " + " | ".join(cell.ljust(w) if i == 0 else cell.rjust(w)
                               for i, (cell, w) in enumerate(zip(line, widths))) + " |" for line in table]
    rule = "|" + "|".join("-" * (w + 2) if i == 0 else "-" * (w + 1) + ":" for i, w in enumerate(widths)) + "|"
    return "\n".join([lines[0], rule, *lines[1:]])


def read_run(folder: Path) -> dict:
    """Flags and results of a finished run; a SystemExit with one sentence for an unfinished one."""
    try:
        flags = json.loads((folder / "options.json").read_text())["flags"]
        return {"flags": flags, "result": json.loads((folder / "result.json").read_text())}
    except (OSError, ValueError, KeyError):
        raise SystemExit(f"evaluation.tables: {folder} is not the folder of a finished run (it needs options.json and "
                         "result.json).") from None


def grouped(runs: list[dict]) -> dict[str, list[dict]]:
    """Runs by everything but the seed, named by the first run's savename without its seed."""
    groups: dict[str, list[dict]] = {}
    for run in runs:
        key = json.dumps({k: v for k, v in run["flags"].items() if k not in NOT_PART_OF_THE_ROW}, sort_keys=True)
        groups.setdefault(key, []).append(run)
    named: dict[str, list[dict]] = {}
    for members in groups.values():
        flags = members[0]["flags"]
        name = (flags["savename"] or f"{flags['recipe']}-{flags['loss']}").removesuffix(f"-s{flags['seed']}")
        while name in named:
            name += "'"
        named[name] = members
    return named


def summary(results: list[dict[str, float]]) -> dict[str, str]:
    """Mean, and standard deviation where there are several runs, shares in percent."""
    cells = {}
    for metric in metric_names(results[0]):
        values = [result[metric] for result in results]
        spread = f" ± {shown(metric, statistics.stdev(values))}" if len(values) > 1 else ""
        cells[metric] = shown(metric, statistics.mean(values)) + spread
    return {"n": str(len(results))} | cells


def main(argv: list[str] | None = None) -> int:
    """Print the table of the runs named on the command line."""
    parser = argparse.ArgumentParser(prog="python -m evaluation.tables", description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="folder of a finished run")
    parser.add_argument("--metrics", nargs="+", help="columns, in this order; default: all")
    opt = parser.parse_args(argv)
    groups = grouped([read_run(folder) for folder in opt.runs])
    rows = {"untrained network": summary([run["result"]["untrained"] for run in next(iter(groups.values()))])}
    rows |= {name: summary([run["result"]["final"] for run in members]) for name, members in groups.items()}
    if opt.metrics:
        rows = {name: {m: row[m] for m in ["n", *opt.metrics] if m in row} for name, row in rows.items()}
    print(markdown(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
