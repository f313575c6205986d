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
from .._html import as_html
from .._network import AbstractNetwork
from .._nudge import AbstractNudge, OutputError
from .._rule import check_inputs, check_kinds
from .._solver import (
    AbstractSolver,
    Equilibrium,
    Sweeps,
    differentiable,
    explain,
    usable,
)
from .devices.feed import AbstractFeed, feeds
from .devices.placement import Placement
from .programs import Reads

_TOGETHER = 500  # examples that `predict` settles at once


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
    rows = np.minimum(np.arange(parts * _TOGETHER), len(x) - 1)
    parts = [
        network.output(_settled(network, x[row], solver, throw).state)
        for row in rows.reshape(parts, -1)
    ]
    return jnp.concatenate(parts)[: len(x)]


@dataclasses.dataclass(frozen=True)
class Score:
    r"""How well a network at rest fits a dataset.

    Fields:
        loss: mean cost of the examples that came to rest; NaN if none did.
        accuracy: fraction of all examples whose largest output is their class; None
            where targets are values.
        unsettled: fraction of all examples that did not come to rest.
        examples: number of all examples.
        r2: where targets are values, the coefficient of determination $1 - \sum_i
            \|o_i - y_i\|^2 / \sum_i \|y_i - \bar y\|^2$ of all examples and outputs
            together: 1 is perfect, 0 as good as their mean. None of constant values.
    """

    loss: float
    accuracy: float | None
    unsettled: float
    examples: int
    r2: float | None = None

    def _repr_html_(self):
        quality = ["R2", "-" if self.r2 is None else f"{self.r2:.4f}"]
        if self.accuracy is not None:
            quality = ["accuracy", f"{100 * self.accuracy:.2f} %"]
        columns = (
            quality,
            ["loss", f"{self.loss:.4g}"],
            ["unsettled", f"{100 * self.unsettled:.2f} %"],
            ["examples", str(self.examples)],
        )
        return as_html([list(zip(*columns, strict=True))], left=0)

    def __str__(self):
        figure = "" if self.r2 is None else f"R2 {self.r2:.4f}, "
        if self.accuracy is not None:
            figure = f"accuracy {100 * self.accuracy:.2f} %, "
        return (
            f"{figure}loss {self.loss:.4g}, unsettled {100 * self.unsettled:.2f} % of "
            f"{self.examples} examples"
        )


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
    print(ctep.evaluate(network, "digits"))
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
    nudge = (OutputError() if nudge is None else nudge).at(0)
    pipeline = data.Pipeline() if pipeline is None else pipeline
    check_kinds(network=network, nudge=nudge, solver=solver)
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
        raise ValueError(
            f"`dataset` {dataset.name!r} has inputs of shape {shape}, "
            f"{math.prod(shape)} numbers, but this network takes "
            f"{network.input_shape}: build it for {math.prod(shape)} inputs, "
            f"`input_shape={shape}`, or pad images by `pipeline=`."
        )
    outputs, needed = network.output_shape, dataset.outputs
    values = dataset.classes is None
    fits = len(outputs) == 1 and outputs[0] >= needed
    if not fits or (dataset.train.target.shape and outputs[0] != needed):
        what = "values per example" if values else "classes"
        hint = ""
        if values and needed == 1:
            hint = " Class numbers must be of a whole dtype: `y.astype('int32')`."
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


def score(
    network: AbstractNetwork,
    solver: AbstractSolver,
    pipeline: data.Pipeline,
    feed: AbstractFeed,
    place: Placement,
    classes: bool = True,
    read: Reads | None = None,
    nudge: AbstractNudge | None = None,
) -> Score:
    """Return the score on a split, without a loss where there is no nudge."""
    read = Reads(network, solver, pipeline, nudge) if read is None else read
    parts, sums = (network, solver, pipeline, nudge), np.zeros(3)
    for block, found in feed.blocks(0, 0):
        counts = _score(*parts, block, np.array(len(found)), place, read, classes)
        sums += np.asarray(counts)
    right, settled, loss = map(float, sums)
    count = feed.order.examples
    loss = loss / settled if settled else math.nan
    share, unsettled = right / count, (count - settled) / count
    if classes:
        return Score(loss, share, unsettled, count)
    return Score(loss, None, unsettled, count, determination(share, feed.variance))


def determination(error: float, variance: float) -> float | None:
    """Return R2 of a mean squared error, `None` of targets that are all the same."""
    return 1 - error / variance if variance else None


@eqx.filter_jit
def _score(network, solver, pipeline, nudge, block, stop, place, read, classes):
    del read  # it tells programs apart

    def body(i, total):
        x, y, rows = place.batch(block(i))
        ready, present = as_inputs(pipeline, x, network), rows >= 0
        y = as_targets(y, network)
        free = solver.solve(
            network.free(ready), network.zeros(ready), zeros=True, throw=False
        )
        used = usable(free.result) & present
        right = agreement(network.output(free.state), y, classes)
        cost = jnp.zeros(len(y))
        if nudge is not None:
            cost = nudge.cost(network, free.state, nudge.targets(ready, y))
        sums = [
            jnp.sum(jnp.where(present, right, 0)),
            jnp.sum(used),
            jnp.sum(jnp.where(used, cost, 0)),
        ]
        return total + jnp.stack([jnp.asarray(s, total.dtype) for s in sums])

    return jax.lax.fori_loop(0, stop, body, jnp.zeros(3))


def _settled(network, x, solver, throw):
    traced = checks.traced(network, x)
    free = _settle(network, x, solver, throw and traced)
    if throw and not traced and (message := explain(free.result)):
        raise RuntimeError(message)
    return free


@eqx.filter_jit
def _settle(network, x, solver, throw):
    still = jax.lax.stop_gradient(eqx.filter((network, x), eqx.is_array))
    fixed, start = eqx.combine(still, (network, x))
    free = solver.solve(fixed.free(start), fixed.zeros(start), zeros=True, throw=throw)
    state = differentiable(network, lambda n, x: n.free(x), x, free.state)
    return dataclasses.replace(free, state=state)


def as_inputs(
    pipeline: data.Pipeline, x: Array, network: AbstractNetwork, keys=None
) -> Array:
    """Return examples as the network takes them, augmented if there are keys."""
    return pipeline(x, network.dtype, keys).reshape((-1, *network.input_shape))


def as_targets(y: Array, network: AbstractNetwork) -> Array:
    """Return class numbers as they are, and values in the network's dtype."""
    return y if jnp.issubdtype(y.dtype, jnp.integer) else y.astype(network.dtype)


def agreement(output: Array, y: Array, classes: bool) -> Array:
    """Return of each example whether its largest output is its class.

    Where targets are values (not `classes`), its squared error.
    """
    if not classes:
        return jnp.sum((output - y) ** 2, -1)
    return jnp.argmax(output, -1) == (y if y.ndim == 1 else jnp.argmax(y, -1))
