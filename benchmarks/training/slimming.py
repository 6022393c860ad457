"""What a run loses when `kerasft compress --target` makes its network smaller: accuracy with its paired difference to the run, and costs.

Trains a default run, then slims it, both through the command. What is finished in the folder is not done again.

python benchmarks/training/slimming.py --shared=../shared --out=OUT --target=flops=0.5
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

from default_vs_probe import WEIGHTS

COLUMNS = (
    "network",
    "pixels",
    "test accuracy",
    "95 % interval",
    "difference",
    "log loss",
    "multiplications",
    "parameters",
)
COLUMNS += ("kB", "images/s")


def run(mode: str, *flags: str) -> None:
    subprocess.run([sys.executable, "-m", "kerasft", mode, *flags], check=True)


def line(row: dict) -> str:
    low, high = row["interval"]
    found, shares = row["difference"], row["shares"]
    difference = f"{found['value']:+.3f} ({found['interval'][0]:+.3f} to {found['interval'][1]:+.3f})" if found else ""
    cells = [
        # A way may be two, with a bar between them.
        f"`{row['surgery']}`".replace("|", "\\|") if row["surgery"] else "the run",
        str(row["image_size"]),
        f"{row['accuracy']:.3f}",
        f"{low:.3f} to {high:.3f}",
    ]
    cells += [difference, f"{row['loss']:.3f}"]
    cells += [f"{row[name] / 1e6:.3g} M ({shares[name]:.0%})" for name in ("multiplications", "parameters")]
    cells += [format(row["bytes"] / 1000, ",.0f"), format(row["images_per_second"]["32"], ",.0f")]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True, help="folder of the runs and exports")
    parser.add_argument("--set", default="flowers5")
    parser.add_argument("--backbone", default="MobileNet(alpha=0.25)")
    parser.add_argument("--target", default="flops=0.5")
    parser.add_argument("--phases", default="auto", help="of each step")
    options = parser.parse_args()
    shared, folder = options.shared.resolve(), options.out / "run"
    exports = f"--export_dir={options.out / 'saved_models'}"
    data = [f"--data=folder:{shared / 'data' / options.set}", f"--backbone={options.backbone}"]
    run("train", *data, f"--weights={shared / 'weights' / WEIGHTS[options.backbone]}", f"--run_dir={folder}", exports)
    run("compress", f"--model={folder}", f"--target={options.target}", f"--phases={options.phases}", exports)
    (place,) = (folder / "slim").glob(options.target.replace(", ", "-").replace("=", "-") + "/slim.json")
    found = json.loads(place.read_text())
    print(f"| {' | '.join(COLUMNS)} |\n|{' --- |' * len(COLUMNS)}")
    print("\n".join(line(row) for row in found["rows"]))
    for row in found["tried"]:
        print(
            f"step {row['step']}: {row['surgery']}: validation loss {row['validation_loss']:.3f}, {row['seconds']:.0f} s"
        )


if __name__ == "__main__":
    main()
