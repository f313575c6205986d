"""Single arguments: of a kind, among options, numbers within bounds, random keys."""

import dataclasses
import math
import numbers
import os
from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Key

# Functions that an activation of the same numbers stands for.
_ACTIVATIONS = {
    "relu": "ctep.ReLU()",
    "relu6": "ctep.ReLU6()",
    "sigmoid": "ctep.Sigmoid()",
    "tanh": "ctep.Tanh()",
}
# What no array has along an axis, and no whole number in it reaches by default.
LARGEST = 2**31


def shown(value: Any) -> str:
    """Return a value as an error shows it: on one line, whatever it is."""
    if isinstance(value, type):
        return f"the class {value.__name__}"
    shape = getattr(value, "shape", ())
    if shape and isinstance(shape, tuple):
        return f"an array of shape {shape}"
    what = repr(value)
    if " at 0x" in what and hasattr(value, "__name__"):
        return f"the function {value.__name__}"
    if "\n" in what or len(what) > 80:
        return f"an object of the class {type(value).__name__}"
    return what


def instance(name: str, value: Any, kinds: Any, noun: str, example: str) -> None:
    """Raise `TypeError` unless `value` is of one of `kinds`.

    Args:
        name: what the argument is called, without backticks.
        value: what was received for it.
        kinds: a class or a tuple of classes.
        noun: what is wanted, with its article.
        example: something that could be passed, as code.
    """
    if not isinstance(value, kinds):
        remedy = _remedy(name, value) or f"pass for example `{example}`"
        raise TypeError(f"`{name}` is {shown(value)}, but must be {noun}: {remedy}.")


def _remedy(name, value):
    """Return what to pass in place of what is often taken for it, or None."""
    # By name: this module is below those of the classes.
    kinds = {kind.__name__ for kind in type(value).__mro__}
    function = callable(value) and not isinstance(value, type)
    match name:
        case "network" if "Result" in kinds:
            return "pass its `network`, as in `result.network`"
        case "network" if isinstance(value, str | os.PathLike):
            if os.path.isfile(os.path.join(value, "run.json")):
                folder = str(os.fspath(value))
                return f"restore that of the run by `ctep.restore({folder!r})[0]`"
        case "nudge" if "AbstractLoss" in kinds:
            own = type(value).__module__.partition(".")[0] == "ctep"
            loss = f"ctep.{type(value).__name__}()" if own else "loss"
            return f"pass it as that of the output, `ctep.OutputError({loss})`"
        case "activation" if function:
            own = _ACTIVATIONS.get(getattr(value, "__name__", ""), "ctep.Tanh()")
            return (
                f"pass `{own}`, or for a function of your own subclass "
                "`ctep.AbstractActivation`"
            )
        case "optimizer" if function:
            return (
                "pass for example `optax.adam(1e-3)`, with a schedule "
                "`optax.adam(schedule)`"
            )
    return None


def no_rate(given: Iterable[str]) -> None:
    """Raise `TypeError` if a rate is among the names of what `ctep.fit` is given."""
    for name in sorted({"lr", "learning_rate"} & {*given}):
        raise TypeError(
            f"`{name}` is no argument, since the rate is that of the optimiser: pass "
            "`optimizer=optax.adam(1e-3)`."
        )


def members(name: str, value: Any) -> tuple:
    """Return a list or a tuple as a tuple, or raise `TypeError` for anything else."""
    instance(name, value, (tuple, list), "a list or a tuple", f"{name}=[...]")
    return tuple(value)


def function(name: str, value: Any, example: str) -> None:
    """Raise `TypeError` unless `value` can be called."""
    instance(name, value, Callable, "a function", example)


def flag(name: str, value: Any) -> None:
    """Raise `TypeError` unless `value` is `True` or `False`."""
    instance(name, number(value), bool, "True or False", f"{name}=True")


def choice(name: str, value: Any, options: tuple[str | None, ...]) -> None:
    """Raise `ValueError` unless `value` is one of `options`."""
    # By kind first: `in` compares, and what comparing arrays gives is no truth value.
    if not isinstance(value, str | None) or value not in options:
        *most, last = map(repr, options)
        raise ValueError(
            f"`{name}` is {shown(value)}, but must be {', '.join(most)} or {last}: "
            "pass one of them."
        )


