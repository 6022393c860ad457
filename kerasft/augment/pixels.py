"""The passes over pixels. XLA compiles each into one loop over a batch, on CPU and on GPU.

TensorFlow's own kernels write every step of such arithmetic into memory, and `ImageProjectiveTransformV3` computes the
coordinates again for each channel. The same resample takes about a fifth of that time here. No pass depends on the recipe, so
it is compiled once for each shape.
"""

import math
from functools import partial

import tensorflow as tf

from kerasft.augment import boxes

compiled = tf.function(jit_compile=True, reduce_retracing=True)


@compiled
def resample(images: tf.Tensor, matrices: tf.Tensor, size: int | None = None) -> tf.Tensor:
    """Resamples images bilinearly. Pixels outside of an image are mirrored.

    Args:
        images: uint8 or float32 [N, H, W, 3].
        matrices: float32 [N, 3, 3] with a last row of 0, 0, 1, from output to input, in units of half the image.
        size: side of the returned images in pixels; by default H and W.

    Returns:
        float32 [N, size, size, 3].
    """
    count, height, width, channels = tf.unstack(tf.shape(images))
    x, y = (_centres(size or side) for side in (width, height))
    m = matrices[..., None, None]
    left, across = _neighbours(m[:, 0, 0] * x + m[:, 0, 1] * y[:, None] + m[:, 0, 2], width)
    above, down = _neighbours(m[:, 1, 0] * x + m[:, 1, 1] * y[:, None] + m[:, 1, 2], height)
    right, below = tf.minimum(left + 1, width - 1), tf.minimum(above + 1, height - 1)
    flat = tf.reshape(images, [count, height * width, channels])

    def row(places: tf.Tensor) -> tf.Tensor:
        a, b = (tf.cast(tf.gather(flat, places * width + end, batch_dims=1), tf.float32) for end in (left, right))
        return a * (1 - across) + b * across

    return row(above) * (1 - down) + row(below) * down


@compiled
def lookup(images: tf.Tensor, tables: tf.Tensor) -> tf.Tensor:
    """Replaces each value, rounded, by the entry in the table of its channel.

    Args:
        images: uint8 or float32 [N, H, W, 3] in 0..255.
        tables: int32 [N, 3, 256].

    Returns:
        float32 [N, H, W, 3].
    """
    values = tf.gather(tf.reshape(tables, [-1, 768]), _bins(images), batch_dims=1)
    return tf.cast(tf.reshape(values, tf.shape(images)), tf.float32)


@compiled
def means(images: tf.Tensor) -> tf.Tensor:
    """Returns float32 [N, 3], the mean of each channel of uint8 or float32 [N, H, W, 3]."""
    return tf.reduce_mean(tf.cast(images, tf.float32), axis=[1, 2])


@compiled
def recolour(images: tf.Tensor, matrices: tf.Tensor) -> tf.Tensor:
    """Applies matrices, float32 [N, 3, 4], to the colours of uint8 or float32 [N, H, W, 3]; float32, clipped to 0..255."""
    images, m = tf.cast(images, tf.float32), matrices[:, None, None]
    mixed = sum(images[..., c, None] * m[..., c] for c in range(3)) + m[..., 3]
    return tf.clip_by_value(mixed, 0.0, 255.0)


@compiled
def fill(images: tf.Tensor, corners: tf.Tensor, colours: tf.Tensor) -> tf.Tensor:
    """Returns images, float32 [N, H, W, 3], with boxes, int32 [N, 4], filled with colours, float32 [N, 3]."""
    within = boxes.mask(corners, tf.shape(images))
    return tf.where(within, colours[:, None, None], tf.cast(images, tf.float32))


@compiled
def blend(images: tf.Tensor, corners: tf.Tensor, shares: tf.Tensor) -> tf.Tensor:
    """Mixes each image with the image before it in the batch, inside of a box.

    Args:
        images: float32 [N, H, W, 3].
        corners: int32 [N, 4] of the boxes.
        shares: float32 [N], the weight of the image itself inside of its box.

    Returns:
        float32 [N, H, W, 3].
    """
    own = tf.where(boxes.mask(corners, tf.shape(images)), shares[:, None, None, None], 1.0)
    return own * images + (1 - own) * tf.roll(images, 1, axis=0)


@compiled
def average(images: tf.Tensor, others: list[tf.Tensor], weights: tf.Tensor) -> tf.Tensor:
    """Returns float32 [N, H, W, 3], the sum of `images` and k others, weighted by float32 [N, 1 + k]."""
    every = (images, *others)
    return sum(tf.cast(one, tf.float32) * weights[:, i, None, None, None] for i, one in enumerate(every))


