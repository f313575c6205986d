"""Increments of smooth primitives, in closed form."""

import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

from .site import apart, direct, is_inexact, outputs, rule, scaled

LINEAR = (
    "reshape", "transpose", "broadcast_in_dim", "squeeze", "expand_dims", "slice",
    "reduce_sum", "neg", "copy", "copy_p", "rev", "real", "imag", "conj", "complex",
    "concatenate", "split", "cumsum", "add", "add_any", "sub", "pad", "dynamic_slice",
    "gather", "scatter", "scatter_add", "scatter-add", "scatter_sub", "scatter-sub",
    "dynamic_update_slice", "reduce_precision", "fft", "reduce_window_sum",
    "convert_element_type", "stop_gradient", "sharding_constraint", "device_put",
    "optimization_barrier", "pvary", "stack", "unstack", "tile",
)  # fmt: skip


@rule(*LINEAR)
def linear(at):
    """Of increments it makes what it makes of values; another index is a jump."""
    kept = [
        v if is_inexact(x) else w
        for x, v, w in zip(at.p, at.full, at.moved, strict=True)
    ]
    if at.jumps:
        new = outputs(
            at,
            at.bind(
                *(
                    p if is_inexact(p) else w
                    for p, w in zip(at.p, at.moved, strict=True)
                )
            ),
        )
    if not any(map(is_inexact, at.p)):
        return [apart(n, x, at.a) for n, x in zip(new, at.q, strict=True)]
    out = outputs(at, at.bind(*kept))
    if not at.jumps:
        return out
    return [v + apart(n, x, at.a) for v, n, x in zip(out, new, at.q, strict=True)]


@rule("mul", "dot_general", "conv_general_dilated", "product")
def bilinear(at):
    (x, y), (u, v) = at.p, at.d
    if u is None:
        return at.bind(x, v)
    if v is None:
        return at.bind(u, y)
    return at.bind(u, y) + at.bind(x + scaled(at.a, u), v)


@rule("div")
def div(at):
    (_, y), (u, v) = at.p, at.full
    return (u - at.q[0] * v) / (y + scaled(at.a, v))


@rule("square")
def square(at):
    return at.full[0] * (2 * at.p[0] + scaled(at.a, at.full[0]))


@rule("integer_pow")
def integer_pow(at):
    x, e, y = at.p[0], at.full[0], at.params["y"]
    new = x + scaled(at.a, e)
    out = sum(new**k * x ** (abs(y) - 1 - k) for k in range(abs(y))) * e
    return out if y >= 0 else -out / (x ** abs(y) * new ** abs(y))


@rule("pow")
def power(at):
    (x, y), (u, v) = at.p, at.full
    if not is_inexact(y):
        y, v = jnp.asarray(y, x.dtype), jnp.zeros_like(x)
    safe = jnp.where(x > 0, x, 1)
    part = jnp.where(x > 0, u, 0) / safe
    y1 = y + scaled(at.a, v)
    log = y1 * part * log_ratio(scaled(at.a, part)) + v * jnp.log(safe)
    smooth = at.q[0] * log * exp_ratio(scaled(at.a, log))
    return jnp.where((x > 0) & (x + scaled(at.a, u) > 0), smooth, direct(at)[0])


@rule("triangular_solve")
def triangular_solve(at):
    """A x = b: the new matrix, with what its change makes of the old solution."""
    (_, _), (u, v) = at.p, at.full
    params = at.params
    matrix = jnp.tril(u) if params["lower"] else jnp.triu(u)
    if params["unit_diagonal"]:
        matrix = matrix - matrix * jnp.eye(matrix.shape[-1], dtype=matrix.dtype)
    if params["transpose_a"]:
        matrix = jnp.swapaxes(matrix, -1, -2)
    if params["conjugate_a"]:
        matrix = jnp.conj(matrix)
    x = at.q[0]
    change = matrix @ x if params["left_side"] else x @ matrix
    return at.bind(at.moved[0], v - change)


def ratio(function: Callable, series: Sequence[int | float]) -> Callable:
    """Return function(x) / x, by the series near 0, where it would be 0 / 0."""

    def call(x):
        small = jnp.abs(x) < 1e-4
        near = sum(c * x**k for k, c in enumerate(series))
        away = jnp.where(small, 1, x)
        return jnp.where(small, near, function(away) / away)

    return call


