"""Ends runs at random moments, again and again, and compares what they become with runs that were left alone.

Each mode aims at another stretch of the work: `audit` (images are decoded), `train`, `export` (the finish: scores,
SavedModel, report), `tune` (trials and the winner) and `predict` (a table). A kill is SIGKILL, or SIGTERM for the share
that `--terms` says, which must end the command with status 3. Every fifth one falls into start-up. The same command then
goes on, and may be killed again, until it ends by itself. Its results must be those of the run that was left alone:
weights, history, probabilities, audit, trials, rows; one version exported; no half-written file left.

    python benchmarks/training/kills.py --out=/tmp/kills [--modes=train,audit,export,tune,predict] [--kills=20] [--seed=0]

`--kills` is of each mode. Images and a small network are made in `--out`; `--data` and `--weights` (a file for
MobileNet(alpha=0.25)) put others in their place.
"""

import argparse
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[2]
PHASES = "head(epochs=3, lr=1e-2, views=2) | top(unfreeze=0.5, epochs=3, lr=1e-3, views=1) | all(epochs=3, lr=1e-3, batch_norm='train')"
MODES = ("train", "audit", "export", "tune", "predict")
PATIENCE = 300  # seconds in which a run that is left alone must end
POLITE = 60  # seconds in which SIGTERM must end one


