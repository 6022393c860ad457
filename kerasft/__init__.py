"""kerasft: fine-tunes image models with Keras 3, and proves what it exports.

import kerasft
run = kerasft.train(kerasft.Config(data="folder:photos", backbone="MobileNetV2(alpha=0.35)"))
print(run.metrics["test"]["accuracy"], run.metrics["export"]["path"])
"""

import importlib

__version__ = "0.1.0"
__all__ = ["Config", "HyperModel", "Run", "UserError", "train"]

_HOMES = {
    "Config": "kerasft.settings.config",
    "UserError": "kerasft.settings.errors",
    "Run": "kerasft.job.train",
    "train": "kerasft.job.train",
}
_HOMES["HyperModel"] = "kerasft.tune.hypermodel"


def __getattr__(name: str):
    """Imports a public name when it is first asked for: TensorFlow is loaded by `train`, not by `import kerasft`."""
    if name not in _HOMES:
        raise AttributeError(f"module 'kerasft' has no attribute '{name}'; it has {', '.join(__all__)}")
    if name in ("Run", "train", "HyperModel"):
        from kerasft.console import stderr_filter
        from kerasft.settings import machine

        machine.limit_threads()
        stderr_filter.tensorflow()
    return getattr(importlib.import_module(_HOMES[name]), name)
