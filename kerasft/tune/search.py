"""The search from start to end: checks the space, runs the trials, then trains and exports the best one."""

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
from kerasft.job import served_baseline, train
from kerasft.job.data_changes import refuse_changes
from kerasft.job.file_changes import refuse_other_files
from kerasft.job.train import Run
from kerasft.settings import spec as specs
from kerasft.settings import stored_config
from kerasft.settings.config import Config
from kerasft.settings.errors import UserError
from kerasft.settings.stored_config import from_stored
from kerasft.storage import run_folder, run_lock
from kerasft.tune import hparams, oracles, phase_settings, processes, search_space, study
from kerasft.tune.hypermodel import HyperModel
from kerasft.tune.oracles import ResumableOracle
from kerasft.tune.study import Study

FLAGS = ("search", "tuner", "objective", "winner_phases")
# What a search that begins anew removes from its folder.
_FILES = ("tune.json", "tune.html", "settled.json", "audit.json", "run.flags", processes.SPLITS)
_FOLDERS = ("tuner", "trials", "best", "tensorboard", "workers", "cache")

# Of the winner they are as today's command says: a finished search may be asked to publish, or to measure more.
_TODAYS = ("export_dir", "tensorboard", "keep_cache", "cache_dir", "baseline", "gate", "robustness", "warmup")


def tune(
    config: Config,
    search: str,
    tuner: str,
    objective: str,
    winner_phases: str = "",
) -> Run | None:
    """Searches for the settings with the best validation score, then trains and exports with them.

    KerasTuner's environment variables (`KERASTUNER_ORACLE_IP`, `KERASTUNER_ORACLE_PORT`, `KERASTUNER_TUNER_ID`) make the
    process a chief or a worker. The chief draws the trials and trains the winner. A worker runs trials. All share the
    run folder.

    Args:
        config: the settings that are not searched. Its `budget_minutes` is that of the search, including its earlier
            starts. A running trial is finished. Trials and the winner have no budget of their own.
        search, tuner, objective: as the flags of these names.
        winner_phases: further phases of the winner, after those of the trials.

    Returns:
        The winner's run; None for a worker.

    Raises:
        UserError: a flag is wrong (checked before an image is read), or no trial has succeeded.
    """
    budget_minutes, config = config.budget_minutes, replace(config, budget_minutes=None)
    oracle = _oracle(tuner, config.seed)
    space = search_space.parse(search, config)
    options = {"search": search, "tuner": tuner, "objective": objective, "winner_phases": winner_phases}
    phase_settings.check_winner_phases(config, winner_phases)
    if config.baseline:
        listing = sources.load(config)
        # The winner is compared with it, which is much later.
        served_baseline.open_baseline(config, listing.task, listing.classes)
    folder = Path(config.run_dir or f"runs/{sources.load(config).name}-tune-{_digest(config, options)}")
    role = processes.role()
    with nullcontext() if role == "worker" else _lock_folder(folder):
        return _search(config, options, oracle, space, folder, role, budget_minutes)


