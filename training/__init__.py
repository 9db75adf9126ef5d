"""The training engine: parts built from flags, step, optimisation, resume, records, results."""
