"""What a run is: all that decides how it goes on, in plain JSON values by name.

Objects are described by class and fields, defaults included; functions by name, code,
and the values that they hold and read. So two runs are the same where their
descriptions are, and where they are not, the first line that differs names the
argument and both of its values.
"""

import copyreg
import dataclasses
import functools
import hashlib
import inspect
import json
import math
import platform
import re
import sys
import types
from collections.abc import Iterable, Iterator
from importlib import metadata
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..._network import AbstractNetwork, Fixed
from ..programs import library

# Raised when the same run would be described otherwise.
VERSION = 2
_FEW = 16  # numbers of an array that are listed, so that a difference can be read
# What a class may redefine without another result.
_SPOKEN = {
    "__str__",
    "__repr__",
    "_repr_html_",
    "__doc__",
    "__module__",
    "__qualname__",
}
# Of what Python prints by default, the part that is another in each process.
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]{4,}")
# Globals whose values are part of what a function computes.
_TELLING = (int, float, complex, str, bytes, type(None), np.generic, np.ndarray)
_TELLING += (jax.Array, dict, list, tuple)


def described(
    network: AbstractNetwork,
    parts: dict[str, Any],
    optimizer: Any,
    settings: dict[str, Any],
    own: dict[str, Any],
) -> dict[str, Any]:
    """Return what `run.json` holds: for people, and for `folder.claim` to compare.

    Args:
        network: what is trained.
        parts: nudge, rule, solver and pipeline, by name; printed for people.
        optimizer: the optax transformation, which prints as nothing of interest.
        settings: plain values that decide the run.
        own: what the user adds.

    Raises:
        ValueError: if the user's own values take a name that is taken.
    """
    who = {
        "network": str(network).splitlines(),
        **{name: str(part) for name, part in parts.items()},
        **settings,
        "versions": {"python": platform.python_version(), **versions()},
        "content": content(network, **parts, optimizer=optimizer),
    }
    if twice := sorted(set(who) & set(own)):
        raise ValueError(
            f"`identity` holds {twice[0]!r}, which `run.json` says already: choose "
            "another name."
        )
    return _steady(who | own)


