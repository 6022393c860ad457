"""Does the first third of a fine-tuning phase tell that it will be undone? Watches phases of default runs, epoch by epoch.

After each epoch the weights are mixed with those before the phase, as at its end. The gain of the best mix over the head
is measured in its standard errors, on the validation images. A phase is never stopped here. So the table tells for each
rule, "stop at this fraction of the epochs where the gain is below this many standard errors", which phases it would
have stopped, how many of those were kept in the end, and what they had gained on the test images.

    python benchmarks/training/futility.py --shared=../shared --out=/tmp/futility [--sets=hymenoptera,flowers5:20] [--seeds=0,1]
"""

import argparse
import itertools
import json
import subprocess
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
from default_vs_probe import WEIGHTS, fewer

FRACTIONS = (0.2, 1 / 3, 0.5)
THRESHOLDS = (0.25, 0.0, -0.5, -1.0, -2.0)


def watch(flags: list[str]) -> None:
    """Runs the command with a watch on each epoch, which writes `watched.jsonl` to the run folder."""
    from kerasft import run as command
    from kerasft.training.phase_run import PhaseRun
    from kerasft.training.weight_interpolation import mixed

    score_epoch = PhaseRun.score_epoch

    def watched(run: PhaseRun) -> tuple[tuple[float, float], bool]:
        found = score_epoch(run)
        scorer, last = run.setup.scorer, run.model.get_weights()
        run.model.set_weights(run.initial)
        _, before = scorer.calibrated_losses(run.inputs.outputs())
        gains = []
        for alpha in run.phase.alphas:
            run.model.set_weights(mixed(run.initial, last, alpha))
            _, losses = scorer.calibrated_losses(run.inputs.outputs())
            gain = before - losses
            gains.append((float(gain.mean()), float(gain.std(ddof=1) / np.sqrt(len(gain)))))
        run.model.set_weights(last)
        row = {"phase": run.name, "epoch": run.state.epoch + 1, "epochs": run.phase.epochs, "gains": gains}
        with (run.setup.folder / "watched.jsonl").open("a") as file:
            file.write(json.dumps(row) + "\n")
        return found

    PhaseRun.score_epoch = watched
    sys.argv = ["kerasft", *flags]
    command.start()


def observe(shared: Path, out: Path, data: str, backbone: str, seed: int) -> list[dict]:
    """The watched phases of one default run; a finished run is read, not repeated."""
    folder = out / f"{data}-{backbone}-{seed}"
    name, _, few = data.partition(":")
    source = shared / "data" / name
    if few:
        source = fewer(source, out / "sets" / f"{data}-{seed}", int(few), seed)
    flags = [f"--data=folder:{source}", f"--backbone={backbone}", f"--weights={shared / 'weights' / WEIGHTS[backbone]}"]
    flags += [f"--seed={seed}", f"--run_dir={folder}", f"--export_dir={out / 'saved_models'}", "--notensorboard"]
    if not (folder / "metrics.json").exists():
        (folder / "watched.jsonl").unlink(missing_ok=True)
        line = [sys.executable, __file__, "--watch", *flags]
        subprocess.run(line, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    metrics = json.loads((folder / "metrics.json").read_text())
    watched = folder / "watched.jsonl"
    rows = [json.loads(line) for line in watched.read_text().splitlines()] if watched.exists() else []
    found = []
    for record in metrics["phases"]:
        mine = [row for row in rows if row["phase"] == record["name"]]
        if mine:
            gain = record["val_before"] - record["val_after"]
            found.append({"record": record, "rows": mine, "gain": gain, "seconds": record["seconds"]})
    return found


def at(rows: list[dict], fraction: float) -> float:
    """The best mix's gain in standard errors, at the first epoch that has seen this fraction of the phase."""
    row = next(row for row in rows if row["epoch"] >= fraction * row["epochs"])
    return max(mean / error if error else 0.0 for mean, error in row["gains"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--sets", default="hymenoptera,hands10:20,flowers5:20", help="NAME, or NAME:IMAGES of a class")
    parser.add_argument("--backbones", default=";".join(WEIGHTS), help="separated by ;")
    parser.add_argument("--seeds", default="0,1")
    options = parser.parse_args()
    cases = itertools.product(map(int, options.seeds.split(",")), options.sets.split(","), options.backbones.split(";"))
    print("| data | backbone | seed | phase | epochs | gain in standard errors at 1/5 | 1/3 | 1/2 | end | kept |")
    print("|" + " --- |" * 10, flush=True)
    phases = []
    for seed, data, backbone in cases:
        for one in observe(options.shared.resolve(), options.out, data, backbone, seed):
            record, seen = one["record"], [at(one["rows"], fraction) for fraction in (*FRACTIONS, 1.0)]
            phases.append((seen, record["accepted"], one["gain"], one["seconds"]))
            cells = [data, backbone, seed, record["name"], len(one["rows"]), *(f"{value:+.2f}" for value in seen)]
            print("| " + " | ".join(map(str, [*cells, record["share"] or "undone"])) + " |", flush=True)
    undone = sum(not kept for _, kept, *_ in phases)
    seconds = sum(one[-1] for one in phases)
    print(f"\n{len(phases)} phases, {undone} undone, {seconds:.0f} s in all\n")
    print(
        "| stop at | below | undone phases stopped | kept phases stopped | validation loss they gained | time saved |"
    )
    print("|" + " --- |" * 6)
    for place, fraction in enumerate(FRACTIONS):
        for least in THRESHOLDS:
            stopped = [one for one in phases if one[0][place] < least]
            right = sum(not kept for _, kept, *_ in stopped)
            lost = sum(gain for _, kept, gain, _ in stopped if kept)
            saved = sum((1 - fraction) * one[-1] for one in stopped) / seconds
            cells = f"{fraction:.0%}", f"{least:g}", f"{right} of {undone}", len(stopped) - right
            print("| " + " | ".join(map(str, (*cells, f"{lost:.3f}", f"{saved:.0%}"))) + " |")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--watch"]:
        watch(sys.argv[2:])
    else:
        main()
