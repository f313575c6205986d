"""Increments of maxima, comparisons and choices: who wins, and who overtakes."""

from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array

from .site import direct, fallback, is_inexact, over, rule, scaled


def winner(best: Callable, values: Sequence[Any], changes: Sequence[Any], a: Array):
    """Return the increment of the best of several numbers.

    Losers stand below it by their distance in units of a, and may overtake.
    """
    top = values[0]
    for value in values[1:]:
        top = best(top, value)
    raced = [over(x - top, a) + e for x, e in zip(values, changes, strict=True)]
    out = raced[0]
    for other in raced[1:]:
        out = best(out, other)
    return out


@rule("max", "min")
def extremum(at):
    return winner(at.bind, at.p, at.full, at.a)


@rule("abs")
def absolute(at):
    (s,), (e,) = at.p, at.full
    if not jnp.iscomplexobj(s):
        return winner(jnp.maximum, (s, -s), (e, -e), at.a)
    x = scaled(at.a, e)
    both = jnp.abs(s + x) + at.q[0]
    change = 2 * (s.conj() * e).real + (x.conj() * e).real
    return jnp.where(both == 0, jnp.abs(e), change / jnp.where(both == 0, 1, both))


@rule("clamp")
def clamp(at):
    low, x, high = [
        over(value - at.q[0], at.a) + e for value, e in zip(at.p, at.full, strict=True)
    ]
    return jnp.clip(x, low, high)


@rule("reduce_max", "reduce_min", "argmax", "argmin")
def reduced(at):
    """Distances from the best, in units of a, and the increments on top of them."""
    axes = tuple(at.params["axes"])
    best = jnp.max if at.name.endswith("max") else jnp.min
    top = best(at.p[0], axes, keepdims=True)
    return at.bind(over(at.p[0] - top, at.a) + at.full[0])


@rule("eq", "ne", "lt", "le", "gt", "ge")
def comparison(at):
    x, y = at.p
    if not is_inexact(x):
        return at.bind(*at.moved)
    gap = over(x - y, at.a) + at.full[0] - at.full[1]
    return at.bind(gap, jnp.zeros_like(gap))


@rule("sign")
def sign(at):
    new = jnp.sign(over(at.p[0], at.a) + at.full[0])
    return over(new - at.q[0], at.a)


@rule("floor", "ceil", "round", "nextafter")
def steps(at):
    return direct(at)


@rule("select_n")
def select(at):
    which, *cases = at.full
    out = at.bind(which, *cases)
    if at.d[0] is None:
        return out
    # Where the choice is another one, what was chosen pays the jump.
    new = at.bind(which, *at.p[1:])
    return out + jnp.where(which == at.p[0], 0, over(new - at.q[0], at.a))


@rule("sort")
def sort(at):
    """By value, and where values are the same to all digits by increment."""
    if at.params["num_keys"] != 1 or not is_inexact(at.p[0]):
        return fallback(at)
    key, e = at.p[0], at.full[0]
    options = {"dimension": at.params["dimension"], "is_stable": at.params["is_stable"]}
    others = [v for x, w in zip(at.p[1:], at.full[1:], strict=True) for v in (x, w)]
    _, e, key, *others = lax.sort(
        (key + scaled(at.a, e), e, key, *others), num_keys=2, **options
    )
    values, changes = [key, *others[::2]], [e, *others[1::2]]
    return [
        over(x - q, at.a) + v if is_inexact(q) else v
        for x, v, q in zip(values, changes, at.q, strict=True)
    ]


def windows(x: Array, params: dict, fill: int | float) -> Array:
    """Return the elements of each window of an image along a new first axis."""
    size, stride = params["window_dimensions"], params["window_strides"]
    spread = params.get("window_dilation") or (1,) * x.ndim
    padding = [(low, high, 0) for low, high in params["padding"]]
    x = lax.pad(x, jnp.asarray(fill, x.dtype), padding)
    out = []
    for place in np.ndindex(*size):
        start = [i * n for i, n in zip(place, spread, strict=True)]
        counts = [
            (n - (w - 1) * d - 1) // s + 1
            for n, w, d, s in zip(x.shape, size, spread, stride, strict=True)
        ]
        stop = [
            b + (c - 1) * s + 1 for b, c, s in zip(start, counts, stride, strict=True)
        ]
        out.append(lax.slice(x, start, stop, stride))
    return jnp.stack(out)


def dilated(params: dict) -> bool:
    return any(n != 1 for n in params.get("base_dilation") or ())


@rule("reduce_window_max", "reduce_window_min")
def window_extremum(at):
    if dilated(at.params):
        return fallback(at)
    best = jnp.max if at.name.endswith("max") else jnp.min
    worst = -jnp.inf if at.name.endswith("max") else jnp.inf
    values = windows(at.p[0], at.params, worst)
    changes = windows(at.full[0], at.params, 0)
    return best(over(values - at.q[0], at.a) + changes, 0)
