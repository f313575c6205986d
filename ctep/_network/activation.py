"""Activations: what a layer does with its drive, and every fact EP needs of it."""

import abc
import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Inexact, PyTree

from .. import _checks as checks

# Gauss-Legendre nodes on [0, 1]: exact for polynomials of degree 7.
_NODES, _WEIGHTS = (
    tuple(float(v) for v in a)
    for a in (
        0.5 * (np.polynomial.legendre.leggauss(4)[0] + 1),
        0.5 * np.polynomial.legendre.leggauss(4)[1],
    )
)


# A quadrature that is this many roundings away from the plain difference is wrong.
_ROUNDINGS = 16


def path_integral(slope):
    r"""Return $\int_0^1 \mathrm{slope}(t)\,dt$ by four Gauss-Legendre nodes.

    With `slope(t)` linear in a small increment the result keeps the increment's
    relative precision, which a difference of two values does not. Its own error is of
    order nine in the increment, and of order one if the way crosses a kink.

    Args:
        slope: function of the fraction `t` of the way to a tree of arrays.

    Returns:
        A tree with the structure of `slope(t)`.
    """
    terms = [
        jax.tree_util.tree_map(lambda leaf, w=w: w * leaf, slope(t))
        for t, w in zip(_NODES, _WEIGHTS, strict=True)
    ]
    return jax.tree_util.tree_map(lambda *leaves: sum(leaves), *terms)


def change(slope, before, after, size):
    r"""Return `after - before`, or the integral of `slope` where both agree.

    A difference of two values is right to about $\epsilon$ times what has been added
    up in them, on any way. The quadrature is right to the relative precision of the
    increment, but not across a kink or on a long way. So wherever the two are further
    apart than rounding explains, it is the quadrature that is wrong.

    Args:
        slope: function of the fraction `t` of the way to a tree of arrays.
        before: what it is the slope of, at `t` = 0; a tree of arrays.
        after: the same at `t` = 1.
        size: how large the terms are that add up to `before`, from `sizes`.

    Returns:
        A tree with the structure of `slope(t)`.
    """

    def one(integral, before, after, size):
        difference = after - before
        rounding = jnp.finfo(difference.dtype).eps * (jnp.abs(after) + size)
        # Comparisons with NaN are false: the integral stays, unless it is what is NaN.
        apart = jnp.abs(difference - integral) > _ROUNDINGS * rounding
        lost = jnp.isnan(integral) & ~jnp.isnan(difference)
        return jnp.where(apart | lost, difference, integral)

    return jax.tree_util.tree_map(one, path_integral(slope), before, after, size)


def sizes(function, start, lead):
    r"""Return the sizes of what `function(*start)` adds up, element by element.

    The force at a rest is zero, but the terms that cancel in it are not, and they are
    what rounds. Their size is that of $J (g \circ s)$ with $J$ the Jacobian and $g$
    normal: of eight of them, so that none is small by chance.

    Args:
        function: takes trees of arrays and returns one.
        start: the arguments at which it is asked.
        lead: number of leading axes along which all elements share one $g$.

    Returns:
        A tree of real arrays, with the structure of the function's value.
    """
    leaves, treedef = jax.tree_util.tree_flatten(start)
    keys = jax.random.split(jax.random.key(0), (8, len(leaves)))

    def moved(keys):
        tangent = [
            leaf * jax.random.normal(key, leaf.shape[lead:], leaf.dtype)
            for key, leaf in zip(keys, leaves, strict=True)
        ]
        return jax.jvp(function, start, treedef.unflatten(tangent))[1]

    return jax.tree_util.tree_map(
        lambda value, moves: jnp.abs(value) + jnp.sum(jnp.abs(moves), 0),
        function(*start),
        jax.lax.map(moved, keys),
    )


