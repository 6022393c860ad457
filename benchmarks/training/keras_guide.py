"""kerasft against the transfer-learning guide of keras.io, on the same images and weights: seconds and test accuracy.

The guide (https://keras.io/guides/transfer_learning/): images flipped and turned, a frozen backbone, dropout of 0.2 and
one dense layer, 10 epochs of Adam at 1e-3, then 10 of all layers (BatchNormalization in inference mode) at 1e-5, batch 32.
It is given its decoded images in memory from the second epoch on. kerasft runs `--phases=head` and its default settings.
Seconds are of wall clock after the imports: of kerasft to the test figures (audit and choice included), and with export and proof.

    python benchmarks/training/keras_guide.py --shared=../shared --out=OUT [--sets=flowers5,hymenoptera] [--seeds=0]
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

WEIGHTS = "mobilenet_0.25_224_no_top.h5"
OURS = {"head": ("--phases=head",), "default": ()}


def guide(
    folder: Path,
    weights: Path,
    seed: int,
    epochs: int,
    predictions: Path | None = None,
    backbone: str = "MobileNet(alpha=0.25)",
) -> dict:
    """Runs the guide's recipe in this process.

    Args:
        predictions: the file that gets the answers to the test images, like `predictions.npz` of a run.
        backbone: a network of keras.applications that takes pixels in -1..1.
    """
    import keras
    import numpy as np
    import tensorflow as tf

    keras.utils.set_random_seed(seed)
    layers, started = keras.layers, time.perf_counter()
    given = {"image_size": (224, 224), "batch_size": None, "seed": seed, "verbose": False}
    train, val, test = (
        keras.utils.image_dataset_from_directory(folder / part, **given, shuffle=part == "train")
        for part in ("train", "val" if (folder / "val").is_dir() else "test", "test")
    )
    classes = len(train.class_names)
    changes = [layers.RandomFlip("horizontal"), layers.RandomRotation(0.1)]

    def augmented(image: tf.Tensor, label: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        for layer in changes:
            image = layer(image)
        return image, label

    tune = tf.data.AUTOTUNE
    train = train.cache().shuffle(2000).map(augmented, num_parallel_calls=tune).batch(32).prefetch(tune)
    names = [Path(path).relative_to(folder).as_posix() for path in test.file_paths]
    val, test = (part.cache().batch(32).prefetch(tune) for part in (val, test))
    kind, alpha = backbone.rstrip(")").split("(alpha=")
    build = getattr(keras.applications, kind)
    base = build(alpha=float(alpha), include_top=False, weights=None, input_shape=(224, 224, 3))
    base.load_weights(weights)
    base.trainable = False
    inputs = keras.Input((224, 224, 3))
    hidden = layers.GlobalAveragePooling2D()(base(layers.Rescaling(1 / 127.5, -1)(inputs), training=False))
    model = keras.Model(inputs, layers.Dense(classes)(layers.Dropout(0.2)(hidden)))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    for rate in (1e-3, 1e-5):
        base.trainable = rate == 1e-5
        for layer in base.layers:  # in Keras 3.15 `fit` overrides training=False: this is what the guide means
            layer.trainable = base.trainable and not isinstance(layer, layers.BatchNormalization)
        model.compile(keras.optimizers.Adam(rate), loss, metrics=["accuracy"])
        model.fit(train, validation_data=val, epochs=epochs, verbose=0)
    log_loss, accuracy = model.evaluate(test, verbose=0)
    took = time.perf_counter() - started
    if predictions:
        probabilities = keras.ops.convert_to_numpy(keras.ops.softmax(model.predict(test, verbose=0)))
        labels = np.concatenate([part.numpy() for _, part in test])
        losses = -np.log(np.maximum(probabilities[np.arange(len(labels)), labels], 1e-12))
        np.savez(predictions, ids=np.array(names), labels=labels, probabilities=probabilities, losses=losses)
    return {"measured": took, "seconds": took, "accuracy": accuracy, "loss": log_loss}


def ours(folder: Path, weights: Path, seed: int, out: Path, flags: tuple[str, ...]) -> dict:
    """Runs kerasft's command."""
    line = [sys.executable, "-m", "kerasft.run", f"--data=folder:{folder}", f"--weights={weights}", f"--seed={seed}"]
    line += [f"--run_dir={out}", f"--export_dir={out.parent / 'saved_models'}", "--noresume", *flags]
    subprocess.run(line, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    metrics = json.loads((out / "metrics.json").read_text())
    took = metrics["seconds"]
    measured = took["total"] - took["export"]
    test = metrics["test"]
    return {"measured": measured, "seconds": took["total"], "accuracy": test["accuracy"], "loss": test["loss"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--sets", default="flowers5,hymenoptera")
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--epochs", type=int, default=10, help="of each half of the guide's recipe")
    parser.add_argument("--guide", metavar="SET,SEED", help="run the guide's recipe alone and print JSON")
    options = parser.parse_args()
    weights = (options.shared / "weights" / WEIGHTS).resolve()
    if options.guide:
        name, seed = options.guide.split(",")
        print(json.dumps(guide(options.shared / "data" / name, weights, int(seed), options.epochs)))
        return
    print(
        "| data | seed | recipe | measured: share of the guide's seconds | in all | seconds, in all | test accuracy |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- |", flush=True)
    for name in options.sets.split(","):
        for seed in options.seeds.split(","):
            line = [sys.executable, __file__, *sys.argv[1:], f"--guide={name},{seed}"]
            done = subprocess.run(line, check=True, capture_output=True, text=True)
            rows = {"keras.io guide": json.loads(done.stdout.splitlines()[-1])}
            for recipe, flags in OURS.items():
                folder = (options.shared / "data" / name).resolve()
                rows[f"kerasft, {recipe}"] = ours(folder, weights, seed, options.out / f"{name}-{seed}-{recipe}", flags)
            for recipe, row in rows.items():
                shares = [row[key] / rows["keras.io guide"]["seconds"] for key in ("measured", "seconds")]
                cells = [f"{share:.2f}" for share in shares] + [f"{row['seconds']:.0f}", f"{row['accuracy']:.4f}"]
                print("| " + " | ".join([name, seed, recipe, *cells]) + " |")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
