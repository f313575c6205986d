"""What the compiled loop is fed: data on the devices, or a few batches at a time."""

import abc
import functools
import math
from collections.abc import Iterator

import jax
import numpy as np
from jax.tree_util import Partial
from jaxtyping import PRNGKeyArray

from ...data import AbstractRecords, Dataset
from ...data.records import Batch
from ...data.selection import BatchOrder
from ...data.stream import check_main, read_ahead, read_batch
from .placement import Placement

_EVALUATED = 500  # examples at once
# In a streamed block, so that compiled code need not return after each small batch: a
# step takes 1.065 times one in memory (`fre-vgg11` at a quarter of its widths).
_EXAMPLES = 2048


class Unreadable(OSError):
    """Data could be read once, and cannot be any more."""


class AbstractFeed(abc.ABC):
    """One split of the data, in the order of its use."""

    order: BatchOrder

    @abc.abstractmethod
    def blocks(self, epoch: int, start: int) -> Iterator[tuple[Partial, range]]:
        """Yield the batches of an epoch from `start` on: blocks, and what they hold.

        Compiled code calls a block, which is on the devices, with the place of a batch
        in it, for examples, labels and their numbers (-1: no example).
        """

    @abc.abstractmethod
    def sample(self, rows: np.ndarray) -> Batch:
        """Return examples and targets."""

    @abc.abstractmethod
    def targets(self) -> np.ndarray:
        """Return the targets of all examples."""

    @functools.cached_property
    def variance(self) -> float:
        """The mean squared distance of targets that are values from their mean."""
        y = self.targets().astype(np.float64)
        return float(((y - y.mean(0)) ** 2).sum(-1).mean())

    def close(self) -> None:  # noqa: B027
        """End what reads ahead."""


class HeldFeed(AbstractFeed):
    """Data that are held on every device; a block is an epoch."""

    def __init__(
        self, x: np.ndarray, y: np.ndarray, order: BatchOrder, place: Placement
    ):
        self._local, self.order, self._place = (x, y), order, place
        self._held = place.everywhere(x), place.everywhere(y)

    def blocks(self, epoch, start):
        rows = self._place.everywhere(self.order(epoch))
        # A `Partial` is a tree: its arrays are arguments of the program, not constants.
        # Its function is of the module, and so the same one for every block.
        yield Partial(_gathered, *self._held, rows), range(self.order.batches)

    def sample(self, rows):
        x, y = self._local
        return x[rows], y[rows]

    def targets(self):
        return self._local[1]


class StreamedFeed(AbstractFeed):
    """Data of which only a few batches are held, each process reading its own part.

    Args:
        records: the examples, and how to read them.
        index: numbers of the records that make up the split; all if `None`.
        order: which examples each batch of an epoch holds.
        place: where batches lie on the devices.
        workers: processes that read and decode, 0 for a thread of this one.
    """

    def __init__(
        self,
        records: AbstractRecords,
        index: np.ndarray | None,
        order: BatchOrder,
        place: Placement,
        workers: int,
    ):
        check_main(workers)
        self._records, self._index = records, index
        self.order, self._place, self._workers = order, place, workers
        self._length = min(order.batches, max(1, _EXAMPLES // order.batch_size))
        self._columns = place.columns(order.width)
        self._next, self._ahead = 0, None

    def blocks(self, epoch, start):
        order = self.order(epoch)
        for first in range(start, self.order.batches, self._length):
            found = range(first, min(first + self._length, self.order.batches))
            try:
                parts = [self.read(epoch * self.order.batches + i) for i in found]
            except Exception as error:  # of any kind, perhaps from another process
                last = str(error).strip().splitlines() or [type(error).__name__]
                raise Unreadable(
                    f"Batch {first + 1} of epoch {epoch + 1} could not be read "
                    f"({last[-1]}): make the data readable again, then go on."
                ) from error
            parts += parts[-1:] * (self._length - len(parts))  # of one length for all
            x, y = map(np.stack, zip(*parts, strict=True))
            rows = order[list(found) + [found[-1]] * (self._length - len(found))]
            arrays = x, y, rows[:, self._columns]
            arrays = [self._place.stack(a, self.order.width) for a in arrays]
            yield Partial(_sliced, *arrays), found

    def sample(self, rows):
        rows = np.asarray(rows)
        if not len(rows):
            found = self._records
            x = np.zeros((0, *found.shape), found.dtype)
            return x, np.zeros(0, found.target)
        return self._records.read(rows if self._index is None else self._index[rows])

    def targets(self):
        return self._records.y[slice(None) if self._index is None else self._index]

    def read(self, number: int) -> Batch:
        """Return this process's part of a batch; to go on with the next costs least."""
        if self._ahead is None or number != self._next:
            self.close()
            parts = self._records, self._index, self.order, self._columns
            read = functools.partial(read_batch, *parts)
            # Two blocks: one is read while the devices work on the other.
            self._ahead = read_ahead(read, number, self._workers, 2 * self._length)
        self._next = number + 1
        return next(self._ahead)

    def close(self):
        if self._ahead is not None:
            self._ahead.close()
        self._ahead = None


def _gathered(x, y, rows, i):
    return x[rows[i]], y[rows[i]], rows[i]


def _sliced(x, y, rows, i):
    return x[i], y[i], rows[i]


def feeds(
    dataset: Dataset,
    held_out: tuple[np.ndarray, np.ndarray] | None,
    key: PRNGKeyArray,
    batch_size: int,
    workers: int | None,
    place: Placement,
) -> dict[str, AbstractFeed]:
    """Return the splits that there are: train, validation, test.

    This alone decides whether data are held on the devices or streamed to them.

    Args:
        dataset: the data.
        held_out: training and validation examples, as `hold_out` returns them.
        key: random key that decides the order of the training examples.
        batch_size: examples per batch of training.
        workers: processes that read training examples as they are used, 0 for a
            thread. If `None`, all data are in memory, and held if the training
            examples take no more than half of a device.
        place: where data lie on the devices.
    """
    seed = tuple(np.asarray(jax.random.key_data(key)).ravel().tolist())
    parts: dict[str, tuple[AbstractRecords, np.ndarray | None]]
    parts = {"train": (dataset.train, None)}
    if held_out is not None:
        train, held = held_out
        parts = {"train": (dataset.train, train), "validation": (dataset.train, held)}
    if dataset.test is not None:
        parts["test"] = dataset.test, None
    shape, itemsize = (dataset.examples, *dataset.shape), dataset.train.dtype.itemsize
    # The other half is for test data, weights and states.
    holds = workers is None and math.prod(shape) * itemsize <= place.room() / 2
    made: dict[str, AbstractFeed] = {}
    for name, (records, index) in parts.items():
        count = len(records) if index is None else len(index)
        size = batch_size if name == "train" else min(count, _EVALUATED)
        seeds = seed if name == "train" else None
        order = BatchOrder(count, size, place.width(size), seeds)
        if holds:
            rows = slice(None) if index is None else index
            x, y = records.arrays.x[rows], records.arrays.y[rows]
            made[name] = HeldFeed(x, y, order, place)
        else:
            records = records.arrays if workers is None else records
            # What is read once an epoch is not worth processes of its own.
            alone = name != "train" or not records.decodes
            processes = 0 if alone else workers or 0
            made[name] = StreamedFeed(records, index, order, place, processes)
    return made
