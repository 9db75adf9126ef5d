"""`python -m evaluation.embed`."""
import sys

from evaluation.embed.command import main

sys.exit(main())
