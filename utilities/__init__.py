"""Small shared pieces: errors, registries, pairwise algebra, seeds, checkpoints, run records."""