def _steady(value: Any) -> Any:
    """Return JSON values without the addresses in what they print."""
    if isinstance(value, dict):
        return {key: _steady(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_steady(part) for part in value]
    return _ADDRESS.sub("", value) if isinstance(value, str) else value


def content(network: AbstractNetwork, **parts: Any) -> dict[str, Any]:
    """Describe the parts of a run.

    Args:
        network: what is trained. Of arrays that a checkpoint brings back, those that
            are trained and random feedback, shape and dtype count, not the values: they
            may have been drawn on another device.
        parts: nudge, rule, solver and whatever else there is, by name.
    """
    drawn = list(_arrays(network, network.trainable()))
    for leaf in jax.tree.leaves(network, is_leaf=lambda x: isinstance(x, Fixed)):
        drawn += jax.tree.leaves(leaf) if isinstance(leaf, Fixed) else []
    others = {name: description(part) for name, part in parts.items()}
    return {"version": VERSION, "network": _Description(drawn)(network), **others}


def description(value: Any) -> Any:
    """Describe a value of which no checkpoint keeps anything."""
    return _Description()(value)


def versions() -> dict[str, str]:
    """Return the versions of the libraries that decide the numbers of a run."""
    names = "ctep", "jax", "equinox", "optax", "diffrax", "optimistix"
    return {name: version(name) for name in names}


def version(package: str) -> str:
    """Return the version of a package, which need not be installed to be imported."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def foreign(key: str, was: dict[str, str], versions: set[str]) -> bool:
    """Return whether a line may read otherwise in another version of what made it.

    Args:
        key: name of the line that differs, with its dots.
        was: all lines of the run that is there.
        versions: the libraries, and "python", of which there is another version now.
    """
    parts = key.split(".")
    if parts[-1] == "code":
        return "python" in versions
    names = [".".join(parts[:n]) for n in range(len(parts))]
    kinds = [was.get(f"{n}.{kind}", "") for n in names for kind in ("class", "of")]
    # Not of ctep, whose `VERSION` says when it describes the same run otherwise.
    return any(kind.strip('"').split(".")[0] in versions - {"ctep"} for kind in kinds)


def _arrays(tree, which) -> Iterator[Any]:
    leaves, chosen = jax.tree.leaves(tree), jax.tree.leaves(which)
    yield from (leaf for leaf, use in zip(leaves, chosen, strict=True) if use)


class _Description:
    """Says of a value what tells it from others, in JSON values; see `content`.

    Args:
        drawn: arrays whose values do not count.
    """

    def __init__(self, drawn: Iterable[Any] = ()):
        # By identity, since arrays have no hash; the network keeps them alive.
        self._drawn = {id(array) for array in drawn}
        self._above: list[int] = []  # what a value is part of: closures hold themselves

    def __call__(self, value: Any):
        if id(value) in self._above:
            return "itself"
        self._above.append(id(value))
        try:
            return self._of(value)
        finally:
            self._above.pop()

    def _each(self, parts: dict[str, Any]) -> dict[str, Any]:
        return {self._key(name): self(part) for name, part in parts.items()}

    def _key(self, name: Any) -> str:
        # A function or an object prints as its address.
        plain = isinstance(name, str | int | float | None)
        return str(name) if plain else json.dumps(self(name))

    @functools.singledispatchmethod
    def _of(self, value):
        """Describe an object by its class and its fields."""
        if wrapped := getattr(value, "__wrapped__", None):  # of `jax.jit` and its like
            return self(wrapped)
        kind = type(value)
        if dataclasses.is_dataclass(value):
            names = [field.name for field in dataclasses.fields(value)]
            held = {name: getattr(value, name, None) for name in names}
        else:
            held = getattr(value, "__dict__", {}) or _pickled(value)
        return {"class": _name(kind), **_code_of(kind), **self._each(held)}

    @_of.register
    def _(self, value: int | str | None):
        return value

    @_of.register
    def _(self, value: float):
        return value if math.isfinite(value) else str(value)

    @_of.register
    def _(self, value: complex | bytes):
        return str(value)

    @_of.register
    def _(self, value: np.generic):
        item = value.item()
        # Of more than 64 bits is no number of Python's.
        return str(value) if isinstance(item, np.generic) else self(item)

    @_of.register(jax.Array)
    @_of.register(np.ndarray)
    def _(self, value):
        """Return an array's kind, and its values in full or as a digest."""
        shape = f"{value.dtype}[{','.join(map(str, value.shape))}]"
        if id(value) in self._drawn:
            return shape
        if jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
            value = jax.random.key_data(value)
        value = np.asarray(value)
        if value.dtype.hasobject:
            # Its bytes are addresses.
            return {"of": shape, "values": self(value.tolist())}
        few = value.size <= _FEW
        return f"{shape} {value.tolist() if few else _digest(value.tobytes())}"

    @_of.register
    def _(self, value: dict):
        return self._each(value)

    @_of.register
    def _(self, value: list | tuple):
        if names := getattr(value, "_fields", ()):  # a named tuple
            return self._each({name: getattr(value, name) for name in names})
        return [self(part) for part in value]

    @_of.register
    def _(self, value: set | frozenset):
        # The order of a set changes with the seed of Python's hashes.
        return sorted(json.dumps(self(part)) for part in value)

    @_of.register
    def _(self, value: functools.partial):
        held = {"function": value.func, "args": value.args, "keywords": value.keywords}
        return {"of": "functools.partial", **self._each(held)}

    @_of.register
    def _(self, value: types.ModuleType):
        return {"of": value.__name__}  # not all that it holds

    @_of.register
    def _(self, value: types.BuiltinFunctionType):
        owner = value.__self__
        bound = owner is not None and not isinstance(owner, types.ModuleType)
        return {"of": value.__name__, **({"self": self(owner)} if bound else {})}

    @_of.register
    def _(self, value: types.MethodType):
        return {"of": self(value.__func__), "self": self(value.__self__)}

    @_of.register
    def _(self, value: type):
        return {"class": _name(value), **_code_of(value)}

    @_of.register
    def _(self, value: types.FunctionType):
        """Describe a function by its name, its code and the values it works with."""
        if value.__closure__ and _is_of_a_module(value):
            return {"of": _name(value)}  # a decorator's own values tell nothing
        cells = zip(value.__code__.co_freevars, value.__closure__ or (), strict=True)
        held = {name: _held(cell) for name, cell in cells}
        for name in ("__defaults__", "__kwdefaults__"):
            given = getattr(value, name) or ()
            if any(v is not None for v in given):
                held[name.strip("_")] = given
        found = {"of": _name(value), **self._each(held)}
        # The code of a library goes by its version, and is nothing that a user edits.
        if library(value):
            return found
        known, none = value.__globals__, types  # a module tells nothing
        names = [n for n in _names(value.__code__) if _tells(known.get(n, none))]
        reads = {name: inspect.unwrap(known[name]) for name in names}
        code = {"code": _digest(_code(value.__code__))}
        return {**found, **code, "reads": self(reads)}


def _is_of_a_module(value):
    """Return whether a function is what a module of a library has by its name."""
    module = sys.modules.get(value.__module__)
    return library(value) and vars(module).get(value.__qualname__) is value


def _held(cell):
    try:
        return cell.cell_contents
    except ValueError:  # not yet bound
        return None


def _tells(value):
    """Return whether a global that a function reads can change what it computes."""
    if isinstance(value, _TELLING) or isinstance(value, functools.partial):
        return True
    # A function that `jit` has wrapped is one too, and so is an object to be called.
    kind = callable(value) and not isinstance(value, type)
    return kind and not library(inspect.unwrap(value))


def _names(code) -> list[str]:
    """Return the names that code looks up, functions within it included."""
    # `co_names` holds attributes too, so a global of such a name counts, read or not.
    inner = [c for c in code.co_consts if isinstance(c, types.CodeType)]
    return sorted({*code.co_names, *(name for c in inner for name in _names(c))})


def _code(code) -> bytes:
    """Return what a function does, without where it stands and what it says of it."""
    consts = [
        _code(c).hex() if isinstance(c, types.CodeType) else _constant(c)
        for c in code.co_consts
        if not isinstance(c, str) or " " not in c  # documentation
    ]
    return repr((code.co_code, consts, code.co_names, code.co_varnames)).encode()


def _constant(value) -> str:
    # The order of a set changes with the seed of Python's hashes.
    is_set = isinstance(value, frozenset)
    return str(sorted(map(_constant, value))) if is_set else repr(value)


def _pickled(value) -> dict[str, Any]:
    """Return what an object without a dictionary is pickled as; nothing if it is not.

    Slots, patterns, enumerations, getters and universal functions of NumPy say so what
    they hold.
    """
    reduce = copyreg.dispatch_table.get(type(value))
    try:
        found = reduce(value) if reduce else value.__reduce_ex__(2)
    except Exception:  # of any kind: it is code of whoever wrote the class
        return {}
    if isinstance(found, str):
        return {"name": found}
    parts: list[Any] = [*found[1:5], None, None, None]
    args, state, items, pairs = parts[:4]
    # Of an object that is made of nothing it is its class, which is said already.
    held = {"args": [part for part in args if part is not type(value)], "state": state}
    held |= {"items": [*(items or ())], "pairs": [*(pairs or ())]}
    return {name: part for name, part in held.items() if part}


def _code_of(kind) -> dict[str, str]:
    """Return the code of a user's own class, if it is one, as an entry `code`."""
    parts = []
    for c in kind.__mro__:
        for name, value in () if library(c) else sorted(vars(c).items()):
            value = getattr(value, "fget", None) or value  # of a property
            value = getattr(value, "__wrapped__", value)  # as Equinox wraps methods
            if isinstance(value, types.FunctionType) and name not in _SPOKEN:
                parts.append(_code(value.__code__))
    return {"code": _digest(b"".join(parts))} if parts else {}


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def _name(value) -> str:
    """Return a name that no move within a library, and no `__main__`, changes."""
    top = f"{value.__module__.partition('.')[0]}." if library(value) else ""
    return top + value.__qualname__
