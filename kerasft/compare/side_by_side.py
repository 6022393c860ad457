"""The comparison from start to end: runs the entries one after the other, then finishes and exports the best one."""

import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from kerasft import report
from kerasft.compare import process, rows, table
from kerasft.compare.entries import Entry, parse
from kerasft.compare.rows import FAILED, FINISHED, Row
from kerasft.console import console
from kerasft.data import sources
from kerasft.data.listing import Listing
from kerasft.evaluation.pinball import asked_quantile
from kerasft.evaluation.score_names import recorded_score, score_key
from kerasft.job.data_changes import refuse_changes
from kerasft.settings import stored_config
from kerasft.settings.config import Config
from kerasft.settings.errors import UserError
from kerasft.storage import manifest, predictions_file, run_folder, run_lock

FLAGS = ("strategies",)
# What `--noresume` removes from the folder of a comparison.
_FILES, _FOLDERS = ("compare.json", "compare.html", "run.flags", "spent.json"), ("cache", "entries")
# What a finished winner may be asked for later (`job/finished_updates.py`).
_LATER = ("export_dir", "baseline", "gate", "robustness")

EXIT_OK = 0


def compare(config: Config, strategies: str) -> int:
    """Trains and scores each entry of `--strategies`, writes `compare.json` and `compare.html`, and exports the best one.

    Each entry is a run in a folder and a process of its own. It ends before its export. The entry with the lowest loss on
    the validation images is finished and exported. So the test images choose nothing.

    Args:
        config: what the entries have in common. Its `budget_minutes` is that of the comparison, earlier starts included.
            An entry begins only if the longest one so far would still fit. Entries have no budget of their own.
        strategies: as the flag.

    Returns:
        The exit status of the export.

    Raises:
        UserError: a flag is wrong, the folder holds something else, or no entry has succeeded.
    """
    budget_minutes, config = config.budget_minutes, replace(config, budget_minutes=None)
    listing = sources.load(config)
    entries = parse(strategies, config, listing.task)
    folder = Path(config.run_dir or f"runs/{listing.name}-compare-{config.digest()}")
    with _lock_folder(folder):
        stored = _open_folder(folder, config, strategies, budget_minutes)
        _refuse_other_images(config, listing, entries, folder)
        before = [(row["strategy"], row["settings"]) for row in stored.get("rows", []) if row["status"] == FINISHED]
        if stored.get("finished") and before == [(entry.name, entry.text) for entry in entries]:
            console.say(f"{folder}: the comparison is finished; nothing to do (--noresume runs it again).")
            if not (folder / "compare.html").is_file():
                report.write_compare(folder, stored)
            table.show(stored)
            return _update(config, listing, entries, folder, stored)
        return _compare(config, listing, entries, folder, budget_minutes)


def _compare(
    config: Config, listing: Listing, entries: Sequence[Entry], folder: Path, budget_minutes: float | None
) -> int:
    """Compares in a locked folder."""
    found: list[Row] = []
    # Seconds of each entry in all starts, those that were interrupted or failed included.
    units, quantile, spent = None, None, run_folder.read_json(folder / "spent.json")
    for number, entry in enumerate(entries, 1):
        result = _result(folder, entry)
        if "figures" not in result:
            longest = max((row["seconds"] for row in found if row["status"] == FINISHED), default=0.0)
            total = sum(spent.values())
            if budget_minutes is not None and total + longest > 60 * budget_minutes:
                reason = (
                    f"{total / 60:.1f} of {budget_minutes:g} minutes are spent; the longest entry took {longest:.0f} s"
                )
                found.append(rows.not_begun(entry, reason))
                continue
            console.say(f"{number} of {len(entries)}: {entry.name}")
            with _counted(folder, spent, entry):
                result = _run(_with_folders(entry.config, config, folder, entry), folder, entry)
        if "figures" in result:
            # A start that was killed could not note its time; the checkpoint of the entry has.
            spent[entry.folder_name] = max(spent.get(entry.folder_name, 0.0), result["seconds"]["total"])
            row = rows.finished(
                entry, result, listing.task, list(listing.classes), folder / "entries" / entry.folder_name
            )
            units = rows.deviations(result, list(listing.classes)) if units is None else units
            # Under regression all entries have one loss.
            quantile = asked_quantile(result["figures"]["test"])
        else:
            row = rows.failed(entry, result["reason"])
        found.append(row)
        _refuse_repeated(found)
        console.say(f"{number} of {len(entries)}: {table.line(row)}")
        rows.add_differences(found, listing.task, units, quantile)
        _write(folder, config, listing, found, None)
    best = rows.winner(found)
    if best is None:
        reasons = [row["reason"] for row in found if row["status"] == FAILED]
        if not reasons:
            rule = f"{sum(spent.values()) / 60:.1f} minutes are spent, and no entry has finished; name more"
            raise UserError(f"--budget_minutes: {rule}. Received: {budget_minutes:g}")
        raise UserError(f"--strategies: none of {len(reasons)} entries has succeeded. Received: {reasons[-1]!r}")
    table.show(_write(folder, config, listing, found, None))
    return _export(config, listing, entries, folder, found, best)


