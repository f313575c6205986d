"""The compiled part of training: chunks of batches, and the probe."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, PRNGKeyArray, PyTree

from .._arrays import along
from .._custom_types import State
from .._network import AbstractNetwork
from .._nudge import AbstractNudge
from .._rule import AbstractRule, Implicit, Task
from .._solver import RESULTS, AbstractSolver, usable
from .._weights.resolution import resolve, resolving
from ..data import Pipeline
from .average import Average
from .devices.feed import AbstractFeed
from .devices.placement import Placement
from .programs import Optimizer, Reads, as_data
from .score import Score, agreement, as_inputs, as_targets, score
from .watch import rise, saturated

# Four digits of a cosine need no more, and float32 gives no more in large networks.
_EXACT = Implicit(tolerance=1e-4)


class Sums(eqx.Module):
    """What an epoch adds up over its examples.

    Fields:
        count: number of examples so far; the next ones are sums over them.
        loss: losses of those that took part.
        right: number of those whose largest output is their class; where targets are
            values, their squared errors.
        sweeps: sweeps of all phases of all examples.
        unsettled: number of those with a phase that failed, which took no part.
        published: number of those that took part as published, short of rest.
        residual: largest residual of a free phase.
        finite: whether all losses and weights were finite.
        states: per layer, number of examples for which it was not finite.
        labels: per class, number of its examples.
    """

    count: Float[Array, ""]
    loss: Float[Array, ""]
    right: Float[Array, ""]
    sweeps: Float[Array, ""]
    unsettled: Float[Array, ""]
    published: Float[Array, ""]
    residual: Float[Array, ""]
    finite: Bool[Array, ""]
    states: Float[Array, " layers"]
    labels: Float[Array, " classes"]

    @staticmethod
    def zero(layers: int, classes: int) -> "Sums":
        zero = jnp.zeros(())
        counts = jnp.zeros(layers), jnp.zeros(classes)
        return Sums(
            zero, zero, zero, zero, zero, zero, zero, jnp.ones((), bool), *counts
        )


class TrainState(eqx.Module):
    """What one batch hands to the next, and a checkpoint to a resumed run.

    Fields:
        trained: arrays of `(network, nudge)` that are trained, `None` elsewhere.
        fixed: the other arrays of them, such as random feedback.
        average: that of the trained arrays, if one is kept.
        optimizer: state of the optax transformation.
        sums: what the epoch in progress has added up.
        start: state that the next free phase starts from, if it is carried over.
    """

    trained: PyTree
    # Handed in like the others: as constants they would be compiled in.
    fixed: PyTree
    average: Average | None
    optimizer: PyTree
    # Here, since a run that is stopped within an epoch goes on with its sums.
    sums: Sums
    start: State | None = None


class Loop(eqx.Module):
    """The compiled functions of one run.

    Fields:
        static: what is not an array in `(network, nudge)`.
        rule: makes the gradient of each batch.
        solver: finds the rests of all phases.
        optimizer: turns the gradient into an update.
        pipeline: makes inputs of examples, augmented in training.
        key: random key that augmentations are drawn by.
        place: where states and batches lie on the devices.
        read: tells programs apart that run code of a user's own.
        classes: whether the outputs are classes, and not values.
        decay: what the average of the weights keeps of itself in a step, if one is
            kept.
    """

    static: PyTree
    rule: AbstractRule
    solver: AbstractSolver
    # This and `read` are equal where they compute alike: equal runs share a program.
    optimizer: Optimizer = eqx.field(static=True)
    pipeline: Pipeline
    key: PRNGKeyArray
    place: Placement
    read: Reads = eqx.field(static=True)
    classes: bool = eqx.field(static=True, default=True)
    decay: float | None = eqx.field(static=True, default=None)

    @staticmethod
    def start(
        network: AbstractNetwork,
        nudge: AbstractNudge,
        rule: AbstractRule,
        solver: AbstractSolver,
        optimizer: optax.GradientTransformation,
        batch_size: int,
        *,
        pipeline: Pipeline = Pipeline(),
        key: PRNGKeyArray | None = None,
        carry_state: bool = False,
        place: Placement | None = None,
        classes: bool = True,
        decay: float | None = None,
    ) -> tuple["Loop", TrainState]:
        """Return the loop and the state before its first batch."""
        key = jax.random.key(0) if key is None else key
        place = Placement.default() if place is None else place
        trained, fixed, static = divided(network, nudge)
        first = None
        if carry_state:
            shape = (batch_size, *network.input_shape)
            # As long as a batch, not as what the devices divide evenly: a run may go on
            # with another number of them.
            first = network.zeros(jnp.zeros(shape, network.dtype))
        sums = Sums.zero(len(network.taus), network.output_shape[0])
        average = None if decay is None else Average.zero(trained)
        moving = optimizer.init(trained), sums, first
        state = TrainState(trained, fixed, average, *moving)
        same = Optimizer(optimizer)
        rule, solver = as_data(rule), as_data(solver)
        read = Reads(network, nudge, rule, solver, pipeline)
        own = static, rule, solver, same, pipeline, key, place, read, classes, decay
        return Loop(*own), state

    def model(self, state: TrainState) -> tuple[AbstractNetwork, AbstractNudge]:
        """Return the network and the nudge of a state."""
        return eqx.combine(state.trained, state.fixed, self.static)

    def returned(self, state: TrainState) -> tuple[AbstractNetwork, AbstractNudge]:
        """Return those that are scored and returned: their average, if one is kept."""
        average = state.average
        trained = state.trained if average is None else average.weights
        return eqx.combine(trained, state.fixed, self.static)

    @eqx.filter_jit
    def train(
        self,
        state: TrainState,
        block: jax.tree_util.Partial,
        start: Array,
        stop: Array,
        epoch: Array,
    ) -> TrainState:
        """Do the batches of a block from `start` to `stop` (data: compiled once)."""

        def body(i, state):
            return self._step(state, self.place.batch(block(i)), epoch)

        return jax.lax.fori_loop(start, stop, body, state)

    def _step(self, state, batch, epoch):
        x, y, index = batch
        made, nudge = self.model(state)
        nudge = nudge.at(epoch)
        present = index >= 0
        # By the example's number, not its place: it is augmented alike in any batch.
        fold = jax.vmap(jax.random.fold_in, (None, 0))
        keys = fold(jax.random.fold_in(self.key, epoch), index.astype(jnp.uint32))
        # The first example's, which is in no other batch of the epoch.
        own = jax.random.fold_in(keys[0], 2)
        network, pull = resolving(made, own)
        x, count = as_inputs(self.pipeline, x, network, keys), jnp.sum(present)
        # A batch that is filled up is the mean over its examples, not over its width.
        weight = present / count.astype(x.dtype)
        y = as_targets(y, network)
        target = nudge.targets(x, y)
        keys = jax.vmap(jax.random.fold_in, (0, None))(keys, 1)  # others than above
        carried = _resized(state.start, len(y))
        task = Task(x, target, nudge, self.solver, weight, False, carried, keys)
        estimate = self.rule.estimate(network, task)
        part = usable(estimate.result) & present
        gradient = pull(estimate.gradient[0]), estimate.gradient[1]
        gradient = _of(state.trained, gradient)

        def value_fn(trained):  # traced by those alone that ask for it
            network, nudge = eqx.combine(trained, state.fixed, self.static)
            network = self.rule.subject(resolve(network, key=own))
            same = dataclasses.replace(task, nudge=nudge.at(epoch))
            free = same.settle(jax.lax.stop_gradient(network))
            rest = dataclasses.replace(estimate, free=free, result=free.result)
            return self.rule.loss(network, same, rest)

        updates, optimizer = self.optimizer.update(
            gradient, state.optimizer, state.trained,
            value=estimate.loss, grad=gradient, value_fn=value_fn,
        )  # fmt: skip
        trained = eqx.apply_updates(state.trained, updates)
        # Without any example no momentum and no decay moves the weights either.
        average = None
        if state.average is not None and self.decay is not None:
            average = state.average.after(trained, self.decay)
        some, old = jnp.any(part), (state.trained, state.average, state.optimizer)
        trained, average, optimizer = jax.tree_util.tree_map(
            lambda a, b: jnp.where(some, a, b), (trained, average, optimizer), old
        )
        right = agreement(network.output(estimate.free.state), y, self.classes)
        broken = [
            ~jnp.isfinite(s).reshape(len(s), -1).all(1) for s in estimate.free.state
        ]
        outputs = network.output_shape[0]
        labels = y if y.ndim > 1 else jax.nn.one_hot(y, outputs)
        published = estimate.result == RESULTS.as_published
        old = state.sums
        finite = jnp.stack([jnp.isfinite(leaf).all() for leaf in _arrays(trained)])
        sums = Sums(
            count=old.count + count,
            # A mean, so times their number; of no example it may be NaN.
            loss=old.loss + jnp.sum(part) * jnp.where(some, estimate.loss, 0),
            right=old.right + jnp.sum(jnp.where(present, right, 0)),
            sweeps=old.sweeps + jnp.sum(estimate.sweeps * present),
            unsettled=old.unsettled + jnp.sum(~part & present),
            published=old.published + jnp.sum(published & present),
            residual=jnp.maximum(
                old.residual, jnp.max(jnp.where(present, estimate.free.residual, 0))
            ),
            finite=old.finite & (jnp.isfinite(estimate.loss) | ~some) & finite.all(),
            states=old.states + jnp.sum(jnp.stack(broken) & present, 1),
            labels=old.labels + jnp.sum(labels * present[:, None], 0),
        )
        last = None
        if state.start is not None:
            # What fills the last batch up is no example, and leaves nothing behind.
            kept = jax.tree.map(
                lambda s: jnp.where(along(present, s.ndim), s, 0), estimate.nudged
            )
            last = _resized(kept, len(state.start[0]))
        new = TrainState(trained, state.fixed, average, optimizer, sums, last)
        return self.place.keep(new)

    @eqx.filter_jit
    def probe(self, state: TrainState, x: Array, y: Array, epoch: Array) -> dict:
        """Return what is known of a network by a few examples.

        Returns:
            `cosine` of the rule's gradient with the exact one; `used`, how many
            examples took part, and `unsolved`, for how many of these the exact one was
            not found, so that there is no such cosine; `saturated`, the fraction of
            units per layer that pass nothing on, and `rise`, the largest rise of an
            energy in a sweep as a fraction of its range (or `None`).
        """
        made, nudge = self.model(state)
        key = jax.random.fold_in(self.key, epoch)
        network, pull = resolving(made, key)
        nudge, x = nudge.at(epoch), as_inputs(self.pipeline, x, network)
        y = as_targets(y, network)
        task = Task.mean(x, y, nudge, self.solver, throw=False, key=key)
        estimate = self.rule.estimate(network, task)
        used = usable(estimate.result)
        # The exact gradient of the same examples and arrays, or they do not compare.
        own, same = self.rule.subject(made), task.of(used)
        subject, back = resolving(own, key)
        exact = _EXACT.estimate(subject, same)
        twin = eqx.filter((own, nudge), (own.trainable(), nudge.owned()))
        pair = (
            _of(state.trained, (pull(estimate.gradient[0]), estimate.gradient[1])),
            _of(twin, (back(exact.gradient[0]), exact.gradient[1])),
        )
        products = [
            sum(jnp.vdot(u, v) for u, v in zip(_arrays(a), _arrays(b), strict=True))
            for a, b in ((pair[0], pair[1]), (pair[0], pair[0]), (pair[1], pair[1]))
        ]
        return {
            "cosine": products[0] / jnp.sqrt(products[1] * products[2]),
            "used": jnp.sum(used),
            "unsolved": jnp.sum(used & ~usable(exact.result)),
            "saturated": saturated(network, x, estimate.free.state),
            "rise": rise(subject, x, self.solver),
        }

    def score(self, state: TrainState, feed: AbstractFeed) -> Score:
        """Return the score on other data, without a loss."""
        network, _ = self.returned(state)
        network = resolve(self.rule.subject(network))
        parts = network, self.solver, self.pipeline
        return score(*parts, feed, self.place, self.classes, self.read)


def divided(
    network: AbstractNetwork, nudge: AbstractNudge
) -> tuple[PyTree, PyTree, PyTree]:
    """Return of `(network, nudge)` what is trained, its other arrays, and the rest."""
    which = network.trainable(), nudge.owned()
    trained, rest = eqx.partition((network, nudge), which)
    return trained, *eqx.partition(rest, eqx.is_array)


def _of(trained, gradient):
    """Return what of a gradient belongs to arrays that are trained."""
    return jax.tree_util.tree_map(
        lambda leaf, own: None if leaf is None else own,
        trained,
        gradient,
        is_leaf=lambda leaf: leaf is None,
    )


def _arrays(tree):
    return jax.tree_util.tree_leaves(eqx.filter(tree, eqx.is_inexact_array))


def _resized(state, length):
    """Return a state of that many examples, with zeros for those it lacks."""

    def one(leaf):
        missing = max(0, length - len(leaf))
        return jnp.pad(leaf[:length], [(0, missing)] + [(0, 0)] * (leaf.ndim - 1))

    return jax.tree.map(one, state)
