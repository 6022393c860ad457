"""`kerasft rebuild RUN`: the whole model of a run again, made of the pretrained network and the run's `delta.npz`."""

from dataclasses import replace
from pathlib import Path

from kerasft.console.columns import write
from kerasft.settings.errors import UserError

ENDING = ".keras"


def run(argument: str, out: str = "") -> None:
    """Writes the model of a run: images to logits, as the run's own `model.keras`.

    Raises:
        UserError: no finished run with a delta, or a file that cannot be written.
    """
    # TensorFlow takes seconds to import.
    import keras

    from kerasft.networks import blending
    from kerasft.networks import network as networks
    from kerasft.networks.apply_surgeries import apply_surgeries
    from kerasft.networks.depths import with_depths
    from kerasft.settings.config import Config
    from kerasft.storage import resolved_settings, run_folder, weight_delta
    from kerasft.strategies import planning

    folder = Path(argument)
    if not (folder / weight_delta.FILE_NAME).is_file():
        rule = f"must be a run folder with {weight_delta.FILE_NAME} in it"
        raise UserError(f"kerasft rebuild: {rule}. Received: '{folder}'")
    path = Path(out) if out else folder / f"rebuilt{ENDING}"
    if path.suffix != ENDING:
        raise UserError(f"--out: must end in {ENDING}. Received: {out!r}")
    metrics = run_folder.read_json(folder / "metrics.json", "task", "classes")
    stored, resolved = run_folder.read_json(folder / "config.json", "backbone"), resolved_settings.read(folder)
    if metrics is None or stored is None or resolved is None:
        raise UserError(f"kerasft rebuild: the run is not finished. Received: '{folder}'")
    config = Config(**stored)
    keras.utils.set_random_seed(config.seed)
    backbone = resolved.backbone or config.backbone
    built = replace(config, backbone=backbone, weights=resolved.weights, image_size=resolved.image_size)
    network = networks.build(built, len(metrics["classes"]), metrics["task"])
    network = planning.prepare(built, apply_surgeries(built, network))
    if resolved.features:
        network = with_depths(network, built, tuple(resolved.features))
    if resolved.pixels:
        networks.set_pixel_statistics(network, *resolved.pixels)
    weights = weight_delta.apply(folder / weight_delta.FILE_NAME, network.model.get_weights())
    network.model.set_weights(weights)
    model = blending.without_blends(network)._replace(tta=resolved.tta or "none").served()
    # One tensor, not a list of one: `model(images)` then warns of nothing.
    plain = keras.Model(model.inputs[0], model.outputs[0], name=model.name)
    run_folder.write_by_name(path, plain.save)
    write(f"Written: {path}")
