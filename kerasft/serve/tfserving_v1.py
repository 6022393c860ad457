"""TensorFlow Serving's REST API: parses its requests and formats its responses.

https://www.tensorflow.org/tfx/serving/api_rest describes both formats: the row format (`instances`, `predictions`) and the
column format (`inputs`, `outputs`). Binary values are `{"b64": ...}`. A single tensor needs no name.
"""

import base64
from typing import NamedTuple

import numpy as np
import orjson

from kerasft.runtimes import Signature
from kerasft.serve import image_checks
from kerasft.serve.limits import Limits, RequestError
from kerasft.serve.versions import Version

DEFAULT_SIGNATURE = "serving_default"
ROW_FORMAT, COLUMN_FORMAT = "instances", "inputs"

# For whoever sends the bytes of an image, or a form.
_HOW_TO_SEND = 'Send an image as {"instances": [{"b64": "..."}]}, with its bytes in base64.'


class ParsedRequest(NamedTuple):
    """A parsed request.

    Attributes:
        signature: of the model.
        instances: inputs of the signature: encoded images, or arrays.
        location: of the instances in the body, for messages.
    """

    signature: Signature
    instances: list
    location: str


def parse_request(body: object, version: Version, limits: Limits) -> ParsedRequest:
    """Parses the body of a request. The `location` is ROW_FORMAT or COLUMN_FORMAT.

    Args:
        body: parsed JSON, or bytes. KServe parses a body only if its content type is JSON.

    Raises:
        RequestError: the body follows neither format, or an image in it is refused.
    """
    if isinstance(body, bytes):
        try:
            body = orjson.loads(body)
        except orjson.JSONDecodeError as error:
            raise RequestError(400, f"The body is not JSON: {error}. {_HOW_TO_SEND}") from None
    if not isinstance(body, dict) or (ROW_FORMAT in body) == (COLUMN_FORMAT in body):
        raise RequestError(400, "The body must be a JSON object with either 'instances' (rows) or 'inputs' (columns).")
    signature = find_signature(body.get("signature_name"), version)
    if ROW_FORMAT in body:
        location, values = ROW_FORMAT, body[ROW_FORMAT]
        if isinstance(values, list):
            values = [_without_input_name(value, signature, f"{ROW_FORMAT}[{i}]") for i, value in enumerate(values)]
    else:
        location, values = COLUMN_FORMAT, _without_input_name(body[COLUMN_FORMAT], signature, COLUMN_FORMAT)
        values = [values] if isinstance(values, dict) else values
    if not isinstance(values, list) or not values:
        raise RequestError(400, f"{location}: must be a list of at least one value.")
    return ParsedRequest(signature, parse_instances(values, signature, location, limits), location)


def find_signature(name: object, version: Version) -> Signature:
    """Returns the signature of this name, or `serving_default` if the name is None or empty.

    Raises:
        RequestError: the model has no signature of this name.
    """
    name = name or DEFAULT_SIGNATURE
    if not isinstance(name, str) or name not in version.model.signatures:
        choices = ", ".join(sorted(version.model.signatures))
        raise RequestError(400, f"signature_name: must be one of {choices}. Received: {str(name)[:80]!r}")
    return version.model.signatures[name]


def parse_instances(values: list, signature: Signature, location: str, limits: Limits) -> list:
    """Converts values of a request to inputs of the signature: encoded images, each checked, or arrays.

    Raises:
        RequestError: there are too many values, or one is refused. The message names it.
    """
    if len(values) > limits.max_images:
        raise RequestError(413, f"{location}: a request may have at most {limits.max_images} images (--max_queue).")
    if not signature.encoded:
        return [_array(value, signature, f"{location}[{i}]") for i, value in enumerate(values)]
    images = [_decode_binary(value, f"{location}[{i}]") for i, value in enumerate(values)]
    for index, image in enumerate(images):
        image_checks.check_image(image, limits.max_pixels, f"{location}[{index}]")
    return images


def format_response(outputs: dict[str, np.ndarray], row_format: bool) -> dict:
    """Returns the response as a dict for orjson, which also writes NumPy arrays of numbers."""
    columns = {name: _to_json(name, value) for name, value in outputs.items()}
    only = next(iter(columns.values())) if len(columns) == 1 else None
    if not row_format:
        return {"outputs": columns if only is None else only}
    if only is not None:
        return {"predictions": only}
    return {"predictions": [dict(zip(columns, row)) for row in zip(*columns.values())]}


def _without_input_name(value: object, signature: Signature, location: str) -> object:
    """Returns `value` of `{"image_bytes": value}`. A value without a name is returned as it is."""
    if not isinstance(value, dict) or set(value) == {"b64"}:
        return value
    if set(value) != {signature.name}:
        raise RequestError(400, f"{location}: the only input is {signature.name!r}. Received: {sorted(value)[:5]}")
    return value[signature.name]


def _decode_binary(value: object, location: str) -> bytes:
    if isinstance(value, bytes):
        return value
    if not isinstance(value, dict) or set(value) != {"b64"}:
        raise RequestError(400, f'{location}: an encoded image is written {{"b64": "..."}}.')
    return image_checks.decode_base64(value["b64"], location)


def _array(value: object, signature: Signature, location: str) -> np.ndarray:
    shape = tuple(signature.spec.shape[1:])
    try:
        with np.errstate(over="ignore"):
            array = np.asarray(value, signature.spec.dtype)
    except (ValueError, TypeError, OverflowError):
        array = None
    if array is None or array.shape != shape or not np.isfinite(array).all():
        raise RequestError(400, f"{location}: must be finite numbers of shape {list(shape)}.")
    return array


def _to_json(name: str, value: np.ndarray) -> object:
    """Converts strings of an output. As in TensorFlow Serving they are base64 if its name ends in `_bytes`, else text."""
    if value.dtype != object:
        return value
    if name.endswith("_bytes"):
        return _map_nested(value, lambda text: {"b64": base64.b64encode(text).decode()})
    return _map_nested(value, lambda text: text.decode("utf-8", "replace"))


def _map_nested(value: np.ndarray, convert) -> list:
    return [convert(one) if isinstance(one, bytes) else _map_nested(one, convert) for one in value]
