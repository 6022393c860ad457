"""The mode `predict`: predictions for image files, printed or written to a table."""

import os
import time
from contextlib import closing
from pathlib import Path

from kerasft.console import console, stderr_filter
from kerasft.predict import batches, sources
from kerasft.predict.predictions import Model, Prediction, refuse_change
from kerasft.settings.errors import UserError, one_of
from kerasft.storage import run_folder

# The kinds of tables that `--out` may name.
TABLE_SUFFIXES = (".csv", ".jsonl", ".parquet")


def predict(model: str, images: str, out: str, url: str = "", artefact: str = "") -> int:
    """Predicts images. Prints one line for each image, or writes a table.

    An image that cannot be read or decoded gets an error message instead. The table appears when it is complete. Until
    then finished chunks are in `OUT.part`, and the same command resumes from there.

    Args:
        model: a SavedModel, an artefact, or a folder of versions, of which the newest is used. With `url`, only its class names are
            used; it may be empty then.
        images: a folder, a table with a column `path`, a file, or a glob pattern: see `sources.find_images`.
        out: empty to print, or a path that ends in .csv, .jsonl or .parquet: see `table_files.make_writer`.
        url: of a model on a server (`http://HOST:PORT/v1/models/NAME`) that is used instead.
        artefact: the subfolder of a version that is used, such as `onnx`; empty for the only one.

    Returns:
        The number of images that could not be read.

    Raises:
        UserError: there is no model, the server does not answer, no file matches, the kind of table is unknown, or `out` is
            another file already.
    """
    if out and Path(out).suffix not in TABLE_SUFFIXES:
        raise UserError(f"--out: must end in one of {one_of(TABLE_SUFFIXES)}. Received: {out!r}")
    if out and Path(out).is_dir():
        raise UserError(f"--out: is a folder. Received: {out!r}")
    if not images:
        raise UserError(
            "--images: a file, a folder, a .csv with a column path, or a pattern such as 'photos/**/*.jpg' is needed. "
            "Received: ''"
        )
    if out and os.path.exists(out) and os.path.exists(images) and os.path.samefile(out, images):
        raise UserError(f"--out: is the table of --images, which stays as it is; name another file. Received: {out!r}")
    if out and os.path.exists(out):
        from kerasft.predict import table_files

        if not table_files.is_table(Path(out)):
            raise UserError(f"--out: is there already, and no table of predict; name another file. Received: {out!r}")
    with stderr_filter.without_notices():
        loaded = _load_model(model, url, artefact)
        if not out:
            return _print_predictions(loaded, sources.find_images(images))
        # Imported here because it needs pyarrow, which no other mode needs.
        from kerasft.predict import chunks

        # Images that cannot be read are no fault of --out.
        found = sources.find_images(images, exclude=(Path(out), chunks.chunk_folder(Path(out))))
        try:
            return _write_table(loaded, found, Path(out))
        except OSError as error:
            reason = f"{error.strerror}: {error.filename}"
            raise UserError(f"--out: cannot be written ({reason}). Received: {out!r}") from error


def _load_model(model: str, url: str, artefact: str) -> Model:
    if url:
        from kerasft.predict import remote

        return remote.connect(url, model, artefact)
    from kerasft.predict import local

    return local.load(model, artefact)


def _print_predictions(model: Model, images: sources.ImageFiles) -> int:
    names, failed, digest = images.names, 0, model.digest()
    parts = [names[i : i + batches.BATCH_SIZE] for i in range(0, len(names), batches.BATCH_SIZE)]
    with (
        console.progress("predict", len(names)) as advance,
        closing(batches.predict_batches(model, images, parts)) as predictions,
    ):
        for part, rows in zip(parts, predictions):
            refuse_change(model, digest)
            for name, row in zip(part, rows):
                console.say(f"{name}: {_format_prediction(row)}")
            advance(len(part))
            failed += sum(row.error is not None for row in rows)
    return failed


def _format_prediction(row: Prediction) -> str:
    if row.error is not None:
        return f"ERROR {row.error}"
    # Values of targets have any size, scores are below 1.
    write = console.format_metric if row.task == "regression" else "{:.4f}".format
    return (
        "  ".join(f"{name} {write(float(number))}" for name, number in zip(row.names, row.numbers))
        or "none of the labels"
    )


def _write_table(model: Model, image_files: sources.ImageFiles, out: Path) -> int:
    # Imported here because they need pyarrow, which no other mode needs.
    from kerasft.predict import (
        chunks,
        table_files,
    )

    folder = chunks.chunk_folder(out)
    started = time.monotonic()
    with chunks.lock_folder(folder):
        finished, predicted = chunks.predict_chunks(folder, model, image_files)
        seconds = time.monotonic() - started
        task, names = model.task, model.names
        # A server may not give them. Then the first prediction does.
        if not task or (task == "regression" and not names):
            task, found = table_files.read_task_and_names(finished)
            names = names or (found if task == "regression" else [])
        failed = table_files.count_failures(finished)
        run_folder.write(out, table_files.make_writer(out.suffix, finished, task, names))
        for _, path in finished:
            path.unlink()
    count = len(image_files.names)
    console.say(
        f"{out}: {count:,} files, {failed:,} of them failed; {predicted / max(seconds, 1e-3):.0f} images a second"
    )
    return failed
