"""Searching the head's settings: kerasft's trials, on features computed once, against a plain KerasTuner loop that recomputes them.

Both draw rate, optimizer and dropout at random and train a head of the same size on a frozen MobileNet(alpha=0.25) for the same number
of epochs; the plain loop has its decoded images in memory. Then a Hyperband search over head, rate and optimizer on cached features,
whose winner goes on as the default settings do (`--winner_phases=auto`), against the default settings.

    python benchmarks/search/search.py --shared=../shared --out=OUT [--set=flowers5] [--parts=trials,hyperband]
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

WEIGHTS = "mobilenet_0.25_224_no_top.h5"
EPOCHS, OURS, THEIRS = 5, 20, 2
SPACE = "lr=log(1e-4, 1e-1); optimizer=choice(adamw, sgd(momentum=0.9)); head.dropout=uniform(0, 0.5)"
WIDE = "lr=log(3e-4, 3e-2); optimizer=choice(adamw, nadam, sgd(momentum=0.9)); head=choice(linear, linear(dropout=0.3), mlp(units=(256,), dropout=0.3))"


def plain(folder: Path, weights: Path, out: Path) -> float:
    """Trials a minute of KerasTuner's RandomSearch over a model as its guide writes it."""
    import keras
    import keras_tuner
    import tensorflow as tf

    layers, tune = keras.layers, tf.data.AUTOTUNE
    given = {"image_size": (224, 224), "batch_size": None, "seed": 0, "verbose": False}
    train, val = (keras.utils.image_dataset_from_directory(folder / part, **given) for part in ("train", "val"))
    classes = len(train.class_names)
    train, val = (part.cache().batch(32).prefetch(tune) for part in (train, val))
    for _ in train.concatenate(val):
        pass  # decoded before the clock starts

    def build(hp: keras_tuner.HyperParameters) -> keras.Model:
        base = keras.applications.MobileNet(alpha=0.25, include_top=False, weights=None, input_shape=(224, 224, 3))
        base.load_weights(weights)
        base.trainable = False
        inputs = keras.Input((224, 224, 3))
        hidden = layers.GlobalAveragePooling2D()(base(layers.Rescaling(1 / 127.5, -1)(inputs), training=False))
        hidden = layers.Dropout(hp.Float("dropout", 0, 0.5))(hidden)
        model = keras.Model(inputs, layers.Dense(classes)(hidden))
        rate = hp.Float("lr", 1e-4, 1e-1, sampling="log")
        optimizers = {"adamw": keras.optimizers.AdamW(rate), "sgd": keras.optimizers.SGD(rate, momentum=0.9)}
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(optimizers[hp.Choice("optimizer", list(optimizers))], loss, metrics=["accuracy"])
        return model

    tuner = keras_tuner.RandomSearch(
        build, "val_accuracy", max_trials=THEIRS, seed=1, directory=out, project_name="plain"
    )
    started = time.perf_counter()
    tuner.search(train, validation_data=val, epochs=EPOCHS, verbose=0)
    return 60 * THEIRS / (time.perf_counter() - started)


def kerasft(data: Path, weights: Path, out: Path, *flags: str) -> float:
    """Runs the command; seconds of wall clock, start-up included."""
    line = [sys.executable, "-m", "kerasft.run", f"--data=folder:{data}", f"--weights={weights}", f"--run_dir={out}"]
    line += ["--backbone=MobileNet(alpha=0.25)", f"--export_dir={out.parent / 'saved_models'}", "--noresume", *flags]
    started = time.perf_counter()
    subprocess.run(line, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--set", default="flowers5")
    parser.add_argument("--parts", default="trials,hyperband")
    parser.add_argument("--phases", default="head(epochs=9, views=4)", help="of the Hyperband search")
    parser.add_argument("--plain", action="store_true", help="run the plain loop alone and print its trials a minute")
    options = parser.parse_args()
    weights = (options.shared / "weights" / WEIGHTS).resolve()
    data = (options.shared / "data" / options.set).resolve()
    if options.plain:
        print(plain(data, weights, options.out))
        return
    parts = options.parts.split(",")
    if "trials" in parts:
        done = subprocess.run([sys.executable, *sys.argv, "--plain"], check=True, capture_output=True, text=True)
        theirs = float(done.stdout.split()[-1])
        tuning = ["--mode=tune", f"--search={SPACE}", f"--tuner=random(trials={OURS})", "--augment=none"]
        kerasft(data, weights, options.out / "trials", *tuning, f"--phases=head(epochs={EPOCHS})", "--head_init=zeros")
        found = json.loads((options.out / "trials" / "tune.json").read_text())
        own = sum(row["seconds"] for row in found["trials"])
        print("| search | trials a minute | times as many |\n| --- | --- | --- |")
        print(f"| plain KerasTuner loop, {THEIRS} trials | {theirs:.1f} | 1.0 |")
        for name, seconds in (("audit and features included", found["seconds"]), ("the trials alone", own)):
            ours = 60 * len(found["trials"]) / seconds
            print(f"| kerasft, {len(found['trials'])} trials, {name} | {ours:.1f} | {ours / theirs:.1f} |")
        sys.stdout.flush()
    if "hyperband" in parts:
        print(
            "\n| settings | seconds, start-up included | validation loss | test accuracy |\n| --- | --- | --- | --- |"
        )
        tuning = [
            "--mode=tune",
            f"--search={WIDE}",
            "--tuner=hyperband(max_epochs=9)",
            "--winner_phases=auto",
            "--budget_minutes=2",
            "--head_init=glorot_uniform",
        ]
        runs = {"hyperband": (*tuning, f"--phases={options.phases}"), "default": (), "probe": ("--phases=head",)}
        for name, flags in runs.items():
            out = options.out / name
            seconds = kerasft(data, weights, out, *flags)
            metrics = json.loads((out / "best" if name == "hyperband" else out).joinpath("metrics.json").read_text())
            loss, accuracy = metrics["phases"][-1]["val_after"], metrics["test"]["accuracy"]
            print(f"| {name} | {seconds:.0f} | {loss:.4f} | {accuracy:.4f} |", flush=True)


if __name__ == "__main__":
    main()
