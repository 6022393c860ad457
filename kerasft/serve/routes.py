"""Routes that are added to KServe's application: the page, TensorFlow Serving's status and metadata, and v2 requests."""

import base64
import hashlib
import re
from pathlib import Path

import orjson
from fastapi import APIRouter, FastAPI, Request, Response
from kserve.errors import ModelNotFound
from kserve.protocol.dataplane import DataPlane
from kserve.protocol.rest.v1_endpoints import V1Endpoints
from starlette.exceptions import HTTPException

from kerasft.serve import open_inference_v2
from kerasft.serve.limits import Limits, RequestError
from kerasft.serve.repository import ServedModel, VersionRepository

PAGE = Path(__file__).with_name("page.html")
JSON = "application/json"


def register(app: FastAPI, repository: VersionRepository, limits: Limits, lifespan) -> None:
    """Adds the routes before those of KServe, and the handlers that format errors."""
    app.include_router(_pages(repository, limits, lifespan))
    app.include_router(_tensorflow_serving(repository))
    app.include_router(_open_inference(repository))
    app.add_exception_handler(RequestError, lambda _, error: _error(error.status, error.text, error.headers))
    app.add_exception_handler(HTTPException, lambda _, error: _error(error.status_code, error.detail, error.headers))


def _pages(repository: VersionRepository, limits: Limits, lifespan) -> APIRouter:
    router, text = APIRouter(lifespan=lifespan, include_in_schema=False), PAGE.read_bytes()
    headers = {
        "Content-Security-Policy": content_security_policy(text.decode()),
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Cache-Control": "no-cache",
    }

    @router.get("/")
    async def page() -> Response:
        return Response(text, media_type="text/html; charset=utf-8", headers=headers)

    @router.get("/about")
    async def about() -> Response:
        metadata = repository.current.model.metadata
        json_limits = {"body_bytes": limits.max_body_bytes, "pixels": limits.max_pixels, "pictures": limits.max_images}
        return _json(
            {"name": repository.name, "version": repository.current.number}
            | {key: metadata.get(key) for key in ("run", "task", "classes", "image_size", "framing")}
            | {"limits": json_limits}
        )

    return router


def content_security_policy(page: str) -> str:
    """Returns a Content-Security-Policy that allows only the scripts and styles of a page, by their digests."""

    def digests(tag: str) -> str:
        found = re.findall(rf"<{tag}[^>]*>(.*?)</{tag}>", page, re.DOTALL)
        sums = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in found]
        return " ".join(f"'sha256-{digest}'" for digest in sums) or "'none'"

    return (
        f"default-src 'none'; script-src {digests('script')}; style-src {digests('style')}; img-src 'self' blob: data:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def _tensorflow_serving(repository: VersionRepository) -> APIRouter:
    router, kserve = APIRouter(prefix="/v1/models/{name}", include_in_schema=False), V1Endpoints(DataPlane(repository))

    @router.post("/versions/{number}:predict")
    async def predict(name: str, number: str, request: Request):
        return await kserve.predict(f"{name}/versions/{number}", request)

    @router.get("")
    @router.get("/versions/{number}")
    async def status(name: str, number: str = "") -> Response:
        served = _find_model(repository, name, number)
        state = {"state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
        return _json({"model_version_status": [{"version": str(served.version.number), **state}]})

    @router.get("/metadata")
    @router.get("/versions/{number}/metadata")
    async def metadata(name: str, number: str = "") -> Response:
        version = _find_model(repository, name, number).version
        spec = {"name": name, "signature_name": "", "version": str(version.number)}
        return _json({"model_spec": spec, "metadata": {"signature_def": {"signature_def": version.model.definitions}}})

    return router


def _open_inference(repository: VersionRepository) -> APIRouter:
    router, dataplane = APIRouter(prefix="/v2", include_in_schema=False), DataPlane(repository)

    @router.post("/models/{name}/infer")
    @router.post("/models/{name}/versions/{number}/infer")
    async def infer(name: str, request: Request, number: str = "") -> Response:
        served = _find_model(repository, name, number)
        headers = dict(request.headers)
        infer_request = open_inference_v2.parse_body(
            await request.body(), headers.get("inference-header-content-length"), name
        )
        answer, response_headers = await served(infer_request, headers=headers)
        body, length = answer.to_rest()
        if length is None:
            return _json(body, response_headers)
        response_headers |= {"Inference-Header-Content-Length": str(length)}
        return Response(body, media_type="application/octet-stream", headers=response_headers)

    @router.get("/models/{name}")
    @router.get("/models/{name}/versions/{number}")
    async def metadata(name: str, number: str = "") -> Response:
        version = _find_model(repository, name, number).version
        metadata = await dataplane.model_metadata(name)
        return _json({**metadata, "versions": [str(version.number)], "platform": version.model.platform})

    @router.get("/models/{name}/versions/{number}/ready")
    async def ready(name: str, number: str) -> Response:
        return _json({"name": _find_model(repository, name, number).name, "ready": True})

    @router.api_route("/repository/{rest:path}", methods=["GET", "POST"])
    async def refuse_repository_request(rest: str) -> Response:
        raise HTTPException(404, "Models cannot be loaded or unloaded here: add or remove the folder of a version.")

    return router


def _find_model(repository: VersionRepository, name: str, number: str) -> ServedModel:
    served = repository.get_model(f"{name}/versions/{number}" if number else name)
    if served is None:
        raise ModelNotFound(f"{name}, version {number}" if number else name)
    return served


def _json(value: object, headers: dict[str, str] | None = None) -> Response:
    return Response(orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY), headers=headers, media_type=JSON)


def _error(status: int, text: str, headers: dict | None) -> Response:
    return Response(orjson.dumps({"error": text}), status, headers, JSON)
