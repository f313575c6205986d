"""What a run is: all that decides how it goes on, in plain JSON values by name.

Objects are described by class and fields, defaults included; functions by name, code,
and the values that they hold and read. So two runs are the same where their
descriptions are, and where they are not, the first line that differs names the
argument and both of its values.
"""

import dataclasses
import functools
import hashlib
import math
import types
from collections.abc import Iterator
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
_SPOKEN = {"__str__", "__repr__", "__doc__", "__module__", "__qualname__"}
_PLAIN = (bool, int, float, complex, str, bytes, type(None), np.generic, np.ndarray)


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
    describe = functools.partial(_described, drawn={id(leaf) for leaf in drawn})
    described = {"network": describe(network, above=())}
    described |= {name: _described(part) for name, part in parts.items()}
    return {"version": VERSION, **described}


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
    return any(kind.strip('"').split(".")[0] in versions - {"ctep"} for kind in kinds)


def _arrays(tree, which) -> Iterator[Any]:
    leaves, chosen = jax.tree.leaves(tree), jax.tree.leaves(which)
    yield from (leaf for leaf, use in zip(leaves, chosen, strict=True) if use)


def _described(value: Any, above: tuple = (), drawn: frozenset | set = frozenset()):
    """Return JSON values that tell a value from others, see `content`.

    Args:
        value: an object, a function, a number or a container of them.
        above: the objects it is part of, since closures may hold themselves.
        drawn: identities of arrays whose values do not count.
    """
    if id(value) in map(id, above):
        return "itself"
    inner = functools.partial(_described, above=(*above, value), drawn=drawn)
    if isinstance(value, np.generic) or isinstance(value, float | int | str | None):
        return _plain(value.item() if isinstance(value, np.generic) else value)
    if isinstance(value, jax.Array | np.ndarray):
        return _array(value, id(value) in drawn)
    if isinstance(value, dict):
        return {str(name): inner(part) for name, part in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        names = value._fields  # pyright: ignore[reportAttributeAccessIssue]
        return {name: inner(getattr(value, name)) for name in names}
    if isinstance(value, list | tuple | set | frozenset):
        return [inner(part) for part in value]
    if isinstance(value, functools.partial):
        held = {"args": list(value.args), "keywords": value.keywords}
        return {"of": "functools.partial", "function": inner(value.func), **inner(held)}
    if isinstance(value, types.MethodType):
        return {"of": inner(value.__func__), "self": inner(value.__self__)}
    if isinstance(value, types.FunctionType):
        return _function(value, inner)
    if isinstance(value, type):
        return {"class": _name(value), **_code_of(value)}
    if wrapped := getattr(value, "__wrapped__", None):  # of `jax.jit` and its like
        return inner(wrapped)
    if dataclasses.is_dataclass(value):
        fields = [field.name for field in dataclasses.fields(value)]
    else:
        fields = list(getattr(value, "__dict__", ()))
    held = {name: inner(getattr(value, name, None)) for name in fields}
    return {"class": _name(type(value)), **_code_of(type(value)), **held}


def _plain(value):
    """Return what JSON can hold of a number or a text."""
    finite = not isinstance(value, float) or math.isfinite(value)
    return value if finite else str(value)


def _array(value, drawn):
    """Return an array's kind, and its values in full or as a digest."""
    shape = f"{value.dtype}[{','.join(map(str, value.shape))}]"
    if drawn:
        return shape
    if jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
        value = jax.random.key_data(value)
    value = np.asarray(value)
    if value.size <= _FEW and not value.dtype.hasobject:
        return f"{shape} {value.tolist()}"
    return f"{shape} {_digest(value.tobytes())}"


def _function(value, inner):
    """Describe a function by its name, its code and the values it works with."""
    cells = zip(value.__code__.co_freevars, value.__closure__ or (), strict=True)
    held = {name: _held(cell) for name, cell in cells}
    for name, values in (
        ("defaults", value.__defaults__),
        ("keywords", value.__kwdefaults__),
    ):
        if any(v is not None for v in values or ()):
            held[name] = values
    found = {"of": _name(value), **inner(held)}
    if library(value):
        return found
    reads = {
        name: value.__globals__[name]
        for name in _names(value.__code__)
        if _tells(value.__globals__.get(name, types))
    }
    return {**found, "code": _digest(_code(value.__code__)), **inner({"reads": reads})}


def _held(cell):
    try:
        return cell.cell_contents
    except ValueError:  # not yet bound
        return None


def _tells(value):
    """Return whether a global that a function reads can change what it computes."""
    own = isinstance(value, types.FunctionType) and not library(value)
    tree = isinstance(value, dict | list | tuple)
    return own or tree or isinstance(value, (*_PLAIN, jax.Array))


def _names(code) -> list[str]:
    """Return the names that code looks up, functions within it included."""
    inner = [c for c in code.co_consts if isinstance(c, types.CodeType)]
    return sorted({*code.co_names, *(name for c in inner for name in _names(c))})


def _code(code) -> bytes:
    """Return what a function does, without where it stands and what it says of it."""
    consts = [
        _code(c).hex() if isinstance(c, types.CodeType) else repr(c)
        for c in code.co_consts
        if not isinstance(c, str) or " " not in c  # documentation
    ]
    return repr((code.co_code, consts, code.co_names, code.co_varnames)).encode()


def _code_of(kind) -> dict[str, str]:
    """Return the code of a user's own class, if it is one, as an entry `code`."""
    own = [c for c in kind.__mro__ if not library(c)]
    parts = []
    for c in own:
        for name, value in sorted(vars(c).items()):
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
