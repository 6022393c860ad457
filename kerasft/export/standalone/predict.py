"""Labels images with the model in this folder. It needs nothing of kerasft.

It prints a line of JSON for each image, with `error` where it cannot be read. The exit status is then 1. `requirements.txt`
lists the packages.

    pip install -r requirements.txt
    python predict.py photo.jpg [photo.jpg ...]
"""

import json
import sys
from pathlib import Path

import numpy as np
from image_decoding import decode
from runtime import load

FOLDER = Path(__file__).resolve().parent


def main(paths: list[str]) -> int:
    """Prints what the model answers to each image. Returns the exit status."""
    if not paths:
        print("usage: python predict.py photo.jpg [photo.jpg ...]", file=sys.stderr)
        return 2
    status = 0
    about = json.loads((FOLDER / "model.json").read_text(encoding="utf-8"))
    # A name may have separators at which `splitlines` would split.
    labels = (FOLDER / "labels.txt").read_text(encoding="utf-8").removesuffix("\n").split("\n")
    answer = load(FOLDER)
    for path in paths:
        try:
            image = decode(Path(path).read_bytes(), about["image_size"], about["framing"])
        # Pillow raises half a dozen errors for a damaged file, and its plugins more.
        except Exception as error:  # noqa: BLE001
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            print(json.dumps({"path": path, "error": reason}))
            status = 1
            continue
        found = answer(image[np.newaxis])[0].tolist()
        line = {"path": path}
        if about["task"] == "single_label":
            line["label"] = labels[int(np.argmax(found))]
        elif about["task"] == "multi_label":
            line["labels"] = [name for name, value, least in zip(labels, found, about["thresholds"]) if value >= least]
        line["values" if about["task"] == "regression" else "probabilities"] = dict(zip(labels, found))
        print(json.dumps(line, ensure_ascii=False))
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
