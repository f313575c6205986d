"""Norms and angles of arrays whose elements may be too small to be squared."""

import jax.numpy as jnp
from jaxtyping import Array

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
    size = jnp.linalg.norm(v)
    kept = size > least
    return jnp.where(kept, v / jnp.where(kept, size, 1), 0), jnp.where(kept, size, 0)


def distance(problem: AbstractProblem, change: State) -> Array:
    """Return the 2-norm over all units, example by example."""
    blocks = enumerate(change)
    return jnp.sqrt(sum(jnp.sum(jnp.abs(d) ** 2, problem.ndims(n)) for n, d in blocks))


def _scaled(a):
    """Return an array in units of its largest element, and that unit."""
    unit = jnp.max(jnp.abs(a), initial=0.0)
    unit = jnp.where(unit > 0, unit, 1)
    return a / unit, unit


def _plain(a):
    return jnp.sqrt(jnp.sum(a**2))
