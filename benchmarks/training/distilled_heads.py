"""Solved heads that learn from a teacher: accuracy and log loss by temperature and weight of `--distill`.

A finished run teaches the solved head of another network on frozen features of all depths, as `--phases=head --teacher=RUN` does.
All heads are solved on the same features in one process, so a row takes a second. Log losses are at the best temperature of the
validation images, as phases are compared.

    python benchmarks/training/distilled_heads.py --shared=../shared --teacher=RUN [--data=flowers5] [--cache=/tmp/heads]
"""

import argparse
import itertools
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from kerasft.data import sources
from kerasft.evaluation.scoring import Scorer
from kerasft.job import audited_splits, build_network
from kerasft.networks import depths, layer_names
from kerasft.probes import depth_choice, head_statistics, stacked_probe
from kerasft.probes.penalised_models import SoftTargets
from kerasft.settings import distillation
from kerasft.settings.config import Config
from kerasft.storage import disk_cache, feature_cache
from kerasft.training import teacher

TEMPERATURES, WEIGHTS = (1, 2, 4, 8), (0.25, 0.5, 0.75, 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, required=True)
    parser.add_argument("--teacher", required=True, help="a finished run on the same data")
    parser.add_argument("--data", default="flowers5")
    parser.add_argument("--alpha", default="0.25", help="of the student, a MobileNet")
    parser.add_argument("--cache", default="", help="folder of features and answers that is kept")
    options = parser.parse_args()
    weights = options.shared / "weights" / f"mobilenet_{options.alpha}_224_no_top.h5"
    settings = {"backbone": f"MobileNet(alpha={options.alpha})", "weights": str(weights), "teacher": options.teacher}
    kept = {"keep_cache": bool(options.cache), "cache_dir": options.cache}
    config = Config(data=f"folder:{options.shared / 'data' / options.data}", framing="crop", **settings, **kept)
    listing = replace(sources.load(config), framing="crop")
    with tempfile.TemporaryDirectory() as place:
        cache = disk_cache.from_config(config, Path(place))
        data = audited_splits.audit_and_split(config, listing, 224, Path(place))
        network, _ = build_network.build(replace(config, image_size=224), listing)
        network = depth_choice.widest(replace(config, features="all"), network, len(data.train))
        prefix = feature_cache.make_prefix(network.model_before(layer_names.STANDARDISE))
        parts = {part: getattr(data, part) for part in ("train", "val", "test")}
        found = {
            part: np.array(feature_cache.load_or_compute(cache, prefix, split, 224).rows)
            for part, split in parts.items()
        }
        asked = distillation.requested(config, network.task, data.classes)
        answers = np.array(teacher.load(asked, 224, data.classes).answers(cache, data.train, 224))
    widths = depths.widths(network)
    mean, variance = head_statistics.statistics(found["train"], widths)
    features = {part: ((rows - mean) / np.sqrt(variance)).astype(np.float32) for part, rows in found.items()}
    print("| head | validation accuracy | log loss | test accuracy | log loss | seconds |\n|" + " --- |" * 6)
    for temperature, weight in ((1, 0), *itertools.product(TEMPERATURES, WEIGHTS)):
        started = time.monotonic()
        soft_targets = SoftTargets(answers, temperature, weight) if weight else None
        given = features["train"], widths, data.train.labels, len(data.classes), network.task, 0, None, soft_targets
        solved = stacked_probe.solve(*given)
        width = len(solved.solution.kernel)
        ends = {
            part: rows[:, -width:] @ solved.solution.kernel + solved.solution.bias for part, rows in features.items()
        }
        best, cells = Scorer(network.task, data.val.labels).temperature(ends["val"]), []
        for part in ("val", "test"):
            scorer = Scorer(network.task, getattr(data, part).labels)
            cells += [f"{scorer.score(ends[part]):.3f}", f"{scorer.loss(ends[part] / best):.4f}"]
        name = f"logits(temperature={temperature}, weight={weight})" if weight else "untaught"
        print("| " + " | ".join([name, *cells, f"{time.monotonic() - started:.1f}"]) + " |", flush=True)


if __name__ == "__main__":
    main()
