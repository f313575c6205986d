"""Images that lie between each other's pixels."""

import jax.numpy as jnp
from jaxtyping import Array


def interleave(parts: list[Array], strides: tuple[int, int]) -> Array:
    """Return the image whose pixels (i, j) modulo the strides are the parts in order.

    Args:
        parts: images `(*lead, height, width, channels)`, row by row of (i, j).
        strides: numbers of parts along height and along width.
    """
    a, b = strides
    *lead, height, width, channels = parts[0].shape
    rows = [jnp.stack(parts[i * b : (i + 1) * b], -2) for i in range(a)]
    # (*lead, height, a, width, b, channels)
    return jnp.stack(rows, -4).reshape((*lead, height * a, width * b, channels))
