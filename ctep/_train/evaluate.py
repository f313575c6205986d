"""A network in use: its rest, its outputs, and how well they fit a dataset."""

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float

from .. import _checks as checks, data
from .._concrete import concrete, lenient
from .._network import AbstractNetwork
from .._nudge import AbstractNudge, OutputError
from .._rule import check_inputs, check_kinds
from .._sharding import by_example, compiler_divides, without_mesh
from .._solver import (
    AbstractSolver,
    Equilibrium,
    Sweeps,
    differentiable,
    explain,
)
from .._weights.resolution import effective
from .devices.feed import feeds
from .devices.placement import Placement
from .score import Score, as_inputs, score

_TOGETHER = 500  # examples that `predict` settles at once


@lenient
@effective
@compiler_divides(by_example)
def settle(
    network: AbstractNetwork,
    x: ArrayLike,
    *,
    solver: AbstractSolver | None = None,
    throw: bool = True,
) -> Equilibrium:
    r"""Return the free equilibrium $s = T(s, x)$ of each example.

    ```python
    import ctep, jax

    network = ctep.mlp((4, 8, 3), key=jax.random.key(0))
    rest = ctep.settle(network, jax.numpy.ones((2, 4)))
    print(rest.settled, network.output(rest.state).shape)  # [True True] (2, 3)
    ```

    Args:
        network: the network to bring to rest.
        x: inputs, `(batch, *input_shape)`, converted to the network's dtype.
        solver: finds the rest, from zeros; `Sweeps()` by default.
        throw: whether to raise if any example has not settled.

    Returns:
        The states, `(batch, *shape)` for each block, with the evidence: `settled`,
        `residual`, `steps` and `result` of each example. The states may be
        differentiated by JAX, by the network and the inputs: implicitly, with one more
        linear solve.

    Raises:
        TypeError: if an argument is not of its kind.
        ValueError: if `x` does not fit the network.
        RuntimeError: if `throw` and an example has not settled.

    Cost: one phase. Compiled once for each network and shape of batch.
    """
    solver = Sweeps() if solver is None else solver
    check_kinds(network=network, solver=solver)
    checks.flag("throw", throw)
    x = checks.array("x", x)
    check_inputs(network, x)
    return _settled(network, x.astype(network.dtype), solver, throw)


