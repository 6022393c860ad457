"""The search from start to end: the space is checked, trials are run, the winner is trained and exported."""

import hashlib
import io
import json
import math
import os
import shutil
from contextlib import AbstractContextManager, nullcontext, redirect_stdout
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from keras_tuner.oracles import HyperbandOracle

from kerasft import report
from kerasft.console import console
from kerasft.data import sources
from kerasft.job import train
from kerasft.job.train import Run
from kerasft.settings import spec as specs
from kerasft.settings.config import Config, differences
from kerasft.settings.errors import UserError
from kerasft.storage import run_folder, run_lock
from kerasft.tune import hparams, oracles, rates, search_space, study
from kerasft.tune.hypermodel import HyperModel
from kerasft.tune.oracles import Kept
from kerasft.tune.study import Study

FLAGS = ("search", "tuner", "objective", "budget_minutes", "winner_phases")
_PARTS = ("search.json", "tune.json", "tune.html", "settled.json", "audit.json", "run.flags")
_FOLDERS = ("tuner", "trials", "best", "tensorboard", "workers", "cache")


def tune(
    config: Config,
    search: str,
    tuner: str,
    objective: str,
    budget_minutes: float | None = None,
    winner_phases: str = "",
) -> Run | None:
    """Searches the settings that do best on the validation split, then trains and exports with them.

    With KerasTuner's environment (`KERASTUNER_ORACLE_IP`, `_PORT`, `KERASTUNER_TUNER_ID`) the process is the chief,
    which draws the trials and trains the winner, or a worker, which runs trials; all share the run folder.

    Args:
        config: what is trained where nothing is searched.
        search, tuner, objective: as the flags of these names.
        budget_minutes: of search, earlier starts included; None for no limit. A trial under way is finished.
        winner_phases: that the winner goes on with after those of the trials.

    Returns:
        The winner's run; None for a worker.

    Raises:
        UserError: a mistake in the flags, before a picture is read; or no trial has succeeded.
    """
    if budget_minutes is not None and not budget_minutes > 0:  # NaN among them
        raise UserError(f"--budget_minutes: must be above 0. Received: {budget_minutes}")
    oracle = _oracle(tuner, config.seed)
    space = search_space.parse(search, config)
    asked = {"search": search, "tuner": tuner, "objective": objective, "winner_phases": winner_phases}
    rates.check_following(config, winner_phases)
    folder = Path(config.run_dir or f"runs/{sources.load(config).name}-tune-{_digest(config, asked)}")
    role = _role()
    with nullcontext() if role == "worker" else _alone(folder):
        return _searched(config, asked, oracle, space, folder, role, budget_minutes)


def _searched(
    config: Config,
    asked: dict[str, str],
    oracle: Kept,
    space: tuple[search_space.Dimension, ...],
    folder: Path,
    role: str,
    budget_minutes: float | None,
) -> Run | None:
    """Searches in a folder that is ours, or as a worker in somebody's."""
    search, objective, winner_phases = asked["search"], asked["objective"], asked["winner_phases"]
    if role != "worker" and (done := _open(folder, config, asked)):
        console.say(f"{folder}: the search is finished with these settings; nothing to do (--noresume runs it again).")
        _say_best(done)
        run = train.train(_winner(config, folder, done))
        if not (folder / "tune.html").is_file():
            report.write_search(folder)
        return run
    home = folder / "workers" / os.environ["KERASTUNER_TUNER_ID"] if role == "worker" else folder
    shared = config if config.keep_cache else replace(config, keep_cache=True, cache_dir=str(folder / "cache"))
    given = {"sets_epochs": isinstance(oracle, HyperbandOracle), "winner_phases": winner_phases}
    hypermodel = HyperModel(shared, search, home, **given)
    oracle.objective = hypermodel.objective(objective)
    hypermodel.declare_hyperparameters(oracle.hyperparameters)
    oracle.start(60 * budget_minutes if budget_minutes else math.inf)
    if role != "chief" and hypermodel.config.image_size:
        hypermodel.data(hypermodel.config.image_size, config.framing, config.per_class_limit)  # now, on the screen
    if config.tensorboard and role != "worker":
        hparams.declare(folder / "tensorboard", space, objective)

    def ended(row: dict[str, Any]) -> None:
        if config.tensorboard:
            hparams.write(folder / "tensorboard", row)
        found = _state(asked, oracle, folder)
        if role == "alone":
            run_folder.write_json(folder / "tune.json", found)
        _say_row(row, objective, found["best"])

    with redirect_stdout(io.StringIO()):  # KerasTuner's own word about a reload
        tuner = Study(oracle, hypermodel, folder, ended)
    tuner.save()
    if role != "alone":
        place = f"{os.environ['KERASTUNER_ORACLE_IP']}:{os.environ['KERASTUNER_ORACLE_PORT']}"
        console.say(f"{os.environ['KERASTUNER_TUNER_ID']}: {role} at {place}")
    tuner.search(verbose=0)
    if role == "worker":
        console.say("no more trials; the chief trains the winner")
        return None
    return _finish(config, asked, oracle, folder)


def _finish(config: Config, asked: dict[str, str], oracle: Kept, folder: Path) -> Run:
    """Trains the winner, and writes down what the search has found."""
    found = _state(asked, oracle, folder)
    run_folder.write_json(folder / "tune.json", found)
    report.write_search(folder)
    if not found["best"]:
        reasons = [row["error"] for row in found["trials"]]
        raise UserError(f"--search: none of {len(reasons)} trials has succeeded. Received: {reasons[-1]!r}")
    _say_best(found)
    run = train.train(_winner(config, folder, found))
    shutil.rmtree(folder / "cache", ignore_errors=True)
    report.write_search(folder)
    # Last, for a search that says so is finished. Until then the same command does all of this again.
    run_folder.write_json(folder / "tune.json", found | {"finished": True})
    console.say(f"searched: {folder}, with tune.json and tune.html")
    return run


