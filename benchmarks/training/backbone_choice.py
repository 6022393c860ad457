"""`--backbone='A | B | C'`: what the probe's folds choose against the log loss on all test images, on frozen features.

For each set and draw: each network's held-out loss of the folds and its test log loss, what was chosen by the rule, and how
far that is above the network that is best on test. `hands10:10` is ten training images of each class. Nothing is trained.

    python benchmarks/training/backbone_choice.py --shared=../shared [--sets=flowers5,hymenoptera:10] [--draws=5]
"""

import argparse
from pathlib import Path

import numpy as np
from default_vs_probe import WEIGHTS
from depths import SETS, features
from scipy.special import log_softmax

from kerasft.evaluation.scoring import one_standard_error_rule
from kerasft.probes import head_statistics, stacked_probe
from kerasft.training import backbone_choice

# In the order of their multiplications.
BACKBONES = "MobileNet(alpha=0.25);MobileNetV2(alpha=0.35);MobileNet(alpha=0.75)"
RULES = ("the rule of kerasft", "the lowest loss", "the cheapest within one standard error")


def probe(widths: list[int], found: dict, count: int | None, draw: int) -> tuple[np.ndarray, float]:
    """Held-out losses of the folds, and the log loss on the test images, of a stack on `count` images of each class."""
    (inputs, labels), (others, expected) = found["train"], found["test"]
    rng, classes = np.random.default_rng(draw), int(labels.max()) + 1
    if count:
        rows = [rng.permutation(np.flatnonzero(labels == label))[:count] for label in range(classes)]
        inputs, labels = inputs[np.concatenate(rows)], labels[np.concatenate(rows)]
    mean, variance = head_statistics.statistics(inputs, widths)
    inputs, others = (((values - mean) / np.sqrt(variance)).astype(np.float32) for values in (inputs, others))
    stacked = stacked_probe.solve(inputs, widths, labels, classes, "single_label", 0)
    used = stacked.solution.kernel.shape[0]
    logits = (others[:, -used:] @ stacked.solution.kernel + stacked.solution.bias).astype(np.float64)
    return stacked.losses, float(-log_softmax(logits, -1)[np.arange(len(expected)), expected].mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, required=True)
    parser.add_argument("--sets", default=SETS, help="NAME, or NAME:IMAGES of a class")
    parser.add_argument("--backbones", default=BACKBONES, help="parted by ;, the fewest multiplications first")
    parser.add_argument("--draws", type=int, default=5)
    options = parser.parse_args()
    names, kept, cases = options.backbones.split(";"), {}, []
    for data in options.sets.split(","):
        name, _, count = data.partition(":")
        for backbone in names:
            if (name, backbone) not in kept:
                given = options.shared / "data" / name, backbone, options.shared / "weights" / WEIGHTS[backbone]
                kept[name, backbone] = features(*given)
        for draw in range(options.draws if count else 1):
            results = [probe(*kept[name, backbone], int(count) if count else None, draw) for backbone in names]
            losses, tests = zip(*results)
            chosen = backbone_choice.pick(list(losses))
            above = np.array(tests) - min(tests)
            lowest = int(np.argmin([each.mean() for each in losses]))
            cases.append((bool(count), (chosen, lowest, one_standard_error_rule(list(losses))), above))
            shown = ", ".join(f"{held.mean():.3f} {test:.3f}" for held, test in results)
            print(f"{data} {draw}: {shown}; chosen {names[chosen]}, {above[chosen]:+.3f} above the best", flush=True)
    for few, title in ((False, "all images"), (True, "subsets")):
        found = [case for case in cases if case[0] == few]
        if found:
            print(f"{title}: {len(found)} draws; log loss above the best network on average, and at worst")
            for rule, name in enumerate(RULES):
                above = np.array([case[2][case[1][rule]] for case in found])
                print(f"  {name}: {above.mean():.3f}, {above.max():.3f}; the best in {np.mean(above == 0):.0%}")
            for place, name in enumerate(names):
                above = np.array([case[2][place] for case in found])
                print(f"  always {name}: {above.mean():.3f}, {above.max():.3f}")


if __name__ == "__main__":
    main()
