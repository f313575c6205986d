"""A classification dataset in memory."""

import dataclasses
import functools
import zlib

import numpy as np
from jaxtyping import Int32, Shaped


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Dataset:
    """Examples and their classes, as numpy arrays; make one with `ctep.data.load`.

    Fields:
        name: a short name, such as `"mnist"`.
        x_train: the training examples: uint8 for pixels from 0 to 255, which
            training scales to [0, 1] on the device, or floats, used as they are.
        y_train: the class of each training example, from 0 to `classes - 1`.
        x_test: the test examples, or None if there are none.
        y_test: their classes, or None.
        classes: the number of classes.
        source: where the data came from, for reports.
        content: differs where the data differ; by default checksums of all arrays.
    """

    name: str
    x_train: Shaped[np.ndarray, " train *shape"]
    y_train: Int32[np.ndarray, " train"]
    x_test: Shaped[np.ndarray, " test *shape"] | None
    y_test: Int32[np.ndarray, " test"] | None
    classes: int
    source: str
    content: str = ""

    @functools.cached_property
    def digest(self) -> str:
        """`content`, or else checksums, which read all data once.

        They are those of `x_train` and, after a dash, of all that the first leaves out.
        """
        if self.content:
            return self.content
        first, rest = _checksum(self.x_train, 0), 0
        for array in (self.x_train, self.y_train, self.x_test, self.y_test):
            if array is not None:
                rest = zlib.crc32(f"{array.dtype}{array.shape}".encode(), rest)
        for array in (self.y_train, self.x_test, self.y_test):
            rest = rest if array is None else _checksum(array, rest)
        return f"{first:08x}-{rest:08x}"

    @property
    def examples(self) -> int:
        """The number of training examples."""
        return len(self.x_train)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one example."""
        return self.x_train.shape[1:]

    def __repr__(self) -> str:
        test = "no" if self.x_test is None else len(self.x_test)
        return (
            f"Dataset({self.name!r}: {len(self.x_train)} training and {test} test "
            f"examples, {self.x_train.dtype}{list(self.shape)}, "
            f"{self.classes} classes, source: {self.source})"
        )


def _checksum(array: np.ndarray, start: int) -> int:
    return zlib.crc32(np.ascontiguousarray(array).data, start)
