"""Kills one run with SIGKILL at random moments, again and again, and compares it with a run that was left alone.

Under `--deterministic`: the weights, the history and the test probabilities must be equal, one version must have been
exported, and a run that had saved a state must have gone on from it.

    python benchmarks/training/kills.py --data=folder:photos --weights=FILE --out=/tmp/kills [--kills=30] [--seed=0]
"""

import argparse
import hashlib
import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

PHASES = "head(epochs=3, lr=1e-2, views=2) | top(unfreeze=0.5, epochs=3, lr=1e-3, views=1) | all(epochs=3, lr=1e-3, batch_norm='train')"


def command(options: argparse.Namespace, name: str) -> list[str]:
    """The line of the run `name`: every phase, dropout, averages, augmentation."""
    line = [sys.executable, "-m", "kerasft.run", f"--data={options.data}", f"--weights={options.weights}"]
    line += ["--backbone=MobileNet(alpha=0.25)", "--image_size=32", "--batch_size=8", "--deterministic"]
    line += ["--head=linear(dropout=0.2)", "--augment=crop | flip | color", "--average=ema(momentum=0.9)"]
    line += [f"--phases={PHASES}", f"--run_dir={options.out / name}", f"--export_dir={options.out / name}-models"]
    return [*line, "--notensorboard"]


def result(out: Path, name: str) -> dict:
    """What must be equal, and what must be 1."""
    metrics = json.loads((out / name / "metrics.json").read_text())
    rows = [json.loads(row) for row in (out / name / "history.jsonl").read_text().splitlines()]
    with np.load(out / name / "predictions.npz") as stored:
        predictions = hashlib.sha256(stored["probabilities"].tobytes()).hexdigest()
    history = [(row["phase"], row["epoch"], row["step"], row["loss"], row["val_loss"], row["lr"]) for row in rows]
    versions = [path for path in (out / f"{name}-models").glob("*/*") if path.name.isdecimal()]
    shares = [(phase["accepted"], phase["share"], phase["temperature"]) for phase in metrics["phases"]]
    same = {"weights": metrics["weights_sha256"], "history": history, "predictions": predictions, "shares": shares}
    return {**same, "versions": len(versions)}


def killed(options: argparse.Namespace, seconds: float) -> tuple[int, int, list[str]]:
    """Runs with kills until it ends: how many kills, how many states were gone on from, and what went wrong."""
    rng = random.Random(options.seed)
    kills = resumed = rounds = 0
    wrong = []
    while kills < options.kills:
        name = f"killed-{rounds}"
        rounds += 1
        while True:
            saved = any((options.out / name).glob("checkpoint-*.npz"))
            process = subprocess.Popen(
                command(options, name), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
            )
            wait = rng.uniform(0.2, 1.0) * seconds if kills < options.kills else None
            try:
                text, _ = process.communicate(timeout=wait)
                if process.returncode:
                    wrong.append(f"{name}: exit {process.returncode}: {text[-500:]}")
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                text, _ = process.communicate()
                kills += 1
            resumed += "going on with" in text
            if saved and "going on with" not in text and "audit: " in text and "phases: " in text:
                wrong.append(f"{name}: started from scratch though a state was saved")
            if process.returncode != -signal.SIGKILL:
                break
        print(f"{name}: ended after {kills} kills in all, {resumed} times gone on", flush=True)
        if not wrong and result(options.out, name) != result(options.out, "whole"):
            wrong.append(f"{name}: differs: {result(options.out, name)} against {result(options.out, 'whole')}")
        if wrong:
            break
    return kills, resumed, wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--weights", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    started = time.monotonic()
    subprocess.run(command(options, "whole"), check=True, stdout=subprocess.DEVNULL)
    seconds = time.monotonic() - started
    kills, resumed, wrong = killed(options, seconds)
    print(f"{kills} kills, {resumed} times gone on from a saved state, {len(wrong)} faults")
    print("\n".join(wrong))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
