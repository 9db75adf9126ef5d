"""`python -m evaluation.explorer`."""
import sys

from evaluation.explorer.command import main

sys.exit(main())
