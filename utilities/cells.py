"""How numbers and texts stand in a table: shares in percent, intervals, Markdown and LaTeX."""
import re

NO_SHARES = ("dists@", "rho_spectrum@")  # metrics that are shown as they are
LATEX = str.maketrans({"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
                       **{sign: "\\" + sign for sign in "_%&#${}"}, **{sign: f"{{{sign}}}" for sign in "[]"},
                       **{sign: f"${sign}$" for sign in "<>|"}, "±": r"$\pm$", "Δ": r"$\Delta$"})


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


def shown(metric: str, value: float, sign: str = "") -> str:
    """A share in percent; a distance or a divergence as it is. sign '+': with its sign, as a difference."""
    kept = metric.removeprefix("val_").startswith(NO_SHARES)
    return f"{value:{sign}.3f}" if kept else f"{100 * value:{sign}.1f}"


def lines_of(rows: dict[str, dict[str, str]]) -> list[list[str]]:
    """The head and the rows of a table as lists of cells; a missing cell shows as '-'."""
    columns = list(dict.fromkeys(column for row in rows.values() for column in row))
    return [["", *columns], *([name, *(row.get(column, "-") for column in columns)] for name, row in rows.items())]


def markdown(rows: dict[str, dict[str, str]]) -> str:
    """Markdown table with aligned columns."""
    table = [[cell.replace("|", r"\|") for cell in line] for line in lines_of(rows)]
    widths = [max(len(line[i]) for line in table) for i in range(len(table[0]))]
    lines = ["| " + " | ".join(cell.ljust(w) if i == 0 else cell.rjust(w)
                               for i, (cell, w) in enumerate(zip(line, widths))) + " |" for line in table]
    rule = "|" + "|".join("-" * (w + 2) if i == 0 else "-" * (w + 1) + ":" for i, w in enumerate(widths)) + "|"
    return "\n".join([lines[0], rule, *lines[1:]])


def latex(rows: dict[str, dict[str, str]]) -> str:
    """LaTeX table with the rules of booktabs."""
    head, *lines = (" & ".join(map(latex_text, line)) + r" \\" for line in lines_of(rows))
    kinds = "l" + "r" * (len(lines_of(rows)[0]) - 1)
    return "\n".join([r"% needs \usepackage{booktabs}", rf"\begin{{tabular}}{{{kinds}}}", r"\toprule", head,
                      r"\midrule", *lines, r"\bottomrule", r"\end{tabular}"])


def latex_text(text: str) -> str:
    """A text that LaTeX sets as it stands; the minus of a number becomes that of mathematics."""
    return re.sub(r"(?<![\w.])-(?=\d)", "$-$", text.translate(LATEX))
