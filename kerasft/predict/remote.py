"""A model on a server, by TensorFlow Serving's REST predict API (tensorflow.org/tfx/serving/api_rest)."""

import base64
import urllib.error
from urllib.parse import quote, unquote, urlsplit

import numpy as np

from kerasft.export import model_folders
from kerasft.predict import http_json
from kerasft.predict.predictions import Model, Prediction, check_size, find_task, refused_batch, to_predictions
from kerasft.settings.errors import UserError

# So many requests are sent at once.
MAX_CONCURRENT_REQUESTS = 4
# A request of more than one image has at most so many bytes of images.
MAX_REQUEST_BYTES = 8_000_000
_TYPES = {"classes": str, "scores": np.float32, "probabilities": np.float32, "predicted": bool, "values": np.float32}


def connect(url: str, model: str = "", artefact: str = "") -> Model:
    """Returns a model of a server.

    The names of classes or targets come from `model`, or from `/about` of kerasft's own server. TensorFlow Serving gives
    only the names of the top five classes of each image. Each answer is compared with task and names.

    Args:
        url: `http://HOST:PORT/v1/models/NAME`, or one version of it with `/versions/V`. A key in the environment
            variable KERASFT_API_KEY goes with each request.
        model: as `--model`, or empty.
        artefact: as `--artefact`.

    Raises:
        UserError: the URL is invalid, `artefact` stands without `model`, the server does not answer within `http_json.RETRY_SECONDS`,
            it has no such model, or refuses the key; or `model` has another task or other names than it.
    """
    url = url.removesuffix("/").removesuffix(":predict")
    if not _is_model_url(url):
        raise UserError(f"--url: must be http://HOST:PORT/v1/models/NAME, or https. Received: {url!r}")
    if artefact and not model:
        raise UserError(
            f"--artefact: needs --model; with --url alone the server chooses its own. Received: {artefact!r}"
        )
    # The name of a model may have any character.
    url = quote(url, safe="%/:[]")
    headers = {"Content-Type": "application/json", **http_json.key_header()}
    metadata = _read_metadata(url, model, artefact, headers)
    task, names = metadata.get("task") or "", metadata.get("classes") or []

    def predict(contents: list[bytes]) -> list[Prediction]:
        # A server may have other limits, or none. The rows are those of a local model.
        for one in contents:
            check_size(one)
        size = sum(map(len, contents))
        if len(contents) > 1 and size > MAX_REQUEST_BYTES:
            half = len(contents) // 2
            return predict(contents[:half]) + predict(contents[half:])
        encoded = b",".join(b'{"b64":"' + base64.b64encode(content) + b'"}' for content in contents)
        try:
            response = http_json.with_retries(
                url, lambda: http_json.send(f"{url}:predict", headers, b'{"instances":[' + encoded + b"]}")
            )
        except urllib.error.HTTPError as error:
            if error.code in (400, 413):
                # kerasft's server names the place in the request.
                raise refused_batch(http_json.error_text(error).removeprefix("instances[0]: ")) from None
            raise http_json.server_error(url, error) from None
        outputs = _parse_outputs(url, response, len(contents))
        if fault := _compare_tasks(task, find_task(outputs)) or _find_fault(outputs, names):
            raise _version_error(url, model, fault)
        return to_predictions(outputs, names)

    def digest() -> str:
        # Another model may have the same number: an unnumbered folder is version 1.
        return f"{url} {_version(url, headers)} {_read_about(url, headers).get('run')} {names}"

    return Model(predict, digest, task, names, MAX_CONCURRENT_REQUESTS)


def _is_model_url(url: str) -> bool:
    try:
        parts = urlsplit(url)
        known = parts.scheme in ("http", "https") and parts.hostname and (parts.port is None or parts.port > 0)
        # What Python does with the name when it connects.
        (parts.hostname or "").encode("idna")
    # The port or the address is invalid, or a part of the name is empty or too long.
    except ValueError:
        return False
    return bool(known) and "/v1/models/" in parts.path and not (parts.username or parts.query or parts.fragment)


