"""Portable artefacts are written, proven on the test set from the encoded bytes, and only then put into their place.

The proof runs the very program that is shipped with the file: its decoder, and its runtime.
"""

import functools
import importlib.util
import json
import re
import shutil
import timeit
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from scipy.special import logit

from kerasft.console import stderr_filter
from kerasft.data import pipeline
from kerasft.data.representative_images import calibration_images
from kerasft.data.splits import Split, Splits
from kerasft.evaluation.scoring import Scorer
from kerasft.export import artefact, proof
from kerasft.export.artefact import Answer
from kerasft.export.portable import FORMATS
from kerasft.export.portable.bias_correction import correct_biases
from kerasft.export.portable.format import Format, Source
from kerasft.networks.network import Network
from kerasft.settings import spec as specs
from kerasft.settings.errors import UserError
from kerasft.settings.spec import Spec

STANDALONE = Path(__file__).parent.parent / "standalone"
SAVED_MODEL = "savedmodel"

# Images of a call while an artefact is proven, and calls of each batch size that are timed.
BATCH_SIZE, TIMED_CALLS = 32, 5

# Probabilities are kept this far from 0 and 1 where logits are made of them.
MIN_PROBABILITY = 1e-12


@dataclass(frozen=True)
class ProofInputs:
    """What portable artefacts are proven with.

    Attributes:
        task: `single_label`, `multi_label` or `regression`.
        split: the test split.
        scorer: of that split.
        expected: the network's answers to it, float [N, C].
        size: side of the images in pixels, S.
        max_drop: by how much the score may be worse than that of the network.
        retrain: the command that trains the network for 8 bits; empty where it was trained so.
        interval: from answers, float [N, C], and their score to the 95 % interval of the score; None where there is none.
    """

    task: str
    split: Split
    scorer: Scorer
    expected: np.ndarray
    size: int
    max_drop: float
    retrain: str = ""
    interval: Callable[[np.ndarray, float], list[float] | None] | None = None


def parse_formats(chosen: Iterable[Spec]) -> list[Format]:
    """The portable formats that `--export` names; `savedmodel` is left out, for it is always exported.

    Raises:
        UserError: an unknown format or argument, a format that is named twice, or a package is missing.
    """
    known = {SAVED_MODEL: lambda: None, **FORMATS}
    found = [one for spec in chosen if (one := specs.build(spec, "--export", known))]
    for one in found:
        if missing := [name for name in one.packages if importlib.util.find_spec(name) is None]:
            rule = f"{one.name} needs {', '.join(missing)}: pip install 'kerasft[lite]'"
            raise UserError(f"--export: {rule}. Received: '{one.name}'")
        if [other.folder for other in found].count(one.folder) > 1:
            raise UserError(f"--export: must name each format once. Received: '{one.name}' twice")
    return found


def publish(
    chosen: list[Format], network: Network, answer: Answer, splits: Splits, inputs: ProofInputs, folder: Path
) -> list[dict[str, Any]]:
    """Writes artefacts into subfolders of a folder. What fails its proof, or cannot be converted, is not published.

    What was there before in one of these formats is removed, also where nothing is published in its place.

    Args:
        chosen: that `parse_formats` gave.
        network: the trained network, in float32.
        answer: names and thresholds.
        splits: training images calibrate int8.
        inputs: what they are proven with.
        folder: such as `exports/NAME/VERSION`.

    Returns:
        A row for each: `artefact`, `path`, `accuracy` (or the `key` of the scorer), its `interval` if asked for, `loss`, `agreement` (not for regression),
        `max_abs_diff` (on the same pixels), `scaled_max_abs_diff` (the same in deviations of each target; for regression),
        `decoding_max_abs_diff` (what the shipped decoder adds), `n`, `bytes`, `images_per_second` by batch size, `published` and `reason`.
    """
    # Made once for all formats, and only if one needs them.
    calibration = functools.cache(lambda: calibration_images(splits.train, network.size))
    source = Source(network, calibration, functools.cache(lambda: correct_biases(network, calibration())))
    artefact.sweep(folder)
    try:
        drafts = [_Draft.write(one, source, answer, folder) for one in chosen]
        _predict([draft for draft in drafts if draft.run], inputs, answer.framing)
        return [draft.publish(inputs) for draft in drafts]
    finally:
        artefact.discard(artefact.draft_path(folder))


