"""How numbers stand in tables."""

import pytest

from utilities.cells import (
    latex,
    latex_text,
    lines_of,
    markdown,
    metric_names,
    metric_table,
    plain_text,
    shown,
    spreadsheet_text,
    with_interval,
)


def cells(text):
    return [
        [cell.strip() for cell in line.strip("|").split("|")] for line in text.strip().splitlines()
    ]


def test_intervals_stand_behind_their_metrics():
    row = {"nmi": 0.859, "nmi_low": 0.841, "nmi_high": 0.8753, "mAP": 0.5}
    assert cells(metric_table({"x": row}))[::2] == [
        ["", "nmi", "mAP"],
        ["x", "85.9 [84.1, 87.5]", "50.0"],
    ]
    assert metric_table({"x": {"rho_spectrum@-1": 3.1234}}).endswith("|           3.123 |")


def test_metric_table_shows_percent_and_marks_what_is_missing():
    table = cells(metric_table({"x": {"nmi": 0.5}, "y": {"nmi": 1.0, "mAP": 0.25}}))
    assert table[2:] == [["x", "50.0", "-"], ["y", "100.0", "25.0"]]


def test_distances_are_no_shares_on_validation_classes_either():
    assert (
        shown("val_dists@intra", 0.5),
        shown("dists@intra", -0.5, "+"),
        shown("nmi", 0.5, "+"),
    ) == ("0.500", "-0.500", "+50.0")


def test_a_bar_in_a_cell_does_not_end_it():
    assert r"a\|b" in markdown({"a|b": {"x": "1"}})


@pytest.mark.parametrize("text, cell", [
    ("=1+1", "'=1+1"),
    ("+a", "'+a"),
    ("-a", "'-a"),
    ("@SUM(A1)", "'@SUM(A1)"),
    ("\t=1", "'\t=1"),
    ("'=1", "''=1"),
    ("a=1", "a=1"),
    ("", ""),
    (-0.5, -0.5),
    (None, None),
])
def test_no_name_is_a_formula_in_a_spreadsheet_and_reading_gives_it_back(text, cell):
    assert spreadsheet_text(text) == cell
    assert plain_text(cell) == text


def test_a_name_in_quotes_stays():
    assert plain_text("'a") == "'a"


@pytest.mark.parametrize("metric,value,sign,text", [
    ("nmi", 0.85949, "", "85.9"),
    ("nmi", 0.85951, "", "86.0"),
    ("e_recall@1", 0, "+", "+0.0"),
    ("val_e_recall@1", 1, "", "100.0"),
    ("rho_spectrum@-1", -0.5, "", "-0.500"),
    ("seconds_per_epoch", 12345.67, "", "12,345.7"),
    ("nmi", float("nan"), "", "nan"),
    ("dists@intra", float("inf"), "", "inf"),
])
def test_shares_are_percent_and_costs_and_distances_are_as_they_are(metric, value, sign, text):
    assert shown(metric, value, sign) == text


def test_ends_of_intervals_are_those_of_a_metric_in_the_row():
    row = {"nmi": 0.5, "nmi_low": 0.4, "nmi_high": 0.6, "gain_low": 0.1, "f1": 0.25}
    assert metric_names(row) == ["nmi", "gain_low", "f1"]
    assert with_interval(row, "nmi") == "50.0 [40.0, 60.0]"
    assert with_interval(row, "f1") == "25.0"
    assert metric_names({}) == []


ROWS = {"a": {"x": "1", "long name": "22"}, "bcd": {"y": "3"}}


def test_a_table_has_the_columns_of_all_rows_in_the_order_of_their_appearance():
    assert lines_of(ROWS) == [
        ["", "x", "long name", "y"],
        ["a", "1", "22", "-"],
        ["bcd", "-", "-", "3"],
    ]
    assert lines_of({}) == [[""]]


def test_columns_of_markdown_are_aligned_names_left_and_numbers_right():
    assert markdown(ROWS).splitlines() == [
        "|     | x | long name | y |",
        "|-----|--:|----------:|--:|",
        "| a   | 1 |        22 | - |",
        "| bcd | - |         - | 3 |",
    ]


def test_every_line_of_markdown_has_the_same_number_of_bars():
    text = markdown({"a|b": {"|": "||"}, "猫": {"x": ""}})
    unescaped = [line.replace(r"\|", "").count("|") for line in text.splitlines()]
    assert set(unescaped) == {4}


def test_latex_has_the_rules_of_booktabs_and_a_column_for_each_name():
    assert latex({"a_b": {"Δ nmi": "-1.5 ± 2"}}).splitlines() == [
        r"% needs \usepackage{booktabs}",
        r"\begin{tabular}{lr}",
        r"\toprule",
        r" & $\Delta$ nmi \\",
        r"\midrule",
        r"a\_b & $-$1.5 $\pm$ 2 \\",
        r"\bottomrule",
        r"\end{tabular}",
    ]


@pytest.mark.parametrize("text,set_as", [
    ("-3", "$-$3"),
    ("[-3, -0.5]", "{[}$-$3, $-$0.5{]}"),
    ("2026-11-29", "2026-11-29"),
    ("a-1", "a-1"),
    ("1.-2", "1.-2"),
    ("-x", "-x"),
    (r"\a{b}", r"\textbackslash{}a\{b\}"),
    ("~^", r"\textasciitilde{}\textasciicircum{}"),
    ("5 % & #1 $", r"5 \% \& \#1 \$"),
    ("a<b>c|d", "a$<$b$>$c$|$d"),
    ("é猫", "é猫"),
])
def test_latex_sets_a_text_as_it_stands(text, set_as):
    assert latex_text(text) == set_as


@pytest.mark.parametrize("text", ["", "a", "'", "''", "'=", "=", "\r", "\t", "-", "'a'", " =1"])
def test_a_cell_of_a_spreadsheet_is_never_a_formula_and_always_comes_back(text):
    cell = spreadsheet_text(text)
    assert cell[:1] not in ("=", "+", "-", "@", "\t", "\r")
    assert plain_text(cell) == text
