"""Data that are read from disk while they are trained on, through Grain."""

import contextlib
import functools
import multiprocessing.spawn
import os
import signal
import threading
from collections.abc import Callable
from typing import Any

import numpy as np

from .records import AbstractRecords, Batch
from .selection import BatchOrder

_FOREVER = 1 << 62  # batches of all epochs, which are not counted here


def read_batch(
    records: AbstractRecords,
    index: np.ndarray | None,
    order: BatchOrder,
    columns: slice,
    number: int,
) -> Batch:
    """Return one batch; zeros stand where it has no example.

    Args:
        records: the examples and how to read them.
        index: numbers of the records that make up the split; all if `None`.
        order: which examples each batch of an epoch holds.
        columns: the part of the batch that is read.
        number: the number of the batch, counted through all epochs.
    """
    epoch, batch = divmod(number, order.batches)
    rows = _rows(order, epoch)[batch, columns]
    present = rows >= 0
    x = np.zeros((len(rows), *records.shape), records.dtype)
    y = np.zeros(len(rows), records.target)
    if present.any():
        wanted = rows[present]
        wanted = wanted if index is None else index[wanted]
        x[present], targets = records.read(wanted)
        # Put into int32 as it is, 2**32 would be the class 0 without a word.
        low, high = targets.min(), targets.max()
        if not records.target.shape and (low < 0 or high > np.iinfo(np.int32).max):
            raise ValueError(
                f"`dataset` has the labels {low} to {high} in one batch, but classes "
                "are numbered from 0: leave out what has none."
            )
        y[present] = targets
    return x, y


@functools.lru_cache(maxsize=4)
def _rows(order, epoch):
    """Return the batches of an epoch, which are not permuted anew for each of them."""
    return order(epoch)


def read_ahead(
    read: Callable[[int], Batch], start: int, workers: int, ahead: int
) -> Any:
    """Return an iterator over `read(start)`, `read(start + 1)` and so on.

    To `close` it ends the reading thread and processes.

    Args:
        read: returns a batch by its number; pickled to the processes.
        start: the number of the first batch.
        workers: processes that read and decode, 0 for a thread of this one.
        ahead: number of batches to have ready.
    """
    import grain  # a second that runs in memory need not spend
    from absl import flags

    if not flags.FLAGS.is_parsed():  # of which Grain's processes ask some
        flags.FLAGS.mark_as_parsed()
    data = grain.MapDataset.range(start, _FOREVER).map(read)
    if not workers:
        options = grain.ReadOptions(num_threads=1, prefetch_buffer_size=ahead)
        return iter(data.to_iter_dataset(options))
    options = grain.ReadOptions(num_threads=0, prefetch_buffer_size=0)
    # Grain has a buffer for each process, among which `ahead` is divided.
    processes = grain.MultiprocessingOptions(workers, -(-ahead // workers))
    data = data.to_iter_dataset(options)
    return iter(data.mp_prefetch(processes, worker_init_fn=_settle_in))


def check_main(workers: int) -> None:
    """Refuse a script that its own reading processes cannot import, or would run again.

    Cost: once in a process, the import of the script by another one.
    """
    # So Python marks a spawned process while it imports the script of its parent.
    again = getattr(multiprocessing.current_process(), "_inheriting", False)
    if workers and (again or not _is_importable()):
        raise RuntimeError(
            f"`workers` is {workers}, but each of these processes imports the script "
            "that calls `ctep.fit`, and cannot: put the call under "
            "`if __name__ == '__main__':` in a file, or pass `workers=0`."
        )


@functools.cache
def _is_importable() -> bool:
    """Return whether a spawned process gets as far as its task, here a trivial one."""
    process = multiprocessing.get_context("spawn").Process(target=os.getpid)
    process.start()
    process.join()
    return process.exitcode == 0


def _settle_in(number: int, count: int) -> None:
    """Prepare a reading process: Ctrl-C is its parent's, and so is its end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()

    # A parent that is killed closes nothing: its processes would be left behind.
    def follow():
        with contextlib.suppress(Exception):
            parent.join()  # pyright: ignore[reportOptionalMemberAccess]
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()
