"""Gate: how often `--gate` refuses a model, by how much worse it really is. Simulated answers; nothing is trained.

Each class has so many test images. An image flips from right to wrong with a probability, and from wrong to right with another. Under
"equal" both are the same, so a refusal is a false alarm. Losses are not simulated.

    python benchmarks/data/gate.py [--draws=400]
"""

import argparse

import numpy as np

from kerasft.evaluation import gate
from kerasft.evaluation.gate import Both, Side

# What one class loses in accuracy, in points; the others lose nothing.
DROPS = (0, 5, 10, 20)


def refused(rng: np.random.Generator, classes: int, images: int, flips: float, drop: float) -> bool:
    """Whether the rule refuses one draw. Both models have all images right but those that flip."""
    labels = np.repeat(np.arange(classes), images)
    lost = np.where(labels == 0, flips + drop / 100, flips)
    draw = rng.random(len(labels))
    before, after = draw >= flips, ~((draw >= flips) & (draw < flips + lost))
    sides = []
    for right in (before, after):
        guess = np.where(right, labels, (labels + 1) % classes)
        # One loss for all: what is judged here is accuracy.
        sides.append(Side(np.eye(classes)[guess], np.zeros(len(labels))))
    both = Both(np.arange(len(labels)).astype(str), labels, *sides)
    rows = dict(gate.class_rows("single_label", tuple(map(str, range(classes))), both))
    return not gate.gate("single_label", both, rows)["passed"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=400)
    given = parser.parse_args()
    rng = np.random.default_rng(0)
    print("classes, images a class, flips each way: refused, by points that one class loses", DROPS)
    for classes, images, flips in ((2, 50, 0.03), (5, 50, 0.03), (5, 200, 0.03), (20, 50, 0.03), (100, 50, 0.03)):
        shares = [np.mean([refused(rng, classes, images, flips, drop) for _ in range(given.draws)]) for drop in DROPS]
        print(f"{classes}, {images}, {flips:.0%}: " + ", ".join(f"{share:.0%}" for share in shares), flush=True)


if __name__ == "__main__":
    main()
