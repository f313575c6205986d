"""Optax transformations that are equal if they were made alike.

Optax makes closures, which Python compares by identity, so each `optax.adam(1e-3)`
would be compiled anew.
"""

import functools
import types
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.core import Tracer


class Optimizer:
    """A transformation that equals others with the same code and the same numbers.

    Functions of optax are compared by what they close over, recursively; a user's own
    by identity, since they may read globals that change.
    """

    def __init__(self, transformation: optax.GradientTransformation):
        self.init: Callable = transformation.init
        self.update: Callable = transformation.update
        self._made = _made(tuple(transformation), {})

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Optimizer) and self._made == other._made

    def __hash__(self) -> int:
        return hash(self._made)


class _Itself:
    """Equal to nothing but itself; keeps its value, so that no other has its id."""

    def __init__(self, value):
        self._value = value

    def __eq__(self, other):
        return isinstance(other, _Itself) and self._value is other._value

    def __hash__(self):
        return id(self._value)


def _made(value: Any, seen: dict[int, tuple[int, Any]]) -> Any:
    """Return something hashable that is equal for values that behave alike.

    Args:
        value: of a closure.
        seen: the containers on the way here, by identity: closures may be recursive.
            It keeps them, or another one could take an identity over.
    """
    kind, parts = type(value), None
    if value is None or isinstance(value, bool | int | float | complex | str | bytes):
        return kind, repr(value)  # 1 is not 1.0, and -0.0 is not 0.0
    if isinstance(value, np.ndarray | np.generic | jax.Array) and _is_numeric(value):
        array, weak = np.asarray(value), getattr(value, "weak_type", False)
        return kind, str(array.dtype), array.shape, weak, array.tobytes()
    if id(value) in seen:
        return "again", seen[id(value)][0]
    seen[id(value)] = len(seen), value
    if isinstance(value, types.FunctionType) and _of_optax(value):
        cells = tuple(cell.cell_contents for cell in value.__closure__ or ())
        kind, parts = value.__code__, (value.__defaults__, value.__kwdefaults__, cells)
    elif isinstance(value, functools.partial):
        parts = value.func, value.args, value.keywords
    elif isinstance(value, types.MethodType):
        parts = value.__func__, value.__self__
    elif isinstance(value, tuple | list):
        parts = tuple(value)
    elif isinstance(value, dict):
        parts = tuple(value.items())
    if parts is None:
        return _Itself(value)
    return kind, tuple(_made(part, seen) for part in parts)


def _is_numeric(array) -> bool:
    """Return whether bytes say all of an array: no keys, no objects, no tracers."""
    concrete = not isinstance(array, Tracer)
    return concrete and jnp.issubdtype(array.dtype, jnp.number)


def _of_optax(function) -> bool:
    return str(function.__module__).startswith("optax.")
