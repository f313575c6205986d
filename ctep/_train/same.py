"""Optax transformations that are equal if they were made alike.

Optax makes closures, which Python compares by identity, so each `optax.adam(1e-3)`
would be compiled anew.
"""

from collections.abc import Callable

import optax

from .._held import held


class Optimizer:
    """A transformation that equals others with the same code, which read the same."""

    def __init__(self, transformation: optax.GradientTransformation):
        self.init: Callable = transformation.init
        self.update: Callable = transformation.update
        self._made = held(tuple(transformation)).made

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Optimizer) and self._made == other._made

    def __hash__(self) -> int:
        return hash(self._made)