@compiled
def add_noise(images: tf.Tensor, seeds: tf.Tensor, deviations: tf.Tensor) -> tf.Tensor:
    """Adds normal noise. That of an image depends on its own seed alone, not on its place in the batch.

    The random numbers are hashes of counters (Salmon et al. 2011), here of PCG (Jarzynski and Olano 2020), turned into normal
    ones (Box and Muller 1958).

    Args:
        images: uint8 or float32 [N, H, W, 3] in 0..255.
        seeds: uint32 [N].
        deviations: float32 [N], in the same range.

    Returns:
        float32 [N, H, W, 3], clipped to 0..255.
    """
    _, height, width, channels = tf.unstack(tf.shape(images))
    places = tf.range(height * width * channels)
    counters = 2 * tf.cast(places, tf.uint32) + _hash(seeds)[:, None]
    eight = tf.constant(8, tf.uint32)
    # 24 bits each. Never 0, of which there is no logarithm.
    first, second = (
        tf.cast(tf.bitwise.right_shift(_hash(counters + tf.constant(offset, tf.uint32)), eight), tf.float32)
        for offset in (0, 1)
    )
    radius = tf.sqrt(-2 * tf.math.log((first + 0.5) / 2.0**24))
    normal = tf.reshape(radius * tf.cos(second * (2 * math.pi / 2.0**24)), tf.shape(images))
    return tf.clip_by_value(tf.cast(images, tf.float32) + deviations[:, None, None, None] * normal, 0.0, 255.0)


def _hash(values: tf.Tensor) -> tf.Tensor:
    """PCG-RXS-M-XS of uint32 values."""
    constant = partial(tf.constant, dtype=tf.uint32)
    state = values * constant(747796405) + constant(2891336453)
    shift = tf.bitwise.right_shift(state, constant(28)) + constant(4)
    word = tf.bitwise.bitwise_xor(tf.bitwise.right_shift(state, shift), state) * constant(277803737)
    return tf.bitwise.bitwise_xor(tf.bitwise.right_shift(word, constant(22)), word)


def histograms(images: tf.Tensor, needed: tf.Tensor) -> tf.Tensor:
    """Returns int32 [N, 3, 256], how often each value, rounded, occurs in each channel; zeros where it is not needed.

    It is not compiled, because the number of images that need it changes from batch to batch.

    Args:
        images: uint8 or float32 [N, H, W, 3] in 0..255.
        needed: bool [N], which images to count.
    """
    count = tf.shape(images)[0]
    places = tf.boolean_mask(_places(images), needed)
    unweighted = tf.zeros([0], tf.int32)
    counts = tf.raw_ops.DenseBincount(
        input=tf.reshape(places, [-1]), size=768 * count, weights=unweighted, binary_output=False
    )
    return tf.reshape(counts, [count, 3, 256])


@compiled
def _places(images: tf.Tensor) -> tf.Tensor:
    """Returns int32 [N, H W 3], the index of each value in the tables of all images, end to end."""
    bins = _bins(images)
    return bins + 768 * tf.range(tf.shape(bins)[0])[:, None]


def _bins(images: tf.Tensor) -> tf.Tensor:
    """Returns int32 [N, H W 3], each value of 0..255, rounded, plus 256 times its channel."""
    values = tf.cast(tf.cast(images, tf.float32) + 0.5, tf.int32) + 256 * tf.range(3)
    return tf.reshape(values, [tf.shape(images)[0], -1])


def _centres(side: tf.Tensor) -> tf.Tensor:
    """Returns float32 [side], the centres of pixels; the image reaches from -1 to 1."""
    return (2 * tf.range(tf.cast(side, tf.float32)) + 1) / tf.cast(side, tf.float32) - 1


def _neighbours(places: tf.Tensor, side: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the pixel before each place, int32 [N, H, W], and the weight of the next one, float32 [N, H, W, 1].

    Args:
        places: float32 [N, H, W], in units of half the image.
        side: of the image in pixels.
    """
    length = tf.cast(side, tf.float32)
    # 0 to 1 over the image, and back.
    mirrored = 2 * tf.abs(places / 4 + 0.25 - tf.floor(places / 4 + 0.75))
    pixel = tf.clip_by_value(mirrored * length - 0.5, 0.0, length - 1)
    before = tf.floor(pixel)
    return tf.cast(before, tf.int32), (pixel - before)[..., None]
