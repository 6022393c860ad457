"""THE one decoder: encoded bytes to an upright RGB square, in TensorFlow operations only.

Training, evaluation and the exported graph all call `decode_batch`, so their pixels are the same by construction.
"""

import tensorflow as tf

# Part of the key of all that is cached of pictures. To be raised where any picture comes out with other pixels.
DECODER_VERSION = 1
_ORIENTATION_TAG = 0x0112
_SHORT = 3
# Segments of a JPEG that may stand before its EXIF block, which EXIF 2.32 (4.5.4) wants to be the first: whoever sends
# a file of two million empty ones is not followed through all of them.
_MAX_SEGMENTS = 64
# By orientation: whether rows and columns, as they are stored, are to be reversed; from 5 on both are then exchanged.
_REVERSED = ((0, 0), (0, 0), (0, 1), (1, 1), (1, 0), (0, 0), (1, 0), (1, 1), (0, 1))


def decode(contents: tf.Tensor, size: int) -> tf.Tensor:
    """Decodes one picture, string scalar, into uint8 [size, size, 3]; as `decode_batch`."""
    return _decode(contents, orientations(contents[tf.newaxis])[0], size)


def decode_batch(contents: tf.Tensor, size: int) -> tf.Tensor:
    """Decodes pictures, turns them upright and resizes their largest centred squares.

    Args:
        contents: string [N], encoded JPEGs, PNGs, GIFs (first frame), BMPs or WebPs.
        size: side of the results in pixels.

    Returns:
        uint8 [N, size, size, 3], RGB.

    Raises:
        tf.errors.InvalidArgumentError: some bytes are not a whole picture of a known format.
    """
    contents, spec = tf.ensure_shape(contents, [None]), tf.TensorSpec([size, size, 3], tf.uint8)
    given = (contents, orientations(contents))
    return tf.map_fn(lambda one: _decode(*one, size), given, fn_output_signature=spec, parallel_iterations=8)


def _decode(contents: tf.Tensor, orientation: tf.Tensor, size: int) -> tf.Tensor:
    # The largest centred square is the same whichever way up, and by then the smaller one to turn.
    image = square(_pixels(contents, size), size, orientation)
    return tf.cast(upright(image, orientation) + 0.5, tf.uint8)


def _pixels(encoded: tf.Tensor, size: int) -> tf.Tensor:
    """uint8 [H, W, 3]; of a JPEG a half, a quarter or an eighth of each side where that leaves `size` or more.

    libjpeg's scaled inverse transform takes the low frequencies only: a photograph of 12 megapixels costs a quarter.
    """

    def jpeg() -> tf.Tensor:
        side = tf.reduce_min(tf.image.extract_jpeg_shape(encoded)[:2])
        halvings = sum(tf.cast(side >= ratio * size, tf.int32) for ratio in (2, 4, 8))
        return tf.switch_case(
            halvings, [lambda ratio=r: tf.io.decode_jpeg(encoded, channels=3, ratio=ratio) for r in (1, 2, 4, 8)]
        )

    def other() -> tf.Tensor:
        return tf.io.decode_image(encoded, channels=3, expand_animations=False)

    image = tf.cond(tf.io.is_jpeg(encoded), jpeg, other)
    image.set_shape([None, None, 3])
    return image


def square(image: tf.Tensor, size: int, orientation: tf.Tensor | int = 1) -> tf.Tensor:
    """Crops the largest centred square and resizes it: bilinearly, or by area where it shrinks to less than half.

    The crop comes first, so that a 600x3 strip costs no more memory than any other picture. Down to a half, where it is
    the mean of 2x2 pixels, bilinear leaves out next to nothing, in half the time of area. Beyond that a new pixel is
    the mean of what it covers, which lets nothing alias.

    Args:
        image: uint8 [H, W, 3].
        size: side of the result in pixels.
        orientation: int32 scalar; where the middle lies between two pixels, the square is that of the upright picture.

    Returns:
        float32 [size, size, 3], RGB in 0..255.
    """
    extent = tf.shape(image)[:2]
    side = tf.reduce_min(extent)
    start = (extent - side + tf.gather(_REVERSED, orientation)) // 2
    cropped = tf.slice(image, [start[0], start[1], 0], [side, side, 3])[tf.newaxis]
    resized = tf.cond(
        side > 2 * size,
        lambda: tf.raw_ops.ResizeArea(images=cropped, size=[size, size]),
        lambda: tf.raw_ops.ResizeBilinear(images=cropped, size=[size, size], half_pixel_centers=True),
    )
    return tf.ensure_shape(resized[0], [size, size, 3])


