"""`kerasft compress --target=...`: prune, truncate or shrink images, fine-tune, look at validation, until the target is met."""

import gc
import shutil
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import keras

from kerasft.console import console
from kerasft.console.wording import count, duration
from kerasft.data import pipeline
from kerasft.evaluation.pinball import asked_quantile
from kerasft.evaluation.score_names import SCORES, TITLES, score_key
from kerasft.export.keras_model import KERAS_FILE
from kerasft.export.portable import publish
from kerasft.job import score, slim_steps, train
from kerasft.job.finished_run import refuse_other_splits
from kerasft.job.slim_steps import FILE_NAME, FOLDER
from kerasft.networks import network as networks
from kerasft.settings.config import FIELDS, Config
from kerasft.settings.errors import UserError
from kerasft.slim import resizing, slim_rows, step_settings, step_surgeries
from kerasft.slim.step_settings import STEP_SETTINGS
from kerasft.slim.target import MEASURES, Sizes, Target, next_share, parse, steps_left
from kerasft.storage import run_folder, run_lock

# A step gets a head on several depths after its surgery was sized. At least this fraction of the run's network is kept free for it.
HEAD_RESERVE = 0.005

Row = dict[str, Any]


@dataclass
class Slimming:
    """What `slim.json` holds. It is written after each training, and a stopped command goes on from it.

    Attributes:
        target: as text.
        phases, export, teacher, distill, unlabelled: the settings of every step, as in `STEP_SETTINGS`.
        max_drop, export_dir: the limit of other formats, and where all steps are exported: in its folder `slim`. None in files of
            earlier versions.
        task, score: of the run; under regression with several targets the score is `scaled_mae`, of a quantile `pinball`.
        rows: of `slim_rows.row`: the run, then one for each step that was kept.
        tried: the candidates of each step: `step`, `surgery`, `multiplications`, `parameters`, `depths` and `run_dir`;
            after their training `validation_loss`, `validation_score` and `seconds` too.
        finished: whether nothing is left to do.
        met: whether the last row has the share of the target; without a share, whether a step was kept.
        reason: why it ended.
    """

    target: str
    phases: str
    export: str
    teacher: str
    distill: str
    task: str
    score: str
    max_drop: float | None = None
    export_dir: str | None = None
    rows: list[Row] = field(default_factory=list)
    tried: list[Row] = field(default_factory=list)
    finished: bool = False
    met: bool = False
    reason: str = ""
    unlabelled: str = ""


@pipeline.user_errors()
def slim(settings: Config, run: str, text: str) -> dict[str, Any]:
    """Makes the network of a finished run smaller, in steps, and fine-tunes it after each.

    A step tries pruning, truncation and smaller images. All are trained, each as a run of its own below `RUN/slim`, on the run's own
    data, splits and seed. The one with the lower validation loss is kept, exported, and is the network of the next step. The test images
    choose nothing.

    Args:
        settings: those of `STEP_SETTINGS`, `--max_drop`, `--export_dir`, `--allow_imports` and `--resume` are taken from it; the rest
            from the run, but for what `step_settings.read_run` changes.
        run: the run folder.
        text: `--target`.

    Returns:
        The contents of `slim.json`.

    Raises:
        UserError: a wrong target, no finished run, its images are missing, have changed or fall into other splits, or nothing
            can be removed.
    """
    target = parse(text)
    publish.parse_formats(settings.specs("export"))
    parent, metrics = step_settings.read_run(settings, run)
    _check_scores(metrics, run)
    folder = Path(run) / FOLDER / str(target).replace(", ", "-").replace("=", "-")
    if not parent.keep_cache:
        # Decoded images are the same in all steps.
        parent = replace(parent, keep_cache=True, cache_dir=str(folder / "cache"))
    given = {name: getattr(settings, name) for name in (*STEP_SETTINGS, "max_drop")}
    given["export_dir"] = Path(parent.export_dir).parent.as_posix()
    named = score_key(metrics["task"], len(metrics["classes"]), asked_quantile(metrics["test"]))
    new = Slimming(str(target), **given, task=metrics["task"], score=named)
    with run_lock.locked(folder):
        found = _open(folder, new, settings)
        if found.finished:
            console.say(f"{folder} is finished; nothing to do (--noresume runs it again).")
        else:
            # Steps that are finished are only read, so that a command that goes on makes the same rows again.
            found.rows = [slim_rows.row("run", "", Path(run), metrics)]
            _say_plan(target, parent.phases, metrics)
            refuse_other_splits(parent, resizing.split_digest(parent, metrics["image_size"], folder), Path(run))
            _take_steps(found, target, parent, metrics, folder)
            found.finished = True
            _write(folder, found, metrics)
            shutil.rmtree(folder / "cache", ignore_errors=True)
    console.print_table(slim_rows.table(found.rows, found.score))
    console.say(f"slim: {found.reason}")
    console.say(f"slim: {folder / FILE_NAME}; the smallest network: {found.rows[-1]['path']}")
    return asdict(found)


