"""The domain shift of image sets: how far they are from the photographs of the pretraining (`kerasft.training.domain_shift`).

A set is a folder of --shared, `digits` (scikit-learn's), or a set under a change: `flowers5/grey`, `/negative`, `/edges`. The changed
images are written into OUT/sets, where `recipes.py --out=OUT --sets=...` finds them.

    python benchmarks/training/shift.py --shared=../shared --out=OUT [--sets=flowers5,hands10,digits,flowers5/edges]
"""

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path

from default_vs_probe import WEIGHTS
from defaults_table import write_digits
from PIL import Image, ImageFilter, ImageOps

from kerasft.data import sources
from kerasft.job import audited_splits
from kerasft.networks import network as networks
from kerasft.settings.config import Config
from kerasft.training import domain_shift

SETS = "hymenoptera,flowers5,hands10,digits,flowers5/grey,flowers5/negative,flowers5/edges"
CHANGES = {
    "grey": ImageOps.grayscale,
    "negative": ImageOps.invert,
    "edges": lambda image: ImageOps.grayscale(image).filter(ImageFilter.FIND_EDGES),
}


def folder_of(shared: Path, out: Path, name: str) -> Path:
    """The folder of a set, written if it is not there."""
    source, _, change = name.partition("/")
    place = out / "sets" / name.replace("/", "-")
    if name == "digits" and not place.is_dir():
        write_digits(place)
    if not change:
        return place if name == "digits" else shared / "data" / name
    for path in sorted((shared / "data" / source).glob("*/*/*.jpg")) if not place.is_dir() else []:
        target = place / path.relative_to(shared / "data" / source).with_suffix(".png")
        target.parent.mkdir(parents=True, exist_ok=True)
        with Image.open(path) as image:
            CHANGES[change](image.convert("RGB")).convert("RGB").save(target)
    return place


def shift(data: Path, backbone: str, weights: Path) -> float | None:
    """The domain shift of the training images for one network."""
    config = Config(data=f"folder:{data}", framing="crop", backbone=backbone, weights=str(weights))
    listing = replace(sources.load(config), framing="crop")
    network = networks.build(config, len(listing.classes), listing.task)
    with tempfile.TemporaryDirectory() as place:
        made = audited_splits.audit_and_split(config, listing, network.size, Path(place))
    return domain_shift.measure(network, made.train)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--sets", default=SETS)
    options = parser.parse_args()
    names = options.sets.split(",")
    folders = [folder_of(options.shared.resolve(), options.out.resolve(), name) for name in names]
    print("| data | " + " | ".join(WEIGHTS) + " |\n" + "| --- " * (len(WEIGHTS) + 1) + "|", flush=True)
    for name, folder in zip(names, folders):
        found = [
            shift(folder, backbone, (options.shared / "weights" / file).resolve()) for backbone, file in WEIGHTS.items()
        ]
        print(f"| {name} | " + " | ".join(f"{value:.3f}" for value in found) + " |", flush=True)


if __name__ == "__main__":
    main()