exp_ratio = ratio(jnp.expm1, (1, 1 / 2, 1 / 6, 1 / 24))
log_ratio = ratio(jnp.log1p, (1, -1 / 2, 1 / 3, -1 / 4, 1 / 5))
sin_ratio = ratio(jnp.sin, (1, 0, -1 / 6, 0, 1 / 120))
sinh_ratio = ratio(jnp.sinh, (1, 0, 1 / 6, 0, 1 / 120))
tanh_ratio = ratio(jnp.tanh, (1, 0, -1 / 3, 0, 2 / 15))
atan_ratio = ratio(jnp.arctan, (1, 0, -1 / 3, 0, 1 / 5))


def size(x: Array) -> Array:
    """Return |x|, with a slope of 1 at 0, as its half x >= 0 has."""
    return jnp.where(x >= 0, x, -x)


def unary(name: str, function: Callable, smooth: Callable | None = None):
    """Register function(s, out, e, x) with x = a e; `smooth` takes complex numbers."""

    @rule(name)
    def call(at):
        (s,), (e,) = at.p, at.full
        chosen = smooth if smooth and jnp.iscomplexobj(s) else function
        return chosen(s, at.q[0], e, scaled(at.a, e))


def _exp(s, out, e, x):
    # From the larger end, so that nothing overflows on the way to a small result.
    return e * jnp.exp(jnp.where(x >= 0, s + x, s)) * exp_ratio(-size(x))


def _logistic(s, out, e, x):
    up = jnp.where(x >= 0, 1, -1)
    ends = jax.nn.sigmoid(-up * s) * jax.nn.sigmoid(up * (s + x))
    return e * ends * exp_ratio(-size(x))


def _tanh(s, out, e, x):
    # Not 1 - out^2, which has few digits where the function is flat.
    return 4 * _logistic(2 * s, out, e, 2 * x)


def _log(s, out, e, x):
    return e / s * log_ratio(x / s)


def _sqrt(s, out, e, x):
    roots = jnp.sqrt(s + x) + out
    return jnp.where(roots == 0, 0, e / jnp.where(roots == 0, 1, roots))


def _rsqrt(s, out, e, x):
    new = lax.rsqrt(s + x)
    return -e * out * new / (jnp.sqrt(s + x) + jnp.sqrt(s))


def _cbrt(s, out, e, x):
    new = jnp.cbrt(s + x)
    below = new * new + new * out + out * out
    return jnp.where(below == 0, 0, e / jnp.where(below == 0, 1, below))


def _atan(s, out, e, x):
    # The angle between two directions: also where the quotient leaves (-1, 1).
    below = 1 + s * (s + x)
    angle = jnp.arctan2(x, below)
    near = e / jnp.where(below > 0, below, 1)
    small = (jnp.abs(angle) < 0.5) & (below > 0)
    far = angle * jnp.where(small, 0, e / jnp.where(x == 0, 1, x))
    return jnp.where(small, near * atan_ratio(x / jnp.where(below > 0, below, 1)), far)


def _smooth_logistic(s, out, e, x):
    return (1 - out) * jax.nn.sigmoid(s + x) * e * exp_ratio(-x)


def _smooth_tanh(s, out, e, x):
    t = e * tanh_ratio(x)
    return t * (1 - out * out) / (1 + x * tanh_ratio(x) * out)


unary("exp", _exp, lambda s, out, e, x: out * e * exp_ratio(x))
unary("exp2", lambda s, out, e, x: _exp(s * _LN2, out, e * _LN2, x * _LN2))
unary("expm1", _exp, lambda s, out, e, x: jnp.exp(s) * e * exp_ratio(x))
unary("logistic", _logistic, _smooth_logistic)
unary("tanh", _tanh, _smooth_tanh)
unary("log", _log)
unary("log1p", lambda s, out, e, x: _log(1 + s, out, e, x))
unary("sqrt", _sqrt)
unary("rsqrt", _rsqrt)
unary("cbrt", _cbrt)
unary("atan", _atan)
unary("sin", lambda s, out, e, x: jnp.cos(s + x / 2) * e * sin_ratio(x / 2))
unary("cos", lambda s, out, e, x: -jnp.sin(s + x / 2) * e * sin_ratio(x / 2))
unary("sinh", lambda s, out, e, x: jnp.cosh(s + x / 2) * e * sinh_ratio(x / 2))
unary("cosh", lambda s, out, e, x: jnp.sinh(s + x / 2) * e * sinh_ratio(x / 2))
_LN2 = math.log(2)
