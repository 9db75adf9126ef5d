"""`python -m evaluation.search`."""
import sys

from evaluation.search import main

sys.exit(main())
