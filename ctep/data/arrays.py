"""Datasets from arrays, checked on the way in."""

import numbers
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .. import _checks as checks
from .dataset import Dataset

_FORMS = "`(x, y)` or `((x, y), (x_test, y_test))`"


def from_arrays(
    data: tuple[Any, ...],
    *,
    classes: int | None = None,
    name: str = "arrays",
    source: str = "arrays in memory",
) -> Dataset:
    """Check arrays and make a dataset of them.

    Args:
        data: `(x, y)` or `((x, y), (x_test, y_test))`, numpy or JAX arrays: `x` of
            shape `(examples, ...)`, uint8 or floating, `y` integers of shape
            `(examples,)`. Floats become float32, unless JAX is set to float64.
        classes: the number of classes; by default one more than the largest label
            of the training set.
        name: the name of the dataset.
        source: where the arrays came from, for reports.

    Returns:
        The dataset, which shares memory with arrays that need no conversion.

    Raises:
        TypeError: if a container or a dtype is not one of those above.
        ValueError: if shapes, lengths or values do not fit.
    """
    whole = isinstance(classes, numbers.Integral) and not isinstance(classes, bool)
    if classes is not None and (not whole or classes < 1):
        raise ValueError(
            f"`classes` must be a positive integer, but got {checks.shown(classes)}; "
            "leave it out to count the labels of the training set."
        )
    if len(data) != 2 or isinstance(data[0], tuple) != isinstance(data[1], tuple):
        raise TypeError(
            f"`dataset` must be {_FORMS}, but got a tuple of "
            f"({', '.join(type(part).__name__ for part in data)}); regroup the arrays."
        )
    train, test = data if isinstance(data[0], tuple) else (data, None)
    suffix = "" if test is None else "_train"
    x_train, y_train, top = _pair(train, suffix)
    classes = top + 1 if classes is None else int(classes)
    _check_range(top, classes, "y" + suffix)
    if test is None:
        return Dataset(name, x_train, y_train, None, None, classes, source)
    x_test, y_test, top = _pair(test, "_test")
    _check_range(top, classes, "y_test")
    if x_test.shape[1:] != x_train.shape[1:]:
        raise ValueError(
            f"`x_test` has examples of shape {x_test.shape[1:]}, but those of "
            f"`x_train` have shape {x_train.shape[1:]}; reshape one of them."
        )
    if x_test.dtype != x_train.dtype:
        raise TypeError(
            f"`x_test` is {x_test.dtype}, but `x_train` is {x_train.dtype}, and only "
            "uint8 is scaled to [0, 1]; convert both to the same dtype."
        )
    return Dataset(name, x_train, y_train, x_test, y_test, classes, source)


def check(dataset: Dataset) -> None:
    """Raise `ValueError` or `TypeError` if labels or masks would be misread."""
    for side in ("train", "test"):
        x, y = getattr(dataset, f"x_{side}"), getattr(dataset, f"y_{side}")
        if x is not None and y is not None:
            checks.unmasked(f"x_{side}", x)
            _, top = _labels(_array(y, f"y_{side}"), f"y_{side}")
            _check_range(top, dataset.classes, f"y_{side}")


def _pair(pair: tuple[Any, ...], suffix: str) -> tuple[np.ndarray, np.ndarray, int]:
    """Return checked examples, checked labels, and the largest label."""
    if len(pair) != 2:
        raise TypeError(
            f"`dataset` must be {_FORMS}, but one part is a tuple of {len(pair)}; "
            "regroup the arrays."
        )
    x, y = _array(pair[0], "x" + suffix), _array(pair[1], "y" + suffix)
    x = _examples(x, "x" + suffix)
    y, top = _labels(y, "y" + suffix)
    if len(x) != len(y):
        raise ValueError(
            f"`x{suffix}` has {len(x)} examples, but `y{suffix}` has {len(y)} labels; "
            "pass one label for each example."
        )
    return x, y, top


def _array(value: Any, label: str) -> np.ndarray:
    if not isinstance(value, np.ndarray | jax.Array):
        raise TypeError(
            f"`{label}` must be a numpy or JAX array, but got "
            f"{type(value).__name__}; convert it with `numpy.asarray`."
        )
    checks.unmasked(label, value)
    array = np.asarray(value)
    if array.size == 0:
        raise ValueError(
            f"`{label}` must hold at least one example, but got shape {array.shape}; "
            "check how it was read or sliced."
        )
    return array


def _examples(x: np.ndarray, label: str) -> np.ndarray:
    floating = jnp.issubdtype(x.dtype, jnp.floating)  # numpy's misses bfloat16
    if x.dtype != np.uint8 and not floating:
        raise TypeError(
            f"`{label}` must be uint8 (pixels from 0 to 255) or floating, but got "
            f"{x.dtype}; convert it, for example with `{label}.astype('float32')`."
        )
    if x.ndim < 2:
        raise ValueError(
            f"`{label}` must have shape (examples, ...), but got {x.shape}; for one "
            f"number per example pass `{label}[:, None]`."
        )
    if not floating:
        return x
    wide = x.dtype == np.float64 and jax.dtypes.canonicalize_dtype(x.dtype) == x.dtype
    with np.errstate(over="ignore"):  # what overflows is reported just below
        x = x.astype(np.float64 if wide else np.float32, copy=False)
    if not np.isfinite(x).all():
        raise ValueError(
            f"`{label}` must be finite in {x.dtype}, but holds "
            f"{np.count_nonzero(~np.isfinite(x))} NaN or infinite values; drop or fill "
            "them."
        )
    return x


def _labels(y: np.ndarray, label: str) -> tuple[np.ndarray, int]:
    if y.ndim != 1:
        raise ValueError(
            f"`{label}` must hold one class number per example, but got shape "
            f"{y.shape}; for one-hot labels pass `{label}.argmax(-1)`, for a column "
            f"`{label}.reshape(-1)`."
        )
    if y.dtype.kind not in "iu":  # numpy calls durations integers too
        raise TypeError(
            f"`{label}` must hold integers, but got {y.dtype}; if these are class "
            f"numbers from 0, pass `{label}.astype('int32')`."
        )
    low, top = int(y.min()), int(y.max())
    if low < 0 or top >= np.iinfo(np.int32).max:
        raise ValueError(
            f"`{label}` must hold class numbers from 0, but got labels from {low} to "
            f"{top}; number the classes 0, 1, 2 and so on."
        )
    return y.astype(np.int32, copy=False), top


def _check_range(top: int, classes: int, label: str) -> None:
    if top >= classes:
        raise ValueError(
            f"`{label}` must hold labels below the number of classes, {classes}, but "
            f"got {top}; correct the labels, or pass `classes={top + 1}`."
        )
