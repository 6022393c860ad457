"""`audit.json`, the findings about the data, and `suspects.csv`, those of them that have a score, for `--exclude`."""

import csv
import io
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kerasft.console import console
from kerasft.data import csv_escaping
from kerasft.data.listing import Finding
from kerasft.settings.errors import UserError
from kerasft.storage import manifest, run_folder

FILE_NAME, SUSPECTS_NAME = "audit.json", "suspects.csv"
COLUMNS = ("path", "label", "suggested", "score", "kind")
# Kinds that a network finds. A resumed run has them from before.
LEARNED_KINDS = ("suspect_label", "outlier")


def write(folder: Path, files: int, counts: dict[str, dict[str, int]], findings: Iterable[Finding]) -> None:
    """Writes both files. A `suspects.csv` that the user has edited is kept under another name.

    Args:
        folder: with the manifest of the data, which tells the labels.
        files: number of files of the source.
        counts: images by split and class.
        findings: in the order of the file.
    """
    _write(folder, {"files": files, "counts": counts, "findings": [finding.to_json() for finding in findings]})


def add(folder: Path, findings: list[Finding]) -> None:
    """Adds what a network found to both files. Earlier findings of these kinds are replaced."""
    report = run_folder.read_json(folder / FILE_NAME, "files", "counts", "findings")
    kept = [row for row in report["findings"] if row["kind"] not in LEARNED_KINDS]
    _write(folder, report | {"findings": [*kept, *(finding.to_json() for finding in findings)]})


def read_learned(folder: Path) -> list[Finding]:
    """Returns what a network found before; empty where there is no file."""
    rows = run_folder.read_json(folder / FILE_NAME).get("findings", [])
    return [Finding(**row) for row in rows if row["kind"] in LEARNED_KINDS]


def publish(place: Path, folder: Path) -> None:
    """Copies the files that there are from a scratch folder into a run folder."""
    if (place / SUSPECTS_NAME).is_file():
        _keep_edited(folder)
    for name in (FILE_NAME, SUSPECTS_NAME):
        if (place / name).is_file():
            contents = (place / name).read_bytes()
            run_folder.write(folder / name, lambda file, contents=contents: file.write(contents))


@contextmanager
def published_on_error(place: Path, folder: Path) -> Iterator[None]:
    """Publishes the files of a scratch folder if the block fails, and names the run folder in the message."""
    try:
        yield
    except BaseException as error:
        publish(place, folder)
        if (place / FILE_NAME).is_file():
            console.say(f"audit: the findings are in {folder / FILE_NAME}")
        if isinstance(error, UserError):
            error.args = tuple(line.replace(str(place), str(folder)) for line in error.args)
        raise


def refuse_own_list(exclude: str, folder: Path) -> None:
    """Refuses a list of `--exclude` that the run itself would overwrite.

    Args:
        exclude: the value of the flag.
        folder: the run folder.

    Raises:
        UserError: it is `suspects.csv` of this folder.
    """
    if exclude and Path(exclude).expanduser().resolve() == (folder / SUSPECTS_NAME).resolve():
        rule = f"a run writes {SUSPECTS_NAME} in its own folder anew; copy the list, or name another --run_dir"
        raise UserError(f"--exclude: {rule}. Received: {exclude!r}")


def _write(folder: Path, report: dict[str, Any]) -> None:
    _keep_edited(folder)
    run_folder.write_json(folder / FILE_NAME, report)
    text = _to_table(report, manifest.read_labels(folder))
    run_folder.write(folder / SUSPECTS_NAME, lambda file: file.write(text.encode("utf-8", "replace")))


def _to_table(report: dict[str, Any], labels: Mapping[str, str]) -> str:
    """The contents of `suspects.csv`.

    Args:
        report: the contents of `audit.json`.
        labels: of the files.
    """
    rows = [row for row in report["findings"] if "score" in row and row["verdict"] == "warn"]
    # The kinds stay in the order of the report; of each, the most suspicious stands first.
    kinds = list(dict.fromkeys(row["kind"] for row in rows))
    # What a network says of labels is what most users want to see first.
    kinds.sort(key=lambda kind: (*LEARNED_KINDS, kind).index(kind))
    text = io.StringIO(newline="")
    table = csv.writer(text, lineterminator="\n")
    table.writerow(COLUMNS)
    for row in sorted(rows, key=lambda row: (kinds.index(row["kind"]), -row["score"])):
        known = labels.get(row["path"], ""), row.get("suggested", "")
        words = [csv_escaping.escape_formula(word) for word in (row["path"], *known)]
        table.writerow([*words, f"{row['score']:.4f}", row["kind"]])
    return text.getvalue()


def _keep_edited(folder: Path) -> None:
    """Renames a `suspects.csv` that `audit.json` does not give: users delete lines in it."""
    path = folder / SUSPECTS_NAME
    if not path.is_file():
        return
    try:
        report = run_folder.read_json(folder / FILE_NAME, "findings") or {"findings": []}
    # `audit.json` is damaged, and is written anew.
    except UserError:
        report = {"findings": []}
    if not _is_written(path.read_text("utf-8", "replace"), report):
        names = (f"suspects.edited{number}.csv" for number in ("", *range(2, 1000)))
        kept = next(folder / name for name in names if not (folder / name).exists())
        path.replace(kept)
        console.say(f"audit: {path} was edited; it is kept as {kept.name}")


def _is_written(text: str, report: dict[str, Any]) -> bool:
    """Whether a text is the `suspects.csv` of a report. Labels are not compared: an audit removes the manifest that tells them."""
    place = COLUMNS.index("label")
    try:
        found, written = (
            [row[:place] + row[place + 1 :] for row in csv.reader(table.splitlines(keepends=True))]
            for table in (text, _to_table(report, {}).encode("utf-8", "replace").decode())
        )
    # Both files can be edited.
    except (csv.Error, KeyError, TypeError):
        return False
    return found == written
