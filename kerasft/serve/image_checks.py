"""Checks of encoded images before the model decodes them. The header of an image tells its size in memory."""

import binascii

from kerasft.data import image_headers
from kerasft.serve.limits import RequestError


def decode_base64(text: object, location: str) -> bytes:
    """Decodes standard base64 (RFC 4648, section 4). White space is ignored.

    Args:
        location: of the text in the request, for messages.

    Raises:
        RequestError: the text is no base64.
    """
    if not isinstance(text, str):
        raise RequestError(400, f"{location}: base64 must be a string.")
    try:
        try:
            return binascii.a2b_base64(text, strict_mode=True)
        except binascii.Error:
            return binascii.a2b_base64("".join(text.split()), strict_mode=True)
    except ValueError as error:
        raise RequestError(400, f"{location}: is not base64 ({error}).") from None


def check_image(contents: bytes, max_pixels: int, location: str) -> None:
    """Refuses bytes that are no image of a known format, and an image with too many pixels. Reads only the header.

    Args:
        location: of the image in the request, for messages.

    Raises:
        RequestError: see above.
    """
    try:
        size, pixels = image_headers.read_size(contents), image_headers.count_pixels(contents)
    except ValueError as error:
        raise RequestError(400, f"{location}: {error}.") from None
    if pixels is None:
        formats = ", ".join(image_headers.FORMATS)
        raise RequestError(400, f"{location}: the image must have one of the formats {formats}.")
    if pixels > max_pixels:
        raise RequestError(
            400, f"{location}: an image may have at most {max_pixels:,} pixels, width times height (--max_megapixels)."
        )
    if size[0] * size[1] < image_headers.MIN_PIXELS:
        raise RequestError(
            400, f"{location}: an image needs at least {image_headers.MIN_PIXELS} pixels, width times height."
        )
