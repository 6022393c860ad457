"""Exported models of the three tasks, small and untrained, made once in a process."""

from pathlib import Path

import numpy as np

NAMES = {
    "single_label": ("disc", "square", "käfer"),
    "multi_label": tuple("abcdefg"),
    "regression": ("angle", "height"),
}
_made: dict[str, Path] = {}


def saved_model(task: str, backbone: str, factory) -> Path:
    """The folder `NAME` above version 1 of a model with random weights under which images differ.

    Args:
        task: of the model.
        backbone: as the fixture `tiny`.
        factory: pytest's `tmp_path_factory`.
    """
    if task not in _made:
        from kerasft.export import saved_model
        from kerasft.networks import network as networks
        from kerasft.settings.config import Config

        names = NAMES[task]
        config = Config(backbone=backbone, image_size=32, task=task, head_init="he_normal", weights="none")
        network = networks.build(config, len(names), task)
        rng = np.random.default_rng(0)
        layer = network.model.get_layer("logits")
        kernel, bias = layer.get_weights()
        layer.set_weights([rng.normal(0, 20, kernel.shape), bias])
        limits = np.full(len(names), 0.4, np.float32) if task == "multi_label" else None
        folder = factory.mktemp("models") / f"the {task}"
        folder.mkdir()
        saved_model.write(network, saved_model.Answer("r", names, limits), folder / "1")
        _made[task] = folder
    return _made[task]


def random_network(photos: Path):
    """A network with a random head under which images differ, its data, and its probabilities for the test images."""
    import keras
    from conftest import audited

    from kerasft.data import pipeline, splits
    from kerasft.evaluation import scoring
    from kerasft.networks import network as networks
    from kerasft.settings.config import Config

    config = Config(backbone="MobileNet(alpha=0.25)", weights="none", image_size=32, head_init="he_normal")
    network = networks.build(config, 2, "single_label")
    listing, images = audited(f"folder:{photos}")
    data = splits.make_splits(listing, images, 0.2, 0.2, 0)
    batches = pipeline.evaluation_stream(data.test, size=32, batch_size=8)
    predict, layer = scoring.make_predictor(network.model), network.model.get_layer("logits")
    for norm in network.model.layers:  # statistics under which a random network tells images apart
        if isinstance(norm, keras.layers.BatchNormalization):
            norm.momentum = 0.0
    network.model(images(np.arange(len(listing.ids))).astype("float32"), training=True)
    kernel, bias = layer.get_weights()
    layer.set_weights([kernel * 2 / predict(batches).std(0), bias])
    return network, data, scoring.apply_activation("single_label", predict(batches))
