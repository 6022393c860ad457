"""ONNX, for ONNX Runtime in Python, C++, C#, Java, mobile apps and browsers: `model.onnx`."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tensorflow as tf

from kerasft.console import stderr_filter
from kerasft.export.portable.format import INPUT, Format, Source, answers, one_of
from kerasft.networks import layer_names
from kerasft.networks.network import Network

PRECISIONS = ("float32", "int8")
FILE = "model.onnx"

# The operators that compute in 8 bits. With Clip (ReLU6) and Relu among them, the range of a convolution ends where they cut it.
QUANTISED = ["Add", "Clip", "Conv", "Gemm", "MatMul", "Relu"]

# The version of ONNX's operators that is written. ONNX Runtime 1.14 and later can read it.
OPSET = 18


def onnx(precision: str = "float32") -> Format:
    """Returns the format.

    Args:
        precision: `float32`, or `int8`: weights by channel, activations in ranges measured on training images
            (onnxruntime.ai/docs/performance/model-optimizations/quantization.html).

    Raises:
        ValueError: another precision.
    """
    precision = one_of(precision, PRECISIONS)

    def write(source: Source, folder: Path) -> None:
        with stderr_filter.without_notices():
            if precision == "int8":
                write_float(source.corrected(), folder / FILE)
                _quantise(folder / FILE, source.calibration())
            else:
                write_float(source.network, folder / FILE)

    return Format(
        name=f"onnx(precision={precision})" if precision != "float32" else "onnx",
        runtime="onnx",
        packages=("tf2onnx", "onnx", "onnxruntime"),
        requirements=("numpy", "onnxruntime", "pillow"),
        exact=precision == "float32",
        write=write,
        advice="onnx" if precision == "int8" else "",
        eight_bits=precision == "int8",
    )


def write_float(network: Network, path: Path) -> None:
    """Writes the network in float32."""
    import tf2onnx

    size = network.size
    signature = (tf.TensorSpec([None, size, size, 3], tf.float32, name=INPUT),)
    tf2onnx.convert.from_function(answers(network), input_signature=signature, opset=OPSET, output_path=str(path))


def _quantise(path: Path, images: np.ndarray) -> None:
    """Quantises convolutions, dense layers and sums; the logits and the softmax stay float32."""
    import onnx as onnx_format
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Images(CalibrationDataReader):
        def __init__(self) -> None:
            self._rest: Iterator[np.ndarray] = iter(images)

        def get_next(self) -> dict[str, np.ndarray] | None:
            image = next(self._rest, None)
            return None if image is None else {INPUT: image[np.newaxis]}

    with tempfile.TemporaryDirectory() as folder:
        prepared = Path(folder) / FILE
        # It folds BatchNormalization. Symbolic shapes would need another package, and change nothing here.
        quant_pre_process(path, prepared, skip_symbolic_shape=True)
        nodes = onnx_format.load(prepared).graph.node
        quantize_static(
            prepared,
            path,
            Images(),
            # The logits cost next to nothing, and their rounding goes straight into the probabilities.
            nodes_to_exclude=[node.name for node in nodes if any(layer_names.LOGITS in name for name in node.output)],
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=QUANTISED,
            per_channel=True,
            weight_type=QuantType.QInt8,
        )
