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
        classes: the number of classes, which labels are below.
        decodes: whether reading is slow enough for processes of its own.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    classes: int
    decodes: bool

    @abc.abstractmethod
    def __len__(self) -> int: ...

    @abc.abstractmethod
    def read(self, rows: np.ndarray) -> Batch:
        """Return the examples and the class numbers of `rows`, at least one."""

    @property
    @abc.abstractmethod
    def arrays(self) -> "ArrayRecords":
        """The same examples in memory."""


class ArrayRecords(AbstractRecords):
    """Arrays, which may be `numpy.memmap`s larger than memory; checked on the way in.

    Args:
        x: numpy or JAX array of shape `(examples, ...)`, uint8 (pixels from 0 to 255,
            which training scales to [0, 1] on the device) or floating. Floats become
            float32, unless JAX is set to float64. Memory is shared where nothing needs
            to be converted.
        y: class numbers from 0, an array of shape `(examples,)`.
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
        self.x, self.y = _examples(x, "x" + suffix), _labels(y, "y" + suffix)
        if len(x) != len(y):
            raise ValueError(
                f"`x{suffix}` has {len(x)} examples, but `y{suffix}` has {len(y)} "
                "labels; pass one label for each example."
            )
        top = int(self.y.max())
        self.shape, self.dtype = self.x.shape[1:], self.x.dtype
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


def _labels(y: np.ndarray, label: str) -> np.ndarray:
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
    return y.astype(np.int32, copy=False)