def _search(
    config: Config,
    options: dict[str, str],
    oracle: ResumableOracle,
    space: tuple[search_space.Dimension, ...],
    folder: Path,
    role: str,
    budget_minutes: float | None,
) -> Run | None:
    """Searches in a locked folder, or as a worker in the folder of a chief."""
    search, objective, winner_phases = options["search"], options["objective"], options["winner_phases"]
    if role == "worker":
        if not processes.join(folder, config, options):
            console.say(f"{folder}: the search is finished with these settings; nothing to do.")
            return None
    elif results := _open_folder(folder, config, options, budget_minutes):
        console.say(f"{folder}: the search is finished with these settings; nothing to do (--noresume runs it again).")
        _print_best(results)
        run = train.train(_winner_config(config, folder, results))
        # The winner may be elsewhere now (`--export_dir`).
        report.write_search(folder)
        return run
    audit_folder = folder / "workers" / os.environ["KERASTUNER_TUNER_ID"] if role == "worker" else folder
    if (folder / "tuner").exists():
        # Trials on other images, or of another network, cannot be ranked with those that are there.
        refuse_changes(config, sources.load(config), audit_folder)
        refuse_other_files(run_folder.read_json(audit_folder / "settled.json"), audit_folder)
    shared = config if config.keep_cache else replace(config, keep_cache=True, cache_dir=str(folder / "cache"))
    hypermodel = HyperModel(
        shared,
        search,
        audit_folder,
        sets_epochs=isinstance(oracle, HyperbandOracle),
        winner_phases=winner_phases,
    )
    hypermodel.data = processes.with_common_splits(hypermodel.data, folder)
    oracle.objective = hypermodel.objective(objective)
    hypermodel.declare_hyperparameters(oracle.hyperparameters)
    oracle.start(60 * budget_minutes if budget_minutes else math.inf)
    if role != "chief" and hypermodel.config.image_size:
        # Audits now, because the trials print nothing.
        hypermodel.data(hypermodel.config.image_size, config.framing, config.per_class_limit)
    if config.tensorboard and role != "worker":
        hparams.declare(folder / "tensorboard", space, objective)

    def report_trial(row: dict[str, Any]) -> None:
        if config.tensorboard:
            hparams.write(folder / "tensorboard", row)
        results = _results(options, oracle, folder)
        if role == "alone":
            run_folder.write_json(folder / "tune.json", results)
        _print_trial(row, objective, results["best"])

    # KerasTuner prints a message when it reloads its state.
    with redirect_stdout(io.StringIO()):
        tuner = Study(oracle, hypermodel, folder, report_trial)
    tuner.save()
    if role != "alone":
        address = f"{os.environ['KERASTUNER_ORACLE_IP']}:{os.environ['KERASTUNER_ORACLE_PORT']}"
        console.say(f"{os.environ['KERASTUNER_TUNER_ID']}: {role} at {address}")
    with processes.connected(role):
        tuner.search(verbose=0)
    if role == "worker":
        console.say("no more trials; the chief trains the winner")
        return None
    return _finish(config, options, oracle, folder)


def _finish(config: Config, options: dict[str, str], oracle: ResumableOracle, folder: Path) -> Run:
    """Trains the winner, and writes `tune.json` and `tune.html`."""
    results = _results(options, oracle, folder)
    # A worker that does not share the folder has recorded its trials elsewhere.
    missing = sorted(set(oracle.end_order) - {row["trial"] for row in results["trials"]})
    if missing or not results["trials"]:
        rule = f"no trial{' ' + ', '.join(missing) if missing else ''} is in '{folder / 'trials'}'"
        raise UserError(f"--run_dir: {rule}; the workers must share this folder. Received: '{folder}'")
    if oracle.has_run_out():
        count = f"{len(oracle.trials)} of {oracle.max_trials} trials"
        console.say(f"search: {count}: no new combination was found")
    run_folder.write_json(folder / "tune.json", results)
    report.write_search(folder)
    if not results["best"]:
        reasons = [row["error"] for row in results["trials"]]
        raise UserError(f"--search: none of {len(reasons)} trials has succeeded. Received: {reasons[-1]!r}")
    _print_best(results)
    run = train.train(_winner_config(config, folder, results))
    shutil.rmtree(folder / "cache", ignore_errors=True)
    report.write_search(folder)
    # Written last: a search is finished once its file says so. Until then the same command repeats these steps.
    run_folder.write_json(folder / "tune.json", results | {"finished": True})
    console.say(f"searched: {folder}, with tune.json and tune.html")
    return run


def _results(options: dict[str, str], oracle: ResumableOracle, folder: Path) -> dict[str, Any]:
    """Returns the contents of `tune.json`: the options, one row for each trial, and the best trial."""
    trials, direction = study.read_trials(folder), oracle.objective.direction
    best = next(iter(report.rank_trials(trials, direction)), None)
    if best:
        best = {key: best[key] for key in ("trial", "values", "score")} | {"run_dir": (folder / "best").as_posix()}
    seconds = round(oracle.elapsed(), 1)
    return {**options, "direction": direction, "seconds": seconds, "finished": False, "trials": trials, "best": best}


