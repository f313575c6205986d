"""Increments of maxima, comparisons and choices: who wins, and who overtakes."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array

from .site import apart, direct, fallback, is_inexact, over, rule, scaled


def winner(best: Callable, values: Sequence[Any], changes: Sequence[Any], a: Array):
    """Return the increment of the best of several numbers.

    Losers stand below it by their distance in units of a, and may overtake.
    """
    top = values[0]
    for value in values[1:]:
        top = best(top, value)
    raced = [apart(x, top, a) + e for x, e in zip(values, changes, strict=True)]
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
        apart(value, at.q[0], at.a) + e for value, e in zip(at.p, at.full, strict=True)
    ]
    return jnp.clip(x, low, high)


@rule("reduce_max", "reduce_min", "argmax", "argmin")
def reduced(at):
    """Distances from the best, in units of a, and the increments on top of them."""
    axes = tuple(at.params["axes"])
    best = jnp.max if at.name.endswith("max") else jnp.min
    top = best(at.p[0], axes, keepdims=True)
    return at.bind(apart(at.p[0], top, at.a) + at.full[0])


@rule("eq", "ne", "lt", "le", "gt", "ge")
def comparison(at):
    x, y = at.p
    if not is_inexact(x):
        return at.bind(*at.moved)
    gap = apart(x, y, at.a) + at.full[0] - at.full[1]
    return at.bind(gap, jnp.zeros_like(gap))


@rule("sign")
def sign(at):
    new = jnp.sign(over(at.p[0], at.a) + at.full[0])
    return apart(new, at.q[0], at.a)


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
    return out + jnp.where(which == at.p[0], 0, apart(new, at.q[0], at.a))


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
        apart(x, q, at.a) + v if is_inexact(q) else v
        for x, v, q in zip(values, changes, at.q, strict=True)
    ]


@rule("top_k")
def top_k(at):
    """As by `sort`, the largest ones first."""
    x, e, axis = at.p[0], at.full[0], at.params["axis"] % at.p[0].ndim
    places = lax.broadcasted_iota(at.q[1].dtype, x.shape, axis)
    found = lax.sort((-x - scaled(at.a, e), -e, x, places), axis, True, 2)
    _, e, x, places = (lax.slice_in_dim(v, 0, at.params["k"], axis=axis) for v in found)
    return [apart(x, at.q[0], at.a) - e, places]


@rule("cummax", "cummin")
def running(at):
    """A race of pairs (x, e), each of which stands for x + a e."""
    sign = 1 if at.name == "cummax" else -1

    def best(first, second):
        gap = apart(second[0], first[0], at.a) + second[1] - first[1]
        return [jnp.where(sign * gap > 0, v, u) for u, v in zip(first, second)]  # noqa: B905

    axis, back = at.params["axis"], at.params["reverse"]
    x, e = lax.associative_scan(best, [at.p[0], at.full[0]], back, axis)
    return apart(x, at.q[0], at.a) + e


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
    return best(apart(values, at.q[0], at.a) + changes, 0)


@rule("select_and_scatter_add")
def scatter_to_winner(at):
    """What a window sends back goes to its winner; all of it, where that changes."""
    (sent, x), (d, e) = at.p, at.full
    up = at.params["select_prim"].name == "ge"
    best, place = (jnp.max, jnp.argmax) if up else (jnp.min, jnp.argmin)
    values = windows(x, at.params, -jnp.inf if up else jnp.inf)
    raced = apart(values, best(values, 0), at.a) + windows(e, at.params, 0)
    new, old = (
        jax.nn.one_hot(place(v, 0), len(v), axis=0, dtype=x.dtype)
        for v in (raced, values)
    )
    back = jax.linear_transpose(lambda v: windows(v, at.params, 0), x)
    return back(new * d + over((new - old) * sent, at.a))[0]
