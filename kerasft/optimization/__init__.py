"""Optimization: losses, optimizers, schedules and averages."""
