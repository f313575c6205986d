"""Shapes, sizes and edges: whole numbers in an order."""

import operator
from collections.abc import Iterable, Sequence
from typing import Any

import jax
import numpy as np

from .arguments import LARGEST, instance, is_whole, shown


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
    if any(abs(n) >= LARGEST for n in out):
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
