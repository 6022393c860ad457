"""Evaluation: how good the outputs of a model are."""
