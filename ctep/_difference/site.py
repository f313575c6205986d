"""An equation of a program, where increments meet it, and what all rules share.

A number of order one is never taken from another one. Where a is so small that s + a e
is s, all that is said here still holds: a = 0 is the derivative.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
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


def outputs(at, out) -> list:
    return list(out) if isinstance(out, list | tuple) else [out]


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
