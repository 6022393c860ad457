"""kerasft against fastai's `fine_tune` and the guide of keras.io: test accuracy, log loss and seconds on the same images and weights.

fastai follows its documentation (https://docs.fast.ai/tutorial.vision.html): `ImageDataLoaders.from_folder` with
`Resize(460)` and `aug_transforms(size=224)`, `vision_learner` with its own head, and `fine_tune(epochs)` with the default base
rate of 2e-3, one frozen epoch and batches of 64. Its body is MobileNetV1 in torch with the weights of the Keras file. The script
stops if the pooled features of the two differ by more than 1e-4. The guide and kerasft's command are those of keras_guide.py.

Seconds are of wall clock, from the start of the process to the test figures, imports included. kerasft's export and its proof come after
its test figures and are taken off. CPU seconds are of the whole process, kerasft's export and proof included: other work on the
machine changes them less.

    python benchmarks/training/fastai_fine_tune.py --shared=../shared --out=OUT --python=FASTAI_VENV/bin/python
"""

import argparse
import contextlib
import io
import json
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).resolve()
sys.path.insert(0, str(HERE.parents[2]))  # for the command of kerasft

import keras_guide  # noqa: E402
import mobilenet_torch  # noqa: E402

ALPHA = 0.25
TOLERANCE = 1e-4
CHECKED_IMAGES = 4


def fine_tune(folder: Path, arrays: dict, seed: int, epochs: int, item_size: int) -> dict:
    """Runs fastai's recipe in this process and gives accuracy and log loss of the test images."""
    from fastai.vision import all as fastai
    from torch import nn

    fastai.set_seed(seed, reproducible=True)
    # The pixels in -1..1 that the weights were made for.
    normalize = fastai.Normalize.from_stats([0.5] * 3, [0.5] * 3)
    dls = fastai.ImageDataLoaders.from_folder(
        folder,
        train="train",
        valid="val",
        seed=seed,
        item_tfms=fastai.Resize(item_size),
        batch_tfms=[*fastai.aug_transforms(size=224), normalize],
    )

    def mobilenet(pretrained: bool = True) -> nn.Module:
        # fastai cuts a network off at its last pooling layer.
        return nn.Sequential(mobilenet_torch.build(arrays), nn.AdaptiveAvgPool2d(1))

    learner = fastai.vision_learner(dls, mobilenet, metrics=fastai.accuracy)
    with learner.no_bar(), contextlib.redirect_stdout(io.StringIO()):
        learner.fine_tune(epochs)
        test = dls.test_dl(fastai.get_image_files(folder / "test"), with_labels=True)
        loss, accuracy = learner.validate(dl=test)
    return {"accuracy": accuracy, "loss": loss, "n": len(test.items)}


def check_features(python: str, arrays: Path, weights: Path, folder: Path) -> None:
    """Stops unless the torch body gives Keras' features."""
    arrays.parent.mkdir(parents=True, exist_ok=True)
    images = sorted((folder / "test").glob("*/*.jpg"))
    images = images[:: max(1, len(images) // CHECKED_IMAGES)][:CHECKED_IMAGES]
    mobilenet_torch.dump(weights, ALPHA, images, arrays)
    done = subprocess.run(
        [python, __file__, f"--arrays={arrays}", "--check"], check=True, capture_output=True, text=True
    )
    difference = json.loads(done.stdout.splitlines()[-1])["difference"]
    print(
        f"Pooled features of torch and Keras differ by at most {difference:.1e} ({len(images)} images).\n",
        flush=True,
    )
    if difference > TOLERANCE:
        sys.exit(f"The torch body must give Keras' features within {TOLERANCE:g}. Received: {difference:g}")


def has_fastai(python: str) -> bool:
    try:
        return subprocess.run([python, "-c", "import fastai.vision.all"], capture_output=True).returncode == 0
    except OSError:
        return False


def timed(function, *given) -> dict:
    """Gives what the function gives, and the wall and CPU seconds of the processes that it started."""

    def cpu() -> float:
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        return used.ru_utime + used.ru_stime

    before, started = cpu(), time.perf_counter()
    row = function(*given)
    # "seconds" is the whole of a run and "measured" ends with its test figures.
    after = row.get("seconds", 0) - row.get("measured", 0)
    return {**row, "wall": time.perf_counter() - started - after, "cpu": cpu() - before}


def printed(line: list[str]) -> dict:
    """Gives the JSON of the last line that a command prints."""
    done = subprocess.run(line, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(line)} failed:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def recipes(options: argparse.Namespace, arrays: Path, weights: Path, name: str, seed: str) -> Iterator[tuple]:
    """Runs every recipe on one set with one seed, one after the other; gives its name and its figures, kerasft's first."""
    folder = (options.shared / "data" / name).resolve()
    yield "kerasft, default", timed(keras_guide.ours, folder, weights, int(seed), options.out / f"{name}-{seed}", ())
    guide = [sys.executable, keras_guide.__file__, f"--shared={options.shared}", f"--out={options.out}"]
    yield "keras.io guide", timed(printed, [*guide, f"--guide={name},{seed}"])
    worker = [options.python, __file__, f"--arrays={arrays}", f"--folder={folder}", f"--seeds={seed}"]
    for epochs in options.epochs.split(","):
        line = [*worker, f"--epochs={epochs}", f"--item_size={options.item_size}"]
        yield f"fastai, fine_tune({epochs})", timed(printed, line)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, help="the folder with data/ and weights/")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--python", default=sys.executable, help="an interpreter that has fastai and torch")
    parser.add_argument("--sets", default="flowers5,hymenoptera,hands10")
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--epochs", default="5,10", help="of fastai's unfrozen part, one run for each")
    parser.add_argument("--item_size", type=int, default=460, help="side that fastai resizes files to before a batch")
    # For the process in the other interpreter.
    for hidden in ("--arrays", "--folder"):
        parser.add_argument(hidden, type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--check", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.arrays:
        import numpy as np

        arrays = dict(np.load(options.arrays))
        if options.check:
            print(json.dumps({"difference": mobilenet_torch.largest_difference(arrays)}))
        else:
            epochs = int(options.epochs)
            print(json.dumps(fine_tune(options.folder, arrays, int(options.seeds), epochs, options.item_size)))
        return
    if not options.shared or not options.out:
        parser.error("--shared and --out must be given")
    if not has_fastai(options.python):
        parser.error(
            "--python must be an interpreter that has fastai. Make one beside the project's: "
            "python3 -m venv FASTAI_VENV && FASTAI_VENV/bin/pip install fastai torch torchvision. "
            f"Received: {options.python}"
        )
    options.out = options.out.resolve()
    weights = (options.shared / "weights" / keras_guide.WEIGHTS).resolve()
    arrays = options.out / "mobilenet.npz"
    sets = options.sets.split(",")
    check_features(options.python, arrays, weights, options.shared / "data" / sets[0])
    columns = (
        "data | seed | recipe | test accuracy | log loss | seconds | times kerasft's | CPU seconds | times kerasft's"
    )
    print(f"| {columns} |\n|{' --- |' * 9}", flush=True)
    for name in sets:
        for seed in options.seeds.split(","):
            ours = None
            for label, row in recipes(options, arrays, weights, name, seed):
                ours = ours or row
                cells = [name, seed, label, f"{row['accuracy']:.4f}", f"{row['loss']:.4f}"]
                for key in ("wall", "cpu"):
                    cells += [f"{row[key]:.0f}", f"{row[key] / ours[key]:.2f}"]
                print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
