"""Evaluation: losses and scores of predictions, the metrics of a split, and calibration."""
