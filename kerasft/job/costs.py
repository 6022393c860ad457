"""What the served network costs: parameters, multiplications, images a second on this machine, bytes on disk."""

from pathlib import Path
from typing import Any

from kerasft.evaluation.scoring import Predictor
from kerasft.networks.multiplications import multiplications
from kerasft.networks.network import Network
from kerasft.training import forward_speed

# Images in a call that is timed: a request of one image, and a full batch.
BATCH_SIZES = (1, 32)
# Calls of each batch size are timed for so long.
TIMED_SECONDS = 0.2


def measure(network: Network, forward: Predictor, export: Path) -> dict[str, Any]:
    """Measures what an answer costs. Averaging over mirror images (`--tta`) counts twice, as it is served.

    Args:
        network: the trained network, in float32.
        forward: what `scoring.make_predictor` gave for the served model.
        export: the version folder of the SavedModel.

    Returns:
        `parameters`, `macs` (multiplications of one image), `images_per_second` (of the forward pass, by batch size;
        decoding is not counted) and `bytes` (of the SavedModel), as in `metrics.json`.
    """
    passes = 2 if network.tta == "flip" else 1
    speeds = {
        str(count): round(forward_speed.measure(forward, network.size, TIMED_SECONDS, count), 1)
        for count in BATCH_SIZES
    }
    return {
        "parameters": network.model.count_params(),
        "macs": passes * multiplications(network.model),
        "images_per_second": speeds,
        "bytes": sum(file.stat().st_size for file in export.rglob("*") if file.is_file()),
    }
