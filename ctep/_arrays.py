"""What is done to arrays and states in many places."""

from collections.abc import Sequence

import jax.numpy as jnp
from jaxtyping import Array

from ._custom_types import Shape, State


def leading(array, shape: Shape) -> Shape:
    """Return the lengths of an array's leading axes: `(2, 5)` for (2, 5, 28, 28).

    Args:
        array: states or inputs of any number of examples.
        shape: the shape of one example, here (28, 28).
    """
    return array.shape[: array.ndim - len(shape)]


def along(weights: Array, ndim: int) -> Array:
    """Return `weights` with axes of length 1 added, to multiply arrays of `ndim` axes.

    Those of shape (5,) become (5, 1, 1, 1) for images, where `ndim` is 4.
    """
    return weights.reshape(weights.shape + (1,) * (ndim - weights.ndim))


def replaced(state: State, n: int, value: Array) -> State:
    """Return a state with another block `n`."""
    return (*state[:n], value, *state[n + 1 :])


def largest(values: Sequence[Array]) -> Array:
    """Return the largest of several arrays, element by element."""
    out = values[0]
    for value in values[1:]:
        out = jnp.maximum(out, value)
    return out