def _state(asked: dict[str, str], oracle: Kept, folder: Path) -> dict[str, Any]:
    """What `tune.json` holds: what was asked, a row a trial, and the best one."""
    found, direction = study.rows(folder), oracle.objective.direction
    best = next(iter(report.ranked(found, direction)), None)
    if best:
        best = {key: best[key] for key in ("trial", "values", "score")} | {"run_dir": (folder / "best").as_posix()}
    spent = round(oracle.elapsed(), 1)
    return {**asked, "direction": direction, "seconds": spent, "finished": False, "trials": found, "best": best}


def _winner(config: Config, folder: Path, state: dict[str, Any]) -> Config:
    """The Config of the best trial, as a run of its own, which goes on with `--winner_phases`."""
    found = run_folder.read_json(folder / "trials" / state["best"]["trial"] / "config.json")
    if state["winner_phases"]:
        found = asdict(rates.followed(Config(**found), config, state["winner_phases"]))
    own = {"run_dir": str(folder / "best"), "resume": True}
    places = {name: getattr(config, name) for name in ("export_dir", "tensorboard", "keep_cache", "cache_dir")}
    return Config(**{**found, **places, **own})


def _alone(folder: Path) -> AbstractContextManager[None]:
    """The lock of a search's folder.

    Raises:
        UserError: it holds something else, or another search is working in it.
    """
    ours = ("workers", *run_folder.LOCK_FILES)
    foreign = folder.exists() and (not folder.is_dir() or any(path.name not in ours for path in folder.iterdir()))
    if foreign and not (folder / "search.json").is_file():
        raise UserError(f"--run_dir: is no folder of a search, and not empty; name another. Received: '{folder}'")
    return run_lock.locked(folder)


def _open(folder: Path, config: Config, asked: dict[str, str]) -> dict[str, Any] | None:
    """Makes or reopens the folder of a search; what was found, where it is finished.

    Raises:
        UserError: the folder holds something else.
    """
    then = run_folder.read_json(folder / "search.json")
    if then and (folder / "tuner").exists():  # else: it ended with a mistake, before the first trial
        other = differences(config, then["config"])
        other += [
            f"{name}: {then.get(name)!r} then, {value!r} now"
            for name, value in asked.items()
            if then.get(name) != value
        ]
        if other:
            rule = f"holds another search ({'; '.join(other)}); name another folder"
            raise UserError(f"--run_dir: {rule}. Received: '{folder}'")
        done = run_folder.read_json(folder / "tune.json")
        if config.resume and done.get("finished"):
            return done
        if not config.resume:
            for part in _PARTS:
                (folder / part).unlink(missing_ok=True)
            for part in _FOLDERS:
                shutil.rmtree(folder / part, ignore_errors=True)
    lines = [f"--{name}={value}\n" for name, value in {"mode": "tune", **asked}.items()]
    run_folder.write(folder / "run.flags", lambda file: file.write((config.to_flags() + "".join(lines)).encode()))
    run_folder.write_json(folder / "search.json", {"config": asdict(config), **asked})
    return None


def _digest(config: Config, asked: dict[str, str]) -> str:
    text = json.dumps([config.digest(), asked], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def _oracle(tuner: str, seed: int) -> Kept:
    """The oracle that `--tuner` names; KerasTuner takes a seed of 0 for none."""
    own = {name: getattr(oracles, name) for name in oracles.__all__}
    given = {"seed": seed + 1, "max_consecutive_failed_trials": None}
    return specs.build(specs.parse_one(tuner, "--tuner"), "--tuner", own, kind=Kept, **given)


def _role() -> str:
    """`alone`, or `chief` or `worker` as KerasTuner's environment says."""
    names = ("KERASTUNER_ORACLE_IP", "KERASTUNER_ORACLE_PORT", "KERASTUNER_TUNER_ID")
    given = [name for name in names if os.environ.get(name)]
    if given and len(given) < len(names):
        missing = ", ".join(name for name in names if name not in given)
        raise UserError(f"--mode=tune: {given[0]} is set, so {missing} must be set too. Received: ''")
    if not given:
        return "alone"
    return "chief" if "chief" in os.environ["KERASTUNER_TUNER_ID"] else "worker"


def _say_row(row: dict[str, Any], objective: str, best: dict[str, Any] | None) -> None:
    shown = ", ".join(f"{name}={_short(value)}" for name, value in row["values"].items())
    if row["status"] == "FAILED":
        console.say(f"trial {row['trial']}: {shown}: failed: {row['error']}")
    else:
        mark = ", the best so far" if best and best["trial"] == row["trial"] else ""
        console.say(f"trial {row['trial']}: {shown}: {objective} {row['score']:.4g}, {row['seconds']:.1f} s{mark}")


def _say_best(found: dict[str, Any]) -> None:
    best, rows = found["best"], found["trials"]
    shown = ", ".join(f"{name}={_short(value)}" for name, value in best["values"].items())
    failed = sum(row["status"] == "FAILED" for row in rows)
    console.say(
        f"search: {len(rows)} trials, {failed} failed; the best is {best['trial']}: {shown} "
        f"({found['objective']} {best['score']:.4g})"
    )


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
