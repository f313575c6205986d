"""What objects hold and their code reads, as something that can be compared."""

import abc
import argparse
import builtins
import dataclasses
import functools
import hashlib
import importlib.util
import operator
import re
import sys
import sysconfig
import types
import typing
from collections import deque
from collections.abc import Hashable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from ._named import named

_SMALL = 2**12  # bytes of an array that are kept; of more, a digest
_DEEPEST, _MOST = 100, 20_000  # objects that are followed

_ATOMS = {type(None), bool, int, float, complex, str, bytes, range}
# What never changes and is equal to itself, or to what was made alike.
_FIXED = (
    types.CodeType,
    types.WrapperDescriptorType,
    types.MethodDescriptorType,
    types.GetSetDescriptorType,
    types.MemberDescriptorType,
    types.ClassMethodDescriptorType,
    types.EllipsisType,
    np.ufunc,
    np.dtype,
    re.Pattern,
    jax.Device,
)
_METHODS = types.FunctionType, property, staticmethod, classmethod
_COUNTERS = {list, set, dict, deque}
# By these names any attribute may be read, or something outside of the program.
_ANY = {"getattr", "vars", "__dict__", "asdict", "astuple", "attrgetter"}
_OUTSIDE = {"eval", "exec", "globals", "open", "input", "getenv", "read_text"}

# Their modules hold nothing that a user would change to train otherwise.
_CORE = {"builtins", "ctep", "jax", "jaxlib", "jaxtyping", "numpy", "equinox", "optax"}
_CORE |= {"diffrax", "optimistix", "lineax"}
_PATHS = tuple(
    sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")
)
# A class with no other base from a library is a user's own altogether.
_BARE = {object, abc.ABC, typing.Generic, typing.Protocol}


@dataclasses.dataclass(frozen=True)
class Held:
    """What is equal for values that behave alike.

    Fields:
        made: the same for the same.
        changes: whether it may be another at another time.
        unlike: the class of something that cannot be held, or `None`.
    """

    made: Hashable = dataclasses.field(repr=False)
    changes: bool = False
    unlike: str | None = None


def held(value: Any) -> Held:
    """Return what a value holds, as it is now.

    Functions of a user's own are held by their code with all that it names: variables,
    modules, classes with their methods, objects with their class. Of these objects the
    attributes are held whose names are read anywhere in that code. Objects that may
    change are equal to no other, since a callback may write into them. What cannot be
    held, such as an open file, is equal to nothing.
    """
    walk = _Walk(set(), set())
    while True:
        made = walk.hold(value)
        if walk.met <= walk.attributes and walk.met_counted <= walk.counted:
            return Held(made, walk.changes, walk.unlike)
        # Other attributes are read than was known, and may lead to further code.
        walk = _Walk(walk.attributes | walk.met, walk.counted | walk.met_counted)


@functools.lru_cache(maxsize=4096)
def is_library(name: Any) -> bool:
    """Return whether a module is installed, and not a user's own."""
    root = str(name).partition(".")[0]
    if root in _CORE or root == "__main__":
        return root != "__main__"
    file = getattr(sys.modules.get(str(name)), "__file__", None)
    if file is None:
        return root in sys.stdlib_module_names
    packages = {"site-packages", "dist-packages"} & {*Path(file).parts}
    return bool(packages) or file.startswith(_PATHS)


class _Itself:
    """Equal to nothing but itself; keeps its value, so that no other has its id."""

    def __init__(self, value):
        self._value = value

    def __eq__(self, other):
        return isinstance(other, _Itself) and self._value is other._value

    def __hash__(self):
        return id(self._value)


