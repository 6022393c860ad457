"""The version that answers, and the watch over the folder that it comes from."""

import asyncio

import kserve

from kerasft.console import console
from kerasft.export.saved_model import LOAD_ERRORS
from kerasft.serve import metrics, open_inference_v2, tfserving_v1
from kerasft.serve.batching import BadRow, Batcher
from kerasft.serve.limits import Refusal
from kerasft.serve.versions import Source, Version, best, fingerprint, load
from kerasft.settings.errors import UserError

POLL_SECONDS = 1.0  # seconds between two looks at the folder
LARGE_BODY_BYTES = 1 << 20  # bytes of a body whose pictures are looked at in a thread, so that others need not wait


class Served(kserve.Model):
    """One version, as KServe calls it with what either protocol asked."""

    def __init__(self, name: str, version: Version, batcher: Batcher):
        super().__init__(name)
        self.version, self.batcher, self.ready = version, batcher, True

    async def predict(self, payload, headers=None, response_headers=None):
        """A TensorFlow Serving body (JSON, parsed or not) or an InferRequest to the answer that KServe encodes."""
        limits, version = self.batcher.limits, self.version
        large = int((headers or {}).get("content-length", 0)) > LARGE_BODY_BYTES
        read = (
            open_inference_v2.parse_request if isinstance(payload, kserve.InferRequest) else tfserving_v1.parse_request
        )
        parse_request = (
            await asyncio.to_thread(read, payload, version, limits) if large else read(payload, version, limits)
        )
        try:
            outputs = await self.batcher.answer(parse_request.signature.call, parse_request.rows)
        except BadRow as bad:
            raise Refusal(400, f"{parse_request.where}[{bad.row}]: cannot be decoded ({bad.why}).") from None
        if isinstance(payload, kserve.InferRequest):
            return open_inference_v2.answer(payload, version, outputs)
        return tfserving_v1.answer(outputs, parse_request.where == tfserving_v1.ROWS)

    def get_input_types(self) -> list[dict]:
        """Of `serving_default`, for `/v2/models/NAME`."""
        signature = self.version.signatures[tfserving_v1.DEFAULT]
        return [open_inference_v2.metadata(signature.name, signature.spec)]

    def get_output_types(self) -> list[dict]:
        """Of `serving_default`, for `/v2/models/NAME`."""
        outputs = self.version.signatures[tfserving_v1.DEFAULT].outputs
        return [open_inference_v2.metadata(name, spec) for name, spec in outputs.items()]


class VersionRepository(kserve.ModelRepository):
    """KServe's repository with one model in it, under its name and as `NAME/versions/NUMBER`.

    Requests keep the version that they began with; who comes after a `put` gets the new one.
    """

    def __init__(self, name: str, batcher: Batcher):
        super().__init__()
        self.name, self.batcher = name, batcher

    @property
    def current(self) -> Version:
        """The version that answers."""
        return self.models[self.name].version

    def put(self, version: Version) -> None:
        """Lets a version answer from now on."""
        served = Served(self.name, version, self.batcher)
        self.models = {self.name: served, f"{self.name}/versions/{version.number}": served}
        metrics.VERSION.set(version.number)

    def get_models(self) -> dict[str, Served]:
        """The model, once."""
        return {self.name: self.models[self.name]}


def first(source: Source, batch: int) -> Version:
    """The highest version that can be loaded; those above it, which cannot, are named.

    Raises:
        UserError: none can; why the highest one cannot.
    """
    refused, errors = {}, {}
    while path := best(source, refused):
        refused[path] = fingerprint(path)
        try:
            found = load(path, batch)
        except (*LOAD_ERRORS, UserError) as error:
            errors[path] = error
            continue
        for above, error in errors.items():
            console.say(_passed_over(above, error))
        return found
    if not errors:
        raise UserError(f"--model: no version of it can be loaded. Received: '{source.folder}'")
    path, error = next(iter(errors.items()))
    rule = "no version of it can be loaded" if len(errors) > 1 else "it cannot be loaded"
    raise UserError(f"--model: {rule} ({_reason(error)}). Received: '{path}'")


async def watch(repository: VersionRepository, source: Source) -> None:
    """Looks at the folder each second, until it is cancelled: loads what is new, goes back where the newest is gone."""
    refused, batch, missing = {}, repository.batcher.limits.batch, False
    while True:
        await asyncio.sleep(POLL_SECONDS)
        path = await asyncio.to_thread(best, source, refused)
        if (path is None) != missing:
            missing = path is None
            if missing:
                console.say(
                    f"no version is left in {source.folder}: version {repository.current.number} goes on answering"
                )
        if path is None:
            continue
        seen = await asyncio.to_thread(fingerprint, path)
        if (path, seen) == (repository.current.path, repository.current.fingerprint):
            continue
        loading = asyncio.create_task(asyncio.to_thread(load, path, batch))
        await asyncio.wait([loading])
        if error := loading.exception():  # of whatever kind: the version before goes on
            refused[path] = seen
            console.say(_passed_over(path, error))
            continue
        before = repository.current.number
        repository.put(loading.result())
        console.say(f"version {repository.current.number} answers now, after version {before}")


def _passed_over(path, error: Exception) -> str:
    return f"{path} cannot be loaded and is passed over: {_reason(error)}"


def _reason(error: Exception) -> str:
    """The first line of what was wrong, without the flag and the folder, which are said around it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    first = lines[0] if lines else type(error).__name__
    if isinstance(error, UserError):
        first = first.removeprefix("--model: ").partition(". Received: ")[0]
    return first[:300]