class AbstractActivation(eqx.Module):
    r"""A monotone activation $\rho = \nabla G^*$ with $G$ convex.

    Subclasses give the function and its largest slope; what else they know is used
    where it is needed. The increment $\rho(h + a) - \rho(h)$ falls back to a quadrature
    of the derivative, which does not cancel. Where it differs visibly from the plain
    difference, across a kink or on a long way, it is the plain difference, to the
    rounding of $\rho$.

    ```python
    import ctep, jax

    class Softplus(ctep.AbstractActivation):
        lipschitz = 1.0

        def __call__(self, h):
            return jax.nn.softplus(h)

    network = ctep.mlp((4, 8, 3), activation=Softplus(), key=jax.random.key(0))
    print(network)  # s1 = softplus(W0_1 x + b1)
    ```
    """

    @abc.abstractmethod
    def __call__(self, h: Inexact[Array, "..."]) -> Inexact[Array, "..."]:
        """Return the state that the drive `h` asks for."""

    @property
    @abc.abstractmethod
    def lipschitz(self) -> float:
        """The largest slope."""

    def potential(self, s: Inexact[Array, "..."]) -> Inexact[Array, "..."]:
        r"""Return $G(s)$, element by element; $\nabla G$ inverts the activation.

        Energies are made of it, gradients are not.

        Raises:
            ValueError: if the class does not define it.
        """
        raise ValueError(
            f"`potential` is not defined by {type(self).__name__}, so energies have no "
            "value: write it, or look at states and gradients alone."
        )

    @property
    def formula(self) -> str:
        """How the function is printed, with `h` for the drive."""
        return f"{type(self).__name__.lower()}(h)"

    @property
    def range(self) -> tuple[float, float]:
        """The closed interval that holds every state."""
        return -math.inf, math.inf

    @property
    def pole(self) -> complex | None:
        """The pole nearest to the real axis; `None` if it is not holomorphic.

        `complex("inf")` says that the function is entire.
        """
        return None

    def derivative(self, h: Inexact[Array, "..."]) -> Inexact[Array, "..."]:
        r"""Return $\rho'(h)$, element by element."""
        return jax.jvp(self, (h,), (jnp.ones_like(h),))[1]

    def anchor(self, h: Array, s: Array) -> PyTree:
        """Return what `increment` needs to know of the free phase.

        Args:
            h: drive of the free phase.
            s: state of the free phase, `self(h)` up to the solver's tolerance.

        Returns:
            A tree of arrays with the leading axes of `h`.
        """
        del s
        return h

    def increment(self, anchor: PyTree, a: Array) -> Array:
        r"""Return $\rho(h + a) - \rho(h)$ as precisely as `a` is known.

        Args:
            anchor: what `anchor` returned at the free phase.
            a: increment of the drive, as small as you like.

        Returns:
            The increment of the state: to the relative precision of `a` if $\rho$ is
            smooth on the way, else to the rounding of $\rho$ itself.
        """
        h = anchor
        before = self(h)
        return change(
            lambda t: self.derivative(h + t * a) * a,
            before,
            self(h + a),
            jnp.abs(before) + jnp.abs(self.derivative(h) * h),
        )


def _logistic_anchor(u):
    """Return what `_logistic_increment` needs of `u`: sign, size, and its decay."""
    size = jnp.abs(u)
    decay = jnp.exp(-size)
    return jnp.where(u < 0, -1, 1).astype(u.dtype), size, decay


def _logistic_increment(anchor, v):
    """Return 1/(1 + exp(-u - v)) - 1/(1 + exp(-u)), to the relative precision of v.

    The textbook difference of tanh, t (1 - s^2) / (1 + s t), cancels in saturated
    units and divides 0 by 0 where the increment takes them across.
    """
    sign, size, decay = anchor
    v = sign * v
    outward = v.real > 0
    w = jnp.where(outward, -v, v)
    step = jnp.expm1(w) * jnp.where(outward, -decay, 1)
    if jnp.iscomplexobj(v):
        # The form below overflows in saturated units, and infinity is not a number in
        # complex products. This one does not, unless the increment crosses both ends.
        turn = jnp.exp(w)
        far = jnp.where(outward, 1 + decay * turn, decay + turn)
        return sign * step * jnp.where(outward, 1, decay) / ((1 + decay) * far)
    far = jnp.exp(jnp.where(outward, -size, size) + w)
    return sign * step / ((1 + decay) * (1 + far))


class Tanh(AbstractActivation):
    r"""$\rho(h) = \tanh h$, with $G(s) = s\,\mathrm{artanh}\,s + \frac12\ln(1-s^2)$."""

    def __call__(self, h):
        return jnp.tanh(h)

    def derivative(self, h):
        return 1 - jnp.tanh(h) ** 2

    def potential(self, s):
        return 0.5 * (_xlog1p(1 + s, s) + _xlog1p(1 - s, -s))

    def anchor(self, h, s):
        return _logistic_anchor(2 * h)

    def increment(self, anchor, a):
        return 2 * _logistic_increment(anchor, 2 * a)

    @property
    def formula(self):
        return "tanh(h)"

    @property
    def lipschitz(self):
        return 1.0

    @property
    def range(self):
        return (-1.0, 1.0)

    @property
    def pole(self):
        return complex(0, math.pi / 2)