class _Walk:
    """A walk through a value and all that it leads to.

    Args:
        attributes: names of those that are followed.
        counted: names of those that are too, but for what containers of these names
            hold: what is only added to is a log.
    """

    def __init__(self, attributes: set[str], counted: set[str]):
        self.attributes, self.counted = attributes, counted
        self.met, self.met_counted = set(), set()
        self.changes, self.unlike = False, None
        self._all, self._own, self._depth = bool(attributes & _ANY), False, 0
        # It keeps what it has seen, or another value could take an identity over.
        self._seen: dict[int, tuple[int, Any]] = {}

    def hold(self, value: Any) -> Hashable:
        kind = type(value)
        if kind in _ATOMS:
            return kind, repr(value)  # 1 is not 1.0, and -0.0 is not 0.0
        if kind is _Itself:
            return value
        if isinstance(value, Tracer):  # of one compilation, and no other
            return _Itself(object())
        if kind is np.ndarray or isinstance(value, np.generic | jax.Array):
            return self._array(value, kind)
        if isinstance(value, _FIXED):
            return kind, value
        if id(value) in self._seen:
            return "again", self._seen[id(value)][0]
        self._seen[id(value)] = len(self._seen), value
        if self._depth > _DEEPEST or len(self._seen) > _MOST:
            return self._unlike(value)
        own, self._depth = self._own, self._depth + 1
        held = tuple(map(self.hold, self._parts(value, kind)))
        self._own, self._depth = own, self._depth - 1
        return held

    def _unlike(self, value):
        self.unlike = type(value).__name__
        return _Itself(object())

    def _array(self, array, kind):
        if isinstance(array, jax.Array):
            # It never changes. Keys and what other processes have cannot be read.
            known = array.is_fully_addressable and not array.is_deleted()
            extended = jnp.issubdtype(array.dtype, jax.dtypes.extended)
            if extended or array.nbytes > _SMALL or not known:
                return _Itself(array)
            kind = kind, array.weak_type
        elif array.dtype.hasobject:
            return kind, array.shape, self.hold(array.tolist())
        else:
            self.changes = True
        data = np.asarray(array).tobytes()
        if len(data) > _SMALL:
            data = hashlib.blake2b(data).digest()
        return kind, str(array.dtype), array.shape, data

    def _parts(self, value: Any, kind: type) -> Iterable:
        """Return what is held in place of a value."""
        if kind is types.FunctionType:
            return self._function(value)
        if isinstance(value, type):
            return self._class(value)
        if isinstance(value, types.ModuleType):
            return self._module(value)
        if kind is types.MethodType:
            return kind, value.__func__, value.__self__
        if kind in (types.BuiltinFunctionType, types.MethodWrapperType):
            return kind, value.__name__, value.__self__
        if kind in (staticmethod, classmethod):
            return kind, value.__func__
        if kind is property:
            return kind, value.fget
        if kind is functools.cached_property:
            return kind, value.func
        if kind is types.CellType:
            return _content(value)
        if kind in (operator.attrgetter, operator.methodcaller):
            self.met |= _ANY
        if kind is tuple or kind is frozenset:
            return kind, *value
        if kind in _COUNTERS:
            self.changes = True
            itself = (_Itself(value),) if self._own else ()
            return kind, *itself, *(_flat(value) if kind is dict else value)
        return self._instance(value, kind)

    def _function(self, function):
        code, closure = function.__code__, function.__closure__ or ()
        parts = [code, function.__defaults__, *_flat(function.__kwdefaults__ or {})]
        scope = function.__globals__
        if is_library(scope.get("__name__")):
            return *parts, *closure
        self.changes, self._own, names = True, True, named(code)
        self.met |= names.attributes | (names.variables & _ANY)
        self.met_counted |= names.counted
        if (names.variables | names.attributes) & _OUTSIDE:
            return (self._unlike(function),)
        enclosed = dict(zip(code.co_freevars, closure, strict=True))
        for name in sorted(names.variables | names.counted):
            found = vars(builtins).get(name)
            for value in _content(enclosed[name]) if name in enclosed else ():
                found = value
            if name not in enclosed:
                found = scope.get(name, found)
            log = name not in names.variables and type(found) in _COUNTERS
            parts += [name, _Itself(found) if log else found]
        for name, level in sorted(names.modules):
            full = "." * level + name
            if level and (package := scope.get("__package__")):
                full = importlib.util.resolve_name(full, package)
            parts += [sys.modules.get(full), sys.modules.get(full.partition(".")[0])]
        return *parts, *_flat(self._chosen(vars(function)))

    def _module(self, module):
        name = getattr(module, "__name__", "")
        if name.partition(".")[0] in _CORE:
            return (_Itself(module),)
        found = vars(module)
        if is_library(name):  # whose functions stay what they are
            named = self.attributes & {*found}
            found = {key: found[key] for key in named if not callable(found[key])}
        return _Itself(module), *_flat(self._chosen(found))

    def _class(self, kind):
        parts = [_Itself(kind)]
        if not is_library(kind.__module__):
            self.changes = True
            for base in (type(kind), *kind.__mro__):
                if not is_library(base.__module__):
                    members = self._chosen(vars(base), whole=_is_mixed(kind))
                    parts += [_Itself(base), *_flat(members)]
        return parts

    def _instance(self, value, kind):
        own, extra = not is_library(kind.__module__), getattr(value, "__dict__", {})
        if isinstance(value, eqx.Module):
            return kind, *_flat(extra)
        if "__wrapped__" in extra and not own:  # `jax.jit`, `jax.custom_jvp`
            names = "__wrapped__", "jvp", "fwd", "bwd"
            return kind, *(extra.get(name) for name in names)
        self.changes = True
        spaces = isinstance(value, types.SimpleNamespace | argparse.Namespace)
        if spaces or (own and not _is_mixed(kind)):
            self._own = True
            return _Itself(value), kind, *_flat(self._chosen(_slots(value) | extra))
        try:
            made = value.__reduce_ex__(4)
        except Exception:
            return (self._unlike(value),)
        if isinstance(made, str):  # the name of what is there once
            return (_Itself(value),)
        made_by, arguments, state, items, pairs, *_ = *made, None, None, None
        # What was put together just now is equal by what it holds.
        states = state if type(state) is tuple else (state,)
        states = (tuple(_flat(s)) if type(s) is dict else s for s in states)
        return kind, made_by, arguments, *states, tuple(items or ()), tuple(pairs or ())

    def _chosen(self, members: Mapping, whole: bool = False) -> dict:
        """Return the members that are followed."""
        chosen = {}
        for name, part in members.items():
            special = name[:2] == "__"
            if name in self.attributes or (special and isinstance(part, _METHODS)):
                chosen[name] = part
            elif (whole or self._all) and not special and name != "_abc_impl":
                chosen[name] = part
            elif name in self.counted:
                log = type(part) in _COUNTERS
                chosen[name] = _Itself(part) if log else part
        return chosen


def _content(cell) -> tuple:
    try:
        return (cell.cell_contents,)
    except ValueError:  # it is empty as yet
        return ()


def _flat(members: Mapping) -> Iterator:
    for pair in members.items():
        yield from pair


def _slots(value) -> dict:
    found = {}
    for base in type(value).__mro__:
        for name, member in vars(base).items():
            if isinstance(member, types.MemberDescriptorType):
                try:
                    found[name] = member.__get__(value)
                except AttributeError:  # it is not set
                    continue
    return found


def _is_mixed(kind: type) -> bool:
    """Return whether code of a library may read what objects of a class hold."""
    return any(is_library(b.__module__) and b not in _BARE for b in kind.__mro__)
