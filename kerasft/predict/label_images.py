"""`--mode=predict`: labels for files, on the screen or as a table."""

import time
from contextlib import closing
from pathlib import Path

from kerasft.console import console, stderr_filter
from kerasft.predict import batches, sources
from kerasft.predict.predictions import Model, Prediction
from kerasft.settings.errors import UserError, one_of
from kerasft.storage import run_folder

FORMS = (".csv", ".jsonl", ".parquet")


def predict(model: str, images: str, out: str, url: str = "") -> int:
    """Labels pictures; prints a line a picture, or writes a table.

    A picture that cannot be read or decoded has the reason in its place. A table appears whole; until then what is
    finished waits in `OUT.part`, and the same command goes on from there.

    Args:
        model: a SavedModel, or a folder of versions of which the newest is taken; under `url` only the names of classes
            are taken from it, if it is given.
        images: a folder, a table with a column `path`, a file, or a glob pattern: see `sources.pictures`.
        out: empty for the screen, or a path that ends in .csv, .jsonl or .parquet: see `tables.writer`.
        url: of a model on a server (`http://HOST:PORT/v1/models/NAME`) that is asked instead.

    Returns:
        The number of pictures that could not be read.

    Raises:
        UserError: no model, no server that answers, no file that matches, or an unknown kind of table.
    """
    if out and Path(out).suffix not in FORMS:
        raise UserError(f"--out: must end in one of {one_of(FORMS)}. Received: {out!r}")
    if out and Path(out).is_dir():
        raise UserError(f"--out: is a folder. Received: {out!r}")
    if not images:
        raise UserError(
            "--images: a file, a folder, a .csv with a column path, or a pattern such as 'photos/**/*.jpg' is needed. "
            "Received: ''"
        )
    with stderr_filter.without_notices():
        service = _service(model, url)
        if not out:
            return _on_screen(service, sources.pictures(images))
        try:
            return _as_table(service, images, Path(out))
        except OSError as error:
            reason = f"{error.strerror}: {error.filename}"
            raise UserError(f"--out: cannot be written ({reason}). Received: {out!r}") from error


def _service(model: str, url: str) -> Model:
    if url:
        from kerasft.predict import remote

        return remote.ask(url, model)
    from kerasft.predict import local

    return local.load(model)


def _on_screen(service: Model, pictures: sources.Pictures) -> int:
    names, wrong = pictures.names, 0
    parts = [names[i : i + batches.BATCH_SIZE] for i in range(0, len(names), batches.BATCH_SIZE)]
    with (
        console.progress("predict", len(names)) as advance,
        closing(batches.scored(service, pictures, parts)) as answers,
    ):
        for part, rows in zip(parts, answers):
            for name, row in zip(part, rows):
                console.say(f"{name}: {_words(row)}")
            advance(len(part))
            wrong += sum(row.error is not None for row in rows)
    return wrong


def _words(row: Prediction) -> str:
    if row.error is not None:
        return f"ERROR {row.error}"
    return "  ".join(f"{name} {number:.4f}" for name, number in zip(row.names, row.numbers)) or "none of the labels"


def _as_table(service: Model, images: str, out: Path) -> int:
    from kerasft.predict import (
        chunks,
        table_files,  # late: they need pyarrow, which no other mode does
    )

    folder = chunks.place(out)
    pictures = sources.pictures(images, leave=(out, folder))
    began = time.monotonic()
    with chunks.alone(folder):
        filled, scored = chunks.fill(folder, service, pictures)
        took = time.monotonic() - began
        task, names = service.task, service.names
        if not task or (task == "regression" and not names):  # told by the first answer, if there is one
            task, found = table_files.kind(filled)
            names = names or (found if task == "regression" else [])
        wrong = table_files.failures(filled)
        run_folder.write(out, table_files.writer(out.suffix, filled, task, names))
        for _, path in filled:
            path.unlink()
    count = len(pictures.names)
    console.say(f"{out}: {count:,} files, {wrong:,} of them unreadable; {scored / max(took, 1e-3):.0f} scored a second")
    return wrong