def _winner_config(config: Config, folder: Path, results: dict[str, Any]) -> Config:
    """Returns the Config of the best trial as a run in `best/`, with the phases of `--winner_phases` appended."""
    trial = folder / "trials" / results["best"]["trial"]
    fields = run_folder.read_json(trial / "config.json")
    if further := results["winner_phases"]:
        settled = run_folder.read_json(trial / "settled.json").get("phases", [])
        fields = asdict(phase_settings.append_phases(from_stored(fields), config, further, settled))
    output = {name: getattr(config, name) for name in _TODAYS}
    return from_stored(fields, **output, run_dir=str(folder / "best"), resume=True)


def _lock_folder(folder: Path) -> AbstractContextManager[None]:
    """Locks the folder of a search.

    Raises:
        UserError: the folder holds something else, or another process has locked it.
    """
    # Workers may have begun before the chief: those of earlier versions did not wait for it.
    if (
        run_folder.is_occupied(folder, "workers", "tuner", "cache", "tensorboard")
        and not (folder / "search.json").is_file()
    ):
        raise UserError(f"--run_dir: is no folder of a search, and not empty; name another. Received: '{folder}'")
    return run_lock.locked(folder)


def _open_folder(
    folder: Path, config: Config, options: dict[str, str], budget_minutes: float | None
) -> dict[str, Any] | None:
    """Makes or reopens the folder of a search. Returns the results of a finished search, else None.

    Raises:
        UserError: the folder holds another search.
    """
    before = run_folder.read_json(folder / "search.json")
    # Without `tuner/` the search before stopped at a user's mistake, before its first trial.
    has_trials = bool(before) and (folder / "tuner").exists()
    if has_trials:
        if changed := processes.differences(config, options, before):
            rule = f"holds another search ({'; '.join(changed)}); name another folder"
            raise UserError(f"--run_dir: {rule}. Received: '{folder}'")
        results = run_folder.read_json(folder / "tune.json")
        if config.resume and results.get("finished"):
            return results
    # Written first and never removed: it tells that the folder is a search's, whenever the process is killed.
    run_folder.write_json(folder / "search.json", processes.describe(config, options))
    if not (has_trials and config.resume):
        # What another start resolved (`settled.json`) may be of other settings.
        for name in _FILES:
            (folder / name).unlink(missing_ok=True)
        for name in _FOLDERS if has_trials else ():
            shutil.rmtree(folder / name, ignore_errors=True)
    own = {"mode": "tune", **options} | ({"budget_minutes": budget_minutes} if budget_minutes else {})
    run_folder.write(folder / "run.flags", lambda file: file.write(stored_config.to_flags(config, own).encode()))
    return None


def _digest(config: Config, options: dict[str, str]) -> str:
    text = json.dumps([config.digest(), options], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def _oracle(tuner: str, seed: int) -> ResumableOracle:
    """Returns the oracle that `--tuner` names."""
    own = {name: getattr(oracles, name) for name in oracles.__all__}
    # KerasTuner takes a seed of 0 for no seed.
    fixed = {"seed": seed + 1, "max_consecutive_failed_trials": None}
    return specs.build(specs.parse_one(tuner, "--tuner"), "--tuner", own, kind=ResumableOracle, **fixed)


def _print_trial(row: dict[str, Any], objective: str, best: dict[str, Any] | None) -> None:
    values = _format_values(row["values"])
    if row["status"] == "FAILED":
        console.say(f"trial {row['trial']}: {values}: failed: {row['error']}")
    else:
        mark = ", the best so far" if best and best["trial"] == row["trial"] else ""
        console.say(f"trial {row['trial']}: {values}: {objective} {row['score']:.4g}, {row['seconds']:.1f} s{mark}")


def _print_best(results: dict[str, Any]) -> None:
    best, trials = results["best"], results["trials"]
    failed = sum(row["status"] == "FAILED" for row in trials)
    console.say(
        f"search: {len(trials)} trials, {failed} failed; the best is {best['trial']}: {_format_values(best['values'])} "
        f"({results['objective']} {best['score']:.4g})"
    )


def _format_values(values: dict[str, Any]) -> str:
    """Returns the values of a trial as `lr=0.001, optimizer=adamw`."""
    return ", ".join(
        f"{name}={value:.4g}" if isinstance(value, float) else f"{name}={value}" for name, value in values.items()
    )
