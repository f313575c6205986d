"""Data that are read from disk while they are trained on, through Grain."""

import contextlib
import dataclasses
import multiprocessing.spawn
import os
import signal
import threading
from typing import Any

import numpy as np

from .dataset import Dataset
from .order import Order
from .records import AbstractRecords, ArrayRecords, Batch


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Stream:
    """A classification dataset on disk; make one with `ctep.data.load`.

    Fields:
        name: a short name, such as `"mnist"`.
        train: the training examples.
        test: the test examples, or None if there are none.
        classes: the number of classes.
        source: where the data came from, for reports.
        digest: differs where the data differ.
    """

    name: str
    train: AbstractRecords
    test: AbstractRecords | None
    classes: int
    source: str
    digest: str

    @property
    def examples(self) -> int:
        """The number of training examples."""
        return len(self.train)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one example."""
        return self.train.shape

    def __repr__(self) -> str:
        test = "no" if self.test is None else len(self.test)
        return (
            f"Stream({self.name!r}: {len(self.train)} training and {test} test "
            f"examples, {self.train.dtype}{list(self.shape)}, {self.classes} classes, "
            f"source: {self.source})"
        )


def stream_arrays(dataset: Dataset) -> Stream:
    """Return a dataset in memory as one of which only batches reach the devices."""
    test = None
    if dataset.x_test is not None and dataset.y_test is not None:
        test = ArrayRecords(dataset.x_test, dataset.y_test)
    train = ArrayRecords(dataset.x_train, dataset.y_train)
    rest = dataset.classes, dataset.source, dataset.digest
    return Stream(dataset.name, train, test, *rest)


@dataclasses.dataclass(frozen=True)
class Batches:
    """All batches of all epochs of a split by their number, as Grain wants a source.

    Fields:
        records: to read from.
        index: which of the records make up the split; all of them if `None`.
        order: of their use.
        columns: the part of each batch that is read here.
    """

    records: AbstractRecords
    index: np.ndarray | None
    order: Order
    columns: slice

    def __len__(self):
        return self.order.batches << 32  # epochs are not counted here

    def __getitem__(self, index: int) -> Batch:
        epoch, batch = divmod(int(index), self.order.batches)
        rows = self._rows(epoch)[batch, self.columns]
        present = rows >= 0
        x = np.zeros((len(rows), *self.records.shape), self.records.dtype)
        y = np.zeros(len(rows), np.int32)
        if present.any():
            wanted = rows[present]
            wanted = wanted if self.index is None else self.index[wanted]
            x[present], labels = self.records.read(wanted)
            if labels.min() < 0 or labels.max() > np.iinfo(np.int32).max:
                raise ValueError(
                    f"`dataset` has the labels {labels.min()} to {labels.max()} in one "
                    "batch, but classes are numbered from 0: leave out what has none."
                )
            y[present] = labels
        return x, y

    def _rows(self, epoch):
        if self.__dict__.get("_epoch") != epoch:
            self.__dict__.update(_epoch=epoch, _order=self.order(epoch))
        return self.__dict__["_order"]


class Reader:
    """Reads batches ahead, in order, from any one of them on.

    Args:
        batches: to read.
        workers: processes that read and decode, 0 for a thread of this one.
        ahead: batches to have ready.
    """

    def __init__(self, batches: Batches, workers: int, ahead: int):
        if workers:
            _check_main(workers)
        self.batches, self.workers, self.ahead = batches, workers, ahead
        self._next, self._iterator = 0, None

    def read(self, number: int) -> Batch:
        """Return a batch; to go on with the next one costs least."""
        if self._iterator is None or number != self._next:
            self.close()
            self._iterator = self._open(number)
        self._next = number + 1
        return next(self._iterator)

    def close(self) -> None:
        """End the reading threads and processes."""
        if self._iterator is not None:
            self._iterator.close()
        self._iterator = None

    def _open(self, number) -> Any:
        import grain  # a second that runs in memory need not spend
        from absl import flags

        if not flags.FLAGS.is_parsed():  # of which Grain's processes ask some
            flags.FLAGS.mark_as_parsed()
        data = grain.MapDataset.source(self.batches)[number:]
        if not self.workers:
            options = grain.ReadOptions(num_threads=1, prefetch_buffer_size=self.ahead)
            return iter(data.to_iter_dataset(options))
        options = grain.ReadOptions(num_threads=0, prefetch_buffer_size=0)
        each = -(-self.ahead // self.workers)
        processes = grain.MultiprocessingOptions(self.workers, each)
        data = data.to_iter_dataset(options)
        return iter(data.mp_prefetch(processes, worker_init_fn=_settle_in))


def _settle_in(number: int, count: int) -> None:
    """Prepare a reading process: Ctrl-C is its parent's, and so is its end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()

    def follow():
        with contextlib.suppress(Exception):
            parent.join()  # pyright: ignore[reportOptionalMemberAccess]
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()


def _check_main(workers: int) -> None:
    """Refuse a script that its own reading processes would run again."""
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        raise RuntimeError(
            f"`workers` is {workers}, but each of these processes imports the script "
            "that calls `ctep.fit`: put the call under `if __name__ == '__main__':`, "
            "or pass `workers=0`."
        )
