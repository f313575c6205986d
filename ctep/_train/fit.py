"""`ctep.fit`: what a run needs is checked and put together."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import PRNGKeyArray

from .. import _checks as checks, data
from .._concrete import concrete
from .._custom_types import Number
from .._network import AbstractNetwork
from .._nudge import AbstractNudge, OutputError
from .._rule import AbstractRule, OneSided, check_kinds
from .._sharding import without_mesh
from .._solver import AbstractSolver, Sweeps
from .._weights import resolve
from ..data.selection import hold_out
from .devices.feed import feeds
from .devices.placement import Placement
from .evaluate import check_fit
from .loop import Loop, divided
from .programs import Optimizer
from .result import Result
from .score import as_inputs
from .signals import pass_on
from .store.fingerprint import weights
from .store.identity import described
from .store.run import Run
from .train import Job, train
from .trained import trained
from .watch import Watch


@concrete
@without_mesh
def fit(
    network: AbstractNetwork,
    dataset: str | Sequence | data.Dataset,
    *,
    nudge: AbstractNudge | None = None,
    rule: AbstractRule | None = None,
    solver: AbstractSolver | None = None,
    optimizer: optax.GradientTransformation | None = None,
    epochs: Number = 10,
    batch_size: Number | None = None,
    key: PRNGKeyArray | None = None,
    validation: Number = 0.0,
    pipeline: data.Pipeline | None = None,
    carry_state: bool = False,
    average: Number | None = None,
    probe: Number = 64,
    watch: Watch = Watch(),
    workers: Number | None = None,
    mesh: jax.sharding.Mesh | None = None,
    shard_parameters: bool = False,
    out: str | Path | None = None,
    resume: bool = False,
    keep: Number = 2,
    callback: Callable[[dict, AbstractNetwork], Any] | None = None,
    catch_signals: bool = False,
    data_dir: str | Path | None = None,
    identity: dict[str, Any] | None = None,
    progress: bool | str = True,
) -> Result:
    r"""Train a network on a dataset.

    Each batch: inputs, free phase from zeros, nudged phases, gradient, optax update.
    Batches are compiled into chunks of about a second, after which progress is shown
    and signals are served. The result depends on `key` and the arguments alone, not on
    the chunks or the way the data are read, and on the number of devices and processes
    by rounding alone. A resumed run ends with the weights of an uninterrupted one, bit
    for bit.

    Each record of `history` holds `epoch`, `loss` and `train_accuracy` (means over
    the epoch's own batches, before each update; the loss of those that took part, None
    if none did), `test_accuracy` (for reporting only; None without test data), `sweeps`
    (mean of all phases together), `unsettled` (the fraction of examples with a phase
    that did not come to rest, which took no part in an update), `residual` (the worst
    of the free phases), `gradient_cosine` (of this rule's gradient with the exact one,
    by implicit differentiation, on a probe batch at the end of the epoch, or None),
    `seconds`, `as_published` (the fraction that took part short of rest, see
    `ctep.FixedSweeps`) and `gradient_cosine_missing` (why there is no cosine); with
    `validation`, `validation_accuracy` too; and `faults`, see `ctep.Watch`. The record
    of an epoch in which the loss was not finite, the last one, holds its fault alone.
    What is trained is said at the start: the arrays of the library's own parts, and
    those that a user's energy, nudge or loss declares by `ctep.parameter`.

    ```python
    import ctep, jax

    network = ctep.mlp((64, 32, 32, 10), feedback=0.1, key=jax.random.key(0))
    result = ctep.fit(network, "digits", epochs=2, out="runs/digits")
    print(result)  # a table, and what came to rest
    network, record = result.network, result.history[-1]
    ```

    Args:
        network: any network; its first array gives the dtype.
        dataset: "digits", the name of a TFDS image classification dataset such as
            "mnist", arrays `(x, y)` or `((x, y), (x_test, y_test))`, or what
            `ctep.data.load` returns. Bytes are pixels and are scaled to [0, 1].
        nudge: its cost is the loss; `OutputError()` by default.
        rule: makes the gradient; `OneSided(0.01)` by default.
        solver: finds the rests of all phases; `Sweeps()` by default.
        optimizer: any optax transformation; `optax.adam(1e-3)` by default. Those that
            ask for more get the batch's loss as `value`, the gradient as `grad`, and
            the loss as a function of the parameters, by a free phase, as `value_fn`.
            Parameters are the pair of network and nudge: a mask of the network's
            structure is passed as `(mask, True)`.
        epochs: number of epochs of the whole run, those before a resumption included.
        batch_size: a hundredth of the training set, within 20 and 500, by default. A
            last batch that is not full is weighted by its size.
        key: decides the order of the examples; `jax.random.key(0)` by default.
        validation: fraction of the training set that is held out.
        pipeline: makes inputs of examples, `ctep.data.Pipeline()` by default.
        carry_state: whether a free phase starts from the nudged state of the batch
            before it, of other examples, as published code of convolutional Hopfield
            networks does, and not from zeros.
        average: what an average of all that is trained keeps of itself in each step,
            0.999 say; none by default. Test and validation scores are those of the
            average, and it is what is returned, handed to `callback` and restored.
            Training goes on with the weights themselves, of which `loss`,
            `train_accuracy` and the probe speak; a checkpoint holds both.
        probe: examples in the probe batch, 0 for none.
        watch: what counts as a fault, and which faults end the run as diverged.
        workers: number of processes that read and decode ahead (by Grain) while the
            devices hold a few batches alone; 0 is a thread of this process, which
            arrays always are read by. By default the data lie on the devices, or are
            streamed from memory where they would take more than half of a device.
        mesh: the devices that share each batch; all devices by default, those of
            all processes after `jax.distributed.initialize`.
        shard_parameters: divide each weight among the devices, along its widest axis
            that they divide evenly, and do not copy it to all of them.
        out: folder for `run.json`, `history.jsonl` and a checkpoint per epoch. Of
            several processes the first one alone uses it.
        resume: continue the run in `out`, on any number of devices or processes. All
            that decides the weights must be as it was, schedules included; `epochs`,
            `probe`, `watch`, `keep` and how data are read and devices used may change.
            It goes on with its own weights: a warning says so if those of `network`
            are neither these nor the ones that it began with.
        keep: newest checkpoints to keep, besides the best one (see `ctep.restore`).
        callback: a function that is called after each epoch, and its checkpoint, with
            its record and the network; if it returns `True` the run is complete.
        catch_signals: return what is reached on SIGINT (Ctrl-C) or SIGTERM, and do not
            pass the signal on.
        data_dir: where TFDS keeps its data; the variable `TFDS_DATA_DIR` by default.
        identity: what else to keep in `run.json`, in plain JSON values.
        progress: whether to print a bar or a line per epoch; a text is printed first,
            once nothing is wrong with the arguments.

    Returns:
        The trained network with its history, for rules of feed-forward networks the
        feed-forward twin. After data that can no longer be read or the loss of another
        process this is the state reached; after a divergence the state after the last
        good epoch; with the reason.

    Raises:
        TypeError: if an argument is not of its kind.
        ValueError: if an argument is out of range, the data does not fit the
            network, or `out` holds something else.
        FileNotFoundError: if the dataset is not prepared, or there is nothing to
            resume.
        KeyboardInterrupt: on Ctrl-C, once the batches on the way are done and saved;
            its `result` is what is reached. On SIGTERM it is `SystemExit(143)`.
        RuntimeError: if `workers` would import a script that calls `fit` unguarded, or
            if another process is lost while `shard_parameters`.

    Cost: per batch, the phases of `rule`; memory does not depend on their length.
    """
    nudge = OutputError() if nudge is None else nudge
    rule = OneSided() if rule is None else rule
    solver = Sweeps() if solver is None else solver
    optimizer = optax.adam(1e-3) if optimizer is None else optimizer
    key = jax.random.key(0) if key is None else checks.key(key)
    check_kinds(network=network, nudge=nudge, rule=rule, solver=solver)
    _check_kinds(watch, optimizer, identity)
    epochs = checks.count("epochs", epochs, "10")
    probe = checks.count("probe", probe, "64", least=0)
    keep = checks.count("keep", keep, "2")
    if batch_size is not None:
        batch_size = checks.count("batch_size", batch_size, "50")
    if workers is not None:
        workers = checks.count("workers", workers, "4", least=0)
    flags = {"carry_state": carry_state, "shard_parameters": shard_parameters}
    flags |= {"catch_signals": catch_signals}
    if not isinstance(progress, str):
        checks.flag("progress", progress)
    _check_flags(out, **flags, resume=resume)
    validation = checks.real("validation", validation, "0.1")
    if average is not None:
        average = _check_average(average)
    _check_ends(watch, validation, callback)
    pipeline = data.Pipeline() if pipeline is None else pipeline
    place = _place(mesh, shard_parameters)
    loaded = data.load(dataset, data_dir=data_dir)
    # A run is known by the nudge as given: what is drawn comes with its checkpoints.
    # The number is that of this draw alone: one more elsewhere changes nothing here.
    given, nudge = nudge, nudge.drawn(network, jax.random.fold_in(key, 2**31 - 2))
    splits = _splits(loaded, validation, key, batch_size, workers, place)
    order = splits["train"].order
    count, batch_size = order.examples, order.batch_size
    # One example shows whether all fit, before anything is compiled.
    x, y = map(jnp.asarray, splits["train"].sample(np.arange(1)))
    check_fit(network, nudge, loaded, pipeline, y)
    rule.check(resolve(network), nudge, (as_inputs(pipeline, x, network), y))
    _check_step(optimizer, network, nudge)
    told, exact = trained(network, nudge, rule), rule.exact(network, nudge)
    parts = {"nudge": given, "rule": rule, "solver": solver, "pipeline": pipeline}
    settings = {"epochs": epochs, "batch_size": batch_size, "validation": validation}
    settings |= {"carry_state": carry_state, **_told(loaded, count, key, out)}
    if average is not None:
        settings["average"] = average
        told += f" Scored and returned: their average, which keeps {average:g} a step."
    # For the folder alone, like the checksum: they are read as a whole.
    settings["initial_weights"] = {} if out is None else weights(network)
    identity = described(network, parts, optimizer, settings, identity or {})
    run = Run(
        None if out is None else Path(out).expanduser(), identity, resume, keep, place
    )
    try:
        own = jax.random.fold_in(key, 2**31 - 3)
        options = {"pipeline": pipeline, "key": own, "carry_state": carry_state}
        options |= {"classes": loaded.classes is not None, "decay": average}
        moving = network, nudge, rule, solver, optimizer
        loop, state = Loop.start(*moving, batch_size, place=place, **options)
        # The same examples after every epoch, so that their cosines can be compared.
        rows = jax.random.permutation(jax.random.fold_in(key, 2**31 - 1), count)[:probe]
        position = run.restore(state)
        chosen = splits["train"].sample(np.asarray(rows))
        job = Job(loop, run, splits, chosen, epochs, watch, exact, told, callback)
        result = train(job, position, progress)
    finally:
        run.close()
        for feed in splits.values():
            feed.close()
    if result.signal is not None and not catch_signals:
        pass_on(result.signal, result)
    return result


def _place(mesh, shard_parameters):
    if mesh is None:
        mesh = Placement.default().mesh
    checks.instance(
        "mesh", mesh, jax.sharding.Mesh, "a mesh", "jax.make_mesh((8,), ('batch',))"
    )
    return Placement(mesh, shard_parameters)


def _splits(loaded, validation, key, batch_size, workers, place):
    held_out = hold_out(loaded.examples, validation, key) if validation else None
    count = loaded.examples if held_out is None else len(held_out[0])
    size = min(500, max(20, count // 100)) if batch_size is None else batch_size
    return feeds(loaded, held_out, key, min(size, count), workers, place)


def _told(loaded, count, key, out):
    """Return what `run.json` says of the data and their order."""
    return {
        "dataset": f"{loaded.name}, {count} training examples",
        # A checksum reads all data once, which only a run with a folder needs.
        "data_digest": "" if out is None else loaded.digest,
        "key": np.asarray(jax.random.key_data(key)).tolist(),
    }


def _check_ends(watch, validation, callback):
    if watch.patience is not None and not validation:
        raise ValueError(
            f"`watch` has a patience of {watch.patience} epochs, but there is no "
            "validation to wait for: pass `validation=0.1`."
        )
    if callback is not None:
        checks.function("callback", callback, "lambda record, network: None")


def _check_average(average):
    average = checks.real("average", average, "0.999")
    if not 0 < average < 1:
        raise ValueError(
            f"`average` is {average}, but an average keeps between 0 and 1 of itself "
            "in a step: pass for example 0.999, or None for no average."
        )
    return float(average)


def _check_flags(out, *, resume, **flags):
    for name, value in (flags | {"resume": resume}).items():
        checks.flag(name, value)
    if resume and out is None:
        raise ValueError(
            "`resume` is True but `out` is None: pass the folder of the run as `out`."
        )


def _step(optimizer, parameters):
    def total(parameters):
        return sum(jnp.sum(leaf) for leaf in jax.tree_util.tree_leaves(parameters))

    more = {"value": total(parameters), "grad": parameters, "value_fn": total}
    state = optimizer.init(parameters)
    return optimizer.update(parameters, state, parameters, **more)


def _check_step(optimizer, network, nudge):
    """Raise `ValueError` if the optimiser cannot take a step, by tracing one."""
    if jnp.finfo(network.dtype).bits < 32:
        raise ValueError(
            f"`network` is {network.dtype}, in which a step of training is rounded "
            "away: keep its arrays in float32 and round products alone, by "
            "`ctep.with_precision(network, 'bfloat16')`."
        )
    try:
        # Never one that JAX has cached: a schedule of optax turns numbers of its own
        # into floats where it is used, and equal programs are equal after that.
        step = functools.partial(_step, Optimizer(optimizer))
        jax.eval_shape(step, divided(network, nudge)[0])
    except (TypeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"`optimizer` cannot take a step ({reason:.200}): it gets `value`, `grad` "
            "and `value_fn`, and parameters that are the pair of network and nudge, so "
            "that a mask of the network's structure is passed as `(mask, True)`."
        ) from error


def _check_kinds(watch, optimizer, identity):
    checks.instance("watch", watch, Watch, "a watch", "ctep.Watch()")
    kind, noun = optax.GradientTransformation, "an optax transformation"
    checks.instance("optimizer", optimizer, kind, noun, "optax.adam(1e-3)")
    kinds, example = (dict, type(None)), '{"who": "me"}'
    checks.instance("identity", identity, kinds, "a dictionary or None", example)
