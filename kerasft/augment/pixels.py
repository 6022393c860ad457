"""The passes over pixels, each compiled by XLA into one loop that runs over a batch, on CPU and GPU alike.

TensorFlow's own kernels write every step of such arithmetic into memory, and `ImageProjectiveTransformV3` works the
coordinates out anew for each channel: the same resample takes about a fifth of its time here. None of the passes
knows the recipe, so that one compilation for a shape serves all.
"""

import tensorflow as tf

from kerasft.augment import boxes

compiled = tf.function(jit_compile=True, reduce_retracing=True)


@compiled
def resample(images: tf.Tensor, matrices: tf.Tensor, size: int | None = None) -> tf.Tensor:
    """Bilinear resample, mirrored past the edges.

    Args:
        images: uint8 or float32 [N, H, W, 3].
        matrices: float32 [N, 3, 3] with a last row of 0, 0, 1, output to input, in units of half the picture.
        size: side of what is returned; by default H and W.

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
    """Puts each value, rounded, through its channel's table.

    Args:
        images: uint8 or float32 [N, H, W, 3] in 0..255.
        tables: int32 [N, 3, 256].

    Returns:
        float32 [N, H, W, 3].
    """
    found = tf.gather(tf.reshape(tables, [-1, 768]), _bins(images), batch_dims=1)
    return tf.cast(tf.reshape(found, tf.shape(images)), tf.float32)


@compiled
def means(images: tf.Tensor) -> tf.Tensor:
    """float32 [N, 3]: the mean of each channel of uint8 or float32 [N, H, W, 3]."""
    return tf.reduce_mean(tf.cast(images, tf.float32), axis=[1, 2])


@compiled
def recolour(images: tf.Tensor, matrices: tf.Tensor) -> tf.Tensor:
    """Applies float32 [N, 3, 4] to the colours of uint8 or float32 [N, H, W, 3]; float32, clipped to 0..255."""
    images, m = tf.cast(images, tf.float32), matrices[:, None, None]
    mixed = sum(images[..., c, None] * m[..., c] for c in range(3)) + m[..., 3]
    return tf.clip_by_value(mixed, 0.0, 255.0)


@compiled
def fill(images: tf.Tensor, corners: tf.Tensor, colours: tf.Tensor) -> tf.Tensor:
    """float32 [N, H, W, 3] with boxes, int32 [N, 4], painted in colours, float32 [N, 3]."""
    within = boxes.inside(corners, tf.shape(images))
    return tf.where(within, colours[:, None, None], tf.cast(images, tf.float32))


@compiled
def blend(images: tf.Tensor, corners: tf.Tensor, shares: tf.Tensor) -> tf.Tensor:
    """Mixes each picture with the one before it in the batch, inside of a box.

    Args:
        images: float32 [N, H, W, 3].
        corners: int32 [N, 4] of the boxes.
        shares: float32 [N], what a picture keeps of its own inside of its box.

    Returns:
        float32 [N, H, W, 3].
    """
    own = tf.where(boxes.inside(corners, tf.shape(images)), shares[:, None, None, None], 1.0)
    return own * images + (1 - own) * tf.roll(images, 1, axis=0)


@compiled
def average(images: tf.Tensor, others: list[tf.Tensor], weights: tf.Tensor) -> tf.Tensor:
    """float32 [N, H, W, 3]: the sum of `images` and k others, times float32 [N, 1 + k]."""
    every = (images, *others)
    return sum(tf.cast(one, tf.float32) * weights[:, i, None, None, None] for i, one in enumerate(every))


def histograms(images: tf.Tensor, wanted: tf.Tensor) -> tf.Tensor:
    """int32 [N, 3, 256]: how often each value, rounded, occurs in each channel; zeros where bool [N] does not want it.

    Only the pictures that want it are counted. Not compiled: their number changes from batch to batch.
    """
    count = tf.shape(images)[0]
    places = tf.boolean_mask(_places(images), wanted)
    unweighted = tf.zeros([0], tf.int32)
    found = tf.raw_ops.DenseBincount(
        input=tf.reshape(places, [-1]), size=768 * count, weights=unweighted, binary_output=False
    )
    return tf.reshape(found, [count, 3, 256])


@compiled
def _places(images: tf.Tensor) -> tf.Tensor:
    """int32 [N, H W 3]: where the tables of all pictures, end to end, hold each value."""
    bins = _bins(images)
    return bins + 768 * tf.range(tf.shape(bins)[0])[:, None]


def _bins(images: tf.Tensor) -> tf.Tensor:
    """int32 [N, H W 3]: each value of 0..255, rounded, plus 256 times its channel."""
    values = tf.cast(tf.cast(images, tf.float32) + 0.5, tf.int32) + 256 * tf.range(3)
    return tf.reshape(values, [tf.shape(images)[0], -1])


def _centres(side: tf.Tensor) -> tf.Tensor:
    """float32 [side]: the centres of pixels, the picture reaching from -1 to 1."""
    return (2 * tf.range(tf.cast(side, tf.float32)) + 1) / tf.cast(side, tf.float32) - 1


def _neighbours(places: tf.Tensor, side: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """float32 [N, H, W] in units of half the picture to the pixel before, int32, and how far on, float32 [N, H, W, 1]."""
    length = tf.cast(side, tf.float32)
    mirrored = 2 * tf.abs(places / 4 + 0.25 - tf.floor(places / 4 + 0.75))  # 0 to 1 over the picture, and back
    pixel = tf.clip_by_value(mirrored * length - 0.5, 0.0, length - 1)
    before = tf.floor(pixel)
    return tf.cast(before, tf.int32), (pixel - before)[..., None]
