"""Objects of the library's own classes, from what `run.json` says of them.

Nothing that a file holds is run or imported. What it calls a class is looked up among
those listed here, whose own checks then meet the values; arrays are zeros, to be
replaced by those of a checkpoint.
"""

import dataclasses
import inspect
import re
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from paramax import NonTrainable

from ... import _checks as checks, _network, _nudge, _rule, _solver
from ..._network import AveragePool, Conv, Dense, MaxPool, SoftmaxPool, pool
from ..._nudge import schedule
from ..._weights import nodes
from ..._weights.resolution import numbers
from ...data import pipeline
from .identity import description

_MODULES = _network, _nudge, _rule, _solver, pool, schedule, pipeline, nodes
_OWN = {
    f"ctep.{kind.__qualname__}": kind
    for module in _MODULES
    for kind in vars(module).values()
    if inspect.isclass(kind)
    and dataclasses.is_dataclass(kind)
    and kind.__module__.startswith("ctep.")
}
_OWN["paramax.NonTrainable"] = NonTrainable
# JSON has no word for these.
_FLOATS = {name: float(name) for name in ("inf", "-inf", "nan")}
_ARRAY = re.compile(r"(bool|bfloat16|(?:u?int|float|complex)\d+)\[([\d,]*)\](?: .*)?")
_KINDS = {
    "network": _network.AbstractNetwork,
    "nudge": _nudge.AbstractNudge,
    "rule": _rule.AbstractRule,
    "solver": _solver.AbstractSolver,
    "pipeline": pipeline.Pipeline,
}
_LEFT = {
    "network": "build it as for the run and pass it to `ctep.restore` as `network`",
    "nudge": "pass it to `ctep.restore` as `nudge`",
    "rule": "restore the network in Python, with `ctep.restore`",
    "solver": "restore the network in Python, and pass it to `ctep.evaluate`",
    "pipeline": "restore the network in Python, and pass it to `ctep.evaluate`",
}


class _Foreign(Exception):
    """What is there is none of the library's own."""


class _Wide(Exception):
    """What is there has more bits than JAX is set to."""


def rebuilt(said: Any, name: str, path: Path, arrays: bool = False) -> Any:
    """Return the object that was described.

    Args:
        said: what `identity.content` says of it, as a file has it.
        name: "network", "nudge", "rule", "solver" or "pipeline".
        path: the file, for errors.
        arrays: whether arrays are zeros, which should be traced and never be allocated:
            any size may be written there. Else there must be none.

    Raises:
        ValueError: if it is none of the library's own classes or does not describe one,
            in one sentence.
    """
    try:
        found = _built(said, name, arrays)
        if not isinstance(found, _KINDS[name]):
            raise TypeError(f"it is {checks.shown(found)}")
        return found
    except _Foreign as error:
        raise ValueError(
            f"{path} has {error}, which cannot be built from a file: {_LEFT[name]}."
        ) from error
    except _Wide as error:
        raise ValueError(
            f"{path} has {error}: set `jax_enable_x64` to True, as it was for that run."
        ) from error
    # Whatever else its values make the constructors say, or stumble over.
    except Exception as error:
        first = (str(error) or type(error).__name__).splitlines()[0].rstrip(".")
        raise ValueError(
            f"{path} describes no {name} of this version ({first}): restore that file "
            f"from a copy, or {_LEFT[name]}."
        ) from error


def _built(said, name, arrays):
    if type(said) is list:
        return tuple(_built(v, f"{name}.{n}", arrays) for n, v in enumerate(said))
    if type(said) is dict:
        return _object(said, name, arrays)
    if type(said) is str:
        return _text(said, name, arrays)
    return said


def _object(said, name, arrays):
    kind = said.get("class", said.get("of"))
    own = _OWN.get(kind) if type(kind) is str else None
    if own is None or "class" not in said:
        what = checks.shown(kind) if type(kind) is str else "an object"
        raise _Foreign(f"{what} at `{name}`")
    fields = {field.name: field for field in dataclasses.fields(own)}
    held = {}
    for key, value in said.items():
        if key == "class":
            continue
        if key not in fields:
            raise ValueError(f"{kind} has no {checks.shown(key)}")
        default = fields[key].default
        # Objects of other libraries, such as a solver of Diffrax, are known by that.
        if default is not dataclasses.MISSING and description(default) == value:
            held[key] = default
        else:
            held[key] = _built(value, f"{name}.{key}", arrays)
    return _MADE.get(own, own)(**held)


def _text(said, name, arrays):
    found = _ARRAY.fullmatch(said)
    if found is None:
        return _FLOATS.get(said, said)
    if not arrays:
        raise _Foreign(f"an array at `{name}`")
    dtype = np.dtype(found[1])
    if jax.dtypes.canonicalize_dtype(dtype) != dtype:
        narrow = jax.dtypes.canonicalize_dtype(dtype)
        raise _Wide(f"a {dtype} array at `{name}`, where JAX has {narrow}")
    return jnp.zeros([int(n) for n in found[2].split(",") if n], dtype)


def _dense(weight, in_shape, out_shape, precision):
    options = {"in_shape": in_shape, "out_shape": out_shape, "precision": precision}
    return _weighted(Dense, weight, 2, options)


def _conv(weight, in_shape, out_shape, **options):
    size = {"channels": out_shape[-1], "kernel": numbers(weight).shape[-4:-2]}
    return _weighted(Conv, weight, 4, {"in_shape": in_shape, **size, **options})


def _weighted(kind, weight, ndim, options):
    # In a stack there is an axis more, which the constructors do not know.
    values = numbers(weight)
    one = values if values.ndim == ndim else values[0]
    made = kind(key=jax.random.key(0), init=_constant(one), **options)
    return eqx.tree_at(lambda operator: operator.weight, made, weight)


def _constant(weight):
    def init(key, shape, dtype=None, out_sharding=None):
        return weight

    return init


# Of classes that are not made of their fields.
_MADE = {
    Dense: _dense,
    Conv: _conv,
    MaxPool: lambda window: MaxPool(window.in_shape, window.size),
    AveragePool: lambda window: AveragePool(window.in_shape, window.size),
    SoftmaxPool: lambda window, temperature: SoftmaxPool(
        window.in_shape, window.size, temperature
    ),
}
