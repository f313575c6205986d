"""Norms and angles of arrays whose elements may be too small to be squared."""

from collections.abc import Sequence

import jax.numpy as jnp
from jaxtyping import Array

from .._arrays import along, largest
from .._custom_types import State
from .._network import AbstractProblem


def norm(a: Array) -> Array:
    """Return the 2-norm over all elements."""
    direction, unit = _scaled(a)
    return unit * _plain(direction)


def cosine(a: Array, b: Array) -> Array:
    """Return the cosine between two arrays, NaN if one of them is zero."""
    a, b = _scaled(a)[0], _scaled(b)[0]
    return jnp.sum(a * b) / (_plain(a) * _plain(b))


def unit(v: Array, least: float | Array = 0.0) -> tuple[Array, Array]:
    """Return `v` with norm 1, and its norm; zeros if that is at most `least`."""
    size = norm(v)
    kept = ~(size <= least)  # this way round NaN stays NaN
    return jnp.where(kept, v / jnp.where(kept, size, 1), 0), jnp.where(kept, size, 0)


def distance(problem: AbstractProblem, change: State) -> Array:
    """Return the 2-norm over all units, example by example."""
    return lengths(change, [tuple(range(-len(s), 0)) for s in problem.shapes])


def lengths(blocks: State, axes: Sequence[tuple[int, ...]]) -> Array:
    """Return the 2-norms over the given axes of each block and over all blocks."""
    pairs = [(jnp.abs(v), own) for v, own in zip(blocks, axes, strict=True)]
    unit = _unit(largest([jnp.max(v, own) for v, own in pairs]))
    parts = [(v / along(unit, v.ndim), own) for v, own in pairs]
    return unit * jnp.sqrt(sum(jnp.sum(v**2, own) for v, own in parts))


def _scaled(a):
    """Return an array in units of its largest element, and that unit."""
    unit = _unit(jnp.max(jnp.abs(a), initial=0.0))
    return a / unit, unit


def _unit(size):
    """Return a size by which numbers of that size can be divided."""
    # A quotient is a product with the inverse, which may not be flushed to zero.
    size = jnp.minimum(size, 0.25 / jnp.finfo(size.dtype).tiny)
    return jnp.where(size > 0, size, 1)


def _plain(a):
    return jnp.sqrt(jnp.sum(a**2))
