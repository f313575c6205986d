"""The examples of a split: where they lie, and how they are read."""

import abc
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .. import _checks as checks

Batch = tuple[np.ndarray, np.ndarray]


class AbstractRecords(abc.ABC):
    """The examples of a split, by their numbers; pickled to processes that read them.

    Those of a folder of `.npy` files, for example:

    ```python
    import ctep, functools
    import numpy as np

    class Files(ctep.data.AbstractRecords):
        shape, dtype, classes, decodes = (8, 8), np.dtype("uint8"), 10, True

        def __init__(self, files, labels):
            self.files, self.labels = files, labels

        def __len__(self):
            return len(self.files)

        def read(self, rows):
            images = [np.load(self.files[row]) for row in rows]
            return np.stack(images), self.labels[rows]

        @functools.cached_property
        def arrays(self):
            everything = self.read(np.arange(len(self)))
            return ctep.data.ArrayRecords(*everything, self.classes)
    ```

    Fields:
        shape: the shape of one example.
        dtype: the dtype of examples: uint8 (pixels from 0 to 255) or floating.
        classes: the number of classes, which labels are below; None for values.
        decodes: whether reading is slow enough for processes of its own.
        target: what one target is: `np.dtype("int32")` for a label, for three values
            `np.dtype(("float32", (3,)))`.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    classes: int | None
    decodes: bool
    target: np.dtype = np.dtype(np.int32)

    @abc.abstractmethod
    def __len__(self) -> int: ...

    @abc.abstractmethod
    def read(self, rows: np.ndarray) -> Batch:
        """Return the examples and the targets of `rows`, at least one."""

    @property
    @abc.abstractmethod
    def arrays(self) -> "ArrayRecords":
        """The same examples in memory."""

    @property
    def y(self) -> np.ndarray:
        """The targets of all examples, those of `arrays` if nothing else is said."""
        return self.arrays.y


class ArrayRecords(AbstractRecords):
    """Arrays, which may be `numpy.memmap`s larger than memory; checked on the way in.

    Args:
        x: numpy or JAX array of shape `(examples, ...)`, uint8 (pixels from 0 to 255,
            which training scales to [0, 1] on the device) or floating. Floats become
            float32, unless JAX is set to float64. Memory is shared where nothing needs
            to be converted.
        y: whole numbers of shape `(examples,)` are classes, counted from 0. All else is
            values, which become floats: of shape `(examples, outputs)`, or floats of
            shape `(examples,)` for one output. Where each row is a distribution, none
            negative and 1 in sum, as of one-hot labels, the outputs are classes.
        classes: the number of classes; by default one more than the largest label.
        suffix: what follows `x` and `y` in errors, such as "_test".

    Raises:
        TypeError: if a container or a dtype is not one of those above.
        ValueError: if shapes, lengths or values do not fit, or an array is masked.
    """

    decodes = False

    def __init__(self, x: Any, y: Any, classes: int | None = None, suffix: str = ""):
        if classes is not None and not (checks.is_whole(classes) and classes > 0):
            raise ValueError(
                f"`classes` must be a positive integer, but got "
                f"{checks.shown(classes)}; leave it out to count the labels of the "
                "training set."
            )
        x, y = _array(x, "x" + suffix), _array(y, "y" + suffix)
        self.x, self._y = _examples(x, "x" + suffix), _targets(y, "y" + suffix)
        if len(x) != len(y):
            raise ValueError(
                f"`x{suffix}` has {len(x)} examples, but `y{suffix}` has {len(y)} "
                "targets; pass one for each example."
            )
        self.shape, self.dtype = self.x.shape[1:], self.x.dtype
        self.target = np.dtype((self.y.dtype, self.y.shape[1:]))
        if self.target.shape:
            self.classes = self.y.shape[1] if _is_distribution(self.y) else None
            if classes not in (None, self.classes):
                raise ValueError(
                    f"`classes` is {classes}, but `y{suffix}` holds values of shape "
                    f"{self.y.shape}; leave it out, or pass class numbers."
                )
            return
        top = int(self.y.max())
        self.classes = top + 1 if classes is None else int(classes)
        if top >= self.classes:
            raise ValueError(
                f"`y{suffix}` must hold labels below the number of classes, "
                f"{classes}, but got {top}; correct the labels, or pass "
                f"`classes={top + 1}`."
            )

    def __len__(self):
        return len(self.y)

    def read(self, rows):
        return self.x[rows], self.y[rows]

    @property
    def arrays(self):
        return self

    @property
    def y(self):
        return self._y


def _array(value: Any, label: str) -> np.ndarray:
    if not isinstance(value, np.ndarray | jax.Array):
        raise TypeError(
            f"`{label}` must be a numpy or JAX array, but got "
            f"{type(value).__name__}; convert it with `numpy.asarray`."
        )
    checks.unmasked(label, value)
    with np.errstate(over="ignore"):  # an infinity is reported below
        array = checks.native(np.asarray(value))
    if array.size == 0:
        raise ValueError(
            f"`{label}` must hold at least one example, but got shape {array.shape}; "
            "check how it was read or sliced."
        )
    return array


def _examples(x: np.ndarray, label: str) -> np.ndarray:
    floating = _is_floating(x)
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
    return _finite(x, label) if floating else x


def _is_floating(x):
    return jnp.issubdtype(x.dtype, jnp.floating)  # numpy's misses bfloat16


def _finite(x: np.ndarray, label: str) -> np.ndarray:
    """Return real numbers in the widest dtype that JAX is set to."""
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


def _targets(y: np.ndarray, label: str) -> np.ndarray:
    """Return class numbers as int32, and values as floats with an axis of outputs."""
    known = y.dtype.kind in "iub" or _is_floating(y)  # numpy calls durations integers
    if not known:
        raise TypeError(
            f"`{label}` must hold class numbers or real values, but got {y.dtype}; "
            "number the classes 0, 1, 2 and so on."
        )
    if y.ndim > 2 or (y.ndim == 2 and y.shape[1] == 1 and not _is_floating(y)):
        raise ValueError(
            f"`{label}` must hold one class number per example, or one row of values, "
            f"but got shape {y.shape} of {y.dtype}; for class numbers in a column pass "
            f"`{label}.reshape(-1)`."
        )
    if y.ndim == 2 or _is_floating(y):
        values = y if _is_floating(y) else y.astype(np.float32)
        return _finite(values.reshape(len(y), -1), label)
    if y.dtype.kind == "b":
        y = y.astype(np.int32)
    low, top = int(y.min()), int(y.max())
    if low < 0 or top >= np.iinfo(np.int32).max:
        raise ValueError(
            f"`{label}` must hold class numbers from 0, but got labels from {low} to "
            f"{top}; number the classes 0, 1, 2 and so on."
        )
    return y.astype(np.int32, copy=False)


def _is_distribution(y: np.ndarray) -> bool:
    """Return whether each row gives classes their probabilities."""
    sums = y.sum(1, dtype=np.float64)
    return y.shape[1] > 1 and bool((y >= 0).all() and (abs(sums - 1) < 1e-4).all())
