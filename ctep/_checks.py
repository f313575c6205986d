"""Arguments of the wrong kind, answered in one sentence before anything is compiled."""

import math
import numbers
import operator
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array


def instance(name: str, value: Any, kinds: Any, noun: str, example: str) -> None:
    """Raise `TypeError` unless `value` is of one of `kinds`.

    Args:
        name: of the argument.
        value: received.
        kinds: as for `isinstance`.
        noun: what is wanted, with its article.
        example: of what to pass, as code.
    """
    if not isinstance(value, kinds):
        what = repr(value)
        if isinstance(value, type):
            what = f"the class {value.__name__}"
        elif hasattr(value, "shape") and value.shape:
            what = f"an array of shape {value.shape}"
        elif "\n" in what or len(what) > 80:
            what = f"an object of the class {type(value).__name__}"
        raise TypeError(
            f"`{name}` is {what}, but must be {noun}: pass for example `{example}`."
        )


def real(name: str, value: Any, example: str) -> None:
    """Raise `TypeError` unless `value` is a real number."""
    instance(name, value, numbers.Real, "a number", example)


def integer(name: str, value: Any, example: str) -> None:
    """Raise `TypeError` unless `value` is a whole number."""
    instance(name, value, numbers.Integral, "a whole number", example)


def positive(name: str, value: Any, example: str) -> None:
    """Raise unless `value` is a finite number above 0."""
    real(name, value, example)
    if not 0 < value < math.inf:
        raise ValueError(
            f"`{name}` is {value}, but must be positive and finite: pass for example "
            f"`{example}`."
        )


def count(name: str, value: Any, example: str) -> None:
    """Raise unless `value` is a whole number above 0."""
    integer(name, value, example)
    positive(name, value, example)


def shape(name: str, value: Any) -> tuple[int, ...]:
    """Return a shape as plain integers, or raise `TypeError`."""
    try:
        return tuple(operator.index(n) for n in value)
    except TypeError as error:
        raise TypeError(
            f"`{name}` is {value!r}, but a shape is a tuple of whole numbers: pass for "
            "example `(28, 28)`, for one axis `(784,)`."
        ) from error


def sizes(value: Any, least: int) -> tuple[tuple[int, ...], ...]:
    """Return sizes, each a number or a shape, as shapes."""
    if isinstance(value, str) or not hasattr(value, "__iter__"):
        raise TypeError(
            f"`sizes` is {value!r}, but must list inputs, layers and outputs: pass for "
            "example `(784, 512, 10)`."
        )
    value = tuple(value)
    if len(value) < least:
        raise ValueError(
            f"`sizes` is {value}, but inputs, layers and outputs make at least "
            f"{least}: pass for example (784, 512, 10)."
        )
    shapes = []
    for size in value:
        one = isinstance(size, numbers.Integral)
        try:
            shapes.append(tuple(operator.index(n) for n in ((size,) if one else size)))
        except TypeError:
            shapes.append(())
        if not shapes[-1] or min(shapes[-1]) < 1 or isinstance(size, str):
            raise ValueError(
                f"`sizes` holds {size!r}, but every size must be a positive integer or "
                "a shape of them: change it."
            )
    return tuple(shapes)


def pairs(name: str, value: Any) -> list[tuple[int, int]]:
    """Return edges as pairs of plain integers, or raise `TypeError`."""
    out = []
    for edge in value:
        try:
            i, j = edge
            out.append((operator.index(i), operator.index(j)))
        except (TypeError, ValueError) as error:
            raise TypeError(
                f"`{name}` holds {edge!r}, but an edge is a pair of nodes: pass for "
                "example `(0, 1)`."
            ) from error
    return out


def key(value: Any) -> None:
    """Raise `TypeError` unless `value` is one random key."""
    array = isinstance(value, jax.Array)
    typed = array and jnp.issubdtype(value.dtype, jax.dtypes.prng_key)
    old = array and value.dtype == jnp.uint32 and value.shape == (2,)
    if not (old or (typed and value.shape == ())):
        raise TypeError(
            f"`key` is {value!r}, but must be one random key: pass `jax.random.key(0)`."
        )


def array(name: str, value: Any) -> Array:
    """Return real numbers as an array, or raise `TypeError`."""
    try:
        out = jnp.asarray(value)
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"`{name}` cannot be made an array of numbers, but must be one: convert "
            "text to labels and give all rows the same length."
        ) from error
    if jnp.iscomplexobj(out):
        raise TypeError(
            f"`{name}` has dtype {out.dtype}, but must be real: pass its real part."
        )
    return out


def same_shape(name: str, value: Any, wanted: tuple[int, ...]) -> None:
    """Raise `ValueError` if `value` has a shape, and it is not `wanted`."""
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


def two(name: str, value: Any, example: str) -> tuple[int, int]:
    """Return one or two positive whole numbers as two, or raise."""
    if isinstance(value, numbers.Integral):
        value = (value, value)
    got = shape(name, value)
    if len(got) != 2 or min(got) < 1:
        raise ValueError(
            f"`{name}` is {value!r}, but must be one positive whole number or two: "
            f"pass for example `{example}`."
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
