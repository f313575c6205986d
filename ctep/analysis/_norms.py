"""Norms and angles of arrays whose elements may be too small to be squared."""

import jax.numpy as jnp
from jaxtyping import Array


def norm(a: Array) -> Array:
    """Return the 2-norm over all elements."""
    direction, unit = _scaled(a)
    return unit * _plain(direction)


def cosine(a: Array, b: Array) -> Array:
    """Return the cosine between two arrays, NaN if one of them is zero."""
    a, b = _scaled(a)[0], _scaled(b)[0]
    return jnp.sum(a * b) / (_plain(a) * _plain(b))


def _scaled(a):
    """Return an array in units of its largest element, and that unit."""
    unit = jnp.max(jnp.abs(a), initial=0.0)
    unit = jnp.where(unit > 0, unit, 1)
    return a / unit, unit


def _plain(a):
    return jnp.sqrt(jnp.sum(a**2))