@dataclass
class _Draft:
    """An artefact that is written and not yet proven.

    Attributes:
        format: its format.
        folder: where the draft is.
        place: where it belongs.
        run: its runtime; None where it could not be written or run.
        reason: why it could not be written, run or proven; empty where it could.
        from_bytes: its answers to the encoded bytes, by the shipped decoder, batch by batch.
        on_our_pixels: its answers to the pixels of our own decoder.
    """

    format: Format
    folder: Path
    place: Path
    run: Callable[[np.ndarray], np.ndarray] | None = None
    reason: str = ""
    from_bytes: list[np.ndarray] = field(default_factory=list)
    on_our_pixels: list[np.ndarray] = field(default_factory=list)

    @classmethod
    def write(cls, chosen: Format, source: Source, answer: Answer, folder: Path) -> "_Draft":
        """Writes and loads a draft."""
        made = cls(chosen, artefact.draft_path(folder) / chosen.folder, folder / chosen.folder)
        artefact.discard(made.folder)
        made.folder.mkdir(parents=True)
        try:
            chosen.write(source, made.folder)
            write_program(chosen, source.network, answer, made.folder)
            with stderr_filter.without_notices():
                run = load(made.folder)
                run(np.zeros((1, source.network.size, source.network.size, 3), np.float32))
            made.run = run
        # Converters raise anything for what they do not know.
        except Exception as error:  # noqa: BLE001
            made.reason = f"it cannot be written and run ({_first_words(error)})"
        return made

    def publish(self, inputs: ProofInputs) -> dict[str, Any]:
        """Puts a draft into its place if nothing speaks against it, and removes what was there; gives its row."""
        row = {"artefact": self.format.name, "path": self.place.as_posix(), "published": False, "reason": self.reason}
        if not self.reason:
            found = np.concatenate(self.from_bytes)
            row |= _proof_row(found, np.concatenate(self.on_our_pixels), inputs)
            if inputs.interval:
                row["interval"] = inputs.interval(found, row[inputs.scorer.key])
            row["images_per_second"] = {str(size): _speed(self.run, inputs.size, size) for size in (1, BATCH_SIZE)}
            row["bytes"] = sum(file.stat().st_size for file in self.folder.glob("model.*") if file.suffix != ".json")
            row["reason"] = _objection(self.format, inputs, found, row)
            row["published"] = not row["reason"]
        if row["published"]:
            _write_json(self.folder / "proof.json", row)
            # Python leaves bytecode next to the program.
            shutil.rmtree(self.folder / "__pycache__", ignore_errors=True)
        # An artefact of an earlier command would else be served as this one, also where this one is refused.
        shutil.rmtree(self.place, ignore_errors=True)
        if row["published"]:
            self.folder.rename(self.place)
        return row


def _predict(drafts: list[_Draft], inputs: ProofInputs, framing: str) -> None:
    """Lets all drafts answer to the test images, which are decoded once for all of them.

    An image that the shipped decoder refuses is the reason why none of the drafts is published.
    """
    decode = _module(STANDALONE / "image_decoding.py").decode
    start, refused = 0, []
    for batch in pipeline.evaluation_stream(inputs.split, size=inputs.size, batch_size=BATCH_SIZE):
        rows, start, images = range(start, start + len(batch)), start + len(batch), []
        for row in rows:
            try:
                images.append(decode(inputs.split.read(row), inputs.size, framing))
            # Pillow raises anything for a file that it does not take. TensorFlow has taken it.
            except Exception as error:  # noqa: BLE001
                refused.append(f"'{inputs.split.ids[row]}' ({_first_words(error)})")
        # The other images are still decoded, so that all refused ones are counted.
        if refused:
            continue
        pixels = np.asarray(batch, np.float32)
        for draft in drafts:
            draft.from_bytes.append(draft.run(np.stack(images)))
            draft.on_our_pixels.append(draft.run(pixels))
    if refused:
        others = f" and {len(refused) - 1:,} more" if len(refused) > 1 else ""
        for draft in drafts:
            draft.reason = f"its decoder cannot read the test image {refused[0]}{others}"


def _first_words(error: Exception) -> str:
    """The message of an error in one line of at most 200 characters, without the addresses of objects."""
    return " ".join(re.sub(r"<\S+ object at \w+>", "", str(error)).split())[:200] or type(error).__name__


def load(folder: Path) -> Callable[[np.ndarray], np.ndarray]:
    """Loads an artefact by the program in its folder: from images float32 [N, S, S, 3] to answers float32 [N, C]."""
    return _module(folder / "runtime.py").load(folder)


def _module(path: Path) -> ModuleType:
    described = importlib.util.spec_from_file_location(f"_kerasft_{path.stem}", path)
    module = importlib.util.module_from_spec(described)
    described.loader.exec_module(module)
    return module


