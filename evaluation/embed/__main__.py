"""`python -m evaluation.embed`."""
import sys

from evaluation.embed import main

sys.exit(main())
