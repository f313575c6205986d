"""The compiled part of training: chunks of batches, evaluation and the probe."""

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, PyTree

from .._custom_types import State
from .._network import AbstractNetwork
from .._nudge import AbstractNudge
from .._rule import AbstractRule, Implicit, Task, partition
from .._solver import RESULTS, AbstractSolver
from ..data import Pipeline

# Four digits of a cosine need no more, and float32 gives no more in large networks.
_EXACT = Implicit(tolerance=1e-4, max_steps=200)


class Sums(eqx.Module):
    """What an epoch adds up over its examples."""

    count: Float[Array, ""]
    loss: Float[Array, ""]
    correct: Float[Array, ""]
    sweeps: Float[Array, ""]
    unsettled: Float[Array, ""]
    residual: Float[Array, ""]
    finite: Bool[Array, ""]

    @staticmethod
    def zero() -> "Sums":
        zero = jnp.zeros(())
        return Sums(zero, zero, zero, zero, zero, zero, jnp.ones((), bool))


class TrainState(eqx.Module):
    """What one batch hands to the next, and a checkpoint to a resumed run.

    Fields:
        trained: arrays of `(network, nudge)` that are trained, `None` elsewhere.
        fixed: the other arrays of them, such as random feedback.
        optimizer: state of the optax transformation.
        sums: of the epoch in progress.
        start: of the next free phase, if states are carried over, else `None`.
    """

    trained: PyTree
    fixed: PyTree
    optimizer: PyTree
    sums: Sums
    start: State | None = None


