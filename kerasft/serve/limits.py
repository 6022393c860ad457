"""What a request may ask for, and how it is told that it asked for too much."""

from typing import NamedTuple


class Limits(NamedTuple):
    """Bounds on requests.

    Attributes:
        body_bytes: of a request's body.
        pixels: of one picture, width times height, all its frames together.
        pictures: waiting for the model at a time, and so also in one request.
        batch: pictures that the model is given at once.
        delay: seconds that a picture may wait for others while the model is free.
        seconds: from a request's first byte to its answer.
    """

    body_bytes: int
    pixels: int
    pictures: int
    batch: int
    delay: float
    seconds: float


class Refusal(Exception):
    """A request that is not answered: HTTP status, a sentence for its sender, and headers."""

    def __init__(self, status: int, text: str, headers: dict[str, str] | None = None):
        super().__init__(text)
        self.status, self.text, self.headers = status, text, headers or {}


def too_large(limits: Limits) -> Refusal:
    """What is said of a body above the limit."""
    return Refusal(413, f"The body may have at most {limits.body_bytes:,} bytes (--max_body_mb).")