def images(folder: Path, classes: int, count: int, side: int) -> Path:
    """A folder of noisy JPEGs in classes that differ in colour, with one broken file in each."""
    from PIL import Image

    rng = np.random.default_rng(5)
    for k in range(classes):
        place = folder / f"kind {k}"
        place.mkdir(parents=True, exist_ok=True)
        for index in range(count):
            noise = rng.integers(0, 200, (side, side * 4 // 3, 3), dtype=np.uint8)
            noise[..., k % 3] |= 48 + rng.integers(0, 16, dtype=np.uint8)
            Image.fromarray(noise).save(place / f"{index:04d}.jpg", quality=85)
        (place / "broken.jpg").write_bytes((place / "0000.jpg").read_bytes()[: 900 + k])
    return folder


def network(path: Path) -> Path:
    """A saved backbone of four small blocks: start-up dominates, as it should where kills are what is measured."""
    import keras

    keras.utils.set_random_seed(0)
    layers = keras.layers
    inputs = keras.Input((32, 32, 3))
    hidden = layers.Rescaling(1 / 127.5, -1.0)(inputs)
    for index, filters in enumerate((8, 12, 16, 24), 1):
        hidden = layers.Conv2D(filters, 3, strides=2, use_bias=False, padding="same", name=f"conv_{index}")(hidden)
        hidden = layers.BatchNormalization(name=f"bn_{index}")(hidden)
        hidden = layers.ReLU(name=f"relu_{index}")(hidden)
    keras.Model(inputs, hidden).save(path)
    return path


def command(options: argparse.Namespace, mode: str, name: str) -> list[str]:
    """The line of the run `name`: every phase, dropout, averages, augmentation; or what the mode needs of them."""
    line = [sys.executable, "-m", "kerasft.run"]
    place = options.out / mode / name
    if mode == "predict":
        line += ["--mode=predict", f"--model={options.out / 'model'}", f"--images={options.many}"]
        return [*line, f"--out={place / 'rows.csv'}"]
    data = f"folder:{options.many}" if mode == "audit" else options.data
    line += [f"--data={data}", "--image_size=32", "--batch_size=8", "--deterministic", "--notensorboard"]
    if options.weights:
        line += ["--backbone=MobileNet(alpha=0.25)", f"--weights={options.weights}"]
    else:
        line += [f"--backbone={options.out / 'tiny.keras'}"]
    line += [f"--run_dir={place / 'run'}", f"--export_dir={place / 'models'}"]
    if mode == "tune":
        line += ["--mode=tune", "--search=lr=log(1e-4, 1e-2); head.dropout=uniform(0, 0.5)", "--tuner=random(trials=4)"]
        return [*line, "--phases=head(epochs=1)", "--augment=none"]
    if mode in ("audit", "export"):
        return [*line, "--phases=head(epochs=0)", "--augment=none"]
    return [
        *line,
        "--head=linear(dropout=0.2)",
        "--augment=crop | flip | color",
        "--average=ema(momentum=0.9)",
        f"--phases={PHASES}",
    ]


def stretch(mode: str, place: Path) -> tuple[Path, Path]:
    """The files whose writing begins and ends what the mode aims at; both are written anew by a run that goes on."""
    run = place / "run"
    return {
        "train": (run / "audit.json", run / "model.keras"),
        "audit": (run / "run.flags", run / "audit.json"),
        "export": (run / "model.keras", run / "report.html"),
        "tune": (run / "search.json", run / "best" / "report.html"),
        "predict": (place / "rows.csv.part", place / "rows.csv"),
    }[mode]


def written(path: Path, since: float) -> float | None:
    """When a file was written, if that was after a moment."""
    try:
        at = path.stat().st_mtime
    except OSError:
        return None
    return at if at >= since else None


def result(mode: str, place: Path) -> dict:
    """What must be equal."""
    left = [path.name for path in place.rglob("*") if ".part" in path.name or path.name.startswith(".")]
    if mode == "predict":
        return {"rows": (place / "rows.csv").read_text(), "left": left}
    run = place / "run"
    found = {"left": left, "audit": json.loads((run / "audit.json").read_text()) if mode != "tune" else None}
    if mode == "tune":
        state = json.loads((run / "tune.json").read_text())
        found["trials"] = [(row["trial"], row["values"], row["score"], row["status"]) for row in state["trials"]]
        found["finished"] = state["finished"]
        run = run / "best"
    metrics = json.loads((run / "metrics.json").read_text())
    rows = [json.loads(row) for row in (run / "history.jsonl").read_text().splitlines()]
    found["history"] = [
        (row["phase"], row["epoch"], row["step"], row["loss"], row["val_loss"], row["lr"]) for row in rows
    ]
    with np.load(run / "predictions.npz") as stored:
        found["predictions"] = hashlib.sha256(stored["probabilities"].tobytes()).hexdigest()
    found["shares"] = [(phase["accepted"], phase["share"], phase["temperature"]) for phase in metrics["phases"]]
    versions = [path for path in (place / "models").glob("*/*") if path.name.isdecimal()]
    found["versions"] = len(versions)
    found["proof"] = {key: value for key, value in metrics["export"].items() if key != "path"}
    found["report"] = (run / "report.html").is_file()
    return {**found, "weights": metrics["weights_sha256"], "test": metrics["test"]}


def start(line: list[str], told: list[str]) -> tuple[subprocess.Popen, threading.Thread]:
    """A run whose output is gathered while it goes on."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment)
    reader = threading.Thread(target=lambda: told.extend(process.stdout), daemon=True)
    reader.start()
    return process, reader


def alone(options: argparse.Namespace, mode: str) -> tuple[float, float, dict]:
    """The run that is left alone: seconds until its stretch begins, seconds of the stretch, and its results."""
    place = options.out / mode / "whole"
    place.mkdir(parents=True)
    began, told, first = time.time(), [], None
    process, reader = start(command(options, mode, "whole"), told)
    begin, end = stretch(mode, place)
    while process.poll() is None:
        first = first or written(begin, began)
        time.sleep(0.005)
    reader.join()
    if process.returncode:
        raise SystemExit(f"{mode}: the run that is left alone ends with {process.returncode}:\n{''.join(told)}")
    return first - began, written(end, began) - first, result(mode, place)


def ended(options: argparse.Namespace, mode: str, rng: random.Random, figures: tuple[float, float, dict]) -> dict:
    """Runs with kills until there were enough; counts, and what went wrong."""
    before, length, expected = figures
    counts, wrong, rounds = Counter(), [], 0
    while counts["kills"] < options.kills and not wrong:
        name, again = f"killed-{options.seed}-{rounds}", 0
        place = options.out / mode / name
        place.mkdir(parents=True)
        rounds += 1
        while True:
            aimed = counts["kills"] < options.kills
            early = rng.random() < 0.2
            wait = rng.uniform(0.1, before) if early else rng.uniform(0, length)
            blow = signal.SIGTERM if rng.random() < options.terms else signal.SIGKILL
            saved = any(place.glob("run/checkpoint-*.npz"))
            began, told = time.time(), []
            process, reader = start(command(options, mode, name), told)
            struck = _strike(process, blow, wait, None if early else stretch(mode, place)[0], began) if aimed else None
            try:
                process.wait(POLITE if struck == signal.SIGTERM else PATIENCE)
            except subprocess.TimeoutExpired:
                wrong.append(f"{mode} {name}: does not end within {POLITE if struck else PATIENCE} s")
                process.kill()
                process.wait()
            reader.join()
            text, status = "".join(told), process.returncode
            if struck:
                counts["kills"] += 1
                counts[struck.name] += 1
                counts["in start-up" if early else "in the stretch"] += 1
            again += "going on" in text or "done before" in text
            if saved and "going on with" not in text and "phases: " in text:
                wrong.append(f"{mode} {name}: started from scratch though a state was saved")
            if "Traceback" in text:
                wrong.append(f"{mode} {name}: {text[-1500:]}")
            allowed = {0, -signal.SIGKILL} if struck == signal.SIGKILL else {0, 3} if struck else {0}
            # Before Python has come to the command, SIGTERM does what it does to any program.
            allowed |= {-signal.SIGTERM} if struck == signal.SIGTERM and early and wait < 1.5 else set()
            if status not in allowed:
                wrong.append(f"{mode} {name}: exit {status} after {struck}, {wait:.2f} s: {text[-1500:]}")
            if status == 0 or wrong:
                break
        counts["gone on"] += again
        if not wrong:
            found = result(mode, place)
            wrong += [
                f"{mode} {name}: {key}: {found[key]} against {expected[key]}"
                for key in expected
                if found[key] != expected[key]
            ]
        print(f"{mode} {name}: done after {counts['kills']} kills in all", flush=True)
    return {"mode": mode, "runs": rounds, **counts, "wrong": wrong}


def _strike(process: subprocess.Popen, blow: int, wait: float, begin: Path | None, began: float) -> int | None:
    """Sends the signal so many seconds after a file was written by this process (None: after its start), if it still runs."""
    while begin and process.poll() is None and not written(begin, began):
        time.sleep(0.005)
    try:
        process.wait(wait)
    except subprocess.TimeoutExpired:
        process.send_signal(blow)
        return blow
    return None


def table(rows: list[dict]) -> str:
    """The rows as Markdown."""
    heads = ("mode", "kills", "SIGKILL", "SIGTERM", "in start-up", "in the stretch", "runs", "gone on", "faults")
    lines = ["| " + " | ".join(heads) + " |", "|" + " --- |" * len(heads)]
    for row in rows:
        cells = {**row, "faults": len(row["wrong"])}
        lines.append("| " + " | ".join(str(cells.get(head, 0)) for head in heads) + " |")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--modes", default=",".join(MODES), type=lambda text: text.split(","))
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--terms", type=float, default=0.25)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--data")
    parser.add_argument("--weights")
    options = parser.parse_args()
    options.out = options.out.resolve()
    options.out.mkdir(parents=True, exist_ok=True)
    if not options.data:
        options.data = f"folder:{images(options.out / 'few', 3, 40, 40)}"
    if {"audit", "predict"} & {*options.modes}:
        options.many = images(options.out / "many", 3, 200, 500)
    if not options.weights:
        network(options.out / "tiny.keras")
    if "predict" in options.modes:
        train = command(options, "export", "model")
        subprocess.run([*train, f"--export_dir={options.out / 'models'}"], check=True, stdout=subprocess.DEVNULL)
        next((options.out / "models").iterdir()).rename(options.out / "model")
    rows = []
    for mode in options.modes:
        rows.append(ended(options, mode, random.Random(f"{mode} {options.seed}"), alone(options, mode)))
        (options.out / f"kills-{options.seed}.json").write_text(json.dumps(rows, indent=1))
    wrong = [fault for row in rows for fault in row["wrong"]]
    print(f"{table(rows)}\n\n{sum(row['kills'] for row in rows)} kills, {len(wrong)} faults")
    print("\n".join(wrong))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
