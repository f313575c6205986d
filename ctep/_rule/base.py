"""What every learning rule offers."""

import abc

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key, PyTree

from .._custom_types import State
from .._network import AbstractNetwork
from .._nudge import AbstractNudge
from .._solver import RESULTS, AbstractSolver, Equilibrium


class Task(eqx.Module):
    """What a gradient is taken of: everything but the network and the rule.

    Fields:
        x: inputs, `(batch, *input_shape)`.
        target: what the nudge's `targets` returned.
        nudge: its cost is the loss.
        solver: for all phases.
        weight: of each example, `(batch,)`, summing to 1 for a mean.
        epoch: for weights of nudges that are scheduled.
        throw: whether to raise if an example has not settled.
        start: of the free phase, zeros if `None`.
        keys: one per example, for rules that draw at random.
    """

    x: Array
    target: PyTree
    nudge: AbstractNudge
    solver: AbstractSolver
    weight: Float[Array, " batch"]
    epoch: Array
    throw: bool = eqx.field(static=True)
    start: State | None = None
    keys: Key[Array, " batch"] | None = None

    @staticmethod
    def mean(
        x, y, nudge, solver, *, epoch: int | Array = 0, throw=True, key=None
    ) -> "Task":
        """Return the task whose loss is the mean over the batch."""
        count = x.shape[0]
        weight = jnp.full(count, 1 / count, x.dtype)
        target, epoch = nudge.targets(x, y), jnp.asarray(epoch)
        keys = None if key is None else jax.random.split(key, count)
        return Task(x, target, nudge, solver, weight, epoch, throw, keys=keys)

    def settle(self, network: AbstractNetwork) -> Equilibrium:
        """Return the free equilibrium."""
        free = self.solver.solve(
            network.free(self.x),
            network.zeros(self.x) if self.start is None else self.start,
            zeros=self.start is None,
            throw=self.throw,
        )
        return jax.lax.stop_gradient(free)

    def cost(self, network, nudge, state) -> Float[Array, ""]:
        """Return the weighted mean of the nudge's cost."""
        costs = nudge.cost(network, state, self.target, self.epoch)
        return jnp.sum(self.weight * costs)


class Estimate(eqx.Module):
    """A gradient, with what it took to get it.

    Fields:
        loss: the weighted mean of the cost at the free state.
        gradient: `(network, nudge)` trees of arrays, `None` for what is not trained.
        free: the free equilibrium.
        sweeps: steps of all phases together, `(batch,)`.
        result: of each example, the first phase that has not settled, `(batch,)`.
        nudged: state at the end of the first nudged phase; the free one without any.
    """

    loss: Float[Array, ""]
    gradient: PyTree
    free: Equilibrium
    sweeps: Array
    result: RESULTS
    nudged: State


class AbstractRule(eqx.Module):
    """How the rests of a network make a gradient."""

    @property
    def random(self) -> bool:
        """Whether it draws at random, from `task.keys`."""
        return False

    def check(
        self,
        network: AbstractNetwork,
        nudge: AbstractNudge,
        example: tuple[Array, Array] | None = None,
    ) -> None:
        """Raise `ValueError` if the rule does not fit the network or the nudge.

        Args:
            network: to be trained.
            nudge: that trains it.
            example: `(x, y)` of one example, with which functions of a user's own can
                be tried; `None` if there is none yet.
        """

    def subject(self, network: AbstractNetwork) -> AbstractNetwork:
        """Return the network that is trained: all of it, or its feed-forward twin."""
        return network

    @abc.abstractmethod
    def estimate(self, network: AbstractNetwork, task: Task) -> Estimate:
        """Return the loss and its gradient.

        Raises:
            RuntimeError: if `task.throw` and a phase has not settled.
        """


def partition(network: AbstractNetwork, nudge: AbstractNudge) -> tuple[PyTree, PyTree]:
    """Return what is trained of `(network, nudge)`, and the rest."""
    return eqx.partition((network, nudge), (network.trainable(), nudge.owned()))


def differentiate(objective, network, nudge) -> PyTree:
    """Return the gradient of `objective(network, nudge)` by what is trained."""
    trained, rest = partition(network, nudge)
    return jax.grad(lambda t: objective(*eqx.combine(t, rest)))(trained)
