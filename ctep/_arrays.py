"""What is done to arrays and states in many places."""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array

from ._custom_types import Shape, State


def leading(array, shape: Shape) -> Shape:
    """Return the leading axes of an array: (2, 5) of (2, 5, 28, 28) by (28, 28)."""
    return array.shape[: array.ndim - len(shape)]


def along(weights: Array, ndim: int) -> Array:
    """Return numbers per example with axes added: (5,) as (5, 1, 1, 1) for images."""
    return weights.reshape(weights.shape + (1,) * (ndim - weights.ndim))


def weighed(weights: Array, values: Array) -> Array:
    """Return values times a number per example, or per nudge."""
    return along(weights, values.ndim) * values


def times(factor: float, values: Array) -> Array:
    """Return a product, and no new array where the factor is 1."""
    return values if factor == 1 else factor * values


def added(*terms: Array | None) -> Any:
    """Return the sum of terms, of which any may be missing."""
    total = None
    for term in terms:
        if term is not None:
            total = term if total is None else total + term
    return total


def paired(a: Array, b: Array) -> Array:
    """Return the sum of products of elements, without conjugates.

    Not a product of `jax.lax`, which a GPU would take with rounded factors.
    """
    return jnp.sum(a * b)


def replaced(state: State, n: int, value: Array) -> State:
    """Return a state with another block `n`."""
    return (*state[:n], value, *state[n + 1 :])


def within(values: Array, lead: Shape) -> Array:
    """Return numbers per example: of the layers of a stack the largest one."""
    return values if values.ndim == len(lead) else jnp.max(values, -1)


def largest(values: Sequence[Array]) -> Array:
    """Return the largest of several arrays, element by element."""
    out = values[0]
    for value in values[1:]:
        out = jnp.maximum(out, value)
    return out
