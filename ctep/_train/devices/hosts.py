"""Several processes, each with devices of its own, that train one network."""

import json
import os
import re
import zlib
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from ..store.checkpoint import CheckpointError

# What runtimes say when a process they talk to is gone; their classes say nothing.
_GONE = re.compile(r"gloo|nccl|heartbeat|coordination|connection|unavailable", re.I)
_HEARTBEAT = 30  # seconds until a process that is silent counts as gone
# The first that fits is raised in all processes, so subclasses come first.
_ERRORS = (CheckpointError, FileNotFoundError, OSError, TypeError, ValueError)

LOST = (
    "Another process of this run is gone, and none can go on alone: start all of them "
    "again with `resume=True`."
)


def join(coordinator: str | None, process: int | None, processes: int | None) -> None:
    """Join the other processes of a run, if there are any.

    Args:
        coordinator: `HOST:PORT` where process 0 can be reached, by default the
            variable `JAX_COORDINATOR_ADDRESS`.
        process: the number of this one, by default the variable
            `JOB_COMPLETION_INDEX`, which Kubernetes sets in an indexed job.
        processes: number of all processes.

    Without any of them, the variables of Slurm decide. Those of Kubernetes do not say
    how many processes there are, or whether they belong together.

    Raises:
        ValueError: if some are given and others missing, or they do not fit.
        RuntimeError: if the others cannot be reached.
    """
    if coordinator is None and process is None and processes is None:
        if int(os.environ.get("SLURM_NTASKS") or 1) == 1:
            return
    else:
        coordinator = coordinator or os.environ.get("JAX_COORDINATOR_ADDRESS")
        index = os.environ.get("JOB_COMPLETION_INDEX")
        process = int(index) if process is None and index else process
        _check(coordinator, process, processes)
    try:
        jax.distributed.initialize(
            coordinator,
            processes,
            process,
            initialization_timeout=120,
            heartbeat_timeout_seconds=_HEARTBEAT,
            shutdown_timeout_seconds=_HEARTBEAT,
        )
    except Exception as error:
        first = str(error).splitlines()[0]
        raise RuntimeError(
            f"`coordinator` is {coordinator}, but the {processes or 'other'} processes "
            f"of this run did not meet there ({first}): start all of them within two "
            "minutes, with one address that each can reach."
        ) from error


def first() -> bool:
    """Return whether this process writes and prints."""
    return jax.process_index() == 0


def share(make: Callable[[], bytes]) -> bytes:
    """Return what `make` returns in process 0, or raise in all what it raises there."""
    if jax.process_count() == 1:
        return make()
    data, error = b"", None
    if first():
        try:
            data = make()
        except _ERRORS as caught:
            # Raised here at once, it would leave the others waiting for a broadcast.
            error = caught
            kind = next(i for i, e in enumerate(_ERRORS) if isinstance(caught, e))
            data = json.dumps([kind, str(caught)]).encode()
    # The length goes first, since all must bring a buffer of the same shape.
    size = np.array([len(data), error is not None])
    size, failed = map(int, multihost_utils.broadcast_one_to_all(size))
    buffer = np.zeros(size, np.uint8)
    if first():
        buffer[:] = np.frombuffer(data, np.uint8)
    data = np.asarray(multihost_utils.broadcast_one_to_all(buffer)).tobytes()
    if error is not None:
        raise error
    if failed:
        kind, text = json.loads(data)
        raise _ERRORS[kind](text)
    return data


def check_same(identity: dict[str, Any]) -> None:
    """Raise `ValueError` if another process was asked to train something else."""
    if jax.process_count() == 1:
        return
    text = {key: json.dumps(value) for key, value in identity.items()}
    sums = np.array([zlib.crc32(value.encode()) for value in text.values()], np.int64)
    everywhere = np.asarray(multihost_utils.process_allgather(_pad(sums)))
    for key, column in zip(text, everywhere.T, strict=False):
        if len(set(column.tolist())) > 1:
            raise ValueError(
                f"`{key}` is {text[key]:.60} in process {jax.process_index()}, but "
                "another process has something else: start all of them with the same "
                "arguments."
            )


def agree(stop: int, signal: int | None) -> tuple[int, int | None]:
    """Return process 0's `stop`, and the signal that any process was sent."""
    if jax.process_count() == 1:
        return stop, signal
    said = multihost_utils.process_allgather(np.array([stop, signal or 0]))
    said = np.asarray(said)
    return int(said[0, 0]), int(said[:, 1].max()) or None


def lost(error: Exception) -> bool:
    """Return whether an error means that another process is gone."""
    return jax.process_count() > 1 and bool(_GONE.search(str(error)))


def _pad(sums):
    """Return `sums` in one length for all processes, whatever they were asked."""
    padded = np.full(64, -1)
    padded[: len(sums)] = sums
    return padded


def _check(coordinator, process, processes):
    given = {"coordinator": coordinator, "process": process, "processes": processes}
    missing = [name for name, value in given.items() if value is None]
    if missing:
        raise ValueError(
            f"`{missing[0]}` is missing, but the processes of a run need all of "
            "`coordinator`, `process` and `processes`: pass it too."
        )
    if not re.fullmatch(r"[^\s/]+:\d{1,5}", coordinator):
        raise ValueError(
            f"`coordinator` is {coordinator!r}, but must be HOST:PORT: pass for "
            "example 10.0.0.1:1234."
        )
    if processes < 1 or not 0 <= process < processes:
        raise ValueError(
            f"`process` is {process} of {processes} `processes`, but must be from 0 to "
            "one less than their number: change one of them."
        )
