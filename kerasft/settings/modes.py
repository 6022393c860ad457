"""What the first word after `kerasft` may be: a mode, or a command without the settings of a run."""

import re
from typing import NamedTuple


class Mode(NamedTuple):
    """One value of `--mode`.

    Attributes:
        purpose: what it does, in half a line.
        example: a complete command.
        trains: whether it takes all settings of a run (the fields of Config).
        settings: those that it takes without training; the others are the run's.
        target_settings: those that it takes with `--target` too, for the steps, which are trained.
    """

    purpose: str
    example: str
    trains: bool
    settings: tuple[str, ...] = ()
    target_settings: tuple[str, ...] = ()


class Command(NamedTuple):
    """A command without the settings of a run: it prints information, or rebuilds a model.

    Attributes:
        purpose: what it does, in half a line.
        example: a complete command.
        argument: its argument as the help shows it, in brackets if it may be left out; empty for none.
        flags: its flags, and what each does.
    """

    purpose: str
    example: str
    argument: str = ""
    flags: dict[str, str] = {}


MODES = {
    "train": Mode(
        "audit the images, train, evaluate, export",
        "kerasft train --data=folder:photos --backbone='MobileNetV2(alpha=0.35)'",
        True,
    ),
    "audit": Mode(
        "say what is wrong with the images: leaks, copies, wrong labels, dark or blurred ones",
        "kerasft audit --data=folder:photos",
        True,
    ),
    "predict": Mode(
        "label images with an exported model",
        "kerasft predict --model=saved_models/photos --images='new/**/*.jpg' --out=labels.csv",
        False,
    ),
    "serve": Mode(
        "answer over HTTP with an exported model",
        "kerasft serve --model=saved_models/photos --port=8501",
        False,
    ),
    "compress": Mode(
        "export a finished run for other runtimes (LiteRT, ONNX, OpenVINO), or make its network smaller (--target=flops=0.5)",
        "kerasft compress --model=runs/photos-1234abcd --export='litert(precision=int8) | onnx'",
        False,
        ("export", "max_drop", "export_dir", "allow_imports"),
        ("phases", "teacher", "distill", "unlabelled", "resume"),
    ),
    "explain": Mode(
        "say why a finished run answers as it does: maps, a check of them, and similar training images",
        "kerasft explain --model=runs/photos-1234abcd --images='new/**/*.jpg'",
        False,
        ("seed", "allow_imports"),
    ),
    "lr_find": Mode(
        "find a learning rate: train for some steps at rising rates, and plot the loss",
        "kerasft lr_find --data=folder:photos --phases='head | all(epochs=10)'",
        True,
    ),
    "tune": Mode(
        "search settings, then train with the best ones",
        "kerasft tune --data=folder:photos --phases='head(epochs=9)' --search='lr=log(1e-4, 1e-1)'",
        True,
    ),
    "compare": Mode(
        "train strategies side by side, and export the best one",
        "kerasft compare --data=folder:photos --strategies='head; top(0.3); all; lora(rank=8)'",
        True,
    ),
}

COMMANDS = {
    "backbones": Command("list the backbones, with parameters and published accuracy", "kerasft backbones"),
    "presets": Command("list the presets and their purpose", "kerasft presets"),
    "layers": Command(
        "list the blocks and layers of a backbone, for top(unfreeze=...)",
        "kerasft layers 'MobileNetV2(alpha=0.35)'",
        "BACKBONE",
        {"all": "List every layer, not only the first one of each block."},
    ),
    "runs": Command(
        "compare the finished runs of a folder (default: runs)",
        "kerasft runs --out=runs.html",
        "[DIR]",
        {"out=FILE": "Also write the comparison as one self-contained page (.html)."},
    ),
    "rebuild": Command(
        "make model.keras again, from a run's delta.npz and the pretrained network, or from an artefact with rounded weights",
        "kerasft rebuild runs/photos --out=photos.keras",
        "RUN_OR_ARTEFACT",
        {
            "out=FILE": "The file to write (.keras); by default rebuilt.keras in that folder.",
            "allow_imports=PACKAGES": "Packages that a saved backbone needs, as in training.",
        },
    ),
    "flags": Command("print all flags as a Markdown page (docs/flags.md)", "kerasft flags"),
}


# Where a help text says which modes the next sentences are about.
_OF_MODES = re.compile(rf"(?:^|(?<=\. ))((?:{'|'.join(MODES)})(?:, (?:{'|'.join(MODES)}))*): ")


def split_modes(text: str) -> list[tuple[tuple[str, ...], str]]:
    """Splits the help of a flag (`predict, serve: ... . compress: ...`) into modes and what it does in them.

    Without modes before it, a text is for all modes.
    """
    first, *rest = _OF_MODES.split(text)
    parts = [(tuple(names.split(", ")), part.strip()) for names, part in zip(rest[::2], rest[1::2])]
    return [(tuple(MODES), first.strip()), *parts] if first.strip() else parts
