"""Compiled scores: how well the outputs of a network at rest fit their targets."""

import dataclasses
import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from .. import data
from .._html import Part, as_html
from .._network import AbstractNetwork
from .._nudge import AbstractNudge
from .._solver import AbstractSolver, usable
from .devices.feed import AbstractFeed
from .devices.placement import Placement
from .programs import Reads

# Classes whose confusion fits a page, and a line of a terminal.
_LARGEST = 20


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
        confusion: where targets are classes, `(outputs, outputs)`: how many of all
            examples are of the class of the row and were given that of the column.
    """

    loss: float
    accuracy: float | None
    unsettled: float
    examples: int
    r2: float | None = None
    confusion: np.ndarray | None = dataclasses.field(default=None, compare=False)

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
        table = list(zip(*columns, strict=True))
        return as_html([table, *confused(self.confusion)], left=0)

    def __str__(self):
        figure = "" if self.r2 is None else f"R2 {self.r2:.4f}, "
        if self.accuracy is not None:
            figure = f"accuracy {100 * self.accuracy:.2f} %, "
        return (
            f"{figure}loss {self.loss:.4g}, unsettled {100 * self.unsettled:.2f} % of "
            f"{self.examples} examples"
        )


def confused(counts: np.ndarray | None) -> list[Part]:
    """Return a title and a table, none of values, or a sentence for many classes."""
    if counts is None:
        return []
    if len(counts) > _LARGEST:
        many = f"{len(counts)} classes are too many for a table"
        return [f"{many}: see `confusion`, of what `ctep.evaluate` returns."]
    numbers = list(map(str, range(len(counts))))
    rows = [["class", *numbers]]
    rows += [[n, *map(str, row)] for n, row in zip(numbers, counts, strict=True)]
    return [
        "Examples of each class (rows), by the class that they were given:",
        rows,
    ]


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
    parts, sums, confusion = (network, solver, pipeline, nudge), np.zeros(3), 0
    for block, found in feed.blocks(0, 0):
        counts = _score(*parts, block, np.array(len(found)), place, read, classes)
        sums += np.asarray(counts[0])
        confusion += np.asarray(counts[1], np.int64)
    right, settled, loss = map(float, sums)
    count = feed.order.examples
    loss = loss / settled if settled else math.nan
    share, unsettled = right / count, (count - settled) / count
    if classes:
        return Score(loss, share, unsettled, count, confusion=np.asarray(confusion))
    return Score(loss, None, unsettled, count, determination(share, feed.variance))


def determination(error: float, variance: float) -> float | None:
    """Return R2 of a mean squared error, `None` of targets that are all the same."""
    return 1 - error / variance if variance else None


@eqx.filter_jit
def _score(network, solver, pipeline, nudge, block, stop, place, read, classes):
    del read  # it tells programs apart

    def body(i, totals):
        x, y, rows = place.batch(block(i))
        ready, present = as_inputs(pipeline, x, network), rows >= 0
        y = as_targets(y, network)
        free = solver.solve(
            network.free(ready), network.zeros(ready), zeros=True, throw=False
        )
        used = usable(free.result) & present
        output = network.output(free.state)
        right = agreement(output, y, classes)
        cost = jnp.zeros(len(y))
        if nudge is not None:
            cost = nudge.cost(network, free.state, nudge.targets(ready, y))
        # Chosen, not multiplied: the cost of what failed may be NaN, as 0 times it is.
        sums = [
            jnp.sum(jnp.where(present, right, 0)),
            jnp.sum(used),
            jnp.sum(jnp.where(used, cost, 0)),
        ]
        total, pairs = totals
        if classes:
            pairs += _confusion(output, y, present)
        return total + jnp.stack([jnp.asarray(s, total.dtype) for s in sums]), pairs

    # In float32, which counts the examples of a block exactly up to 2**24.
    pairs = jnp.zeros(network.output_shape * 2 if classes else (), jnp.int32)
    return jax.lax.fori_loop(0, stop, body, (jnp.zeros(3), pairs))


def _confusion(output, y, present):
    """Return how many examples of a batch are of each class and taken for each."""
    # Of a batch no number of examples leaves float32, and 0 and 1 leave no dtype.
    rows = jax.nn.one_hot(_labels(y), output.shape[-1]) * present[:, None]
    columns = jax.nn.one_hot(jnp.argmax(output, -1), output.shape[-1])
    return (rows.T @ columns).astype(jnp.int32)


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
    return jnp.argmax(output, -1) == _labels(y)


def _labels(y):
    # As int32: a byte, say, does not hold the number of as many classes as it names.
    return (y if y.ndim == 1 else jnp.argmax(y, -1)).astype(jnp.int32)
