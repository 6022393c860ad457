"""Keras with rounded weights, to send or to store: `model.q8.npz` or `model.q4.npz`, a quarter or an eighth of the weights."""

import math
from pathlib import Path

import keras as framework
import numpy as np

from kerasft.export.portable.format import Format, Source, one_of
from kerasft.networks.network import Network
from kerasft.storage import run_folder

# Bits of a weight, by precision.
BITS = {"int8": 8, "int4": 4}

# So many weights of an output channel share a scale in 4 bits; in 8 bits all of them do.
GROUP = 64

DEPTHWISE = (framework.layers.DepthwiseConv1D, framework.layers.DepthwiseConv2D)
SEPARABLE = (framework.layers.SeparableConv1D, framework.layers.SeparableConv2D)


def keras(precision: str = "int8") -> Format:
    """Returns the format. Its kernels are rounded; it computes in float32, as fast and in as much memory as the network.

    Args:
        precision: `int8` (a scale for each output channel) or `int4` (a scale for each 64 weights of an output channel).

    Raises:
        ValueError: another precision.
    """
    precision = one_of(precision, tuple(BITS))
    bits = BITS[precision]

    def write(source: Source, folder: Path) -> None:
        # Its biases make up for rounding to 8 bits.
        network = source.corrected() if bits == 8 else source.network
        run_folder.write(folder / f"model.q{bits}.npz", lambda file: np.savez_compressed(file, **pack(network, bits)))

    return Format(
        name=f"keras(precision={precision})",
        runtime="keras",
        packages=("keras",),
        requirements=("keras>=3.15", "numpy", "pillow", "tensorflow"),
        exact=False,
        write=write,
        advice="keras(precision=int8)" if precision == "int4" else "",
    )


def pack(network: Network, bits: int) -> dict[str, np.ndarray]:
    """The arrays of the file.

    Returns:
        `architecture`: the configuration of the model that `model.keras` holds, as JSON in UTF-8, uint8 [B]. For the weight at each
        place of `get_weights`, either `whole/PLACE`, as it is, or

        - `values/PLACE`: int8 [K, O], its K weights of each of O output channels, as multiples of their scale; in 4 bits uint8
          [ceil(K * O / 2)], two to a byte, the first one in the low half, each as 8 more than it is;
        - `scales/PLACE`: float32 [G, O], of the groups of rows;
        - `shape/PLACE`: int64, of the weight.
    """
    served = network.served()
    model = framework.Model(served.inputs[0], served.outputs[0], name=served.name)
    arrays = {"architecture": np.frombuffer(model.to_json().encode(), np.uint8), "bits": np.array(bits)}
    by_channel = _depthwise_kernels(model)
    for index, variable in enumerate(model.weights):
        weight = np.asarray(variable)
        if weight.ndim < 2 or weight.dtype != np.float32:
            arrays[f"whole/{index}"] = weight
            continue
        columns = math.prod(weight.shape[-2:]) if id(variable) in by_channel else weight.shape[-1]
        values, scales = _rounded(weight.reshape(-1, columns), bits)
        arrays[f"values/{index}"] = values if bits == 8 else _two_to_a_byte(values)
        arrays |= {f"scales/{index}": scales, f"shape/{index}": np.array(weight.shape)}
    return arrays


def _depthwise_kernels(model: framework.Model) -> set[int]:
    """The identities of the kernels whose last two axes are the output channels."""
    layers = list(model._flatten_layers())
    kernels = [layer.kernel for layer in layers if isinstance(layer, DEPTHWISE)]
    return {id(kernel) for kernel in kernels + [one.depthwise_kernel for one in layers if isinstance(one, SEPARABLE)]}


def _rounded(rows: np.ndarray, bits: int) -> tuple[np.ndarray, np.ndarray]:
    """Whole multiples of a scale, int8 [K, O], and the scales, float32 [G, O]; from float32 [K, O]."""
    largest = 2 ** (bits - 1) - 1
    size = len(rows) if bits == 8 else min(GROUP, len(rows))
    starts = np.arange(0, len(rows), size)
    scales = np.maximum.reduceat(np.abs(rows), starts) / np.float32(largest)
    steps = np.where(scales == 0, 1, scales).repeat(np.diff([*starts, len(rows)]), axis=0)
    return np.rint(rows / steps).clip(-largest, largest).astype(np.int8), scales


def _two_to_a_byte(values: np.ndarray) -> np.ndarray:
    """Numbers in -7..7, two to a byte, uint8."""
    halves = (values.reshape(-1) + 8).astype(np.uint8)
    halves = np.append(halves, np.uint8(8)) if len(halves) % 2 else halves
    return halves[::2] | halves[1::2] << 4
