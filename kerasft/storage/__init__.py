"""Storage: the run folder, checkpoints, and what is computed once and kept."""
