"""Predictions of an exported SavedModel for files on disk."""

import csv
import glob
import io
import json
from pathlib import Path

import tensorflow as tf

from kerasft import runs, screen
from kerasft.errors import UserError, one_of
from kerasft.export import newest

BATCH = 32
_FORMATS = (".csv", ".jsonl")


def predict(model: str, images: str, out: str) -> int:
    """Labels the pictures of a glob pattern; prints a line a picture, or writes a table.

    Pictures that cannot be read are named, with the reason, and passed over.

    Args:
        model: a SavedModel, or a folder of versions of which the newest is taken.
        images: a file, or a glob pattern (`**` for nested folders).
        out: empty for the screen, or a path that ends in .csv or .jsonl.

    Returns:
        The number of pictures that could not be read.

    Raises:
        UserError: no model, no file that matches, or an unknown kind of table.
    """
    suffix = Path(out).suffix
    if out and suffix not in _FORMATS:
        raise UserError(f"--out: must end in one of {one_of(_FORMATS)}. Received: {out!r}")
    if not images:
        raise UserError("--images: a file or a pattern such as 'photos/**/*.jpg' is needed. Received: ''")
    path = newest(model)
    names = (
        [images]
        if Path(images).is_file()
        else sorted(n for n in glob.glob(images, recursive=True) if Path(n).is_file())
    )
    if not names:
        raise UserError(f"--images: no file matches. Received: {images!r}")
    loaded = tf.saved_model.load(str(path))
    serve = loaded.signatures["serving_default"]
    rows = []
    with screen.progress("predict", len(names)) as advance:
        for start in range(0, len(names), BATCH):
            rows += _scored(serve, names[start : start + BATCH])
            advance(min(BATCH, len(names) - start))
    if out:
        runs.write(Path(out), lambda file: file.write((_csv(rows) if suffix == ".csv" else _jsonl(rows)).encode()))
        screen.say(f"{out}: {len(rows)} files, {sum('error' in row for row in rows)} of them unreadable")
    else:
        for row in rows:
            labels = "  ".join(f"{name} {score:.4f}" for name, score in row.get("labels", []))
            screen.say(f"{row['path']}: {labels or 'ERROR ' + row['error']}")
    return sum("error" in row for row in rows)


def _scored(serve, names: list[str]) -> list[dict]:
    """One row a file: `path` with `labels` (by falling score), or with `error`."""
    rows, contents = [{"path": name} for name in names], []
    for row in rows:
        try:
            contents.append(Path(row["path"]).read_bytes())
        except OSError as error:
            row["error"], _ = error.strerror or str(error), contents.append(b"")
    good = [i for i, row in enumerate(rows) if "error" not in row]
    try:
        _label(serve, [rows[i] for i in good], [contents[i] for i in good])
    except tf.errors.InvalidArgumentError:  # one bad picture fails its batch: find out which
        for i in good:
            try:
                _label(serve, [rows[i]], [contents[i]])
            except tf.errors.InvalidArgumentError as error:
                rows[i]["error"] = "not a picture that can be decoded: " + _first_line(error)
    return rows


def _label(serve, rows: list[dict], contents: list[bytes]) -> None:
    if rows:
        answer = serve(image_bytes=tf.constant(contents))
        for row, names, scores in zip(rows, answer["classes"].numpy(), answer["scores"].numpy()):
            row["labels"] = [(name.decode(), float(score)) for name, score in zip(names, scores)]


def _first_line(error: tf.errors.OpError) -> str:
    lines = [line for line in error.message.splitlines() if line.strip()]
    return lines[-1].strip()[:160] if lines else type(error).__name__


def _csv(rows: list[dict]) -> str:
    buffer = io.StringIO()
    table = csv.writer(buffer)
    table.writerow(["path", "class", "score", "error"])
    for row in rows:
        name, score = row["labels"][0] if "labels" in row else ("", "")
        table.writerow([row["path"], name, score, row.get("error", "")])
    return buffer.getvalue().encode("utf-8", "backslashreplace").decode()


def _jsonl(rows: list[dict]) -> str:
    lines = []
    for row in rows:
        labels = [{"class": name, "score": score} for name, score in row.get("labels", [])]
        lines.append(json.dumps({"path": row["path"], **({"labels": labels} if labels else {"error": row["error"]})}))
    return "\n".join(lines) + "\n"
