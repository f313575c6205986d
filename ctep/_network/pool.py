"""Pooling: operators that shrink an image, their adjoints and their increments."""

import abc
import math
from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from .. import _checks as checks
from .._custom_types import Number, Shape
from .operator import AbstractLinear, AbstractOperator


class _Window(eqx.Module):
    """Windows side by side that cover an image; a rest at the far sides is left out.

    Written with slices, of which every platform makes one loop: the gradient of
    `lax.reduce_window` is fifty times slower on a processor.
    """

    in_shape: Shape = eqx.field(static=True)
    size: tuple[int, int] = eqx.field(static=True)

    def __init__(self, in_shape: Shape, size: Number | Sequence[int] = 2):
        self.in_shape = checks.image("in_shape", in_shape)
        self.size = checks.one_or_two("size", size, "2")
        if min(self.out_shape) < 1:
            raise ValueError(
                f"`size` is {self.size}, which leaves nothing of an image of "
                f"{self.in_shape[0]} x {self.in_shape[1]}: pool less, or make the "
                "image larger."
            )

    @property
    def out_shape(self):
        height, width, channels = self.in_shape
        return (height // self.size[0], width // self.size[1], channels)

    def split(self, z: Array) -> list[Array]:
        """Return the elements of the windows, place by place, `(*lead, *out_shape)`."""
        (a, b), (height, width, _) = self.size, self.out_shape
        return [
            z[..., i : height * a : a, j : width * b : b, :]
            for i in range(a)
            for j in range(b)
        ]

    @property
    def places(self) -> np.ndarray:
        """The numbers of the elements of a window, in the order of `split`."""
        (a, b), count = self.size, math.prod(self.size)
        # One byte each up to 128 elements, since every sweep carries places.
        kind = np.min_scalar_type(-count)
        return np.arange(count, dtype=kind).reshape(a, 1, b, 1)

    def spread(self, part: Array) -> Array:
        """Return numbers per window as what broadcasts against all of its elements."""
        return jnp.expand_dims(part, (-4, -2))

    def join(self, elements: Array) -> Array:
        """Return the image of elements that stand where `places` do.

        Zeros where nothing was pooled. Not made of one image per place, which to put
        between each other took up to twice as long.
        """
        *lead, height, a, width, b, channels = elements.shape
        out = elements.reshape((*lead, height * a, width * b, channels))
        rest = [n - m for n, m in zip(self.in_shape, out.shape[-3:], strict=True)]
        if any(rest):
            out = jnp.pad(out, [(0, 0)] * (out.ndim - 3) + [(0, n) for n in rest])
        return out


class AbstractPool(AbstractOperator):
    """Pooling over windows that lie side by side, 2 x 2 by default.

    `MaxPool`, `AveragePool` and `SoftmaxPool`. What `ctep.vgg` takes as `pool` makes
    one of a shape:

    ```python
    import ctep, jax

    network = ctep.vgg(
        (4, 8), (16,), 10, input_shape=(8, 8, 1), pool=ctep.AveragePool,
        key=jax.random.key(0),
    )
    pools = [c.forward.operators[-1] for c in network.couplings[:2]]
    print([isinstance(pool, ctep.AbstractPool) for pool in pools])  # [True, True]
    ```
    """

    window: eqx.AbstractVar[_Window]

    @property
    def in_shape(self):
        return self.window.in_shape

    @property
    def out_shape(self):
        return self.window.out_shape

    @property
    @abc.abstractmethod
    def name(self) -> str:
        """How the operator is printed."""

    def formula(self, weight, state):
        return f"{self.name}({state})"

    def adjoint_formula(self, weight, state):
        return f"{self.name}'({state})"


class MaxPool(AbstractPool):
    r"""$c(z)_w = \max_{k \in w} z_k$.

    The adjoint puts an element back where its window has its maximum, at the first
    one of several. Increments are $\max_k ((z_k - z_{max})/a + e_k)$ and keep their
    relative precision, also where the maximum moves to another place. Elements that
    tie in floating point count as one rounding below the first of them.

    Use it with activations that are not negative. A negative state above the pool
    pushes its window's maximum down until another element takes its place, and the
    dynamics chatters between the two without an equilibrium.

    Args:
        in_shape: (height, width, channels) of the image.
        size: pixels of a window, one number or (height, width). Rows and columns that
            fill no window are left out.

    Raises:
        ValueError: if `in_shape` is no image, or nothing is left of it.
    """

    window: _Window

    def __init__(self, in_shape: Shape, size: Number | Sequence[int] = 2):
        self.window = _Window(in_shape, size)

    @property
    def linear(self):
        return False

    @property
    def holomorphic(self):
        return False

    @property
    def name(self):
        return "max"

    def image(self, v):
        return self.apply(v)[0]

    def apply(self, v):
        return _first_max(self.window.split(v))

    def adjoint(self, u, tape):
        u, tape = map(self.window.spread, (u, tape))
        return self.window.join(jnp.where(tape == self.window.places, u, 0))

    def anchor(self, v, scale=1.0):
        parts = self.window.split(v)
        top, place = _first_max(parts)
        # What ties in floating point lies within its rounding. An increment below that
        # must not move the maximum: the whole signal from above would move with it. One
        # such window in 130 batches put the optimiser off for good.
        tie = -jnp.finfo(top.dtype).eps * jnp.abs(top)
        below = [
            jnp.where((part == top) & (place != k), tie, part - top) / scale
            for k, part in enumerate(parts)
        ]
        return top, place, (place, below)

    def apply_increment(self, e, anchor, scale=1.0):
        old, below = anchor
        parts = self.window.split(e)
        _, move = _first_max([a + b for a, b in zip(below, parts, strict=True)])
        total = 0.0
        for k, (a, b) in enumerate(zip(below, parts, strict=True)):
            # Zero by definition at the old place, and so must its derivative be:
            # there it would be the difference of two terms that drown an increment.
            total = total + jnp.where(move == k, b + jnp.where(old == k, 0, a), 0)
        return total, move

    def adjoint_anchor(self, u, tape, scale=1.0):
        return u / scale

    def adjoint_increment(self, e, move, anchor, adjoint_anchor, scale=1.0):
        spread, places = self.window.spread, self.window.places
        e, move, u, old = map(spread, (e, move, adjoint_anchor, anchor[0]))
        here, before = move == places, old == places
        # `u` takes part only where a maximum moves: added and taken off again
        # elsewhere, it would round the increment away.
        jump = jnp.where(here & ~before, u, 0) - jnp.where(~here & before, u, 0)
        return self.window.join(jnp.where(here, e, 0) + jump)


class AveragePool(AbstractPool, AbstractLinear):
    r"""$c(z)_w = \frac{1}{|w|} \sum_{k \in w} z_k$.

    Args:
        in_shape: (height, width, channels) of the image.
        size: pixels of a window, one number or (height, width).

    Raises:
        ValueError: if `in_shape` is no image, or nothing is left of it.
    """

    window: _Window

    def __init__(self, in_shape: Shape, size: Number | Sequence[int] = 2):
        self.window = _Window(in_shape, size)

    @property
    def name(self):
        return "mean"

    def image(self, v):
        parts = self.window.split(v)
        return sum(parts[1:], parts[0]) / len(parts)

    def transposed(self, u):
        share = self.window.spread(u / math.prod(self.window.size))
        shape = np.broadcast_shapes(share.shape, self.window.places.shape)
        return self.window.join(jnp.broadcast_to(share, shape))


class SoftmaxPool(AbstractPool):
    r"""$c(z)_w = \sum_{k \in w} z_k\, e^{z_k/T} / \sum_{k \in w} e^{z_k/T}$.

    Smooth, and holomorphic where the denominator does not vanish: the pooling of
    holomorphic equilibrium propagation.

    Args:
        in_shape: (height, width, channels) of the image.
        size: pixels of a window, one number or (height, width).
        temperature: $T$, in units of the state; towards 0 it is `MaxPool`.

    Raises:
        ValueError: if `in_shape` is no image, nothing is left of it, or `temperature`
            is not positive.

    References:
        Laborieux and Zenke, 2022, arXiv:2209.00530.
    """

    window: _Window
    temperature: float = eqx.field(static=True)

    def __init__(
        self,
        in_shape: Shape,
        size: Number | Sequence[int] = 2,
        temperature: Number = 1.0,
    ):
        self.window = _Window(in_shape, size)
        self.temperature = checks.positive("temperature", temperature, "1.0")

    @property
    def linear(self):
        return False

    @property
    def holomorphic(self):
        return True

    @property
    def name(self):
        return f"softmax{self.temperature:g}"

    def image(self, v):
        parts = self.window.split(v)
        # Complex numbers have no order; real parts decide the size of exponentials, and
        # a shift changes nothing but that.
        top, _ = _first_max([part.real for part in parts])
        top = jax.lax.stop_gradient(top)
        powers = [jnp.exp((part - top) / self.temperature) for part in parts]
        total = sum(powers[1:], powers[0])
        products = [p * part for p, part in zip(powers, parts, strict=True)]
        return sum(products[1:], products[0]) / total


def _first_max(parts):
    """Return the largest of several arrays, and which of them it is: the first one."""
    kind = np.min_scalar_type(-len(parts))  # that of `places`
    top, place = parts[0], jnp.zeros(parts[0].shape, kind)
    for k, part in enumerate(parts[1:], 1):
        # NaN is kept, so that nobody takes the maximum of the others for an answer.
        above = (part > top) | jnp.isnan(part)
        top, place = jnp.where(above, part, top), jnp.where(above, kind.type(k), place)
    return top, place