def _check_scores(metrics: Row, run: str) -> None:
    """Raises UserError where no image of a split has a label: then nothing tells how good a smaller network is."""
    name = SCORES[metrics["task"]]
    if without := [part for part in ("val", "test") if metrics[part][name] is None]:
        rule = f"no image of {' or '.join(without)} has a label, so a smaller network cannot be judged"
        raise UserError(f"--model: {rule}. Received: {run!r}")


def _say_plan(target: Target, phases: str, metrics: Row) -> None:
    """Says how many trainings there may be. How long one takes, the run's own tells in part: `--phases` may be others."""
    steps = (
        "as many steps as it allows"
        if target.share is None
        else f"about {count(steps_left(target.share, 1.0), 'step')}"
    )
    ways = 3 if target.measure == "flops" else 2
    took = duration(metrics["seconds"]["total"])
    console.say(
        f"slim: {target}: {steps}, each of up to {ways} runs with --phases={phases}; the run itself took {took}"
    )


def _take_steps(found: Slimming, target: Target, parent: Config, metrics: Row, folder: Path) -> None:
    """Takes steps until the target is met, the drop is too large, or nothing can be removed."""
    whole = _sizes(metrics).of(target)
    place, share, extra, number = Path(found.rows[0]["run_dir"]), 1.0, None, 0
    while target.share is None or share > target.share:
        number += 1
        size = found.rows[-1]["image_size"]
        own = replace(parent, backbone=(place / KERAS_FILE).as_posix())
        tried = [row for row in found.tried if row["step"] == number]
        if extra is None or not tried:
            network = networks.build(own, len(metrics["classes"]), found.task)
            plain = step_surgeries.sizes_of(network).of(target)
            # The new network has a head on its last depth. The run's may see more, and so may that of the step.
            extra = max(whole - plain, HEAD_RESERVE * whole) if extra is None else extra
            limit = next_share(target, share) * whole - extra
            tried = tried or [
                {"step": number, "surgery": one.change, **one.sizes._asdict(), "depths": one.depths}
                | {"run_dir": (folder / f"{number}-{one.change.partition('(')[0]}").as_posix()}
                for one in step_surgeries.find(network, target, limit)
                if _keeps_splits(one.change, own, size, folder, number)
            ]
            found.tried += [row for row in tried if row not in found.tried]
            _forget()
        if not tried:
            ways = f"neither pruning nor truncation{' nor smaller images leave' if target.measure == 'flops' else ' leaves'}"
            found.reason = f"step {number}: {ways} {limit / whole:.0%} of the {MEASURES[target.measure]}"
            if number == 1:
                raise UserError(f"--target: nothing can be removed: {found.reason}. Received: {found.target!r}")
            return
        for row in tried:
            _train(row, step_settings.of_candidate(own, row, metrics["image_size"], size), metrics["framing"], found)
            _write(folder, found, metrics)
        best = min(tried, key=lambda row: row["validation_loss"])
        if lost := _lost(target, found.task, best, metrics):
            found.reason = f"step {number}: {lost}; the network before it is kept"
            return
        # It is trained already. What is left is the test, the proof and the export; a finished run is only read.
        with console.silence():
            done = train.train(step_settings.of_candidate(own, best, metrics["image_size"], size))
        _forget()
        found.rows.append(slim_rows.row(f"step {number}", best["surgery"], done.folder, done.metrics))
        place = done.folder
        share = _sizes(done.metrics).of(target) / whole
        found.met = target.share is None or share <= target.share
        console.say(f"step {number}: {best['surgery']} is kept: {share:.1%} of the {MEASURES[target.measure]} are left")
        _write(folder, found, metrics)
    found.reason = f"the target is met: {share:.1%} of the {MEASURES[target.measure]}"


