"""`python -m evaluation.tables`."""
import sys

from evaluation.tables.command import main

sys.exit(main())
