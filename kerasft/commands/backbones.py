"""`kerasft backbones`: lists the backbones, from the smallest to the largest."""

from kerasft.console.columns import columns, write
from kerasft.networks import published_accuracy


def run(argument: str) -> None:
    """Prints the table."""
    write(table())


def table() -> str:
    """Returns name, parameters, size, published accuracy, and whether the ImageNet weights are on this machine."""
    from kerasft.networks import bundled

    rows = []
    for backbone in published_accuracy.BACKBONES:
        places = ["on this machine"] if published_accuracy.is_here(backbone) else ["download"]
        places += ["bundled"] if bundled.fits(backbone.name) else []
        accuracy = "-" if backbone.top1 is None else f"{backbone.top1:.1f} %"
        rows.append((backbone.name, f"{backbone.parameters:,}", str(backbone.size), accuracy, ", ".join(places)))
    head = ("backbone", "parameters", "pixels", "ImageNet top-1", "ImageNet weights")
    return (
        columns(head, rows, right=head[1:4])
        + f"\n\nParameters are without the classifier. Accuracies are those of keras.io/api/applications.\n"
        f"Keras keeps ImageNet weights in {published_accuracy.weights_folder()}, and downloads those that are missing.\n"
        "bundled: weights that come with kerasft, made without photographs (--weights=bundled).\n"
        "A saved model (.keras, .h5) or a preset of KerasHub (hub:PRESET_OR_DIR) is a backbone too: see docs/backbones.md."
    )
