"""How numbers stand in tables."""

import pytest

from utilities.cells import markdown, metric_table, plain_text, shown, spreadsheet_text


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
