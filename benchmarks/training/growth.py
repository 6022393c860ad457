"""Time and peak memory as the set grows 1, 4 and 16 times, images streamed from files; the probe alone; and start-up.

A head phase of two epochs with a cache, through the command, on generated images written as JPEGs; decoded images are
not held in memory (`kerasft.data.audit.MAX_MEMORY_SHARE` is set to 0 for it).

    python benchmarks/training/growth.py --out=OUT [--count=500] [--times=1,4,16] [--rows=6250,25000,100000]
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from PIL import Image

STREAMED = "import kerasft.data.audit as audit; audit.MAX_MEMORY_SHARE = 0; import runpy; runpy.run_module('kerasft.run', run_name='__main__')"

PROBE = """
import resource, sys, time
import numpy as np
from kerasft.training import linear_probe
rows, rng = int(sys.argv[1]), np.random.default_rng(0)
labels = rng.integers(0, 10, rows).astype(np.int32)
features = rng.normal(size=(rows, 1280)).astype(np.float32)
features += 1.5 * rng.normal(size=(10, 1280)).astype(np.float32)[labels] * (rng.random(1280) < 0.05)
started = time.perf_counter()
linear_probe.solve(features, labels, 10, "single_label", 0)
seconds, peak = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(f"| {rows:,} x 1,280 | {seconds:.1f} | {peak:,.0f} | {features.nbytes / 1e6:,.0f} |")
"""


def make(folder: Path, count: int) -> None:
    """Two classes of JPEGs of 96x96: noise that is brighter at the top, or at the bottom."""
    rng = np.random.default_rng(0)
    slope = np.linspace(0, 90, 96)[:, None, None]
    for label in range(2):
        (folder / str(label)).mkdir(parents=True, exist_ok=True)
        for index in range(count // 2):
            pixels = rng.integers(0, 160, (96, 96, 3)) + (slope if label else slope[::-1])
            Image.fromarray(pixels.astype(np.uint8)).save(folder / str(label) / f"{index:05d}.jpg")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--times", default="1,4,16")
    parser.add_argument("--rows", default="6250,25000,100000", help="of the probe's features")
    options = parser.parse_args()
    print("| images | seconds | a thousand images | peak memory, MB |")
    print("| --- | --- | --- | --- |", flush=True)
    for times in map(int, options.times.split(",")):
        count, folder = times * options.count, options.out / f"set-{times}"
        make(folder, count)
        line = [sys.executable, "-c", STREAMED, f"--data=folder:{folder}", "--weights=bundled", "--image_size=64"]
        line += ["--phases=head(epochs=2, views=1)", f"--run_dir={options.out / f'run-{times}'}", "--noresume"]
        line += [f"--export_dir={options.out / 'saved_models'}"]
        subprocess.run(line, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        metrics = json.loads((options.out / f"run-{times}" / "metrics.json").read_text())
        seconds = metrics["seconds"]["total"]
        print(
            f"| {count:,} | {seconds:.1f} | {1000 * seconds / count:.2f} | {metrics['peak_rss_mb']:,.0f} |", flush=True
        )
    print(
        "\n| probe: examples x features, 10 classes | seconds | peak memory, MB | features, MB |\n| --- | --- | --- | --- |"
    )
    for rows in map(int, options.rows.split(",")):
        done = subprocess.run([sys.executable, "-c", PROBE, str(rows)], check=True, capture_output=True, text=True)
        print(done.stdout.splitlines()[-1], flush=True)
    print("\n| start-up | seconds |\n| --- | --- |")
    for name, line in {
        "--help": ["-m", "kerasft.run", "--help"],
        "a mistyped flag": ["-m", "kerasft.run", "--epochz=3"],
        "import kerasft": ["-c", "import kerasft"],
        "import tensorflow, keras": ["-c", "import tensorflow, keras"],
    }.items():
        taken = []
        for _ in range(3):
            started = time.perf_counter()
            subprocess.run([sys.executable, *line], capture_output=True, check=False)
            taken.append(time.perf_counter() - started)
        print(f"| {name} | {sorted(taken)[1]:.2f} |", flush=True)


if __name__ == "__main__":
    main()