class Loop(eqx.Module):
    """The compiled functions of one run, over data that stay on the device.

    Fields:
        static: what is not an array in `(network, nudge)`.
        rule: makes the gradient.
        solver: for all phases.
        optimizer: turns the gradient into an update.
        x: training inputs, as loaded.
        y: training labels.
        batch_size: examples per step.
        pipeline: makes inputs of examples.
        key: for augmentation.
    """

    static: PyTree
    rule: AbstractRule
    solver: AbstractSolver
    optimizer: optax.GradientTransformation = eqx.field(static=True)
    x: Array
    y: Int[Array, " examples"]
    batch_size: int = eqx.field(static=True)
    pipeline: Pipeline
    key: PRNGKeyArray

    @staticmethod
    def start(
        network: AbstractNetwork,
        nudge: AbstractNudge,
        rule: AbstractRule,
        solver: AbstractSolver,
        optimizer: optax.GradientTransformation,
        x: Array,
        y: Array,
        batch_size: int,
        pipeline: Pipeline = Pipeline(),
        key: PRNGKeyArray | None = None,
        carry_state: bool = False,
    ) -> tuple["Loop", TrainState]:
        """Return the loop and the state before its first batch."""
        key = jax.random.key(0) if key is None else key
        trained, rest = partition(network, nudge)
        fixed, static = eqx.partition(rest, eqx.is_array)
        first = None
        if carry_state:
            shape = (batch_size, *network.input_shape)
            first = network.zeros(jnp.zeros(shape, network.dtype))
        state = TrainState(trained, fixed, optimizer.init(trained), Sums.zero(), first)
        loop = Loop(static, rule, solver, optimizer, x, y, batch_size, pipeline, key)
        return loop, state

    @property
    def batches(self) -> int:
        """Batches per epoch, the last one perhaps not full."""
        return -(-len(self.y) // self.batch_size)

    def model(self, state: TrainState) -> tuple[AbstractNetwork, AbstractNudge]:
        """Return the network and the nudge of a state."""
        return eqx.combine(state.trained, state.fixed, self.static)

    def order(self, key: PRNGKeyArray, epoch: int) -> Int[Array, "batches batch_size"]:
        """Return the examples of each batch of an epoch, -1 where there is none."""
        order = jax.random.permutation(jax.random.fold_in(key, epoch), len(self.y))
        missing = self.batches * self.batch_size - len(self.y)
        order = jnp.pad(order, (0, missing), constant_values=-1)
        return order.reshape(self.batches, self.batch_size)

    @eqx.filter_jit
    def train(
        self, state: TrainState, order: Array, start: Array, stop: Array, epoch: Array
    ) -> TrainState:
        """Do the batches from `start` to `stop` (both data, so compiled once)."""

        def body(i, state):
            return self._step(state, order[i], epoch)

        return jax.lax.fori_loop(start, stop, body, state)

    def _step(self, state, index, epoch):
        network, nudge = self.model(state)
        present = index >= 0
        fold = jax.vmap(jax.random.fold_in, (None, 0))
        keys = fold(jax.random.fold_in(self.key, epoch), index.astype(jnp.uint32))
        x = inputs(self.pipeline, self.x[index], network, keys)
        y, count = self.y[index], jnp.sum(present)
        weight = present / count.astype(x.dtype)
        target = nudge.targets(x, y)
        keys = jax.vmap(jax.random.fold_in, (0, None))(keys, 1)  # others than above
        task = Task(
            x, target, nudge, self.solver, weight, epoch, False, state.start, keys
        )
        estimate = self.rule.estimate(network, task)
        updates, optimizer = self.optimizer.update(
            estimate.gradient, state.optimizer, state.trained
        )
        trained = eqx.apply_updates(state.trained, updates)
        settled = estimate.result == RESULTS.successful
        correct = jnp.argmax(network.output(estimate.free.state), -1) == y
        old = state.sums
        finite = jnp.stack([jnp.isfinite(leaf).all() for leaf in _arrays(trained)])
        sums = Sums(
            count=old.count + count,
            loss=old.loss + estimate.loss * count,
            correct=old.correct + jnp.sum(correct & present),
            sweeps=old.sweeps + jnp.sum(estimate.sweeps * present),
            unsettled=old.unsettled + jnp.sum(~settled & present),
            residual=jnp.maximum(
                old.residual, jnp.max(jnp.where(present, estimate.free.residual, 0))
            ),
            finite=old.finite & jnp.isfinite(estimate.loss) & finite.all(),
        )
        last = None if state.start is None else estimate.nudged
        return TrainState(trained, state.fixed, optimizer, sums, last)

    @eqx.filter_jit
    def cosine(self, state: TrainState, index: Array, epoch: Array) -> Array:
        """Return the cosine of the rule's gradient with the exact one on a probe."""
        network, nudge = self.model(state)
        x = inputs(self.pipeline, self.x[index], network)
        y = self.y[index]
        key = jax.random.fold_in(self.key, epoch)
        task = Task.mean(x, y, nudge, self.solver, epoch=epoch, throw=False, key=key)
        pair = [
            self.rule.estimate(network, task).gradient,
            _EXACT.estimate(self.rule.subject(network), task).gradient,
        ]
        products = [
            sum(jnp.vdot(u, v) for u, v in zip(_arrays(a), _arrays(b), strict=True))
            for a, b in ((pair[0], pair[1]), (pair[0], pair[0]), (pair[1], pair[1]))
        ]
        return products[0] / jnp.sqrt(products[1] * products[2])

    def accuracy(self, state: TrainState, x: Array, y: Array) -> float:
        """Return the accuracy on other data."""
        network, _ = self.model(state)
        network = self.rule.subject(network)
        return score(network, self.solver, self.pipeline, x, y)["accuracy"]


def score(
    network: AbstractNetwork,
    solver: AbstractSolver,
    pipeline: Pipeline,
    x: Array,
    y: Array,
    batch: int = 500,
) -> dict[str, float]:
    """Return the accuracy on `(x, y)` and the fraction of it that did not settle."""
    batch = min(batch, len(y))
    count = -(-len(y) // batch)
    index = jnp.pad(jnp.arange(len(y)), (0, count * batch - len(y)), constant_values=-1)
    sums = _score(network, solver, pipeline, x, y, index.reshape(count, batch))
    return {
        "accuracy": float(sums[0]) / len(y),
        "unsettled": float(sums[1]) / len(y),
    }


@eqx.filter_jit
def _score(network, solver, pipeline, x, y, index):
    def body(total, rows):
        ready = inputs(pipeline, x[rows], network)
        free = solver.solve(
            network.free(ready), network.zeros(ready), zeros=True, throw=False
        )
        correct = jnp.argmax(network.output(free.state), -1) == y[rows]
        counts = jnp.stack([correct, ~free.settled]) & (rows >= 0)
        return total + jnp.sum(counts, 1), None

    return jax.lax.scan(body, jnp.zeros(2, int), index)[0]


def inputs(pipeline: Pipeline, x: Array, network: AbstractNetwork, keys=None) -> Array:
    """Return examples as the network takes them, augmented if there are keys."""
    return pipeline(x, network.dtype, keys).reshape((-1, *network.input_shape))


def _arrays(tree):
    return jax.tree_util.tree_leaves(eqx.filter(tree, eqx.is_inexact_array))
