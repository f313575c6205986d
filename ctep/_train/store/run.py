"""The run: how far it has come, and what is kept of it in its folder."""

from pathlib import Path
from typing import Any

import equinox as eqx

from ..._warning import warn
from ..devices import hosts
from ..devices.placement import Placement
from ..loop import TrainState
from . import checkpoint, history as log
from .fingerprint import redrawn, weights
from .folder import claim, compared, extend, matches, read
from .history import best


class Position(eqx.Module):
    """How far a run has come: finished epochs, and batches of the next one."""

    state: TrainState
    epoch: int
    batch: int
    seconds: float
    history: list[dict]


class Run:
    """The folder of a run, if it has one. Only the first process touches it.

    Args:
        folder: where the run is kept; `None` if it is not.
        identity: what is trained, by name, in plain JSON values, and its `epochs`.
        resume: whether the run is expected to be there.
        keep: newest checkpoints to leave, besides the best.
        place: where states lie on the devices.
    """

    def __init__(
        self,
        folder: Path | None,
        identity: dict,
        resume: bool,
        keep: int,
        place: Placement,
    ):
        self.folder, self.resume = folder, resume
        self._keep, self._place, self._lock = keep, place, None
        self._epochs = identity["epochs"]
        # Before the folder is claimed: processes that differ leave nothing there.
        hosts.check_same(compared(identity))
        if folder is not None:
            # Shared, so that what the first process finds there ends all of them.
            hosts.share(lambda: self._claim(folder, identity))

    def _claim(self, folder: Path, identity: dict) -> bytes:
        self._lock = claim(folder, identity, resume=self.resume)
        return b""

    def close(self) -> None:
        """Let other runs write to the folder."""
        if self._lock is not None:
            self._lock.release()

    def restore(self, state: TrainState) -> Position:
        """Return where to begin, from the state of a new run."""
        config = {"epoch": 0, "batch": 0, "seconds": 0.0, "history": []}
        if (folder := self.folder) is not None and self.resume:
            content = hosts.share(lambda: _newest(folder))
            # None if the run was killed between its first record and checkpoint.
            if content:
                given = state
                state, config = checkpoint.unpack(content, state, folder)
                if hosts.first():
                    _compare_weights(folder, given, state)
                if not _is_position(config):
                    raise checkpoint.CheckpointError(
                        f"The newest checkpoint in {folder} does not say how far its "
                        "run has come: restore a copy or train anew."
                    )
            hosts.share(lambda: log.rewrite(folder, config["history"]) or b"")
            if hosts.first():
                # Here, where nothing refuses the run any more.
                extend(folder, self._epochs)
        return Position(self._place.put(state), **config)

    def save(self, position: Position) -> None:
        """Write a checkpoint; a disk that refuses must not cost the training."""
        if self.folder is None:
            return
        try:
            # In every process, though one writes: each may have parts of the weights.
            state = self._place.whole(position.state)
        except Exception as error:
            if not hosts.lost(error):
                raise
            return  # parts of it are gone with a process
        if not hosts.first():
            return
        config = {
            "epoch": position.epoch,
            "batch": position.batch,
            "seconds": position.seconds,
            "history": position.history,
        }
        # An unfinished epoch has the name of its end: that of the last one is left.
        number = position.epoch + (position.batch > 0)
        kept = {"keep": self._keep, "best": best(position.history)}
        try:
            checkpoint.save(self.folder, state, config, epoch=number, **kept)
        except OSError as error:
            warn(str(error))

    def record(self, record: dict) -> None:
        """Add an epoch to the history."""
        if self.folder is None or not hosts.first():
            return
        try:
            log.append(self.folder, record)
        except OSError as error:
            warn(str(error))


def _compare_weights(folder: Path, given: TrainState, kept: TrainState) -> None:
    """Warn if a network is neither the one that a run began with nor what it became."""
    began: Any = read(folder, "out").get("initial_weights")
    known = weights(next(_networks(given)))
    # Earlier runs say nothing of them.
    one = dict.fromkeys(("rms", "projection"), (int, float))
    if not matches(began, dict.fromkeys(known, one)):
        return
    if all(redrawn(was, known) for was in (began, *map(weights, _networks(kept)))):
        warn(
            f"`network` has other weights than the run in `out` ({folder}) began with: "
            "the run goes on with its own; name another `out` for a new run.",
        )


def _networks(state):
    """Yield the arrays of a state's network, and those of its average."""
    yield eqx.combine(state.trained, state.fixed)[0]
    if state.average is not None:
        yield eqx.combine(state.average.weights, state.fixed)[0]


def _newest(folder: Path) -> bytes:
    return checkpoint.read(folder) if checkpoint.checkpoints(folder) else b""


def _is_position(config: dict) -> bool:
    """Return whether a checkpoint's `config` is what `Run.save` writes."""
    needed = {"epoch": int, "batch": int, "seconds": (int, float), "history": [{}]}
    counts = [config.get(name) for name in ("epoch", "batch")]
    return (
        set(config) == set(needed)
        and matches(config, needed)
        # A truth value is a whole number to Python.
        and all(type(n) is int and n >= 0 for n in counts)
    )