@contextmanager
def _counted(folder: Path, spent: dict[str, float], entry: Entry) -> Iterator[None]:
    """Adds the seconds of the block to what an entry has spent, however the block ends, and writes `spent.json`."""
    began = time.monotonic()
    try:
        yield
    finally:
        spent[entry.folder_name] = round(spent.get(entry.folder_name, 0.0) + time.monotonic() - began, 3)
        run_folder.write_json(folder / "spent.json", spent)


def _export(
    config: Config, listing: Listing, entries: Sequence[Entry], folder: Path, found: list[Row], best: Row
) -> int:
    """Finishes the best entry: proof, SavedModel and report. Then the comparison is finished."""
    (entry,) = (entry for entry in entries if entry.name == best["strategy"])
    console.say(f"best by the loss on validation: {entry.name} ({console.format_metric(best['validation_loss'])})")
    status = process.run("export", _with_folders(entry.config, config, folder, entry), folder / "entries")
    if status:
        return status
    metrics = run_folder.read_json(Path(best["run_dir"]) / "metrics.json", "export")
    chosen = {"strategy": entry.name, "rule": "the lowest loss on the validation images", "run_dir": best["run_dir"]}
    chosen |= {"export": metrics["export"]["path"]}
    _write(folder, config, listing, found, chosen)
    shutil.rmtree(folder / "cache", ignore_errors=True)
    if not config.keep_cache:
        for place, own in ((folder / "entries" / one.folder_name, one.config) for one in entries):
            if (place / "config.json").is_file():
                # Whoever replays an entry uses a cache of its own, for that of the comparison is gone.
                run_folder.write_settings(replace(own, run_dir=str(place)), place)
    console.say(f"compared: {folder}, with compare.json and compare.html")
    return EXIT_OK


def _update(config: Config, listing: Listing, entries: Sequence[Entry], folder: Path, stored: dict[str, Any]) -> int:
    """Does with the winner of a finished comparison what today's flags ask for in addition. Returns the exit status."""
    if all(getattr(config, name) == stored["config"].get(name, getattr(Config(), name)) for name in _LATER):
        return EXIT_OK
    (entry,) = (entry for entry in entries if entry.name == stored["winner"]["strategy"])
    place = folder / "entries" / entry.folder_name
    status = process.run("export", replace(entry.config, run_dir=str(place), resume=True), folder / "entries")
    if status:
        return status
    path = run_folder.read_json(place / "metrics.json", "export")["export"]["path"]
    _write(folder, config, listing, stored["rows"], stored["winner"] | {"export": path})
    return EXIT_OK


def _run(config: Config, folder: Path, entry: Entry) -> dict[str, Any]:
    """Runs an entry. Returns what it measured, or the `reason` why it measured nothing."""
    path = folder / "entries" / entry.folder_name
    log, result = path.with_name(f"{path.name}.log"), path.with_name(f"{path.name}.json")
    result.unlink(missing_ok=True)
    with log.open("ab") as output:
        status = process.run("score", config, result, output)
    if found := run_folder.read_json(result):
        return found
    if status < 0:
        return {"reason": f"it was ended by signal {-status}, perhaps for lack of memory (see {log})"}
    lines = log.read_text(errors="replace").split("\n")
    last = next((line.strip() for line in reversed(lines) if line.strip()), "")
    return {"reason": f"it ended with status {status}: {last[:200]} (see {log})"}


