"""Tiny networks of KerasHub with random weights, saved as presets for images of 32 pixels."""

from pathlib import Path

import numpy as np
import pytest

SCALE, OFFSET = [1 / 127.5, 1 / 120, 1 / 130], [-1.0, -0.9, -1.1]
BLOCKS = {"vit": 6, "deit": 6, "dinov2": 6, "swin": 6, "mit": 8, "siglip": 6}
# Under those that test everything else, one family is enough.
FAMILIES = ["vit", *(pytest.param(name, marks=pytest.mark.large) for name in BLOCKS if name != "vit")]


def build(family: str):
    """The network, and the name of its image converter. Each has dropout or stochastic depth where its family has it."""
    import keras
    import keras_hub

    keras.utils.set_random_seed(0)
    models = keras_hub.models
    shape = {"image_shape": (32, 32, 3)}
    tokens = {"patch_size": 8, "num_layers": 6, "num_heads": 2, "hidden_dim": 16} | shape
    drops = {"dropout_rate": 0.3, "attention_dropout": 0.3}
    stages = {"layerwise_depths": [2] * 4, "hidden_dims": [8, 8, 16, 16], "layerwise_num_heads": [1, 2, 2, 2]}
    stages |= {"layerwise_sr_ratios": [8, 4, 2, 1], "layerwise_patch_sizes": [7, 3, 3, 3], "num_layers": 4}
    windows = {"patch_size": 2, "embed_dim": 8, "depths": (2, 2, 2), "num_heads": (2, 2, 2), "window_size": 4}

    def siglip():
        text = models.SigLIPTextEncoder(32, 16, 16, 1, 2, 32, max_sequence_length=8)
        return models.SigLIPBackbone(models.SigLIPVisionEncoder(**tokens, intermediate_dim=32), text)

    makers = {
        "vit": lambda: models.ViTBackbone(**tokens, mlp_dim=32, **drops),
        "deit": lambda: models.DeiTBackbone(**tokens, intermediate_dim=32, **drops),
        "dinov2": lambda: models.DINOV2Backbone(
            **tokens, intermediate_dim=32, position_embedding_shape=(32, 32), num_register_tokens=2, drop_path_rate=0.3
        ),
        "swin": lambda: models.SwinTransformerBackbone(**windows, **shape, **drops, drop_path=0.3),
        "mit": lambda: models.MiTBackbone(**stages, **shape, max_drop_path_rate=0.3, layerwise_strides=[1, 2, 2, 2]),
        "siglip": siglip,
    }
    model = makers[family]()
    # New networks of this size give nearly the same for every image.
    rng = np.random.default_rng(0)
    for weight in model.weights:
        if "int" not in weight.dtype:
            weight.assign(weight + 0.1 * rng.normal(size=weight.shape))
    names = {
        "swin": "SwinTransformer",
        "vit": "ViT",
        "deit": "DeiT",
        "dinov2": "DINOV2",
        "mit": "MiT",
        "siglip": "SigLIP",
    }
    return model, f"{names[family]}ImageConverter"


def save(family: str, folder: Path, converter: bool = True) -> str:
    """Saves a tiny network of a family as a preset; returns what `--backbone` calls it."""
    import keras_hub

    model, name = build(family)
    model.save_to_preset(str(folder))
    if converter:
        getattr(keras_hub.layers, name)(image_size=(32, 32), scale=SCALE, offset=OFFSET).save_to_preset(str(folder))
    return f"hub:{folder}"
