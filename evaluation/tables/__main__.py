"""`python -m evaluation.tables`."""
import sys

from evaluation.tables import main

sys.exit(main())
