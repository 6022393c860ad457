"""The one decoder: encoded bytes to an upright RGB square, in TensorFlow operations only.

Training, evaluation and the exported graph all call `decode_batch`, so they see the same pixels.
"""

import tensorflow as tf

from kerasft.data.framing import FRAMINGS, REVERSED_AXES

# Part of the key of every cached image. It must be raised with any change that gives other pixels for any image.
DECODER_VERSION = 2
# The EXIF tag that holds the orientation, and the TIFF type of its value (EXIF 2.32, 4.6.4).
_ORIENTATION_TAG = 0x0112
_TIFF_SHORT = 3
# At most so many JPEG segments are searched for the EXIF block. EXIF 2.32 (4.5.4) wants it to be the first one; a file of
# two million empty segments must not keep the decoder busy.
_MAX_SEGMENTS = 64


def decode(contents: tf.Tensor, size: int, framing: str) -> tf.Tensor:
    """Decodes one image, string scalar, into uint8 [size, size, 3], as `decode_batch` does."""
    return _decode(contents, read_orientations(contents[tf.newaxis])[0], size, framing)


def decode_batch(contents: tf.Tensor, size: int, framing: str) -> tf.Tensor:
    """Decodes images, turns them upright and makes them square.

    Args:
        contents: string [N], encoded JPEG, PNG, GIF (first frame), BMP or WebP images.
        size: side of the returned images in pixels.
        framing: a name of `framing.FRAMINGS`.

    Returns:
        uint8 [N, size, size, 3], RGB.

    Raises:
        tf.errors.InvalidArgumentError: some bytes are not a whole image of a known format.
    """
    contents, spec = tf.ensure_shape(contents, [None]), tf.TensorSpec([size, size, 3], tf.uint8)
    inputs = (contents, read_orientations(contents))
    # TensorFlow warns where images are decoded in parallel outside of a graph.
    parallel = 1 if tf.executing_eagerly() else 8
    return tf.map_fn(
        lambda one: _decode(*one, size, framing), inputs, fn_output_signature=spec, parallel_iterations=parallel
    )


def _decode(contents: tf.Tensor, orientation: tf.Tensor, size: int, framing: str) -> tf.Tensor:
    # The frame is the same before and after turning, and the small square is cheaper to turn.
    image = FRAMINGS[framing].fit(_read_pixels(contents, size, framing), size, orientation)
    return tf.cast(apply_orientation(image, orientation) + 0.5, tf.uint8)


def _read_pixels(encoded: tf.Tensor, size: int, framing: str) -> tf.Tensor:
    """Decodes an image into uint8 [H, W, 3]; a JPEG at a half, a quarter or an eighth where `size` pixels remain.

    libjpeg then transforms the low frequencies only, so a photograph of 12 megapixels takes a quarter of the time.
    """

    def jpeg() -> tf.Tensor:
        side = FRAMINGS[framing].reduced_side(tf.image.extract_jpeg_shape(encoded)[:2])
        halvings = sum(tf.cast(side >= ratio * size, tf.int32) for ratio in (2, 4, 8))
        return tf.switch_case(
            halvings, [lambda ratio=r: tf.io.decode_jpeg(encoded, channels=3, ratio=ratio) for r in (1, 2, 4, 8)]
        )

    def other() -> tf.Tensor:
        # TensorFlow gives a WebP with transparency four channels or none. It is not asked for as many as there are: of an animation
        # it then writes beyond its memory (2.21).
        return tf.cond(
            _is_transparent_webp(encoded),
            lambda: tf.io.decode_image(encoded, channels=4, expand_animations=False)[..., :3],
            lambda: tf.io.decode_image(encoded, channels=3, expand_animations=False),
        )

    image = tf.cond(tf.io.is_jpeg(encoded), jpeg, other)
    image.set_shape([None, None, 3])
    return image


def _is_transparent_webp(encoded: tf.Tensor) -> tf.Tensor:
    """Tells, bool scalar, whether an image is a WebP whose header says that it has transparency (RFC 9649, 2.7.1 and 3.4)."""
    head = _read_bytes(encoded[tf.newaxis], [0], 25)[0]
    kind = tf.concat([head[:4], head[8:16]], 0)
    extended, lossless = (tf.reduce_all(kind == [*b"RIFFWEBP", *form]) for form in (b"VP8X", b"VP8L"))
    flags = tf.where(extended, head[20], tf.where(lossless, head[24], 0))
    return tf.bitwise.bitwise_and(flags, 0x10) > 0


