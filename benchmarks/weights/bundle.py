"""Makes package data of the backbone that pipelines/pretrain_bundled.flags trained.

python -m kerasft.run --flagfile=pipelines/pretrain_bundled.flags --run_dir=RUN
python benchmarks/weights/bundle.py RUN
"""

import sys
from pathlib import Path

from kerasft.networks import backbones, bundled


def main(run: Path) -> None:
    backbone = backbones.load(str(run / "model.keras"), "none", None)
    bundled.write(backbone.model.get_weights())
    print(f"{bundled.PATH}: {bundled.PATH.stat().st_size:,} bytes, {backbone.model.count_params():,} parameters")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
