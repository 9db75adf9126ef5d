"""Result tables from the folders of runs: `python -m evaluation.tables RUNS...`."""
from evaluation.tables.flags import NOT_PART_OF_THE_ROW, row_flags

__all__ = ["NOT_PART_OF_THE_ROW", "row_flags"]
