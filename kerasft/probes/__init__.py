"""Probes: models that are solved on frozen features. They start heads, choose, and find suspect labels; nothing is trained by steps."""
