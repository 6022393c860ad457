"""A short form of the benchmarks of speed, one after the other: ratios in under a quarter of an hour.

Those that need real photographs and weights look for them in `--shared`, KERASFT_SHARED or ../shared, and are passed over where
they are missing.

    python benchmarks/bench.py [--shared=../shared] [--out=OUT]
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent

# The scripts, with the arguments that make them short.
SHORT = {
    "data/augmentation.py": [],
    "data/parts.py": [],
    "data/feeding.py": ["--images={shared}/data/hymenoptera", "--rounds=1"],
    "training/cached_phases.py": [
        "--shared={shared}",
        "--out={out}/cached_phases",
        "--set=hymenoptera",
        "--phases=head(epochs=20); top(unfreeze=0.25, epochs=10)",
    ],
    "training/keras_guide.py": ["--shared={shared}", "--out={out}/keras_guide", "--sets=hymenoptera"],
    "training/growth.py": ["--out={out}/growth", "--count=200", "--times=1,4,16", "--rows=6250,25000"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--shared", type=Path, default=Path(os.environ.get("KERASFT_SHARED", HERE.parents[1] / "shared"))
    )
    parser.add_argument("--out", type=Path, help="a folder; by default one that is removed again")
    options = parser.parse_args()
    failed = []
    with tempfile.TemporaryDirectory() as temporary:
        places = {"shared": options.shared.resolve(), "out": options.out or temporary}
        for script, flags in SHORT.items():
            print(f"\n## {script}\n", flush=True)
            if any("{shared}" in flag for flag in flags) and not options.shared.is_dir():
                print("passed over: needs the shared photographs and weights (KERASFT_SHARED)")
                continue
            started = time.monotonic()
            line = [sys.executable, str(HERE / script), *(flag.format(**places) for flag in flags)]
            environment = {**os.environ, "PYTHONPATH": str(HERE.parent), "TF_CPP_MIN_LOG_LEVEL": "2"}
            if subprocess.run(line, env=environment, stderr=subprocess.DEVNULL).returncode:
                failed.append(script)
            print(f"\n({time.monotonic() - started:.0f} s)", flush=True)
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
