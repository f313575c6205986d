"""Activations: what a layer does with its drive, and every fact EP needs of it."""

import abc
import math

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Inexact, PyTree

from .. import _checks as checks
from .._custom_types import Scale
from .._difference import difference


class AbstractActivation(eqx.Module):
    r"""A monotone activation $\rho = \nabla G^*$ with $G$ convex.

    Subclasses give the function; what else they know is used where it is needed: with
    the largest slope certificates are proved, with the potential energies have values.
    The increment $[\rho(h + a u) - \rho(h)]/a$ is that of `ctep.difference`, which
    does not cancel.

    ```python
    import ctep, jax

    class Softplus(ctep.AbstractActivation):
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
    def lipschitz(self) -> float:
        """The largest slope; infinite, so that nothing is proved, if nobody says."""
        return math.inf

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
        # An activation acts element by element: its Jacobian is diagonal, and the
        # product with ones is the diagonal, whatever leading axes `h` has.
        return jax.jvp(self, (h,), (jnp.ones_like(h),))[1]

    def anchor(self, h: Array, scale: Scale = 1.0) -> PyTree:
        """Return what `increment` needs to know of the free phase.

        Args:
            h: drive of the free phase.
            scale: the unit of increments, a positive number.

        Returns:
            A tree of arrays with the leading axes of `h`.
        """
        # Not the state, which of a saturated unit is the end of the range: the drive
        # cannot be had back from it.
        return h

    def increment(self, anchor: PyTree, u: Array, scale: Scale = 1.0) -> Array:
        r"""Return $[\rho(h + a u) - \rho(h)]/a$ as precisely as $u$ is known.

        Args:
            anchor: what `anchor` returned at the free phase.
            u: increment of the drive, in units of the scale.
            scale: $a$, as small as you like.

        Returns:
            The increment of the state, in units of the scale.
        """
        # The nudges may be an axis more than the free phase has.
        h = jnp.broadcast_to(anchor, u.shape)
        return difference(self, h.astype(u.dtype))[1](u, scale=scale)


def _logistic_anchor(u):
    """Return what `_logistic_increment` needs of `u`: sign, size, and its decay."""
    # The logistic function is odd around one half, so sign and size will do, and the
    # exponential of the size cannot overflow.
    size = jnp.abs(u)
    decay = jnp.exp(-size)
    # Not `jnp.sign`, whose 0 would undo the increments of a drive that is exactly 0.
    return jnp.where(u < 0, -1, 1).astype(u.dtype), size, decay


def _logistic_increment(anchor, v, scale: Scale = 1.0):
    """Return [1/(1 + exp(-u - a v)) - 1/(1 + exp(-u))]/a, as precisely as v is known.

    The textbook difference of tanh, t (1 - s^2) / (1 + s t), cancels in saturated
    units and divides 0 by 0 where the increment takes them across.
    """
    sign, size, decay = anchor
    v = sign * v
    outward = v.real > 0
    inward = jnp.where(outward, -v, v)
    w, step = inward, jnp.expm1(inward)
    if not (isinstance(scale, float) and scale == 1):
        w = scale * inward
        # Below a rounding it is linear; its last digits a product with the scale loses.
        little = jnp.abs(w) < jnp.finfo(w.dtype).eps
        step = jnp.where(little, inward, jnp.expm1(w) / scale)
    step = step * jnp.where(outward, -decay, 1)
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
        # Of a small state log(1 + s) would keep only the digits that 1 + s keeps.
        value = 0.5 * (_xlog1p(1 + s, s) + _xlog1p(1 - s, -s))
        return jnp.where(jnp.abs(s.real) <= 1, value, jnp.inf)

    # The plain transformation is as fast to run, but takes 1.4 times as long to
    # compile: a step of 20 layers 7.5 s and not 5.3.
    def anchor(self, h, scale=1.0):
        return _logistic_anchor(2 * h)

    def increment(self, anchor, u, scale=1.0):
        return 2 * _logistic_increment(anchor, 2 * u, scale)

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

    slope: float = eqx.field(static=True, default=1.0, converter=checks.number)
    shift: float = eqx.field(static=True, default=0.0, converter=checks.number)

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
        value = self.shift * s + (_xlogx(s) + _xlogx(1 - s)) / self.slope
        return jnp.where((s.real >= 0) & (s.real <= 1), value, jnp.inf)

    def anchor(self, h, scale=1.0):
        return _logistic_anchor(self.slope * (h - self.shift))

    def increment(self, anchor, u, scale=1.0):
        return _logistic_increment(anchor, self.slope * u, scale)

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

    lo: float = eqx.field(static=True, converter=checks.number)
    hi: float = eqx.field(static=True, converter=checks.number)

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

    def anchor(self, h, scale=1.0):
        # The image of the drive, which the state equals up to the solver's tolerance:
        # increments around the state would not be zero where nothing pulls.
        s = self(h)
        return s, (h - s) / scale

    def increment(self, anchor, u, scale=1.0):
        s, excess = anchor
        # Inside the range `excess` is exactly 0 and `u` keeps all of its digits;
        # outside a unit stays at its end until `u` outweighs the excess.
        per = 1 / scale  # twice a division would cost a tenth of a sweep of images
        return jnp.clip(u + excess, (self.lo - s) * per, (self.hi - s) * per)

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

    def increment(self, anchor, u, scale=1.0):
        return u

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


# Functions and no subclasses: bounds on slopes are taken from the exact class, so a
# subclass of `Clip` would inherit none and its networks no certificate.
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
    # Guarded twice, since the derivative of the branch not taken is multiplied by 0,
    # and that is NaN where it is infinite.
    return jnp.where(v > 0, v * jnp.log(jnp.where(v > 0, v, 1)), 0)


def _xlog1p(factor, v):
    # factor * log(1 + v), zero where the logarithm's argument vanishes.
    safe = jnp.where(factor > 0, v, 0)
    return jnp.where(factor > 0, factor * jnp.log1p(safe), 0)
