"""Weights of nudges that change from epoch to epoch."""

import dataclasses
import math
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array

from .. import _checks as checks
from .._custom_types import Number


# Dataclasses and no closures: a program is compiled once per schedule, and closures
# of equal numbers are not equal.
@dataclasses.dataclass(frozen=True)
class _Linear:
    start: Any
    epochs: Any

    def __call__(self, epoch: Array) -> Array:
        return self.start * jnp.maximum(1 - epoch / self.epochs, 0)


@dataclasses.dataclass(frozen=True)
class _Exponential:
    start: Any
    rate: Any

    def __call__(self, epoch: Array) -> Array:
        return self.start * jnp.exp(-self.rate * epoch)


@dataclasses.dataclass(frozen=True)
class _Cosine:
    start: Any
    epochs: Any
    least: Any

    def __call__(self, epoch: Array) -> Array:
        turn = jnp.cos(math.pi * jnp.minimum(epoch / self.epochs, 1))
        return self.least + 0.5 * (self.start - self.least) * (1 + turn)


def linear(start: Number, epochs: Number):
    r"""Return the weight $\kappa(E) = \kappa_0 (1 - E / E_{total})$.

    Args:
        start: $\kappa_0$.
        epochs: $E_{total}$; the weight is 0 from then on.

    Raises:
        ValueError: if `epochs` is not positive.
    """
    start = checks.real("start", start, "0.65")
    epochs = checks.positive("epochs", epochs, "250")
    return _Linear(start, epochs)


def exponential(start: Number, rate: Number = 0.02):
    r"""Return the weight $\kappa(E) = \kappa_0 e^{-r E}$.

    Args:
        start: $\kappa_0$.
        rate: $r$, per epoch.

    Raises:
        ValueError: if `rate` is not positive.
    """
    start = checks.real("start", start, "0.65")
    rate = checks.positive("rate", rate, "0.02")
    return _Exponential(start, rate)


def cosine(start: Number, epochs: Number, least: Number = 0.0):
    r"""Return a weight that falls along half a cosine.

    $$\kappa(E) = \kappa_{min} + \tfrac12 (\kappa_0 - \kappa_{min})
    (1 + \cos \pi E / E_{total})$$

    Args:
        start: $\kappa_0$.
        epochs: $E_{total}$; the weight stays at `least` from then on.
        least: $\kappa_{min}$.

    Raises:
        ValueError: if `epochs` is not positive.
    """
    start = checks.real("start", start, "0.65")
    least = checks.real("least", least, "0.0")
    epochs = checks.positive("epochs", epochs, "250")
    return _Cosine(start, epochs, least)
