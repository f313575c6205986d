"""What the code of a function names: variables, attributes, modules."""

import dataclasses
import dis
import functools
import types
from collections.abc import Iterator


@dataclasses.dataclass(frozen=True)
class Named:
    """The names in a code object and in those nested in it.

    Fields:
        variables: globals, and variables of enclosing functions, that are read.
        attributes: likewise, and strings by which `getattr` may find one.
        counted: either of these, if containers, are only added to: counters and logs.
        modules: imported inside, as `(name, level)`.
    """

    variables: frozenset[str]
    attributes: frozenset[str]
    counted: frozenset[str]
    modules: frozenset[tuple[str, int]]


@functools.lru_cache(maxsize=4096)
def named(code: types.CodeType) -> Named:
    """Return what a code object names."""
    variables: set[str] = set()
    attributes = {*_strings(code.co_consts)}
    counted: set[str] = set()
    assigned: set[str] = set()
    modules: set[tuple[str, int]] = set()
    steps = list(dis.get_instructions(code))
    for i, step in enumerate(steps):
        name, kind = step.argval, step.opname
        if kind in ("STORE_GLOBAL", "STORE_DEREF"):
            assigned.add(name)
        elif kind == "IMPORT_NAME":
            modules.add((name, steps[i - 2].argval))
        elif kind.startswith(_VARIABLE):
            (counted if _is_added_to(steps[i + 1 : i + 4]) else variables).add(name)
        elif kind in _ATTRIBUTE and steps[i - 1].opname != "COPY":  # not `a.b += 1`
            (counted if _is_added_to(steps[i + 1 : i + 4]) else attributes).add(name)
    for const in code.co_consts:
        if isinstance(const, types.CodeType):
            inner = named(const)
            variables |= inner.variables - {*code.co_cellvars}
            attributes |= inner.attributes
            counted |= inner.counted
            modules |= inner.modules
    # What a function assigns itself, such as the count of its calls, is its own.
    return Named(
        frozenset(variables - assigned),
        frozenset(attributes),
        frozenset(counted - assigned),
        frozenset(modules),
    )


_VARIABLE = "LOAD_GLOBAL", "LOAD_DEREF", "LOAD_NAME", "LOAD_CLASSDEREF", "LOAD_FROM"
_ATTRIBUTE = "LOAD_ATTR", "LOAD_METHOD", "LOAD_SUPER_ATTR", "IMPORT_FROM"


def _is_added_to(after: list[dis.Instruction]) -> bool:
    """Return whether what was loaded is used as in `v.append(1)` or `v["a"] += 1`."""
    if after[0].opname in ("LOAD_METHOD", "LOAD_ATTR"):
        return after[0].argval in ("append", "add", "extend")
    return [(step.opname, step.arg) for step in after[1:]] == [("COPY", 2)] * 2


def _strings(consts) -> Iterator[str]:
    for const in consts:
        if isinstance(const, str) and const.isidentifier():
            yield const
        elif isinstance(const, tuple | frozenset):
            yield from _strings(const)
