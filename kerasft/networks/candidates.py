"""The networks among which a run chooses: those that `--backbone` lists, or the short list of `--backbone=auto`."""

import urllib.error
import urllib.request
from dataclasses import replace
from functools import cache

from kerasft.networks import bundled, published_accuracy
from kerasft.settings import backbone_list
from kerasft.settings.backbone_list import Candidate
from kerasft.settings.config import Config
from kerasft.settings.errors import UserError

# What `auto` prefers by the kind of device, the most accurate on ImageNet first.
SHORT_LISTS = {
    "CPU": ("EfficientNetV2B0", "MobileNetV3Large", "MobileNetV2", "MobileNet(alpha=0.25)"),
    "GPU": ("ConvNeXtTiny", "EfficientNetV2S", "EfficientNetV2B0", "MobileNetV3Large"),
}
# `auto` looks at so many networks at most.
MAX_CANDIDATES = 4

# A small file of Keras's weights. Where its headers do not arrive in time, nothing is downloaded.
_PROBED_URL = "https://storage.googleapis.com/tensorflow/keras-applications/mobilenet/mobilenet_2_5_224_tf_no_top.h5"
_TIMEOUT_SECONDS = 5.0


def is_automatic(config: Config) -> bool:
    """Whether `auto` makes a short list: of networks with ImageNet weights."""
    return config.backbone == backbone_list.AUTO and bundled.resolve_weights(config) == "imagenet"


def with_candidate(config: Config, candidate: Candidate) -> Config:
    """The Config with one network, and with its own weights where it names them."""
    return replace(config, backbone=candidate.backbone, weights=candidate.weights or config.weights)


def one(config: Config) -> Config:
    """The Config with the one network that `--backbone` names. `auto` is the network of the bundled weights.

    Raises:
        UserError: it names several.
    """
    if config.backbone == backbone_list.AUTO:
        return replace(config, backbone=bundled.BACKBONE)
    first, *others = backbone_list.parse(config.backbone)
    if others:
        rule = "a list is for --mode=train, audit, lr_find, tune and compare, which read images to choose; name one network here"
        raise UserError(f"--backbone: {rule}. Received: {config.backbone!r}")
    return with_candidate(config, first)


def short_list(kind: str, *, download: bool = True) -> tuple[list[Candidate], list[str]]:
    """What `auto` looks at, in order of preference, and the names of those whose weights cannot be had.

    Networks whose weights Keras has downloaded before are looked at too, the smaller ones first.

    Args:
        kind: of the device, `CPU` or `GPU`.
        download: whether weights may be downloaded later.
    """
    here = [backbone.name for backbone in published_accuracy.BACKBONES if published_accuracy.is_here(backbone)]
    preferred = SHORT_LISTS[kind]
    missing = [name for name in preferred if name not in here]
    out_of_reach = missing if missing and not (download and can_download()) else []
    names = [name for name in preferred if name not in out_of_reach]
    names += [name for name in here if name not in preferred]
    return [Candidate(name, name, "imagenet") for name in names[:MAX_CANDIDATES]], out_of_reach


@cache
def can_download() -> bool:
    """Whether Keras's weights can be downloaded. It is asked once, and waits for `_TIMEOUT_SECONDS` at most."""
    request = urllib.request.Request(_PROBED_URL, method="HEAD")
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS):
            return True
    except (OSError, urllib.error.URLError):
        return False
