"""TensorFlow Serving's REST API: its request bodies to rows, outputs to its answers.

https://www.tensorflow.org/tfx/serving/api_rest describes both formats: rows (`instances`, answered by `predictions`) and
columns (`inputs`, answered by `outputs`). Binary values are `{"b64": ...}`; a tensor that stands alone needs no name.
"""

import base64
from typing import NamedTuple

import numpy as np
import orjson

from kerasft.serve import image_checks
from kerasft.serve.limits import Limits, Refusal
from kerasft.serve.versions import Signature, Version

DEFAULT = "serving_default"
ROWS, COLUMNS = "instances", "inputs"


class Asked(NamedTuple):
    """What a request asks: a signature, its rows, and where in the body they stood."""

    signature: Signature
    rows: list
    where: str


def parse_request(body: object, version: Version, limits: Limits) -> Asked:
    """What a body asks for; `where` is ROWS or COLUMNS.

    Args:
        body: parsed JSON; or bytes, which KServe leaves to us unless they are called JSON.

    Raises:
        Refusal: the body is none of TensorFlow Serving's, or a picture in it is not taken.
    """
    if isinstance(body, bytes):
        try:
            body = orjson.loads(body)
        except orjson.JSONDecodeError as error:
            raise Refusal(400, f"The body is not JSON: {error}") from None
    if not isinstance(body, dict) or (ROWS in body) == (COLUMNS in body):
        raise Refusal(400, "The body must be a JSON object with either 'instances' (rows) or 'inputs' (columns).")
    signature = chosen(body.get("signature_name"), version)
    if ROWS in body:
        where, values = ROWS, body[ROWS]
        if isinstance(values, list):
            values = [_unnamed(value, signature, f"{ROWS}[{i}]") for i, value in enumerate(values)]
    else:
        where, values = COLUMNS, _unnamed(body[COLUMNS], signature, COLUMNS)
        values = [values] if isinstance(values, dict) else values
    if not isinstance(values, list) or not values:
        raise Refusal(400, f"{where}: must be a list of at least one value.")
    return Asked(signature, read(values, signature, where, limits), where)


def chosen(name: object, version: Version) -> Signature:
    """The signature of a name, `serving_default` where it is None or empty.

    Raises:
        Refusal: there is none of that name.
    """
    name = name or DEFAULT
    if not isinstance(name, str) or name not in version.signatures:
        choices = ", ".join(sorted(version.signatures))
        raise Refusal(400, f"signature_name: must be one of {choices}. Received: {str(name)[:80]!r}")
    return version.signatures[name]


def read(values: list, signature: Signature, where: str, limits: Limits) -> list:
    """Values of a request to what the signature takes: encoded pictures, each looked at, or arrays.

    Raises:
        Refusal: too many, or one is not taken; it is named.
    """
    if len(values) > limits.pictures:
        raise Refusal(413, f"{where}: at most {limits.pictures} pictures in a request (--max_queue).")
    if not signature.encoded:
        return [_array(value, signature, f"{where}[{i}]") for i, value in enumerate(values)]
    rows = [_binary(value, f"{where}[{i}]") for i, value in enumerate(values)]
    for index, row in enumerate(rows):
        image_checks.check(row, limits.pixels, f"{where}[{index}]")
    return rows


def answer(outputs: dict[str, np.ndarray], as_rows: bool) -> dict:
    """The answer as JSON will have it; numbers stay in their arrays, which orjson writes out."""
    columns = {name: _shown(name, value) for name, value in outputs.items()}
    only = next(iter(columns.values())) if len(columns) == 1 else None
    if not as_rows:
        return {"outputs": columns if only is None else only}
    if only is not None:
        return {"predictions": only}
    return {"predictions": [dict(zip(columns, row)) for row in zip(*columns.values())]}


def _unnamed(value: object, signature: Signature, where: str) -> object:
    """The value of `{"image_bytes": value}`; one without a name is itself."""
    if not isinstance(value, dict) or set(value) == {"b64"}:
        return value
    if set(value) != {signature.name}:
        raise Refusal(400, f"{where}: the only input is {signature.name!r}. Received: {sorted(value)[:5]}")
    return value[signature.name]


def _binary(value: object, where: str) -> bytes:
    if isinstance(value, bytes):
        return value
    if not isinstance(value, dict) or set(value) != {"b64"}:
        raise Refusal(400, f'{where}: an encoded picture is written {{"b64": "..."}}.')
    return image_checks.from_base64(value["b64"], where)


def _array(value: object, signature: Signature, where: str) -> np.ndarray:
    shape = tuple(signature.spec.shape[1:])
    try:
        with np.errstate(over="ignore"):
            found = np.asarray(value, signature.spec.dtype.as_numpy_dtype)
    except (ValueError, TypeError, OverflowError):
        found = None
    if found is None or found.shape != shape or not np.isfinite(found).all():
        raise Refusal(400, f"{where}: must be finite numbers of shape {list(shape)}.")
    return found


def _shown(name: str, value: np.ndarray) -> object:
    """Strings are text, or base64 where the output's name ends in `_bytes`, as TensorFlow Serving has it."""
    if value.dtype != object:
        return value
    if name.endswith("_bytes"):
        return _each(value, lambda text: {"b64": base64.b64encode(text).decode()})
    return _each(value, lambda text: text.decode("utf-8", "replace"))


def _each(value: np.ndarray, form) -> list:
    return [form(one) if isinstance(one, bytes) else _each(one, form) for one in value]
