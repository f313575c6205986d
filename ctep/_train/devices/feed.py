"""What the compiled loop is fed: data on the devices, or pieces of a stream."""

import abc
from collections.abc import Iterator

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Array, Int, PRNGKeyArray, Shaped

from ...data import Dataset, Stream
from ...data.order import Order
from ...data.records import AbstractRecords, ArrayRecords
from ...data.stream import Batches, Reader, stream_arrays
from .placement import Placement

_EVALUATED = 500  # examples at once
_EXAMPLES = 2048  # in a piece of a stream, at least, if batches are smaller


class Unreadable(OSError):
    """Data could be read once, and cannot be any more."""


class AbstractBlock(eqx.Module):
    """Batches on the devices."""

    @abc.abstractmethod
    def take(self, i: Array) -> tuple[Array, Array, Array]:
        """Return examples, labels and numbers (-1: no example) of batch `i`."""


class Held(AbstractBlock):
    """An epoch of data that lie on the devices as a whole."""

    x: Shaped[Array, " examples ..."]
    y: Int[Array, " examples"]
    rows: Int[Array, "batches width"]

    def take(self, i):
        rows = self.rows[i]
        return self.x[rows], self.y[rows], rows


class Piece(AbstractBlock):
    """A few batches of a stream."""

    x: Shaped[Array, "batches width ..."]
    y: Int[Array, "batches width"]
    rows: Int[Array, "batches width"]

    def take(self, i):
        return self.x[i], self.y[i], self.rows[i]


class AbstractFeed(abc.ABC):
    """One split of the data, in the order of its use."""

    order: Order

    @abc.abstractmethod
    def blocks(self, epoch: int, start: int) -> Iterator[tuple[AbstractBlock, range]]:
        """Yield the batches of an epoch from `start` on: blocks, and what they hold."""

    @abc.abstractmethod
    def sample(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return examples and labels."""

    def close(self) -> None:  # noqa: B027
        """End what reads ahead."""


class Memory(AbstractFeed):
    """Data that are held on every device."""

    def __init__(self, x: np.ndarray, y: np.ndarray, order: Order, place: Placement):
        self._local, self.order, self._place = (x, y), order, place
        self._held = place.everywhere(x), place.everywhere(y)

    def blocks(self, epoch, start):
        rows = self._place.everywhere(self.order(epoch))
        yield Held(*self._held, rows), range(self.order.batches)

    def sample(self, rows):
        x, y = self._local
        return x[rows], y[rows]


class Streaming(AbstractFeed):
    """Data of which only a few batches are held, each process reading its own part."""

    def __init__(self, records, index, order: Order, place: Placement, workers: int):
        self._records, self._index = records, index
        self.order, self._place = order, place
        self._length = min(order.batches, max(1, _EXAMPLES // order.batch_size))
        batches = Batches(records, index, order, place.columns(order.width))
        self._reader = Reader(batches, workers, 2 * self._length)

    def blocks(self, epoch, start):
        order, columns = self.order(epoch), self._reader.batches.columns
        for first in range(start, self.order.batches, self._length):
            found = range(first, min(first + self._length, self.order.batches))
            number = epoch * self.order.batches
            try:
                parts = [self._reader.read(number + batch) for batch in found]
            except Exception as error:  # of any kind, perhaps from another process
                last = str(error).strip().splitlines() or [type(error).__name__]
                raise Unreadable(
                    f"Batch {first + 1} of epoch {epoch + 1} could not be read "
                    f"({last[-1]}): make the data readable again, then go on."
                ) from error
            parts += parts[-1:] * (self._length - len(parts))  # of one length for all
            x, y = map(np.stack, zip(*parts, strict=True))
            rows = order[list(found) + [found[-1]] * (self._length - len(found))]
            arrays = x, y, rows[:, columns]
            yield (
                Piece(*(self._place.stack(a, self.order.width) for a in arrays)),
                found,
            )

    def sample(self, rows):
        rows = np.asarray(rows)
        return self._records.read(rows if self._index is None else self._index[rows])

    def close(self):
        self._reader.close()


def feeds(
    loaded: Dataset | Stream,
    held_out: tuple[np.ndarray, np.ndarray] | None,
    key: PRNGKeyArray,
    batch_size: int,
    workers: int,
    place: Placement,
) -> dict[str, AbstractFeed]:
    """Return the splits that there are: train, validation, test.

    Args:
        loaded: the data.
        held_out: training and validation examples, as `hold_out` returns them.
        key: of the order of the training examples.
        batch_size: of training.
        workers: processes that read training examples of a stream.
        place: on the devices.
    """
    seed = tuple(np.asarray(jax.random.key_data(key)).ravel().tolist())
    stream = stream_arrays(loaded) if isinstance(loaded, Dataset) else loaded
    parts: dict[str, tuple[AbstractRecords, np.ndarray | None]]
    parts = {"train": (stream.train, None)}
    if held_out is not None:
        train, held = held_out
        parts = {"train": (stream.train, train), "validation": (stream.train, held)}
    if stream.test is not None:
        parts["test"] = stream.test, None
    made: dict[str, AbstractFeed] = {}
    for name, (records, index) in parts.items():
        count = len(records) if index is None else len(index)
        size = batch_size if name == "train" else min(count, _EVALUATED)
        order = Order(count, size, place.width(size), seed if name == "train" else None)
        if isinstance(loaded, Dataset) and isinstance(records, ArrayRecords):
            rows = slice(None) if index is None else index
            made[name] = Memory(records.x[rows], records.y[rows], order, place)
        else:
            # What is read once an epoch is not worth processes of its own.
            alone = isinstance(records, ArrayRecords) or name != "train"
            made[name] = Streaming(
                records, index, order, place, 0 if alone else workers
            )
    return made
