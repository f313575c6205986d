"""Arguments of the wrong kind, answered in one sentence before anything is compiled."""

import dataclasses
import math
import numbers
import operator
import os
from collections.abc import Callable, Iterable, Sequence
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
_LARGEST = 2**31


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
    if is_whole(value) and not -_LARGEST <= int(value) < _LARGEST:
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


def shape(name: str, value: Any) -> tuple[int, ...]:
    """Return a shape as plain integers, or raise."""
    try:
        if not is_listed(value):
            raise TypeError
        # `int` would cut 2.5 to 2 in silence; `operator.index` refuses it.
        out = tuple(operator.index(n) for n in value)
    except TypeError as error:
        raise TypeError(
            f"`{name}` is {shown(value)}, but a shape is a tuple of whole numbers: "
            "pass for example `(28, 28)`, for one axis `(784,)`."
        ) from error
    if any(abs(n) >= _LARGEST for n in out):
        raise ValueError(
            f"`{name}` is {shown(value)}, which no array can have: pass for example "
            "`(28, 28)`, for one axis `(784,)`."
        )
    return out


def is_listed(value: Any) -> bool:
    """Return whether `value` holds several things in an order, and is no text."""
    # Axes have an order, which a set lacks, and the letters of a text are no numbers.
    several = isinstance(value, Sequence) and not isinstance(value, str | bytes)
    return several or (isinstance(value, np.ndarray | jax.Array) and value.ndim > 0)


def positive_shape(name: str, value: Any) -> tuple[int, ...]:
    """Return a shape of at least one element as plain integers, or raise."""
    got = shape(name, value)
    if any(n < 1 for n in got):
        raise ValueError(
            f"`{name}` is {got}, but must hold positive whole numbers and no other: "
            "pass for example `(784,)`."
        )
    return got


def sizes(value: Any, least: int) -> tuple[tuple[int, ...], ...]:
    """Return sizes, each a number or a shape, as shapes."""
    if not is_listed(value):
        raise TypeError(
            f"`sizes` is {shown(value)}, but must list inputs, layers and outputs: "
            "pass for example `(784, 512, 10)`."
        )
    value = tuple(value)
    if len(value) < least:
        raise ValueError(
            f"`sizes` is {shown(value)}, but inputs, layers and outputs make at least "
            f"{least}: pass for example (784, 512, 10)."
        )
    shapes = []
    for size in value:
        try:
            shapes.append(shape("sizes", (size,) if is_whole(size) else size))
        except (TypeError, ValueError):
            shapes.append(())
        if not shapes[-1] or min(shapes[-1]) < 1:
            raise ValueError(
                f"`sizes` holds {shown(size)}, but every size must be a positive "
                "integer or a shape of them: change it."
            )
    return tuple(shapes)


def pairs(name: str, value: Any) -> list[tuple[int, int]]:
    """Return edges as pairs of plain integers, or raise `TypeError`."""
    # An array without axes calls itself iterable.
    kind = type(None) if getattr(value, "ndim", 1) == 0 else Iterable
    instance(name, value, kind, "a list of pairs", f"{name}=[(0, 1)]")
    out = []
    for edge in value:
        try:
            i, j = edge
            out.append((operator.index(i), operator.index(j)))
        except (TypeError, ValueError) as error:
            raise TypeError(
                f"`{name}` holds {shown(edge)}, but an edge is a pair of nodes: pass "
                "for example `(0, 1)`."
            ) from error
    return out


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


def native(value: np.ndarray) -> np.ndarray:
    """Return numbers in a dtype that JAX knows: in this machine's order of bytes.

    Those of more than 64 bits, of which NumPy has some, become floats of 64.
    """
    dtype = value.dtype
    if dtype.kind not in "iufc":
        return value
    if dtype.char in "gG":  # long doubles, of the size that the machine has
        dtype = np.dtype(np.float64 if dtype.kind == "f" else np.complex128)
    return value.astype(dtype.newbyteorder("="), copy=False)


def array(name: str, value: Any) -> Array:
    """Return real numbers as an array, or raise if it would hold others than these."""
    unmasked(name, value)
    try:
        # NumPy keeps what JAX would wrap or overflow, but cannot read what is traced.
        given = value if _is_of_jax(value) else np.asarray(value)
        with np.errstate(over="ignore"):  # what overflows is reported below
            out = jnp.asarray(given if _is_of_jax(given) else native(given))
    except (TypeError, ValueError, OverflowError) as error:
        raise TypeError(
            f"`{name}` cannot be made an array of numbers, but must be one: convert "
            "text to labels and give all rows the same length."
        ) from error
    if jnp.iscomplexobj(out):
        raise TypeError(
            f"`{name}` has dtype {out.dtype}, but must be real: pass its real part."
        )
    if isinstance(given, np.ndarray) and given.dtype.itemsize > out.dtype.itemsize:
        info = jnp.iinfo if given.dtype.kind in "iu" else jnp.finfo
        low, high = info(out.dtype).min, info(out.dtype).max
        # An infinity is one in any dtype; what was finite must not become one, or wrap.
        beyond = given[np.isfinite(given) & ((given < low) | (given > high))]
        if beyond.size:
            raise ValueError(
                f"`{name}` holds {beyond[0]}, which {out.dtype} cannot hold: bring its "
                "numbers into that range, or set `jax_enable_x64`."
            )
    return out


