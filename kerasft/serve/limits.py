"""Limits on requests, and the error of a request that exceeds one."""

from typing import NamedTuple


class Limits(NamedTuple):
    """Limits on requests.

    Attributes:
        max_body_bytes: bytes of a request's body.
        max_pixels: width times height of one image, summed over its frames.
        max_images: images that may wait for the model, and so images of one request.
        max_batch_size: images in one batch of the model.
        max_delay_seconds: how long an image may wait for others while the model is free.
        timeout_seconds: from the first byte of a request to its answer.
    """

    max_body_bytes: int
    max_pixels: int
    max_images: int
    max_batch_size: int
    max_delay_seconds: float
    timeout_seconds: float


class RequestError(Exception):
    """A request that is refused: the HTTP status, a sentence for the client, and headers of the answer."""

    def __init__(self, status: int, text: str, headers: dict[str, str] | None = None):
        super().__init__(text)
        self.status, self.text, self.headers = status, text, headers or {}


def body_too_large(limits: Limits) -> RequestError:
    """Returns the error for a body above the limit."""
    return RequestError(413, f"The body may have at most {limits.max_body_bytes:,} bytes (--max_body_mb).")
