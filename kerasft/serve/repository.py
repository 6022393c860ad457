"""The version of the model in use, and the task that watches its folder for new versions."""

import asyncio
from pathlib import Path

import kserve

from kerasft.console import console
from kerasft.export import model_folders
from kerasft.serve import metrics, open_inference_v2, tfserving_v1
from kerasft.serve.batching import Batcher, InvalidInstance
from kerasft.serve.limits import RequestError
from kerasft.serve.versions import Fingerprint, Source, Version, find_newest, fingerprint, load
from kerasft.settings.errors import UserError

# The folder is checked for new versions each time after so many seconds.
POLL_SECONDS = 1.0
# A body of more bytes is parsed in a thread, so that other requests need not wait.
LARGE_BODY_BYTES = 1 << 20


class ServedModel(kserve.Model):
    """One version as a KServe model, for the requests of both protocols."""

    def __init__(self, name: str, version: Version, batcher: Batcher):
        super().__init__(name, return_response_headers=True)
        self.version, self.batcher, self.ready = version, batcher, True

    async def predict(self, payload, headers=None, response_headers=None):
        """Answers a TensorFlow Serving body (JSON, parsed or not) or an InferRequest. KServe encodes the answer.

        The header `x-model-version` of the answer names the version, which another one may have replaced since `/about` was read.
        """
        limits, version = self.batcher.limits, self.version
        if response_headers is not None:
            response_headers["x-model-version"] = str(version.number)
        large = int((headers or {}).get("content-length", 0)) > LARGE_BODY_BYTES
        parse = (
            open_inference_v2.parse_request if isinstance(payload, kserve.InferRequest) else tfserving_v1.parse_request
        )
        if large:
            request = await asyncio.to_thread(parse, payload, version, limits)
        else:
            request = parse(payload, version, limits)
        try:
            outputs = await self.batcher.predict(request.signature.call, request.instances)
        except InvalidInstance as error:
            raise RequestError(400, f"{request.location}[{error.index}]: cannot be decoded ({error.reason}).") from None
        if isinstance(payload, kserve.InferRequest):
            return open_inference_v2.format_response(payload, version, outputs)
        return tfserving_v1.format_response(outputs, request.location == tfserving_v1.ROW_FORMAT)

    def get_input_types(self) -> list[dict]:
        """Returns the inputs of `serving_default` for `/v2/models/NAME`."""
        signature = self.version.model.signatures[tfserving_v1.DEFAULT_SIGNATURE]
        return [open_inference_v2.describe_tensor(signature.name, signature.spec)]

    def get_output_types(self) -> list[dict]:
        """Returns the outputs of `serving_default` for `/v2/models/NAME`."""
        outputs = self.version.model.signatures[tfserving_v1.DEFAULT_SIGNATURE].outputs
        return [open_inference_v2.describe_tensor(name, spec) for name, spec in outputs.items()]


class VersionRepository(kserve.ModelRepository):
    """KServe's repository with one model, under its name and as `NAME/versions/NUMBER`.

    A request keeps the version that it started with. Requests after a `put` get the new version.
    """

    def __init__(self, name: str, batcher: Batcher):
        super().__init__()
        self.name, self.batcher = name, batcher

    @property
    def current(self) -> Version:
        """The version in use."""
        return self.models[self.name].version

    def put(self, version: Version) -> None:
        """Makes this version the one in use."""
        served = ServedModel(self.name, version, self.batcher)
        self.models = {self.name: served, f"{self.name}/versions/{version.number}": served}
        metrics.MODEL_VERSION.set(version.number)

    def get_models(self) -> dict[str, ServedModel]:
        """Returns the model under its name only."""
        return {self.name: self.models[self.name]}


def load_newest(source: Source, batch: int) -> Version:
    """Loads the highest version that can be loaded. A message names each higher one and the reason.

    Raises:
        UserError: no version can be loaded. It gives the reason of the highest one.
    """
    failed, errors = {}, {}
    while path := find_newest(source, failed):
        failed[path] = fingerprint(path)
        try:
            found = load(path, batch)
        except UserError as error:
            errors[path] = error
            continue
        for above, error in errors.items():
            console.say(_describe_failure(above, error))
        return found
    if not errors:
        raise UserError(f"--model: no version of it can be loaded. Received: '{source.folder}'")
    path, error = next(iter(errors.items()))
    rule = "no version of it can be loaded" if len(errors) > 1 else "it cannot be loaded"
    raise UserError(f"--model: {rule} ({_reason(error)}). Received: '{path}'")


async def watch_folder(repository: VersionRepository, source: Source) -> None:
    """Checks the folder each second until it is cancelled. Loads a new version; returns to the one before if it is removed.

    While the folder, or that of the version in use, cannot be read, the version stays in use. It also does where its files were
    damaged since: it is whole in memory.
    """
    failed, batch, said = {}, repository.batcher.limits.max_batch_size, ""
    while True:
        await asyncio.sleep(POLL_SECONDS)
        try:
            path, current_fingerprint = await asyncio.to_thread(_find_newest, source, failed, repository.current)
            rest = "that can be loaded" if failed else "any more"
            trouble = "" if path else f"{source.folder} has no version {rest}"
        # A network disk may be away, or the permissions be wrong. Either may pass.
        except OSError as error:
            trouble = f"{error.filename or source.folder} cannot be read ({error.strerror or error})"
        if trouble and trouble != said:
            console.say(f"{trouble}: version {repository.current.number} stays in use")
        said = trouble
        if trouble:
            continue
        in_use = path == repository.current.path
        if in_use and current_fingerprint in (repository.current.fingerprint, failed.get(path)):
            continue
        loading = asyncio.create_task(asyncio.to_thread(load, path, batch))
        await asyncio.wait([loading])
        # After an error of any kind the version before stays in use.
        if error := loading.exception():
            failed[path] = current_fingerprint
            kept = f"{path} was changed and cannot be loaded ({_reason(error)}): version {repository.current.number} stays in use"
            console.say(kept if in_use else _describe_failure(path, error))
            continue
        before = repository.current.number
        repository.put(loading.result())
        console.say(f"version {repository.current.number} is in use now, instead of version {before}")


def _find_newest(source: Source, failed: dict[Path, Fingerprint], current: Version) -> tuple[Path | None, Fingerprint]:
    """Returns the model folder of the highest version, as `find_newest` does, and its fingerprint.

    The version in use counts as one that can be loaded, as long as its folder is there.

    Raises:
        OSError: the folder of the versions cannot be read, or that of the version in use, which is the highest.
    """
    path = find_newest(source, {key: value for key, value in failed.items() if key != current.path})
    if path == current.path and (error := model_folders.read_error(path)):
        raise error
    return path, fingerprint(path) if path else ()


def _describe_failure(path, error: Exception) -> str:
    return f"{path} cannot be loaded and is skipped: {_reason(error)}"


def _reason(error: Exception) -> str:
    """Returns the first line of an error, without the flag and the folder."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    first = lines[0] if lines else type(error).__name__
    if isinstance(error, UserError):
        first = first.removeprefix("--model: ").partition(". Received: ")[0]
    return first[:300]
