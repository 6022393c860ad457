"""The job of a run: audit, train, evaluate, export, report."""