def unmasked(name: str, value: Any) -> None:
    """Raise `ValueError` if numbers are masked."""
    if _is_masked(value):
        raise ValueError(
            f"`{name}` is a masked array, but a mask would be dropped: leave those "
            "examples out, or fill them, for example with `numpy.ma.filled`."
        )


def _is_masked(value):
    return any(map(np.ma.is_masked, _items(value)))


def _is_of_jax(value):
    return any(
        isinstance(item, jax.Array) or getattr(item, "__jax_array__", False)
        for item in _items(value)
    )


def _items(value):
    """Return what nested lists and tuples hold, arrays as one."""
    if not isinstance(value, list | tuple):
        return [value]
    return [item for part in value for item in _items(part)]


def traced(*trees: Any) -> bool:
    """Return whether nothing can be tried on values yet, as inside somebody's `jit`.

    There even what is made of constants has no value.
    """
    leaves = jax.tree_util.tree_leaves(trees)
    with jax.transfer_guard("allow"):
        leaves.append(jnp.zeros(()) + 0)
    return any(isinstance(leaf, Tracer) for leaf in leaves)


def numbers_or_none(name: str, value: Any) -> None:
    """Raise `TypeError` unless `value` is `None` or an array of floats."""
    kinds = (jax.Array, np.ndarray, type(None))
    instance(name, value, kinds, "an array or None", "jax.numpy.zeros(10)")
    if value is not None and not jnp.issubdtype(value.dtype, jnp.floating):
        raise TypeError(
            f"`{name}` has dtype {value.dtype}, but must be floating: convert it."
        )
    arrays(name, value)


def arrays(name: str, value: Any) -> None:
    """Raise `TypeError` if a module holds an array of numbers that JAX has not."""
    for leaf in jax.tree_util.tree_leaves(value):
        dtype = getattr(leaf, "dtype", None) if isinstance(leaf, np.ndarray) else None
        wide = dtype is not None and dtype.type in (np.longdouble, np.clongdouble)
        if dtype is not None and (wide or not dtype.isnative):
            raise TypeError(
                f"`{name}` holds an array of dtype {dtype}, which JAX does not have: "
                "convert it with `array.astype('float32')`."
            )


def weights(init: Any, random: Any, shape: tuple[int, ...]) -> Array:
    """Return what an initialiser makes of a random key, or raise if it cannot."""
    example = "jax.nn.initializers.he_uniform()"
    key(random)
    function("init", init, example)
    try:
        out = init(random, shape, jnp.result_type(float))
    except TypeError as error:
        raise TypeError(
            f"`init` is {shown(init)}, which makes no weights of a key, the shape "
            f"{shape} and a dtype: pass for example `{example}`."
        ) from error
    if getattr(out, "shape", None) != shape or not jnp.issubdtype(
        out.dtype, jnp.floating
    ):
        raise ValueError(
            f"`init` is {shown(init)}, which returns {shown(out)}, but weights are "
            f"floats of shape {shape}: pass for example `{example}`."
        )
    return out


def same_shape(name: str, value: Any, wanted: tuple[int, ...]) -> None:
    """Raise unless `value` is `None` or real numbers of the shape `wanted`."""
    numbers_or_none(name, value)
    got = getattr(value, "shape", wanted)
    if got != wanted:
        raise ValueError(
            f"`{name}` has shape {got}, but must have shape {wanted}: change it."
        )


def image(name: str, value: Any) -> tuple[int, int, int]:
    """Return the shape of an image as plain integers, or raise."""
    got = shape(name, value)
    if len(got) != 3 or min(got) < 1:
        raise ValueError(
            f"`{name}` is {got}, but an image has (height, width, channels): pass for "
            "example `(32, 32, 3)`."
        )
    return got


def one_or_two(name: str, value: Any, example: str) -> tuple[int, int]:
    """Return one or two positive whole numbers as two, or raise."""
    if is_whole(value):
        value = (value, value)
    got = shape(name, value)
    if len(got) != 2 or min(got) < 1:
        raise ValueError(
            f"`{name}` is {shown(value)}, but must be one positive whole number or "
            f"two: pass for example `{example}`."
        )
    return got


def counts(name: str, value: Any, least: int = 1) -> tuple[int, ...]:
    """Return positive whole numbers, at least `least` of them, or raise."""
    got = shape(name, value)
    if len(got) < least or (got and min(got) < 1):
        raise ValueError(
            f"`{name}` is {got}, but must hold at least {least} positive whole numbers "
            "and no other: pass for example `(64, 128)`."
        )
    return got