def _result(folder: Path, entry: Entry) -> dict[str, Any]:
    """What an earlier start of the comparison measured of an entry; empty for nothing."""
    place = folder / "entries" / entry.folder_name
    found = run_folder.read_json(place.with_name(f"{place.name}.json"))
    return found if "figures" in found and (place / predictions_file.NAME).is_file() else {}


def _refuse_other_images(config: Config, listing: Listing, entries: Sequence[Entry], folder: Path) -> None:
    """Raises UserError where an earlier start measured an entry on other images than those that are there now."""
    known: list[Path] = []
    for place in (folder / "entries" / entry.folder_name for entry in entries if _result(folder, entry)):
        # Every file is read for it, so once for all entries that were given the same.
        if not any(manifest.are_equal(place, other) for other in known):
            refuse_changes(config, listing, place)
            known.append(place)


def _with_folders(own: Config, config: Config, folder: Path, entry: Entry) -> Config:
    """The Config of an entry as a run below the comparison. All entries share one cache."""
    kept = {} if config.keep_cache else {"keep_cache": True, "cache_dir": str(folder / "cache")}
    return replace(own, run_dir=str(folder / "entries" / entry.folder_name), resume=True, **kept)


def _refuse_repeated(found: list[Row]) -> None:
    """Ends a comparison whose first two entries fail for one reason: it is no strategy's, so all others would fail too.

    Raises:
        UserError: with that reason.
    """
    if len(found) == 2 and {row["status"] for row in found} == {FAILED} and found[0]["reason"] == found[1]["reason"]:
        raise UserError(found[0]["reason"])


def _write(
    folder: Path, config: Config, listing: Listing, found: list[Row], chosen: dict[str, Any] | None
) -> dict[str, Any]:
    """Writes `compare.json` and `compare.html`, and returns the contents of the former."""
    finished = [row for row in found if row["status"] == FINISHED]
    values = {
        "baseline": found[0]["strategy"],
        # As long as nothing is finished, no row has one.
        "score": recorded_score(finished[0]) if finished else score_key(listing.task, len(listing.classes)),
        "task": listing.task,
        "data": listing.name,
        "finished": chosen is not None,
        "winner": chosen,
        "rows": found,
        "config": asdict(config),
    }
    run_folder.write_json(folder / "compare.json", values)
    report.write_compare(folder, values)
    return values


def _lock_folder(folder: Path) -> AbstractContextManager[None]:
    """Locks the folder of a comparison.

    Raises:
        UserError: the folder holds something else, or another process has locked it.
    """
    if run_folder.is_occupied(folder) and not (folder / "entries").is_dir():
        raise UserError(f"--run_dir: is no folder of a comparison, and not empty; name another. Received: '{folder}'")
    return run_lock.locked(folder)


def _open_folder(folder: Path, config: Config, strategies: str, budget_minutes: float | None) -> dict[str, Any]:
    """Makes or reopens the folder of a comparison. Returns the stored `compare.json`; empty if there is none.

    The entries may differ from those before: each finds its own run by its settings.

    Raises:
        UserError: the folder holds a comparison with other settings in common.
    """
    stored = run_folder.read_json(folder / "compare.json")
    if stored and (changed := stored_config.differences(config, stored.get("config", {}))):
        rule = f"holds another comparison ({'; '.join(changed)}); name another folder"
        raise UserError(f"--run_dir: {rule}. Received: '{folder}'")
    if not config.resume:
        for name in _FILES:
            (folder / name).unlink(missing_ok=True)
        for name in _FOLDERS:
            shutil.rmtree(folder / name, ignore_errors=True)
        stored = {}
    (folder / "entries").mkdir(exist_ok=True)
    own = {"mode": "compare", "strategies": strategies} | ({"budget_minutes": budget_minutes} if budget_minutes else {})
    run_folder.write(folder / "run.flags", lambda file: file.write(stored_config.to_flags(config, own).encode()))
    return stored
