"""`--weights=bundled`: the weights of a small backbone, pretrained on generated images. They are part of the package.

`pipelines/pretrain_bundled.flags` trained them, and `benchmarks/weights/bundle.py` wrote the file.
"""

from pathlib import Path

import numpy as np

from kerasft.settings import spec as specs
from kerasft.settings.backbone_list import AUTO, is_file, is_hub
from kerasft.settings.config import Config
from kerasft.settings.errors import UserError

BACKBONE = "MobileNet(alpha=0.25)"
# The side of the images that it was trained on, in pixels.
SIZE = 64
PATH = Path(__file__).with_name("mobilenet_0.25.npz")


def resolve_weights(config: Config) -> str:
    """Returns `--weights` without `auto`: `bundled` for the embedded data and the bundled backbone, else `imagenet`."""
    if config.weights != "auto":
        return config.weights
    return "bundled" if config.has_embedded_data and (config.backbone == AUTO or fits(config.backbone)) else "imagenet"


def fits(backbone: str) -> bool:
    """Tells whether a `--backbone` is the network of the bundled weights."""
    if is_file(backbone) or is_hub(backbone):
        return False
    named, own = (specs.parse_one(text, "--backbone") for text in (backbone, BACKBONE))
    return (named.name.lower(), named.args, named.kwargs) == (own.name.lower(), own.args, own.kwargs)


def read(backbone: str) -> list[np.ndarray]:
    """Returns the weights, float32, in the order of `keras.Model.get_weights` of the network without its classifier.

    Raises:
        UserError: another backbone.
    """
    if not fits(backbone):
        rule = f"bundled is for --backbone='{BACKBONE}' alone; {backbone} needs imagenet, none or a weights file"
        raise UserError(f"--weights: {rule}. Received: 'bundled'")
    with np.load(PATH) as stored:
        return [stored[name].astype(np.float32) for name in sorted(stored)]


def write(weights: list[np.ndarray], path: Path = PATH) -> None:
    """Writes weights for `read`: kernels as float16, vectors (BatchNorm's) as float32, whose range they need."""
    arrays = {f"{i:03d}": np.asarray(w, np.float16 if w.ndim > 1 else np.float32) for i, w in enumerate(weights)}
    np.savez_compressed(path, **arrays)
