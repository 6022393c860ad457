"""Pictures are looked at before the model sees them: their headers say what they would become in memory."""

import binascii

from kerasft.data import image_headers
from kerasft.serve.limits import Refusal


def from_base64(text: object, where: str) -> bytes:
    """The bytes of standard base64 (RFC 4648, section 4); white space in it is passed over.

    Raises:
        Refusal: it is something else; `where` says which.
    """
    if not isinstance(text, str):
        raise Refusal(400, f"{where}: base64 must be a string.")
    try:
        try:
            return binascii.a2b_base64(text, strict_mode=True)
        except binascii.Error:
            return binascii.a2b_base64("".join(text.split()), strict_mode=True)
    except ValueError as error:
        raise Refusal(400, f"{where}: is not base64 ({error}).") from None


def check(contents: bytes, pixels: int, where: str) -> None:
    """Refuses what is no picture of a known format, and what has more pixels than allowed, by its header alone.

    Raises:
        Refusal: with `where` it stands in the request.
    """
    try:
        size, found = image_headers.read_size(contents), image_headers.count_pixels(contents)
    except ValueError as error:
        raise Refusal(400, f"{where}: is not a whole picture ({error}).") from None
    if found is None:
        formats = ", ".join(image_headers.FORMATS)
        raise Refusal(400, f"{where}: has no picture format that is read; one of {formats} is needed.")
    if found > pixels:
        raise Refusal(
            400, f"{where}: a picture may have at most {pixels:,} pixels, width times height (--max_megapixels)."
        )
    if size[0] * size[1] < image_headers.MIN_PIXELS:
        raise Refusal(400, f"{where}: an image needs at least {image_headers.MIN_PIXELS} pixels, width times height.")
