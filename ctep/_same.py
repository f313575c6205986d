"""Compiled programs that are shared where all that they read is the same.

JAX and Equinox look a program up by the functions and classes among its arguments.
Those stay the same objects while a global, an attribute or a configuration that they
read is given another value.
"""

import dataclasses
import functools
import types
import warnings
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import numpy as np
from jax.core import Tracer

from ._held import Held, held, is_library

_NOTHING = Held(None)
_ARRAYS = jax.Array, np.ndarray, np.generic, Tracer
_LEAVES: set[type] = {type(None), bool, int, float, complex, str}
_OWN: set[type] = set()


def compiled(function: Callable) -> Callable:
    """Compile a function as `eqx.filter_jit` does, and anew where `reads` differs."""

    def run(read, *args, **kwargs):
        del read
        return function(*args, **kwargs)

    run.__name__, run.__qualname__ = function.__name__, function.__qualname__
    jitted = eqx.filter_jit(run)

    @functools.wraps(function)
    def call(*args, **kwargs):
        read = reads(args, kwargs)
        if read.unlike is not None:
            warnings.warn(
                f"A function of your own reads a {read.unlike}, which cannot be "
                "compared with what it was at another call, so each call compiles "
                "anew: read it beforehand, and let the function read the result.",
                stacklevel=3,
            )
        return jitted(read, *args, **kwargs)

    return call


def reads(*trees: Any) -> Held:
    """Return what a user's own functions and classes in `trees` read, as it is now.

    It is a static argument of what is compiled with `trees` as arguments. Arrays are
    left out, and so is what the library's own parts hold: both belong to the trees.
    What cannot be held, such as an open file, is equal to nothing, not even to itself
    at another time.

    Cost: some tens of microseconds where nothing is a user's own, else up to a few
    milliseconds.
    """
    found = _open(trees)
    if not found:
        return _NOTHING
    # Of a user's own modules too, arrays are arguments.
    leaves, structure = jax.tree_util.tree_flatten(found)
    static = [None if isinstance(leaf, _ARRAYS) else leaf for leaf in leaves]
    read = held(structure.unflatten(static))
    return read if read.changes else _NOTHING


def _open(trees: tuple) -> tuple:
    """Return what of some trees reads what may change, or might do so."""
    rest: list[Any] = [trees]
    found = []
    for value in rest:  # which grows
        kind = type(value)
        if kind is tuple or kind is list:
            parts = value
        elif kind in _OWN:
            # Without the detour by which Equinox binds methods, for speed.
            parts = object.__getattribute__(value, "__dict__").values()
        elif kind is dict:
            parts = value.values()
        elif issubclass(kind, _ARRAYS):
            _LEAVES.add(kind)
            continue
        elif _is_own(kind):
            _OWN.add(kind)
            parts = vars(value).values()
        else:
            if kind is not types.FunctionType or not _is_fixed(value):
                found.append(value)
            continue
        rest += [part for part in parts if type(part) not in _LEAVES]
    return tuple(found)


def _is_fixed(function) -> bool:
    """Return whether a function is of a library and closes over nothing."""
    library = is_library(function.__globals__.get("__name__"))
    return library and function.__closure__ is None


def _is_own(kind: type) -> bool:
    """Return whether a class is of a library, and its fields say all of its objects."""
    fixed = issubclass(kind, eqx.Module) or (
        kind.__module__.startswith("ctep.") and dataclasses.is_dataclass(kind)
    )
    return fixed and is_library(kind.__module__)
