"""How numbers and texts stand in a table: shares in percent, intervals, Markdown and LaTeX."""
import re

from utilities.metric_names import COSTS, is_share

# What a cell must begin with for a spreadsheet to compute it, and the sign that says it is text.
FORMULA = ("=", "+", "-", "@", "\t", "\r", "'")
LATEX = str.maketrans({
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "_": r"\_",
    "%": r"\%",
    "&": r"\&",
    "#": r"\#",
    "$": r"\$",
    "{": r"\{",
    "}": r"\}",
    "[": "{[}",
    "]": "{]}",
    "<": "$<$",
    ">": "$>$",
    "|": "$|$",
    "±": r"$\pm$",
    "Δ": r"$\Delta$",
})


def metric_table(rows: dict[str, dict[str, float]]) -> str:
    """Markdown table of metrics, one row per name, with their intervals where there are any."""
    return markdown({name: _shown_row(row) for name, row in rows.items()})


def _shown_row(row: dict[str, float]) -> dict[str, str]:
    return {metric: with_interval(row, metric) for metric in metric_names(row)}


def metric_names(row: dict[str, float]) -> list[str]:
    """The metrics in a row, without the ends of their intervals."""
    ends = {f"{metric}{end}" for end in ("_low", "_high") for metric in row}
    return [metric for metric in row if metric not in ends]


def with_interval(row: dict[str, float], metric: str) -> str:
    """A metric as it is shown, with its interval where the row has one."""
    cell = shown(metric, row[metric])
    if f"{metric}_low" not in row:
        return cell
    low = shown(metric, row[f"{metric}_low"])
    high = shown(metric, row[f"{metric}_high"])
    return f"{cell} [{low}, {high}]"


def shown(metric: str, value: float, sign: str = "") -> str:
    """A share in percent; a cost, distance or divergence as it is. sign '+': also of a gain."""
    if metric in COSTS:
        return f"{value:{sign},.1f}"
    return f"{100 * value:{sign}.1f}" if is_share(metric) else f"{value:{sign}.3f}"


def lines_of(rows: dict[str, dict[str, str]]) -> list[list[str]]:
    """The head and the rows of a table as lists of cells; a missing cell shows as '-'."""
    columns = list(dict.fromkeys(column for row in rows.values() for column in row))
    lines = [["", *columns]]
    for name, row in rows.items():
        lines.append([name, *(row.get(column, "-") for column in columns)])
    return lines


def markdown(rows: dict[str, dict[str, str]]) -> str:
    """Markdown table with aligned columns."""
    lines = lines_of(rows)
    columns = [_aligned(column, left=i == 0) for i, column in enumerate(zip(*lines))]
    return "\n".join(f"|{'|'.join(line)}|" for line in zip(*columns))


def _aligned(column: tuple[str, ...], left: bool) -> list[str]:
    """The cells of a column at one width, with a rule below the first."""
    cells = [cell.replace("|", r"\|") for cell in column]
    width = max(map(len, cells))
    padded = [f" {cell.ljust(width) if left else cell.rjust(width)} " for cell in cells]
    rule = "-" * (width + 1) + ("-" if left else ":")
    return [padded[0], rule, *padded[1:]]


def latex(rows: dict[str, dict[str, str]]) -> str:
    """LaTeX table with the rules of booktabs."""
    lines = lines_of(rows)
    alignment = "l" + "r" * (len(lines[0]) - 1)
    head, *body = [" & ".join(map(latex_text, line)) + r" \\" for line in lines]
    return "\n".join([
        r"% needs \usepackage{booktabs}",
        rf"\begin{{tabular}}{{{alignment}}}",
        r"\toprule",
        head,
        r"\midrule",
        *body,
        r"\bottomrule",
        r"\end{tabular}",
    ])


def latex_text(text: str) -> str:
    """A text that LaTeX sets as it stands; the minus of a number becomes that of mathematics."""
    return re.sub(r"(?<![\w.])-(?=\d)", "$-$", text.translate(LATEX))


def spreadsheet_text(cell):
    """A cell of a table for spreadsheets: a text that would be a formula has a ' before it."""
    is_formula = isinstance(cell, str) and cell.startswith(FORMULA)
    return f"'{cell}" if is_formula else cell


def plain_text(cell):
    """What `spreadsheet_text` was made from."""
    is_marked = isinstance(cell, str) and cell[:1] == "'" and cell[1:].startswith(FORMULA)
    return cell[1:] if is_marked else cell
