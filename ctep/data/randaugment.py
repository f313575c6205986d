"""RandAugment: a few operations on the pixels of an image, drawn at random.

Under `vmap` a choice among functions computes all of them. So the fourteen operations
are three: a move of pixels by a matrix, a blend with a duller image, and other levels.
Libraries for images in JAX have about half of them (no equalize, posterize, sharpness,
autocontrast). A thousand images of CIFAR-10, three operations each, take 0.13 s on one
core of a processor, about what Pillow takes; the counts of `_equalized` are most of it.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

OPERATIONS = (
    "identity",
    "shear x",
    "shear y",
    "translate x",
    "translate y",
    "rotate",
    "brightness",
    "colour",
    "contrast",
    "sharpness",
    "posterize",
    "solarize",
    "autocontrast",
    "equalize",
)
LEVELS = 31  # of magnitude, from 0
_MOVES, _BLENDS = slice(1, 6), slice(6, 10)
_GREY = np.array([19595, 38470, 7471])  # of 2**16
_SMOOTH = np.array([[1, 1, 1], [1, 5, 1], [1, 1, 1]])


def randaugment(
    image: Array, key: PRNGKeyArray, operations: int, magnitude: int
) -> Float[Array, "height width channels"]:
    """Return an image after so many operations, each drawn among all fourteen.

    Args:
        image: `(height, width, channels)` of whole numbers from 0 to 255, with one
            channel or three.
        key: decides the operations and their signs.
        operations: how many follow one another.
        magnitude: of all of them, from 0 to 30.

    Returns:
        Whole numbers from 0 to 255 in float32.

    References:
        Cubuk et al., 2019, arXiv:1909.13719. Ranges as in torchvision: shears by up to
        0.3, translations by up to 150/331 of a side, rotations by up to 30 degrees,
        blends by 1 ± 0.9, 8 to 4 bits, thresholds from 255 to 0. What moves in is
        black, and each pixel that of its nearest source.
    """

    def one(n, image):
        which, sign = jax.random.split(jax.random.fold_in(key, n))
        kind = jax.random.randint(which, (), 0, len(OPERATIONS))
        positive = jax.random.bernoulli(sign)
        return operation(image, kind, positive, magnitude)

    image = jnp.asarray(image, jnp.float32)
    return jax.lax.fori_loop(0, operations, one, image)


def operation(
    image: Float[Array, "height width channels"],
    kind: Int[Array, ""],
    positive: Array,
    magnitude: int,
) -> Float[Array, "height width channels"]:
    """Return an image after one operation.

    Args:
        image: see `randaugment`.
        kind: number of the operation in `OPERATIONS`.
        positive: whether a translation is to the right or down, a rotation to the left,
            a blend away from the duller image; else the other way.
        magnitude: from 0 to 30.
    """
    moved = _moved(image, kind, positive, magnitude)
    blended = _blended(image, kind, positive, magnitude)
    mapped = _mapped(image, kind, magnitude)
    chosen = jnp.where(kind < _BLENDS.stop, blended, mapped)
    chosen = jnp.where(kind < _MOVES.stop, moved, chosen)
    return jnp.where(kind == 0, image, chosen)


def _moved(image, kind, positive, magnitude):
    """Return the image sheared, translated or rotated."""
    height, width, _ = image.shape
    signs = [_matrices(height, width, sign, magnitude) for sign in (-1, 1)]
    matrix = jnp.asarray(np.stack(signs), image.dtype)[
        positive.astype(int), jnp.clip(kind - _MOVES.start, 0, 4)
    ]
    # A pixel's place is its middle.
    y, x = jnp.mgrid[:height, :width].astype(image.dtype) + 0.5
    found = jnp.tensordot(matrix, jnp.stack([x, y, jnp.ones_like(x)]), 1)
    column, row = jnp.floor(found).astype(int)
    inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
    taken = image[row.clip(0, height - 1), column.clip(0, width - 1)]
    return jnp.where(inside[..., None], taken, 0)


def _matrices(height, width, sign, magnitude):
    """Return of each move the rows that make a pixel's source of its (x, y, 1)."""
    part = magnitude / (LEVELS - 1)
    shear, turn = sign * 0.3 * part, sign * math.radians(30 * part)
    shifts = [sign * math.trunc(150 / 331 * n * part) for n in (width, height)]
    c, s, x, y = math.cos(turn), math.sin(turn), width / 2, height / 2
    return np.array(
        [
            # Sheared from the corner of the image, rotated about its centre.
            [[1, shear, 0], [0, 1, 0]],
            [[1, 0, 0], [shear, 1, 0]],
            [[1, 0, -shifts[0]], [0, 1, 0]],
            [[1, 0, 0], [0, 1, -shifts[1]]],
            [[c, -s, x - c * x + s * y], [s, c, y - s * x - c * y]],
        ]
    )


def _blended(image, kind, positive, magnitude):
    """Return the image away from, or towards, a duller one."""
    step = 0.9 * magnitude / (LEVELS - 1)
    factor = jnp.where(positive, 1 + step, 1 - step)
    grey = _grey(image)
    mean = jnp.floor(jnp.mean(grey) + 0.5)
    dull = jnp.stack(
        [
            jnp.zeros_like(image),
            jnp.broadcast_to(grey, image.shape),
            jnp.full_like(image, mean),
            _smoothed(image),
        ]
    )[jnp.clip(kind - _BLENDS.start, 0, 3)]
    return jnp.trunc(jnp.clip(dull + factor * (image - dull), 0, 255))


def _grey(image):
    if image.shape[-1] == 1:
        return image
    whole = jnp.tensordot(image.astype(jnp.int32), jnp.asarray(_GREY), 1)
    return ((whole + 2**15) >> 16).astype(image.dtype)[..., None]


def _smoothed(image):
    """Return the image through a small filter, but for its border."""
    height, width, _ = image.shape
    total = sum(
        float(_SMOOTH[i, j]) * image[i : height - 2 + i, j : width - 2 + j]
        for i in range(3)
        for j in range(3)
    )
    inner = jnp.floor(total / _SMOOTH.sum() + 0.5)
    return image.at[1:-1, 1:-1].set(inner) if min(height, width) > 2 else image


def _mapped(image, kind, magnitude):
    """Return the image with other levels, by a table for each channel."""
    part = magnitude / (LEVELS - 1)
    dropped = 2 ** round(4 * part)
    threshold = 255 * (1 - part)
    low, high = image.min((0, 1)), image.max((0, 1))
    spread = jnp.maximum(high - low, 1)
    stretched = jnp.where(high > low, jnp.floor(255 * (image - low) / spread), image)
    choices = [
        image // dropped * dropped,
        jnp.where(image < threshold, image, 255 - image),
        stretched,
        _equalized(image),
    ]
    return jnp.stack(choices)[jnp.clip(kind - _BLENDS.stop, 0, 3)]


def _equalized(image):
    """Return the image with as many pixels at each level, as far as that goes."""
    height, width, channels = image.shape
    levels = image.astype(jnp.int32)
    counts = jnp.zeros((channels, 256), jnp.int32)
    counts = counts.at[jnp.arange(channels), levels].add(1)
    below = jnp.cumsum(counts, -1) - counts
    # Those of the highest level that there is do not count.
    top = jnp.take_along_axis(counts, levels.max((0, 1))[:, None], 1)
    step = (height * width - top) // 255
    table = jnp.clip((step // 2 + below) // jnp.maximum(step, 1), 0, 255)
    table = jnp.where(step > 0, table, jnp.arange(256))
    return table[jnp.arange(channels), levels].astype(image.dtype)
