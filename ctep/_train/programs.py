"""What makes compiled programs equal: all that they read.

JAX looks a program up by the functions and classes among its arguments. Those stay the
same objects while a global, an attribute or a configuration that they read is given
another value. So whatever runs code of a user's own is compiled anew in each run. What
is the library's own, and that of the libraries below it, is compared by its numbers:
each `optax.adam(1e-3)` is another closure, and would be compiled anew too. That costs
5.9 s for the chunk of `fre-20x64` (2 cores); so compared, 300 runs of five kinds, each
of new objects, compile nothing after the first five.
"""

import dataclasses
import functools
import sys
import types
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.core import Tracer

from .._rule import Centered, Coupled, Holomorphic, OneSided, Ramped, RandomSign
from .._solver import FixedSweeps, Phases, Sweeps

_LIBRARIES = {"ctep", "jax", "jaxlib", "jaxtyping", "numpy", "equinox", "optax"}
_LIBRARIES |= {"diffrax", "optimistix", "lineax", "paramax"}
_LIBRARIES |= set(sys.stdlib_module_names)


# What changes no program but its numbers, of the very classes: a subclass may decide.
_NUMBERS: dict[type, tuple[str, ...]] = {
    Sweeps: ("rtol", "atol"),
    FixedSweeps: ("rtol", "atol"),
    OneSided: ("beta",),
    Centered: ("beta",),
    RandomSign: ("beta",),
    Ramped: ("beta",),
    Holomorphic: ("radius",),
    Coupled: ("eta",),
}


def as_data(part: eqx.Module) -> Any:
    """Return a rule or a solver with arrays for numbers that programs can share."""
    if type(part) is Phases:
        both = as_data(part.free), as_data(part.nudged)
        return eqx.tree_at(lambda p: (p.free, p.nudged), part, both)
    for name in _NUMBERS.get(type(part), ()):
        # Weakly typed as the number itself, so that the network decides on the dtype.
        number = jnp.asarray(getattr(part, name))
        part = eqx.tree_at(lambda p, name=name: getattr(p, name), part, number)
    return part


class Reads:
    """A static argument that is equal for values which behave alike.

    Args:
        values: modules, functions and numbers. Arrays of modules are left out, since
            they are arguments themselves.
    """

    def __init__(self, *values: Any):
        static = eqx.filter(values, eqx.is_array, inverse=True)
        self._made = _made(static, {})

    def __eq__(self, other: object) -> bool:
        return type(other) is Reads and self._made == other._made

    def __hash__(self) -> int:
        return hash(self._made)


class Optimizer:
    """A transformation that equals others whose update has the same code and numbers.

    What its state holds, such as an injected rate, is no part of the program.
    """

    def __init__(self, transformation: optax.GradientTransformation):
        full = optax.with_extra_args_support(transformation)
        self.init: Callable = full.init
        self.update: Callable = full.update
        self._made = _made(transformation.update, {})

    def __eq__(self, other: object) -> bool:
        return type(other) is Optimizer and self._made == other._made

    def __hash__(self) -> int:
        return hash(self._made)


class _Itself:
    """Equal to nothing but itself; keeps its value, so that no other has its id."""

    def __init__(self, value):
        self._value = value

    def __eq__(self, other):
        return type(other) is _Itself and self._value is other._value

    def __hash__(self):
        return id(self._value)


def _made(value: Any, seen: dict[int, tuple[int, Any]]) -> Any:
    """Return something hashable that is equal for values that behave alike.

    Args:
        value: a function, a module, or something that one of them holds.
        seen: the containers on the way here, by identity: closures may be recursive.
            It keeps them, or another one could take an identity over.
    """
    kind, parts = type(value), None
    if value is None or kind in (bool, int, float, complex, str, bytes):
        return kind, repr(value)  # 1 is not 1.0, and -0.0 is not 0.0
    if isinstance(value, np.ndarray | np.generic | jax.Array) and _is_numeric(value):
        array, weak = np.asarray(value), getattr(value, "weak_type", False)
        return kind, str(array.dtype), array.shape, weak, array.tobytes()
    if id(value) in seen:
        return "again", seen[id(value)][0]
    seen[id(value)] = len(seen), value
    if isinstance(value, functools.partial):
        parts = value.func, value.args, value.keywords
    elif isinstance(value, types.MethodType):
        parts = value.__func__, value.__self__
    elif isinstance(value, tuple | list) and kind in (tuple, list):
        parts = tuple(value)
    elif isinstance(value, dict) and kind is dict:
        parts = tuple(value.items())
    elif not library(value):
        return _Itself(object())  # what it reads may have changed by the next run
    elif isinstance(value, tuple):
        parts = tuple(value)
    elif isinstance(value, types.FunctionType):
        # Closures of one maker share their code, and their cells hold its arguments.
        cells = tuple(cell.cell_contents for cell in value.__closure__ or ())
        kind, parts = value.__code__, (value.__defaults__, value.__kwdefaults__, cells)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        parts = tuple(vars(value).items())
    # A class, a builtin or a random key, of which nothing but its identity is known.
    if parts is None:
        return _Itself(value)
    return kind, tuple(_made(part, seen) for part in parts)


def _is_numeric(array) -> bool:
    """Return whether bytes say all of an array: no keys, no objects, no tracers."""
    concrete = not isinstance(array, Tracer)
    return concrete and jnp.issubdtype(array.dtype, jnp.number)


def library(value) -> bool:
    """Return whether a function, a class or an object's class is of a library."""
    module = getattr(value, "__module__", None) or type(value).__module__
    return module.partition(".")[0] in _LIBRARIES and module != "__main__"
