"""LiteRT (formerly TensorFlow Lite), for phones and small devices: `model.tflite`."""

import io
import warnings
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import tensorflow as tf

from kerasft.console import stderr_filter
from kerasft.export.portable.format import INPUT, Format, Source, as_saved_model, one_of
from kerasft.networks import layer_names

PRECISIONS = ("float32", "float16", "dynamic", "int8")
FILE = "model.tflite"


def litert(precision: str = "float32") -> Format:
    """Returns the format.

    Args:
        precision: `float32`; `float16`, weights of half the size; `dynamic`, int8 weights, and activations that are
            quantised as they come (ai.google.dev/edge/litert/models/post_training_quantization); `int8`, weights and
            activations, in ranges measured on training images. Input and answers are float32 in each.

    Raises:
        ValueError: another precision.
    """
    precision = one_of(precision, PRECISIONS)
    eight_bits = precision in ("dynamic", "int8")

    def write(source: Source, folder: Path) -> None:
        network = source.corrected() if eight_bits else source.network
        with as_saved_model(network) as path, stderr_filter.without_notices():
            converter = tf.lite.TFLiteConverter.from_saved_model(path, signature_keys=["serving_default"])
            if precision == "float16":
                converter.optimizations = [tf.lite.Optimize.DEFAULT]
                converter.target_spec.supported_types = [tf.float16]
            content = converter.convert()
            if eight_bits:
                content = _quantise(content, source, precision)
        (folder / FILE).write_bytes(content)

    advice = {"int8": "litert(precision=float16)", "dynamic": "litert(precision=float16)", "float16": "litert"}
    return Format(
        name=f"litert(precision={precision})" if precision != "float32" else "litert",
        runtime="litert",
        packages=("ai_edge_litert", *(("litert_quantizer",) if eight_bits else ())),
        requirements=("ai-edge-litert", "numpy", "pillow"),
        exact=precision == "float32",
        write=write,
        advice=advice.get(precision, ""),
        eight_bits=eight_bits,
    )


def _quantise(content: bytes, source: Source, precision: str) -> bytes:
    """Quantises weights by channel, and for `int8` activations too. The softmax, input and answers stay float32."""
    from litert_quantizer import qtyping, quantizer, recipe_manager

    recipe, every = recipe_manager.RecipeManager(), qtyping.TFLOperationName.ALL_SUPPORTED
    if precision == "dynamic":
        recipe.add_dynamic_config(regex=".*", operation_name=every, num_bits=8)
    else:
        recipe.add_static_config(regex=".*", operation_name=every, activation_num_bits=8, weight_num_bits=8)
        # An int8 softmax has steps of 1/256: rare classes would get a probability of 0.
        for name in ("SOFTMAX", "LOGISTIC", "INPUT", "OUTPUT"):
            kept = qtyping.TFLOperationName[name]
            recipe.add_quantization_config(regex=".*", operation_name=kept, algorithm_key="no_quantize")
        # The logits too: they cost next to nothing, and their rounding goes straight into the probabilities.
        recipe.add_quantization_config(
            regex=f".*{layer_names.LOGITS}.*",
            operation_name=qtyping.TFLOperationName.FULLY_CONNECTED,
            algorithm_key="no_quantize",
        )
    # It prints progress bars and figures that mean nothing here.
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tool = quantizer.Quantizer(content, recipe.get_quantization_recipe())
        if precision == "dynamic":
            return bytes(tool.quantize().quantized_model)
        ranges = tool.calibrate({"serving_default": [{INPUT: image[None]} for image in source.calibration()]})
        return bytes(tool.quantize(ranges).quantized_model)
