"""Slimming: the network of a finished run is made smaller and fine-tuned, in steps, until a target is met."""

from kerasft.slim.slimming import slim

__all__ = ["slim"]
