"""`ctep.fit`: the one loop of training."""

from __future__ import annotations

import math
import time
import zlib
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import PRNGKeyArray

from .. import _checks as checks, data
from .._keywords import suggests_keywords
from .._network import AbstractNetwork
from .._nudge import AbstractNudge, OutputError
from .._rule import AbstractRule, OneSided, check_kinds
from .._solver import AbstractSolver, Sweeps
from ..data.split import hold_out
from . import checkpoint
from .loop import Loop, Sums, inputs
from .progress import Reporter
from .result import Result
from .run import Position, Run
from .signals import Interruption

_CHUNK_SECONDS = 1.0
# One object, since a new one would be compiled anew.
_ADAM = optax.adam(1e-3)


@suggests_keywords
def fit(
    network: AbstractNetwork,
    dataset: str | Sequence | data.Dataset,
    *,
    nudge: AbstractNudge | None = None,
    rule: AbstractRule | None = None,
    solver: AbstractSolver | None = None,
    optimizer: optax.GradientTransformation | None = None,
    epochs: int = 10,
    batch_size: int | None = None,
    key: PRNGKeyArray | None = None,
    validation: float = 0.0,
    pipeline: data.Pipeline | None = None,
    carry_state: bool = False,
    probe: int = 64,
    max_unsettled: float = 0.5,
    out: str | Path | None = None,
    resume: bool = False,
    data_dir: str | Path | None = None,
    identity: dict[str, Any] | None = None,
    progress: bool = True,
) -> Result:
    r"""Train a network on a dataset.

    Each batch: inputs, free phase from zeros, nudged phases, gradient, optax update.
    Batches are compiled into chunks of about a second, after which progress is shown
    and signals are served. The result depends on `key` and the arguments alone, not on
    the chunks, and a resumed run ends with the weights of an uninterrupted one, bit
    for bit.

    Each record of `history` holds `epoch`, `loss` and `train_accuracy` (means over
    the epoch's own batches, before each update), `test_accuracy` (for reporting only;
    None without test data), `sweeps` (mean of all phases together), `unsettled` (the
    fraction of examples with a phase that did not come to rest), `residual` (the
    worst of the free phases), `gradient_cosine` (of this rule's gradient with the
    exact one, by implicit differentiation, on a probe batch at the end of the epoch)
    and `seconds`; with `validation`, `validation_accuracy` too.

    Args:
        network: any network; its first array gives the dtype.
        dataset: "digits", the name of a TFDS image classification dataset such as
            "mnist", arrays `(x, y)` or `((x, y), (x_test, y_test))`, or a
            `ctep.data.Dataset`. Bytes are pixels and are scaled to [0, 1].
        nudge: its cost is the loss; `OutputError()` by default.
        rule: `OneSided(0.01)` by default.
        solver: for all phases; `Sweeps()` by default.
        optimizer: any optax transformation; `optax.adam(1e-3)` by default.
        epochs: of the whole run, those before a resumption included.
        batch_size: a hundredth of the training set, within 20 and 500, by default. A
            last batch that is not full is weighted by its size.
        key: for the order of the examples; `jax.random.key(0)` by default.
        validation: fraction of the training set that is held out.
        pipeline: makes inputs of examples, `ctep.data.Pipeline()` by default.
        carry_state: whether a free phase starts from the nudged state of the batch
            before it, of other examples, as published code of convolutional Hopfield
            networks does, and not from zeros.
        probe: examples in the probe batch, 0 for none.
        max_unsettled: the run stops as diverged after an epoch with a larger
            fraction of unsettled examples; 1 never stops it.
        out: folder for `run.json`, `history.jsonl` and a checkpoint per epoch.
        resume: continue the run in `out`.
        data_dir: of TFDS; the variable `TFDS_DATA_DIR` by default.
        identity: what else to keep in `run.json`, in plain JSON values.
        progress: whether to print.

    Returns:
        The trained network with its history, for rules of feed-forward networks the
        feed-forward twin. After SIGINT (Ctrl-C), SIGTERM or a
        divergence this is the state reached, with the reason.

    Raises:
        TypeError: if an argument is not of its kind.
        ValueError: if an argument is out of range, the data does not fit the
            network, or `out` holds something else.
        FileNotFoundError: if the dataset is not prepared, or there is nothing to
            resume.

    Cost: per batch, the phases of `rule`; memory does not depend on their length.
    """
    nudge = OutputError() if nudge is None else nudge
    rule = OneSided() if rule is None else rule
    solver = Sweeps() if solver is None else solver
    optimizer = _ADAM if optimizer is None else optimizer
    key = jax.random.key(0) if key is None else key
    check_kinds(network=network, nudge=nudge, rule=rule, solver=solver)
    _check_options(optimizer, key, epochs, batch_size, probe, max_unsettled)
    if resume and out is None:
        raise ValueError(
            "`resume` is True but `out` is None: pass the folder of the run as `out`."
        )
    pipeline = data.Pipeline() if pipeline is None else pipeline
    loaded = data.load(dataset, data_dir=data_dir)
    nudge = nudge.drawn(network, jax.random.fold_in(key, 2**31 - 2))
    check_fit(network, nudge, loaded, pipeline)
    splits = _splits(loaded, validation, key)
    first = jax.tree_util.tree_map(lambda leaf: leaf[:1], splits["train"])
    rule.check(network, nudge, (inputs(pipeline, first[0], network), first[1]))
    count = len(splits["train"][1])
    if batch_size is None:
        batch_size = min(500, max(20, count // 100))
    batch_size = min(batch_size, count)
    # A checksum reads all data once, which only a run with a folder needs.
    who = (
        {}
        if out is None
        else {
            "network": str(network).splitlines(),
            "nudge": str(nudge),
            "rule": str(rule),
            "solver": str(solver),
            "batch_size": batch_size,
            "validation": validation,
            "pipeline": str(pipeline),
            "carry_state": carry_state,
            "dataset": f"{loaded.name}, {count} training examples",
            "data_crc32": zlib.crc32(loaded.x_train.tobytes()),
            "key": np.asarray(jax.random.key_data(key)).tolist(),
            "versions": {p: version(p) for p in ("ctep", "jax", "equinox", "optax")},
            **(identity or {}),
        }
    )
    run = Run(None if out is None else Path(out), who, resume)
    loop, state = Loop.start(
        network,
        nudge,
        rule,
        solver,
        optimizer,
        *splits["train"],
        batch_size,
        pipeline,
        jax.random.fold_in(key, 2**31 - 3),
        carry_state,
    )
    position = run.restore(state)
    rows = jax.random.permutation(jax.random.fold_in(key, 2**31 - 1), count)[:probe]
    return _train(
        loop, position, run, splits, rows, key, epochs, max_unsettled, progress
    )


def restore(
    out: str | Path,
    network: AbstractNetwork,
    *,
    nudge: AbstractNudge | None = None,
    optimizer: optax.GradientTransformation | None = None,
    batch_size: int | None = None,
) -> tuple[AbstractNetwork, AbstractNudge]:
    """Return the network and nudge of a run's newest valid checkpoint.

    Args:
        out: folder of the run.
        network: built as it was for the run; its arrays are replaced.
        nudge: as given to `fit`.
        optimizer: as given to `fit`, whose state is part of the checkpoint.
        batch_size: of a run with `carry_state`, whose states are part of it too.

    Raises:
        ValueError: if the checkpoint is of another network or optimiser.
        CheckpointError: if no checkpoint is valid.
    """
    nudge = OutputError() if nudge is None else nudge
    nudge = nudge.drawn(network, jax.random.key(0))
    optimizer = _ADAM if optimizer is None else optimizer
    nothing = jnp.zeros(0, jnp.int32)
    loop, state = Loop.start(
        network, nudge, OneSided(), Sweeps(), optimizer, nothing, nothing,
        batch_size or 1, carry_state=batch_size is not None,
    )  # fmt: skip
    state, _ = checkpoint.load(out, state)
    return loop.model(state)


def _train(loop, position, run, splits, probe, key, epochs, max_unsettled, progress):
    """Train from `position` to the last epoch, a signal or a divergence."""
    batches, good, reason = loop.batches, position, ""
    done = position.epoch * batches + position.batch
    reporter = Reporter(epochs, batches, done, progress)
    with Interruption() as interruption, reporter:
        while position.epoch < epochs and not reason:
            position = _epoch(loop, position, key, interruption, reporter)
            if not bool(position.state.sums.finite):
                reason = _not_finite(position)
            elif position.batch < batches:
                run.save(position)
                return _result(loop, position, run, interruption.signal, "", epochs)
            else:
                record = _record(loop, position, splits, probe)
                position = Position(
                    eqx.tree_at(lambda s: s.sums, position.state, Sums.zero()),
                    position.epoch + 1,
                    0,
                    0.0,
                    [*position.history, record],
                )
                run.record(record)
                reporter.epoch(record)
                if record["unsettled"] > max_unsettled:
                    reason = _unsettled(record, max_unsettled)
                    good = Position(good.state, good.epoch, 0, 0.0, position.history)
                else:
                    good = position
                    run.save(position)
                    if interruption.signal is not None:
                        break
    return _result(loop, good, run, interruption.signal, reason, epochs)


def _epoch(loop, position, key, interruption, reporter):
    """Do the rest of an epoch, in chunks; stop early on a signal or a NaN."""
    order = loop.order(key, position.epoch)
    state, batch = position.state, position.batch
    begin, chunk = time.monotonic() - position.seconds, 1
    epoch = jnp.asarray(position.epoch)
    while batch < loop.batches and interruption.signal is None:
        stop = min(loop.batches, batch + chunk)
        start = time.monotonic()
        state = loop.train(state, order, jnp.asarray(batch), jnp.asarray(stop), epoch)
        finite = bool(state.sums.finite)  # waits for the chunk
        took = max(time.monotonic() - start, 1e-6)
        # The first chunk was mostly compilation: it says little about the next one.
        chunk = max(1, min(4 * chunk, round(chunk * _CHUNK_SECONDS / took)))
        batch = stop
        reporter.batch(position.epoch + 1, position.epoch * loop.batches + batch)
        if not finite:
            break
    seconds = time.monotonic() - begin
    return Position(state, position.epoch, batch, seconds, position.history)


def _record(loop, position, splits, probe):
    """Return the record of the epoch that `position` has just finished."""
    start, sums = time.monotonic(), position.state.sums
    count = float(sums.count)
    record = {
        "epoch": position.epoch + 1,
        "loss": float(sums.loss) / count,
        "train_accuracy": float(sums.correct) / count,
        "test_accuracy": None,
        "sweeps": float(sums.sweeps) / count,
        "unsettled": float(sums.unsettled) / count,
        "residual": float(sums.residual),
        "gradient_cosine": None,
        "seconds": 0.0,
    }
    for name in ("test", "validation"):
        if name in splits:
            record[f"{name}_accuracy"] = loop.accuracy(position.state, *splits[name])
    if len(probe):
        epoch = jnp.asarray(position.epoch)
        cosine = float(loop.cosine(position.state, probe, epoch))
        # A gradient that vanishes has no direction.
        record["gradient_cosine"] = cosine if math.isfinite(cosine) else None
    record["seconds"] = position.seconds + time.monotonic() - start
    return record


def _result(loop, position, run, signal, reason, epochs):
    network, nudge = loop.model(position.state)
    network = loop.rule.subject(network)
    status = "completed"
    if reason:
        status = "diverged"
    elif position.epoch < epochs:
        status, reason = "interrupted", _interrupted(position, loop, run)
    seconds = sum(record["seconds"] for record in position.history)
    return Result(
        network,
        nudge,
        position.history,
        status,
        reason,
        seconds + position.seconds,
        run.folder,
        signal,
    )


def _interrupted(position, loop, run):
    where = f"Stopped after epoch {position.epoch}"
    if position.batch:
        where += f" and batch {position.batch} of {loop.batches}"
    if run.folder is None:
        return f"{where}; without `out` there is nothing to resume from."
    return f"{where}; continue with `resume=True` and the same `out`."


def _not_finite(position):
    return (
        f"The loss or a weight became NaN or infinite in epoch {position.epoch + 1} "
        f"before batch {position.batch + 1}: lower the learning rate, weaken the "
        "feedback, or use an activation with a bounded range."
    )


def _unsettled(record, limit):
    return (
        f"In epoch {record['epoch']} {100 * record['unsettled']:.1f} % of the examples "
        f"did not come to rest (`max_unsettled` is {100 * limit:.0f} %): raise "
        "`max_sweeps`, weaken the feedback or lower the learning rate."
    )


def _splits(dataset, validation, key):
    """Return device arrays `(x, y)` of the splits that exist."""
    splits = {"train": (dataset.x_train, dataset.y_train)}
    if validation:
        train, held = hold_out(dataset, validation, key)
        splits["train"] = (dataset.x_train[train], dataset.y_train[train])
        splits["validation"] = (dataset.x_train[held], dataset.y_train[held])
    if dataset.x_test is not None:
        splits["test"] = (dataset.x_test, dataset.y_test)
    return {n: (jnp.asarray(x), jnp.asarray(y)) for n, (x, y) in splits.items()}


def check_fit(network, nudge, dataset, pipeline):
    """Raise `ValueError` if the dataset does not fit the network."""
    example = "ctep.data.Pipeline(crop=4)"
    checks.instance("pipeline", pipeline, data.Pipeline, "a pipeline", example)
    pipeline.check(dataset.shape)
    shape = pipeline.shape(dataset.shape)
    image = len(shape) == len(network.input_shape) == 3
    wrong = math.prod(shape) != math.prod(network.input_shape)
    if wrong or (image and shape != network.input_shape):
        raise ValueError(
            f"`dataset` {dataset.name!r} has inputs of shape {shape}, "
            f"{math.prod(shape)} numbers, but this network takes "
            f"{network.input_shape}: build it for {math.prod(shape)} inputs, "
            f"`input_shape={shape}`, or pad images by `pipeline=`."
        )
    outputs = network.output_shape
    if len(outputs) != 1 or outputs[0] < dataset.classes:
        raise ValueError(
            f"`dataset` {dataset.name!r} has {dataset.classes} classes, but this "
            f"network has outputs of shape {outputs}: build it with "
            f"{dataset.classes} outputs."
        )
    nudge.check(network, jnp.asarray(dataset.y_train[:1]))


def _check_options(optimizer, key, epochs, batch_size, probe, max_unsettled):
    if not isinstance(optimizer, optax.GradientTransformation):
        raise TypeError(
            f"`optimizer` is {optimizer!r}, but must be an optax transformation: pass "
            "for example `optax.adam(1e-3)`."
        )
    typed = isinstance(key, jax.Array) and jnp.issubdtype(
        key.dtype, jax.dtypes.prng_key
    )
    if not typed or key.shape:
        raise TypeError(
            f"`key` is {key!r}, but must be one random key: pass `jax.random.key(0)`."
        )
    whole = {"epochs": (epochs, 1), "probe": (probe, 0)}
    if batch_size is not None:
        whole["batch_size"] = (batch_size, 1)
    for name, (value, least) in whole.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ValueError(
                f"`{name}` is {value!r}, but must be an integer of at least {least}: "
                "change it."
            )
    if not 0 <= max_unsettled <= 1:
        raise ValueError(
            f"`max_unsettled` is {max_unsettled}, but a fraction lies in 0 to 1: pass "
            "for example 0.5."
        )
