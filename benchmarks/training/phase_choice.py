"""What a phase should leave behind: rules of `weight_interpolation.choose` compared on the same fine-tuned weights.

Default settings are trained once for each case; of the fine-tuning phase the outputs of every mix with the weights before it are
kept, for validation and test images. Then the rule that undoes a phase is tried at other strengths (`weight_interpolation.MIN_GAIN_IN_STANDARD_ERRORS`:
standard errors that the gain on validation has to reach), each judged by the test images against the probe.
`flowers5:10` is 10 training images a class and 3 for validation.

    python benchmarks/training/phase_choice.py --shared=../shared --out=OUT [--sets=flowers5:10,hymenoptera] [--seeds=0] [--jobs=2]
"""

import argparse
import itertools
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from default_vs_probe import WEIGHTS, fewer, interval

ALPHAS = (0.0, 0.25, 0.5, 0.75, 1.0)
RULES = (-2.0, -1.0, -0.5, 0.0, 0.25, 0.5, 1.0)


def train(data: Path, backbone: str, weights: Path, seed: int, out: Path) -> None:
    """Runs the default settings in this process and writes the outputs of every mix to `out`."""
    from kerasft.data import pipeline
    from kerasft.evaluation import scoring
    from kerasft.job import train
    from kerasft.settings.config import Config
    from kerasft.training import trainer, weight_interpolation

    keep_best, begin_phase, begun = weight_interpolation.keep_best, trainer.begin_phase, []

    def noted(*about):
        begun.append(begin_phase(*about))
        return begun[-1]

    def settled(model, outputs, scorer, first, candidates, alphas, **also):
        if len(alphas) > 1:
            splits, network = begun[-1].setup.splits, begun[-1].network
            predict = scoring.make_predictor(network.model)
            stream = pipeline.evaluation_stream(splits.test, size=network.size, batch_size=64)
            found = {"val": [], "test": []}
            for alpha in ALPHAS:
                model.set_weights(weight_interpolation.mixed(first, candidates[0], alpha))
                found["val"].append(outputs())
                found["test"].append(predict(stream))
            np.savez(out, val_labels=splits.val.labels, test_labels=splits.test.labels, **found)
        return keep_best(model, outputs, scorer, first, candidates, alphas, **also)

    trainer.begin_phase, weight_interpolation.keep_best = noted, settled
    folder = out.with_suffix("")
    settings = {"backbone": backbone, "weights": str(weights), "seed": seed, "run_dir": str(folder)}
    train.train(Config(data=f"folder:{data}", export_dir=str(folder / "saved_models"), **settings))


def judged(case: dict[str, np.ndarray], errors: float) -> tuple[float, float, np.ndarray]:
    """The share that a rule takes, and then the accuracy and the log loss of each test image."""
    from kerasft.evaluation.scoring import Scorer
    from kerasft.strategies import phase
    from kerasft.training import weight_interpolation

    weight_interpolation.MIN_GAIN_IN_STANDARD_ERRORS = errors
    weight_interpolation.MIN_RELATIVE_GAIN = -1.0 if errors < 0 else 1e-3
    outputs = dict(zip(ALPHAS, case["val"]))
    scorer = Scorer("single_label", case["val_labels"])
    chosen = weight_interpolation.choose(lambda candidate, alpha: outputs[alpha], scorer, 1, phase.ALPHAS)
    test = Scorer("single_label", case["test_labels"])
    found = dict(zip(ALPHAS, case["test"]))[chosen.alpha] / chosen.temperature
    return chosen.alpha, test.score(found), test.losses(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--sets", default="flowers5:10,flowers5:30,hymenoptera:30,hymenoptera")
    parser.add_argument("--backbones", default="MobileNet(alpha=0.25);MobileNetV2(alpha=0.35)", help="separated by ;")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--case", metavar="SET,BACKBONE,SEED", help="train this one alone")
    options = parser.parse_args()
    shared = options.shared.resolve()
    if options.case:
        data, backbone, seed = options.case.split(",")
        name, _, few = data.partition(":")
        source = shared / "data" / name
        source = fewer(source, options.out / "sets" / f"{data}-{seed}", int(few), int(seed)) if few else source
        train(source, backbone, shared / "weights" / WEIGHTS[backbone], int(seed), options.out / f"{options.case}.npz")
        return
    cases = list(itertools.product(options.sets.split(","), options.backbones.split(";"), options.seeds.split(",")))
    places = [options.out / f"{','.join(case)}.npz" for case in cases]

    def prepared(case: tuple[str, ...]) -> None:
        if not (options.out / f"{','.join(case)}.npz").is_file():
            line = [sys.executable, __file__, f"--shared={shared}", f"--out={options.out}", f"--case={','.join(case)}"]
            subprocess.run(line, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    options.out.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(options.jobs) as pool:
        list(pool.map(prepared, cases))
    found = [dict(np.load(place)) for place in places]
    print("| data | backbone | " + " | ".join(f"{alpha:g}" for alpha in ALPHAS) + " |")
    print("| --- | --- |" + " --- |" * len(ALPHAS), flush=True)
    from kerasft.evaluation.scoring import Scorer

    for name, backbone in dict.fromkeys(case[:2] for case in cases):  # every mix as it is, on the test images
        rows = [one for case, one in zip(cases, found) if case[:2] == (name, backbone)]
        cells = []
        for place in range(len(ALPHAS)):
            judges = [(Scorer("single_label", one["test_labels"]), one["test"][place]) for one in rows]
            loss = np.mean([scorer.loss(out) for scorer, out in judges])
            cells.append(f"{loss:.3f} / {np.mean([scorer.score(out) for scorer, out in judges]):.3f}")
        print("| " + " | ".join([name, backbone, *cells]) + " |")
    print("\n| gain, standard errors | undone | accuracy | log loss, less the probe's (95 %) | worse cases |")
    print("| --- | --- | --- | --- | --- |")
    probes = [judged(one, np.inf) for one in found]
    print(f"| the probe | {len(found)} | {np.mean([score for _, score, _ in probes]):.4f} | | |")
    for errors in RULES:
        ruled = [judged(one, errors) for one in found]
        differences = [ours[2] - probe[2] for ours, probe in zip(ruled, probes)]
        low, high = interval(differences)
        undone, worse = (
            sum(map(bool, each)) for each in ([not r[0] for r in ruled], [d.mean() > 0 for d in differences])
        )
        mean, score = np.concatenate(differences).mean(), np.mean([score for _, score, _ in ruled])
        print(f"| {errors:g} | {undone} | {score:.4f} | {mean:+.4f} ({low:+.4f} to {high:+.4f}) | {worse} |")


if __name__ == "__main__":
    main()