class Sigmoid(AbstractActivation):
    r"""$\rho(h) = 1 / (1 + e^{-k(h - c)})$ with slope $k$ and shift $c$.

    $G(s) = c s + \frac1k (s \ln s + (1-s)\ln(1-s))$; poles at $c \pm i\pi/k$.

    Args:
        slope: $k > 0$; the derivative at the shift is $k/4$.
        shift: $c$, where the state is one half. Holomorphic EP uses slope 4 and
            shift 1/2.

    Raises:
        ValueError: if `slope` is not positive.

    References:
        Laborieux and Zenke, 2022, arXiv:2209.00530.
    """

    slope: float = eqx.field(static=True, default=1.0)
    shift: float = eqx.field(static=True, default=0.0)

    def __check_init__(self):
        checks.real("slope", self.slope, "1.0")
        checks.real("shift", self.shift, "0.0")
        if not self.slope > 0:
            raise ValueError(
                f"`slope` is {self.slope}, but a monotone activation needs a positive "
                "one: pass `slope=1.0` or more."
            )

    def __call__(self, h):
        return 0.5 * (1 + jnp.tanh(0.5 * self.slope * (h - self.shift)))

    def potential(self, s):
        return self.shift * s + (_xlogx(s) + _xlogx(1 - s)) / self.slope

    def anchor(self, h, s):
        return _logistic_anchor(self.slope * (h - self.shift))

    def increment(self, anchor, a):
        return _logistic_increment(anchor, self.slope * a)

    @property
    def formula(self):
        return f"sigmoid({self.slope:g} (h - {self.shift:g}))"

    @property
    def lipschitz(self):
        return self.slope / 4

    @property
    def range(self):
        return (0.0, 1.0)

    @property
    def pole(self):
        return complex(self.shift, math.pi / self.slope)


class Clip(AbstractActivation):
    r"""$\rho(h) = \min(\max(h, lo), hi)$, with $G(s) = s^2/2$ on $[lo, hi]$.

    Args:
        lo: smallest state; `-inf` for none.
        hi: largest state; `inf` for none.

    Raises:
        ValueError: if `lo` is not below `hi`.
    """

    lo: float = eqx.field(static=True)
    hi: float = eqx.field(static=True)

    def __check_init__(self):
        checks.real("lo", self.lo, "0.0")
        checks.real("hi", self.hi, "1.0")
        if not self.lo < self.hi:
            raise ValueError(
                f"`lo` is {self.lo} and `hi` is {self.hi}, but a range needs "
                "`lo` < `hi`: swap or change them."
            )

    def __call__(self, h):
        return jnp.clip(h, self.lo, self.hi)

    def derivative(self, h):
        return ((h > self.lo) & (h < self.hi)).astype(h.dtype)

    def potential(self, s):
        inside = (s >= self.lo) & (s <= self.hi)
        return jnp.where(inside, 0.5 * s * s, jnp.inf)

    def anchor(self, h, s):
        s = self(h)
        return s, h - s

    def increment(self, anchor, a):
        s, excess = anchor
        return jnp.clip(a + excess, self.lo - s, self.hi - s)

    @property
    def formula(self):
        if math.isinf(self.hi):
            return "h" if math.isinf(self.lo) else f"max(h, {self.lo:g})"
        return f"clip(h, {self.lo:g}, {self.hi:g})"

    @property
    def lipschitz(self):
        return 1.0

    @property
    def range(self):
        return (self.lo, self.hi)

    @property
    def pole(self):
        return None


class Identity(AbstractActivation):
    r"""$\rho(h) = h$, with $G(s) = s^2/2$: a linear layer."""

    def __call__(self, h):
        return h

    def derivative(self, h):
        return jnp.ones_like(h)

    def potential(self, s):
        return 0.5 * s * s

    def increment(self, anchor, a):
        return a

    @property
    def formula(self):
        return "h"

    @property
    def lipschitz(self):
        return 1.0

    @property
    def range(self):
        return (-math.inf, math.inf)

    @property
    def pole(self):
        return complex("inf")


def HardSigmoid() -> Clip:
    """Return `Clip(0, 1)`, the activation of most published EP networks."""
    return Clip(0.0, 1.0)


def ReLU6() -> Clip:
    """Return `Clip(0, 6)`."""
    return Clip(0.0, 6.0)


def ReLU() -> Clip:
    """Return `Clip(0, inf)`."""
    return Clip(0.0, math.inf)


def _xlogx(v):
    return jnp.where(v > 0, v * jnp.log(jnp.where(v > 0, v, 1)), 0)


def _xlog1p(factor, v):
    # factor * log(1 + v), zero where the logarithm's argument vanishes.
    safe = jnp.where(factor > 0, v, 0)
    return jnp.where(factor > 0, factor * jnp.log1p(safe), 0)
