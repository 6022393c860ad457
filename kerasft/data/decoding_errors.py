"""Why a file cannot be decoded: kind and detail of its finding."""

import re

import tensorflow as tf

from kerasft.data import file_traits, image_headers

# The first four bytes of formats that people take for images.
_OTHER_FORMATS = {
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"%PDF": "PDF",
    b"<!DO": "HTML",
    b"<htm": "HTML",
    b"PK\x03\x04": "ZIP archive",
}
# Brands of the ISO base media file format that are images. All other brands are videos.
_IMAGE_BRANDS = (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1", b"avif", b"avis")


def check_header(contents: bytes) -> tuple[str, str] | None:
    """Returns kind and detail of what the header alone gives away, before anything is decoded."""
    if not contents:
        return "empty_file", "0 bytes"
    try:
        return image_headers.find_size_fault(contents)
    except ValueError as error:
        return "corrupt", str(error)


def explain(contents: bytes, error: tf.errors.OpError) -> tuple[str, str]:
    """Returns kind and detail for an error of the decoder."""
    other = next((name for magic, name in _OTHER_FORMATS.items() if contents[:4].lower() == magic.lower()), None)
    if contents[4:8] == b"ftyp":  # the ISO base media file format; its brand follows
        other = "HEIC or AVIF" if contents[8:12] in _IMAGE_BRANDS else "video (MP4 or QuickTime)"
    if file_traits.is_opaque_animated_webp(contents):
        return "unsupported_format", "animated WebP without transparency; convert the file"
    if other:
        return "unsupported_format", f"{other}; TensorFlow reads JPEG, PNG, GIF, BMP and WebP: convert the file"
    message = re.sub(r"\{\{.*?\}\}|\[Op:.*|\s+", " ", error.message).strip()
    if "Unknown image file format" in message:
        return "not_an_image", "no image format that TensorFlow reads (JPEG, PNG, GIF, BMP, WebP)"
    return "corrupt", message.split(" [[")[0][:160]
