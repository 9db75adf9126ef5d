"""`python -m evaluation.explorer`."""
import sys

from evaluation.explorer import main

sys.exit(main())
