"""Examples of a split by their numbers."""

import abc
from pathlib import Path

import numpy as np

from .quiet import quiet_tfds

Batch = tuple[np.ndarray, np.ndarray]


class AbstractRecords(abc.ABC):
    """The examples of a split; pickled to the processes that read them.

    Fields:
        shape: of one example.
        dtype: of examples.
    """

    shape: tuple[int, ...]
    dtype: np.dtype

    @abc.abstractmethod
    def __len__(self) -> int: ...

    @abc.abstractmethod
    def read(self, rows: np.ndarray) -> Batch:
        """Return the examples and the classes of `rows`."""


class ArrayRecords(AbstractRecords):
    """Arrays, which may be `numpy.memmap`s larger than memory."""

    def __init__(self, x: np.ndarray, y: np.ndarray):
        self.x, self.y, self.shape, self.dtype = x, y, x.shape[1:], x.dtype

    def __len__(self):
        return len(self.y)

    def read(self, rows):
        return self.x[rows], self.y[rows]


class ImageRecords(AbstractRecords):
    """One split of a prepared dataset of TFDS, which each process opens for itself.

    Args:
        folder: of the dataset.
        split: its name.
        keys: names of the image and of the label.
        shape: of an image.
        count: of examples.
    """

    def __init__(
        self,
        folder: Path,
        split: str,
        keys: tuple[str, str],
        shape: tuple[int, ...],
        count: int,
    ):
        self.folder, self.split, self.keys = folder, split, keys
        self.shape, self.dtype, self._count = shape, np.dtype(np.uint8), count
        self._opened = None

    def __len__(self):
        return self._count

    def __getstate__(self):
        return {**self.__dict__, "_opened": None}

    def read(self, rows):
        # TFDS's own function decodes the images, but apart from the rest of each
        # record, which saves a fifth of the time. Threads would lose it again to the
        # interpreter lock.
        image, label = self.keys
        x = np.empty((len(rows), *self.shape), np.uint8)
        y = np.empty(len(rows), np.int32)
        with quiet_tfds() as tfds:
            if self._opened is None:
                builder = tfds.builder_from_directory(self.folder)
                skip = {image: tfds.decode.SkipDecoding()}
                records = builder.as_data_source(self.split, decoders=skip)
                self._opened = records, builder.info.features[image]
            records, feature = self._opened
            found = (
                records.__getitems__([int(row) for row in rows]) if len(rows) else []
            )
            for i, record in enumerate(found):
                x[i], y[i] = feature.decode_example_np(record[image]), record[label]
        return x, y
