"""`kerasft rebuild`: a whole model again, from a run's `delta.npz` and the pretrained network, or from rounded weights."""

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from kerasft.console.columns import write
from kerasft.export import model_folders
from kerasft.settings.errors import UserError
from kerasft.storage import run_folder, weight_delta

if TYPE_CHECKING:
    import keras

ENDING = ".keras"


def run(argument: str, out: str = "", allow_imports: str = "") -> None:
    """Writes a model: images to logits, as a run's own `model.keras`.

    Args:
        argument: a run folder with `delta.npz`, or an artefact of `--export=keras(...)`.
        out: the file; by default `rebuilt.keras` in that folder.
        allow_imports: packages, separated by commas, that a saved backbone needs. What the run was allowed to import does not
            count: its folder may be a stranger's.

    Raises:
        UserError: no such folder, a damaged file, or one that cannot be written.
    """
    # A shell leaves `~` behind `=` as it is.
    folder, out = Path(os.path.expanduser(argument)), os.path.expanduser(out)
    path = Path(out) if out else folder / f"rebuilt{ENDING}"
    if path.suffix != ENDING:
        raise UserError(f"--out: must end in {ENDING}. Received: {out!r}")
    is_run = (folder / weight_delta.FILE_NAME).is_file()
    if not is_run and model_folders.runtime_of(folder) != "keras":
        rule = f"must be a run folder with {weight_delta.FILE_NAME} in it, or an artefact of --export=keras"
        raise UserError(f"kerasft rebuild: {rule}. Received: '{folder}'")
    packages = tuple(filter(None, allow_imports.split(",")))
    model = _of_run(folder, packages) if is_run else _of_artefact(folder)
    try:
        run_folder.write_by_name(path, model.save)
    except OSError as error:
        raise UserError(f"--out: cannot be written ({error.strerror or error}). Received: '{path}'") from error
    write(f"Written: {path}")


def _of_artefact(folder: Path) -> "keras.Model":
    from kerasft.export.standalone.keras import unpack
    from kerasft.networks import heads, hub_layers  # noqa: F401, they register layers of ours

    try:
        return unpack(folder)
    # Keras and NumPy raise anything for a damaged file.
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"kerasft rebuild: the artefact cannot be read ({reason}). Received: '{folder}'") from error


def _of_run(folder: Path, packages: tuple[str, ...]) -> "keras.Model":
    # TensorFlow takes seconds to import.
    import keras

    from kerasft.networks import blending
    from kerasft.networks import network as networks
    from kerasft.networks.apply_surgeries import apply_surgeries
    from kerasft.networks.depths import with_depths
    from kerasft.settings.stored_config import from_stored
    from kerasft.storage import resolved_settings
    from kerasft.strategies import planning

    metrics = run_folder.read_json(folder / "metrics.json", "task", "classes")
    stored, resolved = run_folder.read_json(folder / "config.json", "backbone"), resolved_settings.read(folder)
    if not metrics or not stored or resolved is None:
        raise UserError(f"kerasft rebuild: the run is not finished. Received: '{folder}'")
    config = from_stored(stored, allow_imports=packages)
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
    return keras.Model(model.inputs[0], model.outputs[0], name=model.name)
