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


def apart(x: Any, y: Any, a: Array) -> Array:
    """Return (x - y) / a. What is the same stays exactly zero."""
    # Asked for before the difference is taken: a compiler that fuses it with the
    # product that x is rounds once less, and over a that is no small number.
    return jnp.where(x == y, 0, over(x - y, a))


def outputs(at, out) -> list:
    return list(out) if isinstance(out, list | tuple) else [out]


def direct(at: Site) -> list:
    """Return the difference of two values over a: right where it does not cancel."""
    new = outputs(at, at.bind(*at.moved))
    return [
        apart(n, q, at.a) if is_inexact(q) else n
        for n, q in zip(new, at.q, strict=True)
    ]


NODES, WEIGHTS = np.polynomial.legendre.leggauss(8)
# What a polynomial of degree 5 does not have: the mean of the slope times P_6 and P_7.
_HIGHEST = np.polynomial.legendre.legvander(NODES, 7)[:, 6:].T * WEIGHTS / 2


def fallback(at: Site) -> list:
    r"""Return the mean of the derivative along the path, by 8 Gauss-Legendre nodes.

    What slopes along the path have of the Legendre polynomials $P_6$ and $P_7$ is more
    than its error, and a rounding of the value over a that of the difference of two
    values, which takes its place where that is less, and where both tell of a jump.
    """
    if not any(map(is_inexact, at.q)):
        return outputs(at, at.bind(*at.moved))
    chosen = [n for n, x in enumerate(at.p) if is_inexact(x)]
    if not chosen:
        return direct(at)
    ways, rest = [at.full[n] for n in chosen], at.moved

    def run(values):
        given = list(rest)
        for n, value in zip(chosen, values, strict=True):
            given[n] = value
        out = outputs(at, at.bind(*given))
        return [x for x in out if is_inexact(x)]

    total = None
    for node, *factors in zip(NODES, WEIGHTS / 2, *_HIGHEST, strict=True):
        t = float(node + 1) / 2
        here = [
            at.p[n] + scaled(at.a, t * v) for n, v in zip(chosen, ways, strict=True)
        ]
        slopes = jax.jvp(run, (here,), (ways,))[1]
        terms = [[float(w) * v for w in factors] for v in slopes]
        total = terms if total is None else jax.tree.map(jnp.add, total, terms)
    smooth, out = iter(total or []), []
    alike = all(jnp.shape(x) == jnp.shape(at.q[0]) for x in (*at.p, *at.q))
    for plain, q in zip(direct(at), at.q, strict=True):
        if not is_inexact(q):
            out.append(plain)
            continue
        mean, *high = next(smooth)
        size, a = jnp.abs(q), jnp.abs(at.a)
        gap, wrong = jnp.abs(plain - mean), sum(map(jnp.abs, high))
        if not alike:  # of one array, what cancels in one element need not in another
            size, gap, wrong = map(jnp.max, (size, gap, wrong))
        jumps = scaled(a, gap) > 1e-3 * size
        less = jnp.finfo(q.dtype).eps * size < scaled(a, wrong)
        out.append(jnp.where(jumps | less, plain, mean))
    return out