def _keeps_splits(way: str, own: Config, size: int, folder: Path, step: int) -> bool:
    """Whether a candidate is trained on the run's splits; says so where smaller images would be split in another way."""
    if not resizing.is_resizing(way):
        return True
    kept = resizing.keeps_splits(own, (size, resizing.settings_of(way)["image_size"]), folder)
    if not kept:
        why = "at that size other images count as copies of each other, so its splits are not the run's"
        console.say(f"step {step}: {way} is left out: {why}")
    return kept


def _sizes(metrics: Row) -> Sizes:
    """What a run's network costs for one image. `cost` counts the mirror image of `--tta=flip` as a second one."""
    passes = 2 if metrics.get("tta") == "flip" else 1
    return Sizes(metrics["cost"]["macs"] // passes, metrics["cost"]["parameters"])


def _train(row: Row, config: Config, framing: str, found: Slimming) -> None:
    """Trains a candidate, or goes on where that was stopped, and prints its figures.

    Args:
        row: of `found.tried`. The figures are added to it, so that a command that goes on does not train it again.
        config: of the candidate's run.
        framing: of the run.
        found: what the command has so far.
    """
    if "validation_loss" not in row:
        console.say(f"step {row['step']}: {row['surgery']}: {row['multiplications']:,} multiplications, training")
        with console.silence():
            scored = score.train_and_score(config, framing)
        _forget()
        val = scored.figures["val"]
        row |= {"validation_loss": val["loss"], "validation_score": _score(found.task, val)}
        row["seconds"] = round(sum(scored.seconds.values()), 3)
    name = TITLES[found.score]
    if found.task == "regression":
        name = f"{'pinball loss' if found.score == 'pinball' else 'error'} in deviations"
    figures = f"{name} {console.format_metric(abs(row['validation_score']))}"
    console.say(
        f"step {row['step']}: {row['surgery']}: validation loss {console.format_metric(row['validation_loss'])}, "
        f"{figures} ({duration(row['seconds'])})"
    )


def _lost(target: Target, task: str, best: Row, metrics: Row) -> str:
    """How much more than allowed of the validation score a step costs, in words; empty where it is not more."""
    if target.drop is None:
        return ""
    drop = _score(task, metrics["val"]) - best["validation_score"]
    # Floating point: 0.91 - 0.90 is more than 0.01.
    if drop <= target.drop + 1e-9:
        return ""
    return f"{best['surgery']} costs {drop:.4f} of the validation score, more than drop={target.drop:g}"


def _score(task: str, figures: Row) -> float:
    """The validation score of which more is better: under regression minus the error, in deviations of the targets."""
    if task != "regression":
        return figures[SCORES[task]]
    # Of a quantile the loss is the pinball loss in deviations.
    return -figures["scaled_mae" if asked_quantile(figures) is None else "loss"]


def _open(folder: Path, new: Slimming, settings: Config) -> Slimming:
    """What an earlier command has left; `new` without one. `--noresume` removes its runs, and starts with `new`.

    Raises:
        UserError: it had other settings.
    """
    if not settings.resume:
        for path in folder.iterdir():
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
        (folder / FILE_NAME).unlink(missing_ok=True)
        return new
    stored = run_folder.read_json(folder / FILE_NAME)
    if not stored:
        return new
    for name in (*STEP_SETTINGS, "max_drop", "export_dir"):
        now = getattr(new, name)
        # Files of earlier versions do not say the last two.
        if (then := stored.get(name, FIELDS[name].default if name in STEP_SETTINGS else now)) != now:
            rule = f"was {then!r} when this target was begun; --noresume begins again"
            raise UserError(f"--{name}: {rule}. Received: {now!r}")
    stored |= {"score": new.score, "rows": [slim_steps.with_score(row, new.score) for row in stored.get("rows", [])]}
    # Unknown keys are ignored. Missing keys keep their defaults.
    return replace(new, **{name: value for name, value in stored.items() if name in vars(new)})


def _write(folder: Path, found: Slimming, metrics: Row) -> None:
    """Adds the differences to the run to all rows, and writes `slim.json`."""
    slim_rows.add_differences(found.rows, metrics)
    run_folder.write_json(folder / FILE_NAME, asdict(found))


def _forget() -> None:
    """Frees the memory of networks that are not needed any more: Keras and TensorFlow keep their graphs otherwise."""
    keras.backend.clear_session()
    gc.collect()
