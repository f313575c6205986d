"""Increments of JAX's primitives: what each makes of the increments it is given.

A number of order one is never taken from another one. Where a is so small that s + a e
is s, all that is said here still holds: a = 0 is the derivative.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array

RULES: dict[str, Callable[["Site"], Any]] = {}


@dataclasses.dataclass(frozen=True)
class Site:
    """An equation of a program, and what is known where it stands.

    Fields:
        name: that of its primitive.
        params: its parameters.
        bind: applies it to values.
        p: its operands at s.
        q: its results at s.
        d: for each operand, None if it stays; its increment in units of a, or, where it
            is discrete, its new value.
        a: the scale.
    """

    name: str
    params: dict[str, Any]
    bind: Callable
    p: Sequence[Any]
    q: Sequence[Any]
    d: Sequence[Any]
    a: Array

    @property
    def full(self) -> list:
        """What `d` says, for None zeros, or the values of discrete operands."""
        return [
            (jnp.zeros_like(x) if is_inexact(x) else x) if v is None else v
            for x, v in zip(self.p, self.d, strict=True)
        ]

    @property
    def moved(self) -> list:
        """The operands at s + a e, which have lost what is too small for them."""
        pairs = zip(self.p, self.full, strict=True)
        return [x + scaled(self.a, v) if is_inexact(x) else v for x, v in pairs]

    @property
    def jumps(self) -> bool:
        """Whether a discrete operand may have another value."""
        pairs = zip(self.p, self.d, strict=True)
        return any(v is not None and not is_inexact(x) for x, v in pairs)


def rule(*names: str):
    """Register the rule of some primitives."""

    def register(function):
        RULES.update({name: function for name in names})
        return function

    return register


def is_inexact(x: Any) -> bool:
    return jnp.issubdtype(jnp.result_type(x), jnp.inexact)


def scaled(a: Array, x: Any) -> Array:
    """Return a x in the dtype of x."""
    return a.astype(jnp.finfo(x.dtype).dtype) * x


def over(x: Any, a: Array) -> Array:
    """Return x / a. Zero stays zero: it is exact, and stands at the active place."""
    return jnp.where(x == 0, 0, x / a.astype(jnp.finfo(x.dtype).dtype))


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


# ------------------------------------------------------------ linear and bilinear

LINEAR = (
    "reshape", "transpose", "broadcast_in_dim", "squeeze", "expand_dims", "slice",
    "reduce_sum", "neg", "copy", "copy_p", "rev", "real", "imag", "conj", "complex",
    "concatenate", "cumsum", "add", "add_any", "sub", "pad", "dynamic_slice", "gather",
    "scatter", "scatter_add", "scatter-add", "dynamic_update_slice", "reduce_precision",
    "fft", "reduce_window_sum", "convert_element_type", "stop_gradient", "split",
    "sharding_constraint", "device_put", "optimization_barrier", "pvary", "unstack",
    "scatter_sub", "scatter-sub", "tie", "mul_const", "symbolic_zeros", "copy_start",
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
        return [over(n - x, at.a) for n, x in zip(new, at.q, strict=True)]
    out = outputs(at, at.bind(*kept))
    if not at.jumps:
        return out
    return [v + over(n - x, at.a) for v, n, x in zip(out, new, at.q, strict=True)]


def outputs(at, out) -> list:
    return list(out) if isinstance(out, list | tuple) else [out]


@rule("mul", "dot_general", "conv_general_dilated")
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


# ------------------------------------------------------------ elementary functions


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


# ------------------------------------------------------------ kinks and decisions


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


# ------------------------------------------------------------ windows


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


# ------------------------------------------------------------ everything else


def direct(at: Site) -> list:
    """Return the difference of two values over a: right where it does not cancel."""
    new = outputs(at, at.bind(*at.moved))
    return [
        over(n - q, at.a) if is_inexact(q) else n
        for n, q in zip(new, at.q, strict=True)
    ]


def fallback(at: Site) -> list:
    """Return the mean of the derivative along the path, by 8 Gauss-Legendre nodes.

    Where the change is a visible part of the value the difference of two values has
    more digits than a long path by so few nodes, and takes its place.
    """
    if not any(map(is_inexact, at.q)):
        return outputs(at, at.bind(*at.moved))
    chosen = [n for n, x in enumerate(at.p) if is_inexact(x)]
    if not chosen:
        return direct(at)
    ways = [at.full[n] for n in chosen]
    nodes, weights = np.polynomial.legendre.leggauss(8)
    rest = at.moved

    def run(values):
        given = list(rest)
        for n, value in zip(chosen, values, strict=True):
            given[n] = value
        out = outputs(at, at.bind(*given))
        return [x for x in out if is_inexact(x)]

    total = None
    for t, w in zip((nodes + 1) / 2, weights / 2, strict=True):
        here = [
            at.p[n] + scaled(at.a, float(t) * v)
            for n, v in zip(chosen, ways, strict=True)
        ]
        slope = [float(w) * v for v in jax.jvp(run, (here,), (ways,))[1]]
        total = (
            slope
            if total is None
            else [x + y for x, y in zip(total, slope, strict=True)]
        )
    smooth, out = iter(total or []), []
    alike = all(jnp.shape(x) == jnp.shape(at.q[0]) for x in (*at.p, *at.q))
    for plain, q in zip(direct(at), at.q, strict=True):
        if not is_inexact(q):
            out.append(plain)
            continue
        moved, still = jnp.abs(scaled(at.a, plain)), jnp.abs(q)
        if not alike:  # of one array, what cancels in one element need not in another
            moved, still = jnp.max(moved), jnp.max(still)
        out.append(jnp.where(moved > 1e-3 * still, plain, next(smooth)))
    return out
