"""Groups: what a random split of hands10 promises, and what one by people says.

A person shows every digit once, one after the other, so the number of a file less its digit is the same for all images of a
person. The images of all splits are pooled and split anew, by several seeds, at random and by people. The solved head is scored on
the test images of each.

    python benchmarks/data/groups.py --shared=../shared [--seeds=5]
"""

import argparse
import csv
import re
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from kerasft.data import audit, pipeline, sources, splits
from kerasft.evaluation import scoring
from kerasft.evaluation.scoring import Scorer
from kerasft.networks import depths
from kerasft.networks import network as networks
from kerasft.probes import head_statistics, stacked_probe
from kerasft.settings.config import Config

WEIGHTS = "mobilenet_0.25_224_no_top.h5"


def write_table(data: Path, table: Path) -> None:
    """A table of all images with path, label and person."""
    rows = []
    for path in sorted(data.glob("*/*/*.jpg")):
        number, digit = int(re.search(r"IMG_(\d+)", path.name)[1]), int(path.parent.name)
        rows.append((path.as_posix(), digit, f"p{number - digit}"))
    with table.open("w", newline="") as file:
        csv.writer(file).writerows([("path", "label", "person"), *rows])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=5)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        table = Path(place) / "hands10.csv"
        write_table(given.shared.resolve() / "data" / "hands10", table)
        weights = str(given.shared / "weights" / WEIGHTS)
        config = Config(data=f"csv:{table}", weights=weights, group_column="person", features="all")
        listing = sources.load(config)
        # Each source that names no split: all rows are to be split.
        listing = replace(listing, split_names=np.full(len(listing.ids), "", dtype="<U5"))
        network = networks.build(config, len(listing.classes), listing.task)
        network = depths.with_depths(network, config, depths.find_depths(network))
        kept, images = audit.audit(
            listing, network.size, lambda count: None, audit.make_memory_store(len(listing.ids), network.size)
        )
        whole = splits.Split(kept.ids, kept.labels, kept.read, images)
        predict = scoring.make_predictor(network.model_before("standardise"))
        values = predict(pipeline.evaluation_stream(whole, size=network.size, batch_size=64))
    places = {path: row for row, path in enumerate(kept.ids.tolist())}
    widths, people = depths.widths(network), len(set(kept.groups))
    print(f"{len(kept.ids)} images of {people} people")
    for name, one in (("random", replace(kept, groups=None)), ("by people", kept)):
        scores = []
        for seed in range(given.seeds):
            made = splits.make_splits(one, None, 0.2, 0.4, seed)
            train, test = ([places[path] for path in part.ids.tolist()] for part in (made.train, made.test))
            mean, variance = head_statistics.statistics(values[train], widths)
            features = ((values - mean) / np.sqrt(variance)).astype(np.float32)
            solved = stacked_probe.solve(features[train], widths, made.train.labels, len(made.classes), made.task, seed)
            outputs = (
                features[test][:, -solved.solution.kernel.shape[0] :] @ solved.solution.kernel + solved.solution.bias
            )
            scorer = Scorer(made.task, made.test.labels)
            scores.append((scorer.score(outputs), scorer.loss(outputs)))
        accuracy, loss = np.mean(scores, 0)
        spread = np.std([score for score, _ in scores], ddof=1)
        print(
            f"{name}: test accuracy {accuracy:.3f} (standard deviation over {given.seeds} seeds {spread:.3f}), "
            f"log loss {loss:.3f}; {len(train)} training, {len(test)} test images",
            flush=True,
        )


if __name__ == "__main__":
    main()
