"""The Open Inference Protocol, version 2: parses its requests and formats its responses.

Sources: https://github.com/kserve/open-inference-protocol and Triton's binary extension of it. KServe's own parser decodes
binary strings as UTF-8, which fails for images, and checks JSON element by element. So requests are parsed here, into
KServe's types. KServe writes the response.
"""

import struct

import numpy as np
import orjson
from kserve import InferInput, InferOutput, InferRequest, InferResponse
from kserve.protocol.infer_type import RequestedOutput, deserialize_bytes_tensor
from kserve.utils.numpy_codec import from_np_dtype, to_np_dtype

from kerasft.runtimes import TensorSpec
from kerasft.serve import tfserving_v1
from kerasft.serve.limits import Limits, RequestError
from kerasft.serve.versions import Version


def parse_body(body: bytes, json_length: str | None, name: str) -> InferRequest:
    """Parses a body into KServe's InferRequest. JSON strings stay text; binary strings become bytes.

    Args:
        json_length: the header `Inference-Header-Content-Length`; the binary tensors follow after so many bytes.

    Raises:
        RequestError: the body does not follow the protocol.
    """
    try:
        offset = int(json_length) if json_length is not None else len(body)
        header = orjson.loads(body[:offset])
        inputs = []
        for one in header["inputs"]:
            parameters = dict(one.get("parameters") or {})
            data = one.get("data")
            if data is None:
                size = int(parameters["binary_data_size"])
                data, offset = _decode_tensor(body[offset : offset + size], one["datatype"]), offset + size
            inputs.append(InferInput(str(one["name"]), one["shape"], one["datatype"], data, parameters))
        outputs = header.get("outputs") or []
        requested = [RequestedOutput(str(one["name"]), dict(one.get("parameters") or {})) for one in outputs]
        return InferRequest(
            name, inputs, header.get("id"), None, False, dict(header.get("parameters") or {}), requested
        )
    except KeyError as error:
        raise RequestError(400, f"The request lacks {error.args[0]!r}; see the Open Inference Protocol.") from None
    except (ValueError, TypeError, AttributeError, OverflowError, struct.error) as error:
        raise RequestError(400, f"The body is no request of the Open Inference Protocol: {error}") from None


def parse_request(request: InferRequest, version: Version, limits: Limits) -> tfserving_v1.ParsedRequest:
    """Converts KServe's request. Its parameter `signature_name` selects the signature.

    Raises:
        RequestError: a tensor or an image is refused.
    """
    signature = tfserving_v1.find_signature(request.parameters.get("signature_name"), version)
    unknown = {one.name for one in request.request_outputs} - signature.outputs.keys()
    if unknown:
        raise RequestError(400, f"outputs: must be of {', '.join(signature.outputs)}. Received: {sorted(unknown)[:5]}")
    if [tensor.name for tensor in request.inputs] != [signature.name]:
        raise RequestError(400, f"inputs: the only input is {signature.name!r}.")
    tensor, kind = request.inputs[0], datatype_of(signature.spec.dtype)
    if tensor.datatype != kind:
        raise RequestError(400, f"{signature.name}: datatype must be {kind}. Received: {str(tensor.datatype)[:20]!r}")
    try:
        shape = [int(length) for length in tensor.shape]
        count = shape[0]
        if signature.encoded:
            values = [one for part in tensor.data for one in (part if isinstance(part, list) else [part])]
        else:
            with np.errstate(over="ignore"):
                values = np.asarray(tensor.data, signature.spec.dtype).reshape(shape)
    except (ValueError, TypeError, IndexError, OverflowError):
        raise RequestError(400, f"{signature.name}: its data must have its shape.") from None
    if len(values) != count or count < 1 or (signature.encoded and int(np.prod(shape)) != count):
        raise RequestError(
            400, f"{signature.name}: must have at least one image, and one value for each image. Its shape differs."
        )
    if signature.encoded:
        values = [one if isinstance(one, bytes) else {"b64": one} for one in values]
    return tfserving_v1.ParsedRequest(
        signature, tfserving_v1.parse_instances(list(values), signature, signature.name, limits), signature.name
    )


def format_response(request: InferRequest, version: Version, outputs: dict[str, np.ndarray]) -> InferResponse:
    """Returns KServe's InferResponse with the requested outputs, as JSON or binary."""
    tensors = [
        InferOutput(name, list(value.shape), datatype_of(value.dtype), np.ascontiguousarray(value))
        for name, value in outputs.items()
    ]
    return InferResponse(
        request.id or "",
        request.model_name,
        tensors,
        model_version=str(version.number),
        use_binary_outputs=request.use_binary_outputs,
        requested_outputs=request.request_outputs,
    )


def describe_tensor(name: str, spec: TensorSpec) -> dict:
    """Returns name, datatype and shape of a tensor for the model's metadata. An unknown length is -1."""
    shape = [-1 if length is None else length for length in spec.shape]
    return {"name": name, "datatype": datatype_of(spec.dtype), "shape": shape}


def datatype_of(dtype) -> str:
    """Returns the protocol's word for a NumPy dtype."""
    return from_np_dtype(np.dtype(dtype))


def _decode_tensor(data: bytes, kind: str) -> list:
    if kind == "BYTES":
        return deserialize_bytes_tensor(data).tolist()
    return np.frombuffer(data, to_np_dtype(kind))
