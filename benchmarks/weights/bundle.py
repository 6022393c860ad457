"""Makes package data of the backbone that pipelines/pretrain_bundled.flags trained.

RUN is the run folder of `python -m kerasft.run --flagfile=pipelines/pretrain_bundled.flags --run_dir=RUN`.

    python benchmarks/weights/bundle.py RUN
"""

import argparse
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, metavar="RUN")
    run = parser.parse_args().run

    # TensorFlow is not needed for --help.
    from kerasft.networks import backbones, bundled

    backbone = backbones.load(str(run / "model.keras"), "none", None)
    bundled.write(backbone.model.get_weights())
    print(f"{bundled.PATH}: {bundled.PATH.stat().st_size:,} bytes, {backbone.model.count_params():,} parameters")


if __name__ == "__main__":
    main()
