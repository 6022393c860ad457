"""Images without labels: what a student gains by a teacher's answers for them (`--unlabelled`), where labels are few.

N training images of each class have labels (`--data=flowers5:20`), and N / 3 for validation. All other training images are the
pool without labels. Two teachers learn the labelled ones: MobileNet 0.75, and MobileNet 0.25, which is the untaught student. Each
teaches MobileNet 0.25, without the pool and with it. All runs have default settings but for `--flags`, and go through the command. A
finished run is read, not repeated. The last columns have differences of log losses on the same test images with their standard
errors: to the untaught student, and to the one of the same teacher without the pool.

    python benchmarks/training/unlabelled.py --shared=../shared --out=/tmp/unlabelled [--data=flowers5:20] [--seeds=0,1,2]
"""

import argparse
import contextlib
from pathlib import Path

from default_vs_probe import fewer
from distillation import STUDENT, TEACHER, cells, image_losses, run


def pool(options: argparse.Namespace, seed: int) -> Path:
    """A folder of links to the training images that have no label in the runs of a seed."""
    name, _, few = options.data.partition(":")
    place = options.out / "pools" / f"{options.data}-{seed}"
    place.mkdir(parents=True, exist_ok=True)
    # The name is that of `distillation.run`, which finds the links made.
    labelled = fewer(options.shared / "data" / name, options.out / "sets" / f"{options.data}-{seed}", int(few), seed)
    for label in sorted((options.shared / "data" / name / "train").iterdir()):
        for file in sorted(label.iterdir()):
            if not (labelled / "train" / label.name / file.name).exists():
                with contextlib.suppress(FileExistsError):
                    (place / f"{label.name}-{file.name}").symlink_to(file)
    return place


def difference(options: argparse.Namespace, name: str, other: str, seed: int) -> str:
    """The mean difference of the log losses of two runs, with its standard error."""
    gaps = image_losses(options, name, seed) - image_losses(options, other, seed)
    return f"{gaps.mean():+.4f} ± {gaps.std(ddof=1) / len(gaps) ** 0.5:.4f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--data", default="flowers5:20", help="NAME:IMAGES of a class that have labels")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--distill", default="logits")
    parser.add_argument("--flags", action="append", default=[], help="for all runs, such as --flags=--image_size=128")
    options = parser.parse_args()
    options.shared, options.out = options.shared.resolve(), options.out.resolve()
    if not options.data.partition(":")[2].isdecimal():
        parser.error(f"--data: must be NAME:IMAGES. Received: {options.data!r}")
    print("| seed | network | accuracy | log loss | seconds | - untaught | - without the pool |\n|" + " --- |" * 7)
    for seed in map(int, options.seeds.split(",")):
        unlabelled = f"--unlabelled=folder:{pool(options, seed)}"

        def show(name: str, title: str, alpha: float, *flags: str, without: str = "", seed: int = seed) -> None:
            metrics = run(options, name, alpha, seed, *flags)
            gaps = [difference(options, name, one, seed) if one else "" for one in ("untaught" * bool(flags), without)]
            print("| " + " | ".join([str(seed), title, *cells(metrics), *gaps]) + " |", flush=True)

        show("teacher", f"teacher, {TEACHER}", TEACHER)
        show("untaught", f"untaught, {STUDENT}", STUDENT)
        for teacher, by in (("teacher", TEACHER), ("untaught", STUDENT)):
            flags = f"--teacher={options.out / f'{options.data}-{teacher}-{seed}'}", f"--distill={options.distill}"
            title, name = f"{STUDENT}, taught by {by}", f"by-{by}"
            show(name, title, STUDENT, *flags)
            show(f"{name}-pool", f"{title}, with the pool", STUDENT, *flags, unlabelled, without=name)


if __name__ == "__main__":
    main()