def upright(image: tf.Tensor, orientation: tf.Tensor) -> tf.Tensor:
    """Applies an EXIF orientation (1 to 8, TIFF 6.0 / EXIF 2.32 tag 0x0112) to [H, W, 3]."""

    def turned() -> tf.Tensor:
        reversed_ = tf.reverse(image, tf.where(tf.gather(_REVERSED, orientation))[:, 0])
        return tf.cond(orientation >= 5, lambda: tf.transpose(reversed_, [1, 0, 2]), lambda: reversed_)

    return tf.cond(orientation > 1, turned, lambda: image)


def orientations(contents: tf.Tensor) -> tf.Tensor:
    """Reads the EXIF orientations of JPEGs, whichever their byte order.

    Args:
        contents: string [N], encoded pictures.

    Returns:
        int32 [N], 1 to 8; 1 (upright) for other formats and where the EXIF block is missing or broken.
    """
    tiff = _find_tiff(contents)
    return tf.cond(
        tf.reduce_any(tiff >= 0),
        lambda: tf.where(tiff >= 0, _tiff_orientations(contents, tiff), 1),
        lambda: tf.ones_like(tiff),
    )


def _bytes(contents: tf.Tensor, start: tf.Tensor, count: int | tf.Tensor) -> tf.Tensor:
    """int32 [N, count]: the bytes of each picture from `start` [N] on, zeros past the end."""
    start = tf.clip_by_value(start, 0, tf.strings.length(contents))
    some = tf.strings.substr(contents, start, tf.fill(tf.shape(start), count))
    return tf.cast(tf.io.decode_raw(some, tf.uint8, fixed_length=count), tf.int32)


def _find_tiff(contents: tf.Tensor) -> tf.Tensor:
    """Walks the JPEGs' application segments; int32 [N], where each EXIF's TIFF header starts, or -1."""
    exif = [0xFF, 0xE1, *b"Exif\0\0"]
    first = tf.fill(tf.shape(contents), 2)
    is_jpeg = tf.reduce_all(_bytes(contents, first - 2, 2) == [0xFF, 0xD8], 1)

    def walk(position: tf.Tensor, searching: tf.Tensor, tiff: tf.Tensor):
        head = _bytes(contents, position, 10)
        is_exif = searching & tf.reduce_all(tf.concat([head[:, :2], head[:, 4:]], 1) == exif, 1)
        # APP0 to APP15 and comments may stand before the EXIF block; tables and scans may not.
        skippable = (head[:, 0] == 0xFF) & ((head[:, 1] & 0xF0 == 0xE0) | (head[:, 1] == 0xFE))
        after = position + 2 + head[:, 2] * 256 + head[:, 3]
        return after, searching & skippable & ~is_exif, tf.where(is_exif, position + 10, tiff)

    def going(_position: tf.Tensor, searching: tf.Tensor, _tiff: tf.Tensor) -> tf.Tensor:
        return tf.reduce_any(searching)

    start = (first, is_jpeg, tf.fill(tf.shape(contents), -1))
    return tf.while_loop(going, walk, start, maximum_iterations=_MAX_SEGMENTS)[2]


def _tiff_orientations(contents: tf.Tensor, tiff: tf.Tensor) -> tf.Tensor:
    """int32 [N]: the orientations in the first image file directories of the TIFF blocks at `tiff` [N]."""
    header = _bytes(contents, tiff, 8)
    little = header[:, :1] == ord("I")

    def number(pair: tf.Tensor) -> tf.Tensor:
        """Two bytes (last axis) as an unsigned number in the block's byte order; [N, ...] to [N, ...]."""
        order = tf.reshape(little, [-1] + [1] * (pair.shape.rank - 2))
        return tf.where(order, pair[..., 0] + 256 * pair[..., 1], 256 * pair[..., 0] + pair[..., 1])

    # A segment holds at most 64 KiB: an offset with a high half points outside of it.
    high, low = tf.where(little, header[:, 6:8], header[:, 4:6]), tf.where(little, header[:, 4:6], header[:, 6:8])
    directory = tiff + tf.where(tf.reduce_any(high > 0, 1), 1 << 24, number(low))
    count = tf.where(tiff >= 0, tf.minimum(number(_bytes(contents, directory, 2)), 65536 // 12), 0)
    most = tf.maximum(tf.reduce_max(count), 1)
    entries = tf.reshape(_bytes(contents, directory + 2, most * 12), [-1, most, 12])
    wanted = (number(entries[:, :, 0:2]) == _ORIENTATION_TAG) & (number(entries[:, :, 2:4]) == _SHORT)
    wanted &= tf.range(most) < count[:, tf.newaxis]
    value = tf.reduce_max(tf.where(wanted, number(entries[:, :, 8:10]), 0), 1)
    return tf.where((value >= 1) & (value <= 8), value, 1)
