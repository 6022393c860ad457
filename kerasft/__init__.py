"""kerasft: fine-tunes image models with Keras 3, and proves what it exports."""

__version__ = "0.1.0"
