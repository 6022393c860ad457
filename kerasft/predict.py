"""Predictions of an exported SavedModel for files on disk."""

import csv
import glob
import io
import json
from pathlib import Path

import tensorflow as tf

from kerasft import runs, screen
from kerasft.errors import UserError, one_of
from kerasft.export import about, newest

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
    told = about(path)
    targets = told.get("classes", [])
    rows = []
    with screen.progress("predict", len(names)) as advance:
        for start in range(0, len(names), BATCH):
            rows += _scored(serve, targets, names[start : start + BATCH])
            advance(min(BATCH, len(names) - start))
    if out:
        text = _csv(rows, several=told.get("task") == "multi_label") if suffix == ".csv" else _jsonl(rows)
        runs.write(Path(out), lambda file: file.write(text.encode("utf-8", "backslashreplace")))
        screen.say(f"{out}: {len(rows)} files, {sum('error' in row for row in rows)} of them unreadable")
    else:
        for row in rows:
            said = [*row.get("labels", []), *row.get("values", {}).items()]
            text = "  ".join(f"{name} {number:.4f}" for name, number in said) or "none of the labels"
            screen.say(f"{row['path']}: " + (f"ERROR {row['error']}" if "error" in row else text))
    return sum("error" in row for row in rows)


def _scored(serve, targets: list[str], names: list[str]) -> list[dict]:
    """One row a file: `path` with `labels` (by falling score) or `values` (by target), or with `error`."""
    rows, contents = [{"path": name} for name in names], []
    for row in rows:
        try:
            contents.append(Path(row["path"]).read_bytes())
        except OSError as error:
            row["error"], _ = error.strerror or str(error), contents.append(b"")
    good = [i for i, row in enumerate(rows) if "error" not in row]
    try:
        _answer(serve, targets, [rows[i] for i in good], [contents[i] for i in good])
    except tf.errors.InvalidArgumentError:  # one bad picture fails its batch: find out which
        for i in good:
            try:
                _answer(serve, targets, [rows[i]], [contents[i]])
            except tf.errors.InvalidArgumentError as error:
                rows[i]["error"] = "not a picture that can be decoded: " + _first_line(error)
    return rows


def _answer(serve, targets: list[str], rows: list[dict], contents: list[bytes]) -> None:
    """Adds what the model says: the best labels, of several labels those that it takes for present, or values."""
    if not rows:
        return
    answer = {name: value.numpy() for name, value in serve(image_bytes=tf.constant(contents)).items()}
    for i, row in enumerate(rows):
        if "values" in answer:
            values = answer["values"][i].tolist()
            row["values"] = dict(zip(targets or [f"value_{j}" for j in range(len(values))], values))
        elif "predicted" in answer:
            scores = answer["probabilities"][i]
            present = [j for j in (-scores).argsort() if answer["predicted"][i, j]]
            row["labels"] = [(targets[j] if targets else str(j), float(scores[j])) for j in present]
        else:
            pairs = zip(answer["classes"][i], answer["scores"][i])
            row["labels"] = [(name.decode(), float(score)) for name, score in pairs]


def _first_line(error: tf.errors.OpError) -> str:
    lines = [line for line in error.message.splitlines() if line.strip()]
    return lines[-1].strip()[:160] if lines else type(error).__name__


def _csv(rows: list[dict], *, several: bool) -> str:
    """`path,class,score,error`; of several labels `path,labels,error`, parted by `|`; or a column a target."""
    targets = next((list(row["values"]) for row in rows if "values" in row), None)
    buffer = io.StringIO()
    table = csv.writer(buffer)
    middle = targets if targets else ["labels"] if several else ["class", "score"]
    table.writerow(["path", *middle, "error"])
    for row in rows:
        if "error" in row:
            cells = [""] * len(middle)
        elif targets:
            cells = [row["values"][name] for name in targets]
        else:
            cells = ["|".join(name for name, _ in row["labels"])] if several else row["labels"][0]
        table.writerow([row["path"], *cells, row.get("error", "")])
    return buffer.getvalue()


def _jsonl(rows: list[dict]) -> str:
    lines = []
    for row in rows:
        told = {"path": row["path"]} | ({"error": row["error"]} if "error" in row else {})
        told |= {"values": row["values"]} if "values" in row else {}
        told |= {"labels": [{"class": n, "score": s} for n, s in row["labels"]]} if "labels" in row else {}
        lines.append(json.dumps(told))
    return "\n".join(lines) + "\n"