def write_program(chosen: Format, network: Network, answer: Answer, draft: Path) -> None:
    """Writes into a draft the files that go with the model: what it says of itself, and the program that runs it."""
    about = {"run": answer.run, "task": network.task, "image_size": network.size, "framing": answer.framing}
    if answer.thresholds is not None:
        about["thresholds"] = np.asarray(answer.thresholds).tolist()
    _write_json(draft / "model.json", about)
    (draft / "labels.txt").write_text("\n".join(answer.classes) + "\n", encoding="utf-8")
    (draft / "requirements.txt").write_text("\n".join(chosen.requirements) + "\n")
    files = {name: name for name in ("predict.py", "image_decoding.py")} | {f"{chosen.runtime}.py": "runtime.py"}
    # A runtime of browsers has a page.
    files |= {path.name: "index.html" for path in STANDALONE.glob(f"{chosen.runtime}.html")}
    for name, own in files.items():
        shutil.copyfile(STANDALONE / name, draft / own)


def _write_json(path: Path, values: dict) -> None:
    path.write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _proof_row(found: np.ndarray, same: np.ndarray, inputs: ProofInputs) -> dict[str, Any]:
    """The figures of answers to the encoded bytes, and of those to the same pixels that the network saw."""
    outputs, gap = _as_outputs(inputs.task, found), np.abs(same - inputs.expected)
    # As in the metrics: where no image has a label, nothing can be ranked.
    score = inputs.scorer.score(outputs) if inputs.task != "multi_label" or inputs.scorer.labels.any() else None
    row = {inputs.scorer.key: score, "loss": inputs.scorer.loss(outputs)}
    if inputs.task == "single_label":
        row["agreement"] = float((found.argmax(-1) == inputs.expected.argmax(-1)).mean())
    row["max_abs_diff"] = float(gap.max())
    if inputs.task == "regression":
        row["scaled_max_abs_diff"] = float((gap / inputs.scorer.scale).max())
    return row | {"decoding_max_abs_diff": float(np.abs(found - same).max()), "n": len(found)}


def _as_outputs(task: str, answers: np.ndarray) -> np.ndarray:
    """The outputs of a network that would answer so: logits [N, C], or values [N, D]."""
    if task == "regression":
        return answers
    inside = answers.astype(np.float64).clip(MIN_PROBABILITY, 1 - MIN_PROBABILITY)
    return np.log(inside) if task == "single_label" else logit(inside)


def _speed(run: Callable[[np.ndarray], np.ndarray], side: int, count: int) -> float:
    """Images a second of the fastest of some calls, decoding not counted. The first call prepares the runtime."""
    batch = np.random.default_rng(0).uniform(0, 255, (count, side, side, 3)).astype(np.float32)
    run(batch)
    return round(count / min(timeit.repeat(lambda: run(batch), number=1, repeat=TIMED_CALLS)), 1)


def _objection(chosen: Format, inputs: ProofInputs, found: np.ndarray, row: dict[str, Any]) -> str:
    """Why an artefact is not published; empty where nothing speaks against it."""
    key, unit = ("scaled_max_abs_diff", " deviations") if inputs.task == "regression" else ("max_abs_diff", "")
    if chosen.exact and not row[key] <= proof.TOLERANCE:
        return f"its answers to the same pixels differ by up to {row[key]:.3g}{unit} (at most {proof.TOLERANCE:g})"
    if not chosen.exact and row[inputs.scorer.key] is None:
        return "no test image has a label, so it cannot be shown to score like the network"
    drop = _score_error(inputs, found) - _score_error(inputs, inputs.expected)
    if not drop <= inputs.max_drop:
        advice = f"; try {chosen.advice}" if chosen.advice else ""
        advice += f", or train for 8 bits: {inputs.retrain}" if chosen.eight_bits and inputs.retrain else ""
        lost = f"{inputs.scorer.title} {row[inputs.scorer.key]:.4f} is worse than the network's by {drop:.4f}{unit}"
        wrong = f"{drop * row['n']:.0f} of " if inputs.task == "single_label" else ""
        return f"{lost} ({wrong}{row['n']:,} images; --max_drop={inputs.max_drop:g}){advice}"
    return ""


def _score_error(inputs: ProofInputs, answers: np.ndarray) -> float:
    """One less the accuracy or mAP; under regression the error of the score, in deviations of the training targets."""
    if inputs.task == "regression":
        return inputs.scorer.scaled_error(answers)
    return 1 - inputs.scorer.score(_as_outputs(inputs.task, answers))
