"""What weights are made of: each a function of arrays, as a node of the network."""

import abc
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray
from paramax import AbstractUnwrappable

from .._custom_types import Shape
from .bound import norm_bound

# An array, or what makes it: where a node is resolved, its own are arrays already.
Weight = Any


class AbstractMade(AbstractUnwrappable[Array]):
    """A weight that is made of others.

    Fields:
        weight: what it is made of.
        stacked: whether arrays have the layers of a stack along their first axis.
    """

    weight: eqx.AbstractVar[Weight]
    stacked: eqx.AbstractVar[bool]

    @abc.abstractmethod
    def made(self) -> Array:
        """Return the weight of one layer."""

    def unwrap(self):
        own = type(self).made
        return eqx.filter_vmap(own)(self) if self.stacked else own(self)


class AbstractDrawn(AbstractMade):
    """A weight that is drawn anew for each batch around its mean."""

    def made(self):
        return self.weight

    @abc.abstractmethod
    def sample(self, key: PRNGKeyArray) -> Array:
        """Return one draw of the weight of one layer."""

    def drawn(self, key: PRNGKeyArray) -> Array:
        """Return one draw of the weight."""
        own = type(self).sample
        if not self.stacked:
            return own(self, key)
        return eqx.filter_vmap(own)(self, jax.random.split(key, len(self.weight)))  # pyright: ignore[reportArgumentType]


class Standardized(AbstractMade):
    """See `ctep.standardized`."""

    weight: Weight
    gain: Weight
    scale: float = eqx.field(static=True)
    stacked: bool = eqx.field(static=True, default=False)

    def made(self):
        axes = tuple(range(self.weight.ndim - 1))
        fan_in = self.weight[..., 0].size
        centred = self.weight - jnp.mean(self.weight, axes)
        # Bounded below as published, or a channel of equal weights would be 0 / 0.
        square = jnp.maximum(fan_in * jnp.mean(jnp.square(centred), axes), 1e-4)
        return centred * (self.scale * self.gain * jax.lax.rsqrt(square))


class WeightNorm(AbstractMade):
    """See `ctep.weight_norm`."""

    weight: Weight
    gain: Weight
    stacked: bool = eqx.field(static=True, default=False)

    def made(self):
        axes = tuple(range(self.weight.ndim - 1))
        square = jnp.sum(jnp.square(self.weight), axes)
        tiny = jnp.finfo(self.weight.dtype).tiny
        return self.weight * (self.gain * jax.lax.rsqrt(jnp.maximum(square, tiny)))


class Bounded(AbstractMade):
    """See `ctep.contractive`.

    Fields:
        weight: a matrix, or the kernel of a convolution.
        largest: the bound on the norm of its operator.
        image: height and width with padding that a kernel moves over.
    """

    weight: Weight
    largest: float = eqx.field(static=True)
    image: Shape | None = eqx.field(static=True, default=None)
    stacked: bool = eqx.field(static=True, default=False)

    def made(self):
        bound = norm_bound(self.weight, self.image)
        return self.weight * jnp.minimum(1.0, self.largest / bound)


class Quantized(AbstractMade):
    """See `ctep.quantized`."""

    weight: Weight
    bits: int = eqx.field(static=True)
    stacked: bool = eqx.field(static=True, default=False)

    def made(self):
        levels = 2 ** (self.bits - 1) - 1
        tiny = jnp.finfo(self.weight.dtype).tiny
        step = jnp.maximum(jnp.max(jnp.abs(self.weight)) / levels, tiny)
        rounded = step * jnp.round(self.weight / step)
        # Straight through: the rounding is a constant to derivatives.
        return self.weight + jax.lax.stop_gradient(rounded - self.weight)


class Noisy(AbstractDrawn):
    """See `ctep.noisy`."""

    weight: Weight
    std: float = eqx.field(static=True)
    stacked: bool = eqx.field(static=True, default=False)

    def sample(self, key):
        size = self.std * jax.lax.stop_gradient(jnp.max(jnp.abs(self.weight)))
        noise = jax.random.normal(key, self.weight.shape, self.weight.dtype)
        return self.weight + size * noise


class Multiplied(AbstractMade):
    """The product of a weight with constants; see `mismatched` and `masked`."""

    weight: Weight
    factor: Weight
    stacked: bool = eqx.field(static=True, default=False)

    def made(self):
        return self.weight * self.factor


class Signed(AbstractMade):
    """The size of a weight, with signs of its sources; see `ctep.dale`."""

    weight: Weight
    sign: Weight
    stacked: bool = eqx.field(static=True, default=False)

    def made(self):
        return self.sign * jnp.abs(self.weight)
