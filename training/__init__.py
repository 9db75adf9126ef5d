"""The training engine: step, optimisation, resume, records."""