def apply_orientation(image: tf.Tensor, orientation: tf.Tensor) -> tf.Tensor:
    """Turns an image [H, W, 3] upright, by its EXIF orientation (1 to 8, TIFF 6.0 / EXIF 2.32 tag 0x0112)."""

    def turn() -> tf.Tensor:
        reversed_ = tf.reverse(image, tf.where(tf.gather(REVERSED_AXES, orientation))[:, 0])
        return tf.cond(orientation >= 5, lambda: tf.transpose(reversed_, [1, 0, 2]), lambda: reversed_)

    return tf.cond(orientation > 1, turn, lambda: image)


def read_orientations(contents: tf.Tensor) -> tf.Tensor:
    """Reads the EXIF orientations of JPEGs, in either byte order.

    Args:
        contents: string [N], encoded images.

    Returns:
        int32 [N], 1 to 8; 1 (upright) for other formats and where the EXIF block is missing or broken.
    """
    tiff = _find_tiff(contents)
    return tf.cond(
        tf.reduce_any(tiff >= 0),
        lambda: tf.where(tiff >= 0, _read_tiff_orientations(contents, tiff), 1),
        lambda: tf.ones_like(tiff),
    )


def _read_bytes(contents: tf.Tensor, start: tf.Tensor, count: int | tf.Tensor) -> tf.Tensor:
    """Returns int32 [N, count]: the bytes of each image from `start` [N] on, zeros past the end."""
    start = tf.clip_by_value(start, 0, tf.strings.length(contents))
    some = tf.strings.substr(contents, start, tf.fill(tf.shape(start), count))
    return tf.cast(tf.io.decode_raw(some, tf.uint8, fixed_length=count), tf.int32)


def _find_tiff(contents: tf.Tensor) -> tf.Tensor:
    """Returns int32 [N], where the TIFF header of each EXIF block starts, or -1; walks the segments of the JPEGs."""
    exif = [0xFF, 0xE1, *b"Exif\0\0"]
    first = tf.fill(tf.shape(contents), 2)
    is_jpeg = tf.reduce_all(_read_bytes(contents, first - 2, 2) == [0xFF, 0xD8], 1)

    def walk(position: tf.Tensor, searching: tf.Tensor, tiff: tf.Tensor):
        head = _read_bytes(contents, position, 10)
        is_exif = searching & tf.reduce_all(tf.concat([head[:, :2], head[:, 4:]], 1) == exif, 1)
        # APP0 to APP15 and comments may stand before the EXIF block; tables and scans may not.
        skippable = (head[:, 0] == 0xFF) & ((head[:, 1] & 0xF0 == 0xE0) | (head[:, 1] == 0xFE))
        after = position + 2 + head[:, 2] * 256 + head[:, 3]
        return after, searching & skippable & ~is_exif, tf.where(is_exif, position + 10, tiff)

    def is_searching(_position: tf.Tensor, searching: tf.Tensor, _tiff: tf.Tensor) -> tf.Tensor:
        return tf.reduce_any(searching)

    start = (first, is_jpeg, tf.fill(tf.shape(contents), -1))
    return tf.while_loop(is_searching, walk, start, maximum_iterations=_MAX_SEGMENTS)[2]


def _read_tiff_orientations(contents: tf.Tensor, tiff: tf.Tensor) -> tf.Tensor:
    """Returns int32 [N], the orientations in the first image file directories of the TIFF blocks at `tiff` [N]."""
    header = _read_bytes(contents, tiff, 8)
    little = header[:, :1] == ord("I")

    def number(pair: tf.Tensor) -> tf.Tensor:
        """Reads two bytes (last axis) as an unsigned number in the byte order of the block; [N, ..., 2] to [N, ...]."""
        order = tf.reshape(little, [-1] + [1] * (pair.shape.rank - 2))
        return tf.where(order, pair[..., 0] + 256 * pair[..., 1], 256 * pair[..., 0] + pair[..., 1])

    # A segment holds at most 64 KiB, so an offset of more than 16 bits points outside of it.
    high, low = tf.where(little, header[:, 6:8], header[:, 4:6]), tf.where(little, header[:, 4:6], header[:, 6:8])
    directory = tiff + tf.where(tf.reduce_any(high > 0, 1), 1 << 24, number(low))
    count = tf.where(tiff >= 0, tf.minimum(number(_read_bytes(contents, directory, 2)), 65536 // 12), 0)
    max_entries = tf.maximum(tf.reduce_max(count), 1)
    entries = tf.reshape(_read_bytes(contents, directory + 2, max_entries * 12), [-1, max_entries, 12])
    is_orientation = (number(entries[:, :, 0:2]) == _ORIENTATION_TAG) & (number(entries[:, :, 2:4]) == _TIFF_SHORT)
    is_orientation &= tf.range(max_entries) < count[:, tf.newaxis]
    value = tf.reduce_max(tf.where(is_orientation, number(entries[:, :, 8:10]), 0), 1)
    return tf.where((value >= 1) & (value <= 8), value, 1)
