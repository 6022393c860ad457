"""Quantisation-aware training: what int8 artefacts lose after a default run, and after the same run with a phase `quantised`.

MobileNet with ImageNet weights, through the command, once with `--phases=PHASES` and once with each of `--quantised` behind.
Every artefact answers to the encoded test images through the program that is shipped with it, refused or not. The differences
are paired, with 95 % intervals: to the float32 network of the same run, and to the same artefact of the run without the phase.
A finished run is read, not repeated.

    python benchmarks/training/quantised.py --shared=../shared --out=/tmp/quantised [--data=flowers5] [--seeds=0]
"""

import argparse
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np

FORMATS = "litert(precision=int8) | onnx(precision=int8)"
MIN_PROBABILITY = 1e-12


def run(options: argparse.Namespace, name: str, seed: int, phases: str) -> Path:
    """The folder of a run with its artefacts."""
    folder = options.out / f"{options.data}-{options.alpha}-{seed}-{name}"
    if not (folder / "metrics.json").is_file():
        line = [sys.executable, "-m", "kerasft.run", f"--data=folder:{options.shared / 'data' / options.data}"]
        line += [f"--backbone=MobileNet(alpha={options.alpha})", f"--seed={seed}", f"--run_dir={folder}"]
        line += [f"--weights={options.shared / 'weights' / f'mobilenet_{options.alpha}_224_no_top.h5'}"]
        # What the gate would refuse is measured too.
        line += [f"--phases={phases}", f"--export=savedmodel | {options.formats}", "--max_drop=1"]
        line += [f"--export_dir={folder}-export/saved_models", *options.flags]
        with Path(f"{folder}.log").open("w") as log:
            subprocess.run(line, check=True, stdout=log, stderr=log)
    return folder


def answers(folder: Path) -> dict[str, dict[str, np.ndarray]]:
    """What the network of a run and each of its artefacts answer to the test images, as the arrays of `predictions.npz`."""
    # TensorFlow takes seconds to import, `--help` should not.
    from kerasft.export.portable import publish
    from kerasft.job.finished_run import reopen

    with np.load(folder / "predictions.npz", allow_pickle=False) as stored:
        found = {"network, float32": {key: stored[key] for key in ("ids", "labels", "losses", "probabilities")}}
    metrics = json.loads((folder / "metrics.json").read_text())
    opened = reopen(str(folder))
    split = opened.splits.test
    for name, row in metrics["artefacts"].items():
        place = Path(row["path"])
        if not (place / "runtime.py").is_file():
            continue
        decode, load = publish._module(place / "image_decoding.py").decode, publish.load(place)
        images = (decode(split.read(row), opened.network.size, metrics["framing"]) for row in range(len(split)))
        probabilities = np.concatenate([load(image[np.newaxis].astype(np.float32)) for image in images])
        right = probabilities[np.arange(len(split)), split.labels]
        losses = -np.log(np.maximum(right.astype(np.float64), MIN_PROBABILITY))
        found[name] = {"ids": split.ids, "labels": split.labels, "losses": losses, "probabilities": probabilities}
    return found


def apart(first: dict[str, np.ndarray], second: dict[str, np.ndarray]) -> list[str]:
    """Accuracy and log loss of the second less those of the first, with intervals."""
    from kerasft.evaluation import paired

    found = paired.compare("single_label", first, second)
    return [f"{one.value:+.4f} ({one.low:+.4f} to {one.high:+.4f})" for one in (found.score, found.loss)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--data", default="flowers5")
    parser.add_argument("--alpha", default="0.25", help="of MobileNet: 0.25 or 0.75")
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--phases", default="auto", help="of the run without the quantisation-aware phase")
    parser.add_argument("--quantised", default="quantised", help="phases, separated by ;")
    parser.add_argument("--formats", default=FORMATS)
    parser.add_argument("--flags", action="append", default=[], help="for all runs, such as --flags=--augment=none")
    options = parser.parse_args()
    options.shared, options.out = options.shared.resolve(), options.out.resolve()
    options.out.mkdir(parents=True, exist_ok=True)
    print("| seed | phases | artefact | accuracy | log loss | accuracy, to float32 | log loss, to float32 | ", end="")
    print("accuracy, to the run without | log loss, to the run without | seconds |\n|" + " --- |" * 10)
    for seed in map(int, options.seeds.split(",")):
        without = None
        for added in ["", *options.quantised.split(";")]:
            phases = f"{options.phases} | {added.strip()}" if added else options.phases
            name = re.sub(r"[^\w.]+", "-", phases).strip("-")
            folder = run(options, name, seed, phases)
            found, seconds = answers(folder), json.loads((folder / "metrics.json").read_text())["seconds"]["total"]
            without = without or found
            for artefact, arrays in found.items():
                accuracy = (arrays["probabilities"].argmax(-1) == arrays["labels"]).mean()
                cells = [str(seed), phases, artefact, f"{accuracy:.4f}", f"{arrays['losses'].mean():.4f}"]
                cells += apart(found["network, float32"], arrays) if artefact in list(found)[1:] else ["", ""]
                cells += apart(without[artefact], arrays) if found is not without else ["", ""]
                cells += [f"{seconds:.0f}"]
                print("| " + " | ".join(cells).replace(" | quantised", " \\| quantised") + " |", flush=True)


if __name__ == "__main__":
    main()
