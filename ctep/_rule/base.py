"""What every learning rule offers."""

import abc
import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Key, PyTree

from .._custom_types import State
from .._network import AbstractNetwork, closure
from .._nudge import AbstractNudge
from .._solver import RESULTS, AbstractSolver, Equilibrium, differentiable, usable


class Task(eqx.Module):
    """What a gradient is taken of: everything but the network and the rule.

    Fields:
        x: inputs, `(batch, *input_shape)`.
        target: what the nudge's `targets` returned.
        nudge: its cost is the loss; that of an epoch, as its method `at` returns it.
        solver: finds the rests of all phases.
        weight: what each example counts for, `(batch,)`; it sums to 1 for a mean.
        throw: whether to raise if an example has not settled.
        start: state that the free phase starts from, zeros if `None`.
        keys: one random key per example, for rules that draw at random.
    """

    x: Array
    target: PyTree
    nudge: AbstractNudge
    solver: AbstractSolver
    weight: Float[Array, " batch"]
    # Static, since a program holds the check that raises, or does not.
    throw: bool = eqx.field(static=True)
    start: State | None = None
    keys: Key[Array, " batch"] | None = None

    @staticmethod
    def mean(x, y, nudge, solver, *, throw=True, key=None) -> "Task":
        """Return the task whose loss is the mean over the batch."""
        count = x.shape[0]
        weight = jnp.full(count, 1 / count, x.dtype)
        keys = None if key is None else jax.random.split(key, count)
        return Task(x, nudge.targets(x, y), nudge, solver, weight, throw, keys=keys)

    def settle(self, network: AbstractNetwork) -> Equilibrium:
        """Return the free equilibrium."""
        # Rules take partial derivatives at the rest: none goes through the solve.
        free = self.solver.solve(
            network.free(self.x),
            network.zeros(self.x) if self.start is None else self.start,
            zeros=self.start is None,
            throw=self.throw,
        )
        return jax.lax.stop_gradient(free)

    def of(self, used: Bool[Array, " batch"]) -> "Task":
        """Return the task of those of its examples that are `used`, `(batch,)`.

        The shape stays: in the place of each other example one that is used stands
        once more, and weighs nothing.
        """
        weight = jnp.where(used, self.weight, 0)
        share = jnp.sum(weight) / jnp.sum(self.weight)
        # With nobody left all weights are 0, and 0 / 0 would make them NaN.
        weight = weight / jnp.where(share > 0, share, 1)
        x, target, start = only(used, (self.x, self.target, self.start))
        return dataclasses.replace(self, x=x, target=target, start=start, weight=weight)

    def cost(self, network, nudge, state) -> Float[Array, ""]:
        """Return the weighted mean of the nudge's cost."""
        costs = nudge.cost(network, state, self.target)
        return jnp.sum(self.weight * costs)


class Estimate(eqx.Module):
    """A gradient, with what it took to get it.

    Examples with a phase that has failed take no part in loss and gradient, and the
    weights of the others are scaled up to the same sum. Without any other, both are 0.

    Fields:
        loss: the weighted mean of the cost at the free state.
        gradient: `(network, nudge)` trees of arrays, `None` for what is not trained.
        free: the free equilibrium, also of examples that have failed.
        sweeps: steps of all phases together, `(batch,)`.
        result: how each example ended, `(batch,)`: as the first phase that has failed.
        nudged: state at the end of the first nudged phase; the free one without any.
    """

    loss: Float[Array, ""]
    gradient: PyTree
    free: Equilibrium
    sweeps: Array
    result: RESULTS
    nudged: State


