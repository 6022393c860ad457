"""Storage: the run folder, its lock and checkpoints, and the caches of images and activations."""