def number(value: Any) -> Any:
    """Return a number of NumPy or JAX as the Python number, anything else as it is.

    So equal numbers make equal hyperparameters, with one hash and one program, and
    none of them promotes the dtype that it meets.
    """
    if not isinstance(value, np.generic | np.ndarray | jax.Array) or value.shape:
        return value
    kinds = jnp.number, jnp.bool_
    known = any(jnp.issubdtype(value.dtype, kind) for kind in kinds)
    if isinstance(value, Tracer) or not known:
        return value
    return np.asarray(value).item()


def plain(record: Any) -> None:
    """Make the numbers in a new dataclass Python's, see `number`."""
    for field in dataclasses.fields(record):
        # As a frozen dataclass itself sets them.
        object.__setattr__(record, field.name, number(getattr(record, field.name)))


def real(name: str, value: Any, example: str) -> Any:
    """Return a real number that an array can hold as Python's, or raise."""
    return _number(name, value, numbers.Real, "a number", example)


def integer(name: str, value: Any, example: str) -> Any:
    """Return a whole number that an array can hold as Python's, or raise."""
    return _number(name, value, numbers.Integral, "a whole number", example)


def is_whole(value: Any) -> bool:
    """Return whether `value` is a whole number, and no truth value."""
    value = number(value)
    return isinstance(value, numbers.Integral) and type(value) is not bool


def _number(name, value, kind, noun, example):
    value = number(value)
    # To Python `True` is a number. Here it is a slip, and no flag is of `None`'s kind.
    known = type(None) if isinstance(value, bool) else kind
    instance(name, value, known, noun, example)
    if is_whole(value) and not -LARGEST <= int(value) < LARGEST:
        raise ValueError(
            f"`{name}` is {shown(value)}, which no array can hold: pass for example "
            f"`{example}`."
        )
    return value


def traced_number(value: Any) -> bool:
    """Return whether `value` is a real number that has no value yet."""
    known = isinstance(value, Tracer) and value.shape == ()
    return known and jnp.issubdtype(value.dtype, jnp.floating)


def nudge(name: str, value: Any) -> None:
    """Raise unless `value` is positive and finite, or a traced number."""
    if not traced_number(value):
        positive(name, value, "0.1")


def tolerance(name: str, value: Any) -> None:
    """Raise unless `value` is 0 or more, or a traced number."""
    if traced_number(value):
        return
    # This way round, because NaN compares false and is to be refused as well.
    if not real(name, value, "1e-3") >= 0:
        raise ValueError(
            f"`{name}` is {value}, but a tolerance must be 0 or more: pass for example "
            "1e-3."
        )


def epoch(value: Any) -> None:
    """Raise `TypeError` unless `value` is one whole number, perhaps a traced one."""
    if not isinstance(value, jax.Array):
        integer("epoch", value, "0")
    elif value.shape or not jnp.issubdtype(value.dtype, jnp.integer):
        raise TypeError(
            f"`epoch` is {shown(value)}, but must be a whole number: pass for example "
            "`0`."
        )


def positive(name: str, value: Any, example: str) -> Any:
    """Return a finite number above 0 as Python's, or raise."""
    value = real(name, value, example)
    if not 0 < value < math.inf:
        raise ValueError(
            f"`{name}` is {value}, but must be positive and finite: pass for example "
            f"`{example}`."
        )
    return value


def count(name: str, value: Any, example: str, least: int = 1) -> int:
    """Return a whole number of at least `least`, or raise."""
    value = integer(name, value, example)
    if value < least:
        raise ValueError(
            f"`{name}` is {value}, but must be a whole number of at least {least}: "
            f"pass for example `{example}`."
        )
    return value


def key(value: Any) -> Key[Array, ""]:
    """Return one random key, typed, or raise `TypeError`."""
    array = isinstance(value, jax.Array)
    typed = array and jnp.issubdtype(value.dtype, jax.dtypes.prng_key)
    old = array and value.dtype == jnp.uint32 and value.shape == (2,)
    if not (old or (typed and value.shape == ())):
        raise TypeError(
            f"`key` is {shown(value)}, but must be one random key: pass "
            "`jax.random.key(0)`."
        )
    return value if typed else jax.random.wrap_key_data(value)
