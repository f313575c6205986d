"""Examples with their classes or values."""

import dataclasses
import functools
import zlib

import numpy as np
from jaxtyping import Shaped

from .. import _checks as checks
from .records import AbstractRecords


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Dataset:
    """Examples and their targets, wherever they lie; make one with `ctep.data.load`.

    `x_train`, `y_train`, `x_test` and `y_test` are numpy arrays: uint8 for pixels from
    0 to 255, which training scales to [0, 1] on the device, or floats, used as they
    are; and class numbers, or rows of values. Images on disk are decoded when one is
    first asked for.

    Fields:
        name: a short name, such as `"mnist"`.
        train: the training examples.
        test: the test examples, or None if there are none.
        source: where the data came from, for reports.
        content: differs where the data differ; by default checksums of all arrays.

    Raises:
        TypeError: if `train` or `test` is no records, or their dtypes differ.
        ValueError: if their examples or targets differ in shape, or `test` has more
            classes.
    """

    name: str
    train: AbstractRecords
    test: AbstractRecords | None
    source: str
    content: str = ""

    def __post_init__(self):
        test = self.train if self.test is None else self.test
        for name, records in (("train", self.train), ("test", test)):
            example = "ctep.data.ArrayRecords(x, y)"
            checks.instance(name, records, AbstractRecords, "records", example)
            for field in ("dtype", "target"):
                _check_native(name, field, getattr(records, field).base)
        if test.shape != self.train.shape:
            raise ValueError(
                f"`x_test` has examples of shape {test.shape}, but those of `x_train` "
                f"have shape {self.train.shape}; reshape one of them."
            )
        if test.dtype != self.train.dtype:
            raise TypeError(
                f"`x_test` is {test.dtype}, but `x_train` is {self.train.dtype}, and "
                "only uint8 is scaled to [0, 1]; convert both to the same dtype."
            )
        if test.target != self.train.target:
            raise ValueError(
                f"`y_test` has targets of {test.target}, but those of `y_train` are of "
                f"{self.train.target}; give both the same."
            )
        if test.classes and self.classes and test.classes > self.classes:
            raise ValueError(
                f"`test` has {test.classes} classes, but `train` has {self.classes}; "
                "pass the same `classes` to both."
            )

    @functools.cached_property
    def digest(self) -> str:
        """`content`, or else checksums, which read all data once.

        They are those of `x_train` and, after a dash, of all that the first leaves out.
        """
        if self.content:
            return self.content
        arrays = [self.x_train, self.y_train, self.x_test, self.y_test]
        arrays = [array for array in arrays if array is not None]
        # The first one is of plain bytes, as runs of 0.1.0 have kept it.
        first, rest = _checksum(self.x_train, 0), 0
        for array in arrays:
            rest = zlib.crc32(f"{array.dtype}{array.shape}".encode(), rest)
        for array in arrays[1:]:
            rest = _checksum(array, rest)
        return f"{first:08x}-{rest:08x}"

    @property
    def x_train(self) -> Shaped[np.ndarray, " train *shape"]:
        """The training examples, in memory."""
        return self.train.arrays.x

    @property
    def y_train(self) -> Shaped[np.ndarray, " train *target"]:
        """The class of each training example, from 0, or its values."""
        return self.train.arrays.y

    @property
    def x_test(self) -> Shaped[np.ndarray, " test *shape"] | None:
        """The test examples, in memory, or None if there are none."""
        return None if self.test is None else self.test.arrays.x

    @property
    def y_test(self) -> Shaped[np.ndarray, " test *target"] | None:
        """Their classes or values, or None."""
        return None if self.test is None else self.test.arrays.y

    @property
    def examples(self) -> int:
        """The number of training examples."""
        return len(self.train)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one example."""
        return self.train.shape

    @property
    def classes(self) -> int | None:
        """The number of classes, or None where targets are values."""
        return self.train.classes

    @property
    def outputs(self) -> int:
        """How many outputs it needs: one for each class, or for each value."""
        return self.classes or self.train.target.shape[0]

    def __repr__(self) -> str:
        test = "no" if self.test is None else len(self.test)
        what = f"{self.classes} classes" if self.classes else f"{self.outputs} values"
        return (
            f"Dataset({self.name!r}: {self.examples} training and {test} test "
            f"examples, {self.train.dtype}{list(self.shape)}, {what}, "
            f"source: {self.source})"
        )


def _check_native(name: str, field: str, dtype: np.dtype) -> None:
    if checks.native(np.empty(0, dtype)).dtype != dtype:
        raise TypeError(
            f"`{name}` has the `{field}` {dtype.str}, but devices hold numbers of at "
            "most 64 bits in the machine's own order: convert what `read` returns, "
            f"and say so in `{field}`."
        )


def _checksum(array: np.ndarray, start: int) -> int:
    return zlib.crc32(np.ascontiguousarray(array).data, start)
