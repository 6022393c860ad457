"""The Open Inference Protocol, version 2: its request bodies to rows, outputs to its answers.

https://github.com/kserve/open-inference-protocol and Triton's binary extension of it. KServe's own reading of a request
takes binary strings for UTF-8, which pictures are not, and checks JSON element by element; so a request is read here,
into KServe's types, which write the answer.
"""

import struct

import numpy as np
import orjson
from kserve import InferInput, InferOutput, InferRequest, InferResponse
from kserve.protocol.infer_type import RequestedOutput, deserialize_bytes_tensor
from kserve.utils.numpy_codec import from_np_dtype, to_np_dtype

from kerasft.serve import tfserving_v1
from kerasft.serve.limits import Limits, Refusal
from kerasft.serve.versions import Version


def parse(body: bytes, json_length: str | None, name: str) -> InferRequest:
    """A body as KServe's InferRequest; strings of JSON stay as they are, binary ones are bytes.

    Args:
        json_length: of the header `Inference-Header-Content-Length`, behind which the binary tensors follow.

    Raises:
        Refusal: it does not follow the protocol.
    """
    try:
        place = int(json_length) if json_length is not None else len(body)
        metadata = orjson.loads(body[:place])
        inputs = []
        for one in metadata["inputs"]:
            parameters = dict(one.get("parameters") or {})
            data = one.get("data")
            if data is None:
                size = int(parameters["binary_data_size"])
                data, place = _binary(body[place : place + size], one["datatype"]), place + size
            inputs.append(InferInput(str(one["name"]), one["shape"], one["datatype"], data, parameters))
        outputs = metadata.get("outputs") or []
        wanted = [RequestedOutput(str(one["name"]), dict(one.get("parameters") or {})) for one in outputs]
        return InferRequest(
            name, inputs, metadata.get("id"), None, False, dict(metadata.get("parameters") or {}), wanted
        )
    except KeyError as error:
        raise Refusal(400, f"The request lacks {error.args[0]!r}; see the Open Inference Protocol.") from None
    except (ValueError, TypeError, AttributeError, OverflowError, struct.error) as error:
        raise Refusal(400, f"The body is no request of the Open Inference Protocol: {error}") from None


def parse_request(request: InferRequest, version: Version, limits: Limits) -> tfserving_v1.Asked:
    """What a request asks for; the signature by its parameter `signature_name`.

    Raises:
        Refusal: a tensor or a picture that is not taken.
    """
    signature = tfserving_v1.chosen(request.parameters.get("signature_name"), version)
    unknown = {one.name for one in request.request_outputs} - signature.outputs.keys()
    if unknown:
        raise Refusal(400, f"outputs: must be of {', '.join(signature.outputs)}. Received: {sorted(unknown)[:5]}")
    if [tensor.name for tensor in request.inputs] != [signature.name]:
        raise Refusal(400, f"inputs: the only input is {signature.name!r}.")
    tensor, kind = request.inputs[0], datatype(signature.spec.dtype.as_numpy_dtype)
    if tensor.datatype != kind:
        raise Refusal(400, f"{signature.name}: datatype must be {kind}. Received: {str(tensor.datatype)[:20]!r}")
    try:
        shape = [int(length) for length in tensor.shape]
        count = shape[0]
        if signature.encoded:
            values = [one for part in tensor.data for one in (part if isinstance(part, list) else [part])]
        else:
            with np.errstate(over="ignore"):
                values = np.asarray(tensor.data, signature.spec.dtype.as_numpy_dtype).reshape(shape)
    except (ValueError, TypeError, IndexError, OverflowError):
        raise Refusal(400, f"{signature.name}: its data do not have its shape.") from None
    if len(values) != count or count < 1 or (signature.encoded and int(np.prod(shape)) != count):
        raise Refusal(400, f"{signature.name}: must be one value a row, at least one; its shape says otherwise.")
    if signature.encoded:
        values = [one if isinstance(one, bytes) else {"b64": one} for one in values]
    return tfserving_v1.Asked(
        signature, tfserving_v1.read(list(values), signature, signature.name, limits), signature.name
    )


def answer(request: InferRequest, version: Version, outputs: dict[str, np.ndarray]) -> InferResponse:
    """KServe's InferResponse, with the outputs that were asked for, as JSON or binary."""
    tensors = [
        InferOutput(name, list(value.shape), datatype(value.dtype), np.ascontiguousarray(value))
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


def metadata(name: str, spec) -> dict:
    """A tensor as the model's metadata show it; lengths that are free are -1."""
    shape = [-1 if length is None else length for length in spec.shape]
    return {"name": name, "datatype": datatype(spec.dtype.as_numpy_dtype), "shape": shape}


def datatype(dtype) -> str:
    """The protocol's word for a NumPy dtype."""
    return from_np_dtype(np.dtype(dtype))


def _binary(data: bytes, kind: str) -> list:
    if kind == "BYTES":
        return deserialize_bytes_tensor(data).tolist()
    return np.frombuffer(data, to_np_dtype(kind))
