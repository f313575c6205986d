"""`ctep.restore`: what a run has kept."""

from pathlib import Path

import jax
import optax

from .._network import AbstractNetwork
from .._nudge import AbstractNudge, OutputError
from .._rule import OneSided
from .._solver import Sweeps
from .loop import Loop
from .store import checkpoint, history
from .store.checkpoint import CheckpointError


def restore(
    out: str | Path,
    network: AbstractNetwork,
    *,
    nudge: AbstractNudge | None = None,
    optimizer: optax.GradientTransformation | None = None,
    batch_size: int | None = None,
    best: bool = False,
) -> tuple[AbstractNetwork, AbstractNudge]:
    """Return the network and nudge of a run's newest valid checkpoint.

    ```python
    import ctep, jax

    def build():
        return ctep.mlp((64, 32, 10), feedback=0.1, key=jax.random.key(0))

    ctep.fit(build(), "digits", epochs=1, out="runs/digits", progress=False)
    network, nudge = ctep.restore("runs/digits", build())
    ```

    Args:
        out: folder of the run.
        network: built as it was for the run; its arrays are replaced.
        nudge: the one that was given to `fit`.
        optimizer: the one that was given to `fit`: its state is in the checkpoint.
        batch_size: that of a run with `carry_state`, whose states are there too.
        best: return those of the epoch with the best validation accuracy, or where
            nothing was held out the best test accuracy (which is biased upwards), or
            without a test set the smallest loss.

    Raises:
        ValueError: if the checkpoint is of another network or optimiser.
        CheckpointError: if no checkpoint is valid.
    """
    nudge = OutputError() if nudge is None else nudge
    # With any key: shapes count, and the checkpoint brings the numbers.
    nudge = nudge.drawn(network, jax.random.key(0))
    optimizer = optax.adam(1e-3) if optimizer is None else optimizer
    # Rule and solver leave no trace in a checkpoint, nor does the batch size unless
    # states are carried over: with any of them the template is the same.
    loop, state = Loop.start(
        network, nudge, OneSided(), Sweeps(), optimizer, batch_size or 1,
        carry_state=batch_size is not None,
    )  # fmt: skip
    where = Path(out)
    if best:
        epoch = history.best(checkpoint.read_config(where)["history"])
        if epoch is None:
            raise CheckpointError(
                f"{where} has not finished an epoch, so none is best: leave `best` out."
            )
        where = checkpoint.file_of(where, epoch)
    state, _ = checkpoint.load(where, state)
    return loop.model(state)