class AbstractRule(eqx.Module):
    """How the rests of a network make a gradient.

    Most rules are stencils of nudges, see `AbstractStencil`. Any other writes
    `estimate`; this one settles, and learns the readout alone:

    ```python
    import ctep, jax
    import equinox as eqx
    import jax.numpy as jnp

    class LastLayer(ctep.AbstractRule):
        def estimate(self, network, task):
            free = task.settle(network)

            def loss(readout):
                moved = eqx.tree_at(lambda n: n.readout, network, readout)
                return task.cost(moved, task.nudge, free.state)

            value, own = jax.value_and_grad(loss)(network.readout)
            zeros = jax.tree.map(jnp.zeros_like, (network, task.nudge))
            gradient = eqx.tree_at(lambda g: g[0].readout, zeros, own)
            return ctep.Estimate(
                value, gradient, free, free.steps, free.result, free.state
            )

    network = ctep.mlp((4, 8, 3), key=jax.random.key(0))
    x, y = jnp.ones((2, 4)), jnp.arange(2)
    loss, gradient = ctep.gradient(network, x, y, rule=LastLayer())
    ```
    """

    @property
    def random(self) -> bool:
        """Whether it draws at random, from `task.keys`."""
        return False

    @property
    def size(self) -> float:
        r"""The largest $|\beta|$ of its nudges, 0 without any."""
        return 0.0

    @property
    def order(self) -> int | None:
        """Order of its bias in `size`, `None` if it has none or nobody knows it."""
        return None

    def check(
        self,
        network: AbstractNetwork,
        nudge: AbstractNudge,
        example: tuple[Array, Array] | None = None,
    ) -> None:
        """Raise `ValueError` if the rule does not fit the network or the nudge.

        Args:
            network: the network to be trained.
            nudge: the nudge whose cost is the loss.
            example: `(x, y)` of one example, with which functions of a user's own can
                be tried; `None` if there is none yet.
        """

    def exact(self, network: AbstractNetwork, nudge: AbstractNudge) -> bool:
        """Say whether its estimate is to be the gradient of the loss.

        For small nudges, that is, and tight tolerances: the cosine is then evidence.
        """
        del network, nudge
        return False

    def reached(self, network: AbstractNetwork, nudge: AbstractNudge) -> frozenset[int]:
        """Return the blocks, counted from 0, whose arrays can receive a gradient.

        Those from which a way leads to a block that feels the nudge, for a start.
        """
        # Turned around: gradients run against the way in which blocks drive others.
        pairs = {(b, a) for a, b in self.subject(network).influences}
        return closure(nudge.blocks(network), pairs)

    def loss(
        self, network: AbstractNetwork, task: Task, estimate: Estimate
    ) -> Float[Array, ""]:
        """Return the loss of an estimate once more, so that it can be differentiated.

        Its derivative is that of the rest, by implicit differentiation.
        """
        used = usable(estimate.result)
        state = differentiable(
            network, lambda network, x: network.free(x), task.x, estimate.free.state
        )
        return task.of(used).cost(network, task.nudge, only(used, state))

    def subject(self, network: AbstractNetwork) -> AbstractNetwork:
        """Return the network that is trained: all of it, or its feed-forward twin."""
        return network

    @abc.abstractmethod
    def estimate(self, network: AbstractNetwork, task: Task) -> Estimate:
        """Return the loss and its gradient.

        Raises:
            RuntimeError: if `task.throw` and a phase has not settled.
        """


def only(used: Bool[Array, " batch"], tree: PyTree, axis: int = 0) -> PyTree:
    """Return arrays without the examples that are not used, which may be NaN.

    In their place is one that is used, since not every cost or energy stands a zero;
    and zeros, if there is none.

    Args:
        used: which examples take part, `(batch,)`.
        tree: a tree of arrays.
        axis: the axis of the examples in each of them.
    """

    def one(leaf):
        others = [n for n in range(leaf.ndim) if n != axis]
        one = jnp.take(leaf, jnp.argmax(used)[None], axis)
        one = jnp.where(jnp.any(used), one, 0)
        # Chosen and not multiplied by 0, which a NaN would survive.
        return jnp.where(jnp.expand_dims(used, others), leaf, one)

    return jax.tree_util.tree_map(one, tree)


def partition(network: AbstractNetwork, nudge: AbstractNudge) -> tuple[PyTree, PyTree]:
    """Return what rules differentiate by of `(network, nudge)`, and the rest."""
    # More than `fit` trains: constants of an energy have a derivative too, which
    # `ctep.gradient` returns.
    return eqx.partition((network, nudge), (network.differentiable(), nudge.owned()))


def differentiate(objective, network, nudge) -> PyTree:
    """Return the gradient of `objective(network, nudge)` by what may be trained."""
    trained, rest = partition(network, nudge)
    return jax.grad(lambda t: objective(*eqx.combine(t, rest)))(trained)
