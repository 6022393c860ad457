"""`--tta` of a trained network: what is evaluated, exported and proven is then the mean over an image and its mirror image."""

import numpy as np

from kerasft.console import console
from kerasft.data import pipeline
from kerasft.data.splits import Split
from kerasft.evaluation import scoring
from kerasft.evaluation.scoring import Scorer
from kerasft.networks.network import Network
from kerasft.settings.config import Config
from kerasft.storage.resolved_settings import ResolvedSettings
from kerasft.training import tta_choice


def resolve_tta(
    config: Config, network: Network, val: Split, scorer: Scorer, outputs: np.ndarray, resolved: ResolvedSettings
) -> tuple[Network, np.ndarray]:
    """Resolves `--tta`: the network as it is served, and its outputs for the validation images.

    Args:
        network: trained, in float32.
        val: the validation split.
        scorer: of the validation split.
        outputs: float32 [N, ...] of the network for it.
        resolved: gets `tta`, `tta_reason` and `tta_table`.
    """
    resolved.tta = "none"
    if config.tta == "none":
        return network, outputs
    averaged = (outputs + mirrored_outputs(network, val)) / 2
    choice = tta_choice.choose(config.tta, scorer, outputs, averaged)
    resolved.tta, resolved.tta_reason, resolved.tta_table = choice
    console.say(f"tta: {choice.tta} ({choice.reason})")
    return (network._replace(tta="flip"), averaged) if choice.tta == "flip" else (network, outputs)


def mirrored_outputs(network: Network, split: Split) -> np.ndarray:
    """The network's outputs for the mirror images of a split, float32 [N, ...]."""
    images = pipeline.evaluation_stream(split, size=network.size, batch_size=pipeline.EVALUATION_BATCH_SIZE)
    return scoring.make_predictor(network.model)(images.map(lambda batch: batch[:, :, ::-1]))
