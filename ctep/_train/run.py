"""The run: how far it has come, and what is kept of it in its folder."""

import warnings

import equinox as eqx

from . import checkpoint, history as log
from .folder import claim
from .loop import TrainState


class Position(eqx.Module):
    """How far a run has come: finished epochs, and batches of the next one."""

    state: TrainState
    epoch: int
    batch: int
    seconds: float
    history: list[dict]


class Run:
    """The folder of a run, if it has one: what is restored from it and saved to it."""

    def __init__(self, folder, identity, resume):
        self.folder, self.resume = folder, resume
        if folder is not None:
            claim(folder, identity, resume=resume)

    def restore(self, state):
        if not self.resume:
            return Position(state, 0, 0, 0.0, [])
        if not checkpoint.checkpoints(self.folder):
            # Killed between its first record and its first checkpoint.
            log.rewrite(self.folder, [])
            return Position(state, 0, 0, 0.0, [])
        state, config = checkpoint.load(self.folder, state)
        log.rewrite(self.folder, config["history"])
        return Position(
            state,
            config["epoch"],
            config["batch"],
            config["seconds"],
            config["history"],
        )

    def save(self, position):
        """Write a checkpoint; a disk that refuses must not cost the training."""
        if self.folder is None:
            return
        config = {
            "epoch": position.epoch,
            "batch": position.batch,
            "seconds": position.seconds,
            "history": position.history,
        }
        try:
            number = position.epoch + (position.batch > 0)
            checkpoint.save(self.folder, position.state, config, epoch=number)
        except OSError as error:
            warnings.warn(str(error), stacklevel=2)

    def record(self, record):
        if self.folder is None:
            return
        try:
            log.append(self.folder, record)
        except OSError as error:
            warnings.warn(str(error), stacklevel=2)
