"""Distillation: what a small network wins back of the log loss that it lacks beside a large one, by `--teacher`.

MobileNet 0.75 teaches MobileNet 0.25, both with default settings, through the command. The untaught student is the same command
without `--teacher`. `--distills` are values of `--distill`, separated by `;`. A finished run is read, not repeated. The last columns have the difference of the log
losses of taught and untaught student on the same test images with its standard error, and KL(teacher || student), their mean. Below stands how well
teacher and untaught student know their own training images: what a teacher has learned by heart it says nothing new of.

    python benchmarks/training/distillation.py --shared=../shared --out=/tmp/distillation [--seeds=0,1,2] [--distills='logits']
"""

import argparse
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
from default_vs_probe import fewer

TEACHER, STUDENT = 0.75, 0.25


def run(options: argparse.Namespace, name: str, alpha: float, seed: int, *flags: str) -> dict:
    """The `metrics.json` of a run."""
    folder = options.out / f"{options.data}-{name}-{seed}"
    if not (folder / "metrics.json").is_file():
        data, _, few = options.data.partition(":")
        source = options.shared / "data" / data
        if few:
            source = fewer(source, options.out / "sets" / f"{options.data}-{seed}", int(few), seed)
        line = [sys.executable, "-m", "kerasft.run", f"--data=folder:{source}"]
        line += [f"--backbone=MobileNet(alpha={alpha})", f"--seed={seed}", f"--run_dir={folder}"]
        line += [f"--weights={options.shared / 'weights' / f'mobilenet_{alpha}_224_no_top.h5'}"]
        line += [f"--export_dir={options.out / 'saved_models' / f'{name}-{seed}'}", *flags, *options.flags]
        subprocess.run(line, check=True, stdout=subprocess.DEVNULL)
    return json.loads((folder / "metrics.json").read_text())


def image_losses(options: argparse.Namespace, name: str, seed: int) -> np.ndarray:
    """The log loss of each test image in a run."""
    with np.load(options.out / f"{options.data}-{name}-{seed}" / "predictions.npz") as stored:
        return stored["losses"].astype(np.float64)


def divergence(options: argparse.Namespace, teacher_seed: int, name: str, seed: int) -> str:
    """KL(teacher || student) of the answers to the test images."""
    names = f"{options.data}-teacher-{teacher_seed}", f"{options.data}-{name}-{seed}"
    files = [np.load(options.out / one / "predictions.npz") for one in names]
    known, learned = (np.maximum(file["probabilities"].astype(np.float64), 1e-12) for file in files)
    return f"{(known * np.log(known / learned)).sum(1).mean():.3f}"


def on_training_images(options: argparse.Namespace, name: str, seed: int) -> str:
    """Accuracy, log loss and entropy of a run's answers to its own training images, in words."""
    from kerasft.data import pipeline
    from kerasft.evaluation import scoring
    from kerasft.job import finished_run

    found = finished_run.reopen(str(options.out / f"{options.data}-{name}-{seed}"))
    train, predict = found.splits.train, scoring.make_predictor(found.network.model)
    outputs = predict(pipeline.evaluation_stream(train, size=found.network.size, batch_size=32))
    chances = np.maximum(scoring.apply_activation("single_label", outputs), 1e-12)
    losses = -np.log(chances[np.arange(len(train)), train.labels])
    entropy = -(chances * np.log(chances)).sum(1).mean()
    right = (chances.argmax(1) == train.labels).mean()
    return f"accuracy {right:.3f}, log loss {losses.mean():.3f}, entropy {entropy:.3f}"


def cells(metrics: dict) -> list[str]:
    """Accuracy, log loss and seconds of a run on the test images."""
    test = metrics["test"]
    return [f"{test['accuracy']:.4f}", f"{test['loss']:.4f}", f"{metrics['seconds']['total']:.0f}"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--data", default="flowers5", help="NAME, or NAME:IMAGES of a class")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--teacher_seed", type=int, help="one teacher for all seeds; by default each has its own")
    parser.add_argument("--distills", default="logits")
    parser.add_argument("--flags", action="append", default=[], help="for all runs, such as --flags=--phases=head")
    options = parser.parse_args()
    options.shared, options.out = options.shared.resolve(), options.out.resolve()
    print(
        "| seed | network | accuracy | log loss | seconds | share of the gap | taught - untaught | divergence |\n|"
        + " --- |" * 8
    )
    shares: dict[str, list[float]] = {}
    for seed in map(int, options.seeds.split(",")):
        source = seed if options.teacher_seed is None else options.teacher_seed
        teacher = run(options, "teacher", TEACHER, source)
        untaught = run(options, "untaught", STUDENT, seed)
        losses = [metrics["test"]["loss"] for metrics in (teacher, untaught)]
        print("| " + " | ".join([str(seed), f"teacher, {TEACHER}", *cells(teacher), "", "", ""]) + " |")
        print(
            "| "
            + " | ".join(
                [
                    str(seed),
                    f"untaught, {STUDENT}",
                    *cells(untaught),
                    "",
                    "",
                    divergence(options, source, "untaught", seed),
                ]
            )
            + " |",
            flush=True,
        )
        for distill in options.distills.split(";"):
            named = re.sub(r"[^\w.]+", "-", distill).strip("-")
            flags = f"--teacher={options.out / f'{options.data}-teacher-{source}'}", f"--distill={distill.strip()}"
            taught = run(options, f"taught-{named}", STUDENT, seed, *flags)
            share = (losses[1] - taught["test"]["loss"]) / (losses[1] - losses[0])
            shares.setdefault(distill, []).append(share)
            gaps = image_losses(options, f"taught-{named}", seed) - image_losses(options, "untaught", seed)
            apart = f"{gaps.mean():+.4f} ± {gaps.std(ddof=1) / len(gaps) ** 0.5:.4f}"
            row = [
                str(seed),
                f"taught, {distill}",
                *cells(taught),
                f"{share:.0%}",
                apart,
                divergence(options, source, f"taught-{named}", seed),
            ]
            print("| " + " | ".join(row) + " |", flush=True)
    for seed in map(int, options.seeds.split(",")):
        source = seed if options.teacher_seed is None else options.teacher_seed
        for name, at in (("teacher", source), ("untaught", seed)):
            print(f"{name} {at} on its training images: {on_training_images(options, name, at)}", flush=True)
    for distill, found in shares.items():
        print(f"{distill}: {np.mean(found):.0%} of the gap on average, {min(found):.0%} to {max(found):.0%}")


if __name__ == "__main__":
    main()