@lenient
@effective
@compiler_divides(by_example)
def predict(
    network: AbstractNetwork,
    x: ArrayLike,
    *,
    solver: AbstractSolver | None = None,
    pipeline: data.Pipeline | None = None,
    throw: bool = True,
) -> Float[Array, "batch outputs"]:
    """Return the outputs of a network at rest: for classes, their logits.

    ```python
    import ctep, jax

    digits = ctep.data.load("digits")
    network = ctep.mlp((64, 32, 10), key=jax.random.key(0))
    network = ctep.fit(network, digits, epochs=1, progress=False).network
    classes = ctep.predict(network, digits.x_test).argmax(-1)
    ```

    Args:
        network: the network, for example that of a run's result.
        x: examples as `ctep.fit` takes them, any number of them: of the network's
            input shape, or as many numbers in another one; bytes are pixels.
        solver: finds the rest, from zeros; `Sweeps()` by default.
        pipeline: makes inputs of examples, as in training; `ctep.data.Pipeline()` by
            default.
        throw: whether to raise if any example has not settled; else its output is that
            of the state reached.

    Raises:
        TypeError: if an argument is not of its kind.
        ValueError: if `x` does not fit the network.
        RuntimeError: if `throw` and an example has not settled.

    Cost: one phase for every 500 examples, in turn. May be differentiated, see
    `settle`.
    """
    solver = Sweeps() if solver is None else solver
    pipeline = data.Pipeline() if pipeline is None else pipeline
    check_kinds(network=network, solver=solver)
    checks.instance("pipeline", pipeline, data.Pipeline, "a pipeline", "Pipeline()")
    checks.flag("throw", throw)
    x = checks.array("x", x)
    size = math.prod(network.input_shape)
    if x.ndim > 1:
        pipeline.check(x.shape[1:])
    if x.ndim < 2 or math.prod(pipeline.shape(x.shape[1:])) != size:
        raise ValueError(
            f"`x` has shape {x.shape}, but each of its examples must hold the "
            f"{size} numbers of {network.input_shape}: give it one row per example, "
            "even for one."
        )
    if jnp.issubdtype(x.dtype, jnp.integer) and x.dtype != jnp.uint8:
        raise TypeError(
            f"`x` has dtype {x.dtype}, but examples are bytes or real: convert it, for "
            "pixels to uint8."
        )
    x = as_inputs(pipeline, x, network)
    check_inputs(network, x)
    if len(x) <= _TOGETHER:
        return network.output(_settled(network, x, solver, throw).state)
    # The last part is filled up, so that all are of one program.
    parts = -(-len(x) // _TOGETHER)
    # It is filled with its last example: zeros might not settle, and raise for nothing.
    rows = np.minimum(np.arange(parts * _TOGETHER), len(x) - 1)
    parts = [
        network.output(_settled(network, x[row], solver, throw).state)
        for row in rows.reshape(parts, -1)
    ]
    return jnp.concatenate(parts)[: len(x)]


@concrete
@effective
@without_mesh
def evaluate(
    network: AbstractNetwork,
    dataset: str | Sequence | data.Dataset,
    *,
    solver: AbstractSolver | None = None,
    pipeline: data.Pipeline | None = None,
    nudge: AbstractNudge | None = None,
    data_dir: str | Path | None = None,
) -> Score:
    """Return loss, accuracy and the unsettled fraction on a dataset.

    ```python
    import ctep, jax

    network = ctep.mlp((64, 32, 10), key=jax.random.key(0))
    score = ctep.evaluate(network, "digits")
    print(score)  # in one line
    print(score.confusion)  # rows: the classes; columns: what they were taken for
    ```

    Args:
        network: any network, for example `result.network` of a run.
        dataset: whatever `ctep.fit` takes. Its test examples are scored, or all where
            it has none apart.
        solver: finds the rest, from zeros; `Sweeps()` by default.
        pipeline: makes inputs of examples, as in training; `ctep.data.Pipeline()` by
            default.
        nudge: its cost is the loss; `OutputError()` by default.
        data_dir: where TFDS keeps its data; the variable `TFDS_DATA_DIR` by default.

    Raises:
        TypeError: if an argument is not of its kind.
        ValueError: if the dataset does not fit the network.
        FileNotFoundError: if the dataset is not prepared.

    Cost: one phase per 500 examples.
    """
    solver = Sweeps() if solver is None else solver
    nudge = OutputError() if nudge is None else nudge
    pipeline = data.Pipeline() if pipeline is None else pipeline
    check_kinds(network=network, nudge=nudge, solver=solver)
    nudge = nudge.at(0)
    loaded = data.load(dataset, data_dir=data_dir)
    place = Placement.default()
    splits = feeds(loaded, None, jax.random.key(0), _TOGETHER, None, place)
    feed = splits.get("test", splits["train"])
    try:
        _, y = feed.sample(np.arange(1))
        check_fit(network, nudge, loaded, pipeline, jnp.asarray(y))
        classes = loaded.classes is not None
        return score(network, solver, pipeline, feed, place, classes, nudge=nudge)
    finally:
        for split in splits.values():
            split.close()


def check_fit(network, nudge, dataset, pipeline, y):
    """Raise `ValueError` if the dataset does not fit the network."""
    example = "ctep.data.Pipeline(crop=4)"
    checks.instance("pipeline", pipeline, data.Pipeline, "a pipeline", example)
    pipeline.check(dataset.shape)
    shape = pipeline.shape(dataset.shape)
    # A vector may be reshaped; an image of another height would be torn apart by it.
    image = len(shape) == len(network.input_shape) == 3
    wrong = math.prod(shape) != math.prod(network.input_shape)
    if wrong and len(shape) == 2 and shape[1:] == network.input_shape:
        raise ValueError(
            f"`dataset` {dataset.name!r} has sequences of {shape[0]} vectors of "
            f"{shape[1]} numbers for examples, but a network settles on one input: "
            f"build it for {math.prod(shape)} inputs, or give it one row per step, "
            "each with a target."
        )
    if wrong or (image and shape != network.input_shape):
        size = math.prod(shape)
        images = len(network.input_shape) == 3
        remedy = f"`input_shape={shape}`" if images else f"as `ctep.mlp(({size}, ...))`"
        raise ValueError(
            f"`dataset` {dataset.name!r} has inputs of shape {shape}, {size} numbers, "
            f"but this network takes {network.input_shape}: build it for {size} "
            f"inputs, {remedy}{', or pad images by `pipeline=`' if images else ''}."
        )
    outputs, needed = network.output_shape, dataset.outputs
    values = dataset.classes is None
    fits = len(outputs) == 1 and outputs[0] >= needed
    if not fits or (dataset.train.target.shape and outputs[0] != needed):
        what = "values per example" if values else "classes"
        hint = ""
        if values and needed == 1:
            hint = " Class numbers must be of a whole dtype: `y.astype('int32')`."
        if not values and outputs == (needed - 1,):
            hint = " Labels count from 0: if these count from 1, pass `y - 1`."
        raise ValueError(
            f"`dataset` {dataset.name!r} has {needed} {what}, but this network has "
            f"outputs of shape {outputs}: build it with {needed} outputs.{hint}"
        )
    nudge.check(network, y)
    if values and any(head.loss.distributions for head in nudge.heads(network) or ()):
        raise ValueError(
            f"`dataset` {dataset.name!r} has values for targets, but the loss of "
            "`nudge` compares probabilities: pass "
            "`nudge=ctep.OutputError(ctep.SquaredError())`."
        )


def _settled(network, x, solver, throw):
    traced = checks.traced(network, x)
    # Within somebody's `jit` only the run itself can raise. Elsewhere the error is a
    # plain one, without the compiler's frames around its sentence.
    free = _settle(network, x, solver, throw and traced)
    if throw and not traced and (message := explain(free.result)):
        raise RuntimeError(message)
    return free


@eqx.filter_jit
def _settle(network, x, solver, throw):
    # Sweeps are not differentiated, for a `while_loop` has no reverse mode. The rest
    # has a derivative of its own, by the implicit function theorem.
    still = jax.lax.stop_gradient(eqx.filter((network, x), eqx.is_array))
    fixed, start = eqx.combine(still, (network, x))
    free = solver.solve(fixed.free(start), fixed.zeros(start), zeros=True, throw=throw)
    state = differentiable(network, lambda n, x: n.free(x), x, free.state)
    return dataclasses.replace(free, state=state)
