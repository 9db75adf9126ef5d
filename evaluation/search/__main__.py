"""`python -m evaluation.search`."""
import sys

from evaluation.search.command import main

sys.exit(main())
