"""`ctep.restore`: what a run has kept."""

from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import optax
from jaxtyping import PyTree

from .. import _checks as checks
from .._network import AbstractNetwork
from .._nudge import AbstractNudge, OutputError
from .._rule import OneSided, check_kinds
from .._solver import Sweeps
from .average import Average
from .loop import Loop, divided
from .store import checkpoint, folder, history
from .store.checkpoint import CheckpointError
from .store.folder import matches
from .store.identity import VERSION
from .store.rebuild import rebuilt


def restore(
    out: str | Path,
    network: AbstractNetwork | None = None,
    *,
    nudge: AbstractNudge | None = None,
    optimizer: optax.GradientTransformation | None = None,
    batch_size: int | None = None,
    best: bool = False,
    average: bool = True,
) -> tuple[AbstractNetwork, AbstractNudge]:
    """Return the network and nudge of a run's newest valid checkpoint.

    Those of the library's own classes are built from what `run.json` says of them; no
    code is loaded, and nothing else is needed:

    ```python
    import ctep, jax

    network = ctep.mlp((64, 32, 32, 10), feedback=0.1, key=jax.random.key(0))
    ctep.fit(network, "digits", epochs=1, out="runs/digits", progress=False)
    network, nudge = ctep.restore("runs/digits")
    ```

    Where a class, an activation, a loss or a schedule of one's own is part of the
    network, it is passed as it was built for the run.

    Args:
        out: folder of the run.
        network: built as it was for the run, its arrays are replaced; by default what
            `run.json` describes.
        nudge: the one that was given to `fit`. By default that of `run.json`, beside a
            `network` of yours `OutputError()`.
        optimizer: the one that was given to `fit`, needed beside a `network` of yours,
            with which the whole checkpoint is read.
        batch_size: likewise that of a run with `carry_state`.
        best: return those of the epoch with the best validation accuracy, or where
            nothing was held out the best test accuracy (which is biased upwards), or
            without a test set the smallest loss.
        average: return the average of the weights, where the run kept one (see
            `ctep.fit`), and not those that training goes on with.

    Raises:
        FileNotFoundError: if there is no run to build a network from.
        ValueError: if the checkpoint is of another network or optimiser; or if
            `network` or `nudge` is left out and is not of the library's own classes.
        CheckpointError: if no checkpoint is valid.
    """
    checks.flag("average", average)
    out = where = Path(out).expanduser()
    if best:
        epoch = history.best(checkpoint.read_config(where)["history"])
        if epoch is None:
            raise CheckpointError(
                f"{where} has not finished an epoch, so none is best: leave `best` out."
            )
        where = checkpoint.file_of(where, epoch)
    if network is None:
        return _model(out, where, nudge, average)
    nudge = OutputError() if nudge is None else nudge
    check_kinds(network=network, nudge=nudge)
    # With any key: shapes count, and the checkpoint brings the numbers.
    nudge = nudge.drawn(network, jax.random.key(0))
    optimizer = optax.adam(1e-3) if optimizer is None else optimizer
    # Rule and solver leave no trace in a checkpoint, nor does the batch size unless
    # states are carried over: with any of them the template is the same.
    content = checkpoint.read(where)
    has_average = checkpoint.holds(content, ".average")
    loop, state = Loop.start(
        network, nudge, OneSided(), Sweeps(), optimizer, batch_size or 1,
        carry_state=batch_size is not None, decay=0.5 if has_average else None,
    )  # fmt: skip
    state, _ = checkpoint.unpack(content, state, where)
    return loop.returned(state) if average else loop.model(state)


class _Arrays(eqx.Module):
    """The arrays of a network and a nudge, by their names in a checkpoint."""

    trained: PyTree
    fixed: PyTree
    average: Average | None


def part(out: Path, name: str) -> Any:
    """Return the rule, the solver or the pipeline of a run; see `restore`."""
    path = out / "run.json"
    return rebuilt(described(folder.read(out, "out"), path)[name], name, path)


def described(kept: dict[str, Any], path: Path) -> dict[str, Any]:
    """Return what `run.json` says of the parts of a run, or raise `ValueError`."""
    content = kept.get("content", {})
    names = "version", "network", "nudge", "rule", "solver", "pipeline"
    if not matches(content, dict.fromkeys(names, object)):
        content = {}
    if content.get("version") != VERSION:
        raise ValueError(
            f"{path} does not describe the network as this version does: build it as "
            "for the run, and pass it to `ctep.restore` as `network`."
        )
    return content


def _model(out, where, nudge, average):
    path = out / "run.json"
    content, read = described(folder.read(out, "out"), path), checkpoint.read(where)
    has_average = checkpoint.holds(read, ".average")

    def build():
        # Traced, so that no array is made, of whatever size, before it is compared.
        network = rebuilt(content["network"], "network", path, arrays=True)
        own = rebuilt(content["nudge"], "nudge", path, True) if nudge is None else nudge
        drawn = own.drawn(network, jax.random.key(0))
        trained, fixed, static = divided(network, drawn)
        mean = Average.zero(trained) if has_average else None
        return _Arrays(trained, fixed, mean), static

    arrays, static = eqx.filter_eval_shape(build)
    first = ".trained", ".fixed", ".average"
    try:
        arrays, _ = checkpoint.unpack(read, arrays, where, first)
    except ValueError as error:
        raise ValueError(f"{path} is not of the run beside it: {error}") from error
    kept = arrays.average if average else None
    trained = arrays.trained if kept is None else kept.weights
    return eqx.combine(trained, arrays.fixed, static)
