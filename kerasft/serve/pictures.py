"""Pictures are looked at before the model sees them: their headers say what they would become in memory."""

import binascii
import io
import warnings

from PIL import Image, UnidentifiedImageError

from kerasft.serve.limits import Refusal

FORMATS = ("JPEG", "PNG", "GIF", "BMP", "WEBP")  # what the exported decoder reads


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
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of Pillow's own limit, which is another
            image = Image.open(io.BytesIO(contents), formats=FORMATS)
        found = _gif_pixels(contents) if image.format == "GIF" else 0
        found = max(found, image.width * image.height)
    except Image.DecompressionBombError:
        found = pixels + 1
    except UnidentifiedImageError:
        raise Refusal(
            400, f"{where}: has no picture format that is read; one of {', '.join(FORMATS)} is needed."
        ) from None
    except (OSError, ValueError, EOFError, IndexError) as error:
        raise Refusal(400, f"{where}: is not a whole picture ({error}).") from None
    if found > pixels:
        raise Refusal(
            400, f"{where}: a picture may have at most {pixels:,} pixels, width times height (--max_megapixels)."
        )


def _gif_pixels(contents: bytes) -> int:
    """Pixels of all frames: a decoder may unpack them all, though it gives the first only (GIF89a, sections 18 to 24).

    Raises:
        IndexError: it ends too soon.
    """
    flags, place, total = contents[10], 13, 0
    place += 3 << (flags & 7) + 1 if flags & 0x80 else 0
    while place < len(contents) and contents[place] != 0x3B:
        if contents[place] == 0x2C:
            width, height = (int.from_bytes(contents[place + at : place + at + 2], "little") for at in (5, 7))
            total += width * height
            flags = contents[place + 9]
            place += 11 + (3 << (flags & 7) + 1 if flags & 0x80 else 0)
        else:
            place += 2
        while contents[place]:
            place += contents[place] + 1
        place += 1
    return total