def _read_metadata(url: str, model: str, artefact: str, headers: dict[str, str]) -> dict:
    """Returns task and names, from the local model or from kerasft's own server."""
    # Waits for the server, and reports a wrong URL or key.
    _version(url, headers)
    about = _read_about(url, headers)
    if not model:
        return about
    metadata = model_folders.read_metadata(model_folders.newest(model, artefact))
    pairs = zip(metadata.get("classes") or [], about.get("classes") or [])
    different = next((_describe_names(*pair) for pair in pairs if pair[0] != pair[1]), "")
    if fault := _compare_tasks(metadata.get("task"), about.get("task")) or different:
        raise _version_error(url, model, fault)
    return metadata


def _read_about(url: str, headers: dict[str, str]) -> dict:
    """Returns what kerasft's own server says of the model; {} where it is another server, or another model."""
    top, _, rest = url.partition("/v1/models/")
    try:
        about = http_json.with_retries(url, lambda: http_json.send(f"{top}/about", headers))
    except http_json.NoJson:
        return {}
    except urllib.error.HTTPError as error:
        # Another server has no such page. One that fails may be kerasft's, whose names would be lost.
        if error.code < 500:
            return {}
        raise http_json.server_error(url, error) from None
    same = isinstance(about, dict) and about.get("name") == unquote(rest.partition("/")[0])
    return about if same else {}


def _version(url: str, headers: dict[str, str]) -> str:
    """Returns the versions that the server has loaded. Empty if it does not give them."""
    try:
        metadata = http_json.with_retries(url, lambda: http_json.send(url, headers))
    except urllib.error.HTTPError as error:
        if error.code in (401, 403, 404):
            raise http_json.server_error(url, error) from None
        return ""
    states = metadata.get("model_version_status", []) if isinstance(metadata, dict) else []
    return " ".join(sorted(str(row.get("version")) for row in states if row.get("state") == "AVAILABLE"))


def _parse_outputs(url: str, response: dict, count: int) -> dict[str, np.ndarray]:
    """Converts the rows of a response to arrays. A single output has no name (TensorFlow Serving's rule)."""
    try:
        rows = response["predictions"]
        if rows and not isinstance(rows[0], dict):
            rows = [{"values": row} for row in rows]
        known = [name for name in _TYPES if name in rows[0]]
        arrays = {name: np.array([row[name] for row in rows], _TYPES[name]) for name in known}
        right = len(rows) == count and arrays.get("values", arrays.get("probabilities")).ndim == 2
        if "values" not in arrays:
            right &= "scores" in arrays and arrays["classes"].shape[1] <= arrays["probabilities"].shape[1]
    except (KeyError, IndexError, TypeError, ValueError, AttributeError):
        right = False
    if not right:
        raise UserError(f"--url: the outputs are not those of a model that kerasft has exported. Received: {url!r}")
    return arrays


def _find_fault(outputs: dict[str, np.ndarray], names: list[str]) -> str:
    """Returns how the answers contradict the names of all classes or targets; empty where they do not."""
    answers = outputs["values" if "values" in outputs else "probabilities"]
    if names and len(names) != answers.shape[1]:
        return f"has {len(names)} classes, the server's has {answers.shape[1]}"
    if not names or "classes" not in outputs:
        return ""
    # The order of `tf.math.top_k`. Equal probabilities may come in another one.
    order = (-answers).argsort(-1, kind="stable")
    falling = np.take_along_axis(answers, order, -1)
    distinct = np.pad(falling[:, 1:] < falling[:, :-1], ((0, 0), (1, 1)), constant_values=True)
    distinct = (distinct[:, 1:] & distinct[:, :-1])[:, : outputs["classes"].shape[1]]
    ours = np.array(names)[order[:, : outputs["classes"].shape[1]]]
    wrong = np.argwhere(distinct & (ours != outputs["classes"]))
    return _describe_names(ours[tuple(wrong[0])], outputs["classes"][tuple(wrong[0])]) if len(wrong) else ""


def _describe_names(ours: str, theirs: str) -> str:
    return f"calls '{ours}' what the server's calls '{theirs}'"


def _compare_tasks(ours: str | None, theirs: str | None) -> str:
    """Returns how two tasks contradict each other; empty where they do not, or one is unknown."""
    return f"is of the task {ours}, the server's of {theirs}" if ours and theirs and ours != theirs else ""


def _version_error(url: str, model: str, fault: str) -> UserError:
    """The error for a task or names that are not those of the model on the server."""
    if model:
        return UserError(f"--model: {fault}; it must be the version that the server has. Received: {model!r}")
    return UserError(f"--url: what /about names {fault}; the same command starts over. Received: {url!r}")
