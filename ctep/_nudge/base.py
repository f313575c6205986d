"""Nudges: what pulls a network towards a target, and how they add up."""

from __future__ import annotations

import abc
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from .. import _checks as checks
from .._custom_types import Lead, State
from .._network import AbstractNetwork, AbstractPull


class AbstractNudge(eqx.Module):
    r"""A cost $C(s, y)$ whose negative gradient pulls at the state.

    Nudges add up and scale: `a + 0.65 * b`. A weight may be a function of the epoch.
    Arrays in a nudge are parameters that it owns; they are trained along.
    """

    @abc.abstractmethod
    def blocks(self, network: AbstractNetwork) -> tuple[int, ...]:
        """Return the blocks, counted from 0, that feel the nudge."""

    @abc.abstractmethod
    def cost(
        self, network: AbstractNetwork, state: State, target: Array, epoch: Array
    ) -> Lead:
        """Return the cost of each example.

        Args:
            network: whose state it is.
            state: `(*lead, *shape)` per block.
            target: labels or values, with leading axes that broadcast to `lead`.
            epoch: for weights that are scheduled.
        """

    def context(
        self, network: AbstractNetwork, state: State, target: Array, epoch: Array
    ) -> PyTree:
        """Return the arrays that `force` needs, `(batch, ...)`, at the free state."""
        del network, state, epoch
        return target

    def force(
        self,
        n: int,
        network: AbstractNetwork,
        state: State,
        context: PyTree,
        epoch: Array,
    ) -> Array | None:
        r"""Return $-\partial C/\partial s_n$, `None` where the nudge is not felt."""
        if n not in self.blocks(network):
            return None

        def total(s):
            moved = (*state[:n], s, *state[n + 1 :])
            return jnp.sum(self.cost(network, moved, context, epoch))

        return -jax.grad(total)(state[n])

    def check(self, network: AbstractNetwork, target: Array) -> None:
        """Raise `ValueError` if the nudge does not fit the network or the target."""

    def __add__(self, other: AbstractNudge) -> AbstractNudge:
        if not isinstance(other, AbstractNudge):
            return NotImplemented
        return Sum((self, other))

    def __mul__(self, weight: int | float | Callable[[Array], Array]) -> AbstractNudge:
        return Scaled(weight, self)

    __rmul__ = __mul__


class Sum(AbstractNudge):
    """Several nudges at once."""

    nudges: tuple[AbstractNudge, ...]

    def blocks(self, network):
        return tuple(
            sorted({n for nudge in self.nudges for n in nudge.blocks(network)})
        )

    def cost(self, network, state, target, epoch):
        costs = [nudge.cost(network, state, target, epoch) for nudge in self.nudges]
        return jax.tree_util.tree_reduce(jnp.add, costs)

    def context(self, network, state, target, epoch):
        return tuple(n.context(network, state, target, epoch) for n in self.nudges)

    def force(self, n, network, state, context, epoch):
        forces = [
            nudge.force(n, network, state, own, epoch)
            for nudge, own in zip(self.nudges, context, strict=True)
        ]
        felt = [force for force in forces if force is not None]
        return sum(felt[1:], felt[0]) if felt else None

    def check(self, network, target):
        for nudge in self.nudges:
            nudge.check(network, target)


class Scaled(AbstractNudge):
    """A nudge times a weight.

    Args:
        weight: a number, or a function of the epoch (an optax schedule, say).
        nudge: what it scales.
    """

    weight: int | float | Callable[[Array], Array] = eqx.field(static=True)
    nudge: AbstractNudge

    def __check_init__(self):
        if not callable(self.weight) and not isinstance(self.weight, int | float):
            raise TypeError(
                f"`weight` is {self.weight!r}, but a nudge is scaled by a number or by "
                "a function of the epoch: pass one of them."
            )

    def blocks(self, network):
        return self.nudge.blocks(network)

    def cost(self, network, state, target, epoch):
        return self._weight(epoch) * self.nudge.cost(network, state, target, epoch)

    def context(self, network, state, target, epoch):
        return self.nudge.context(network, state, target, epoch)

    def force(self, n, network, state, context, epoch):
        force = self.nudge.force(n, network, state, context, epoch)
        return None if force is None else self._weight(epoch) * force

    def check(self, network, target):
        self.nudge.check(network, target)

    def _weight(self, epoch):
        return self.weight(epoch) if callable(self.weight) else self.weight


class Frozen(AbstractNudge):
    """A nudge whose force stays what it is at the free state.

    The published code of layered feedback-regulated networks does this.
    """

    nudge: AbstractNudge

    def __check_init__(self):
        example = "ctep.OutputError()"
        checks.instance("nudge", self.nudge, AbstractNudge, "a nudge", example)

    def blocks(self, network):
        return self.nudge.blocks(network)

    def cost(self, network, state, target, epoch):
        return self.nudge.cost(network, state, target, epoch)

    def context(self, network, state, target, epoch):
        own = self.nudge.context(network, state, target, epoch)
        return {
            n: self.nudge.force(n, network, state, own, epoch)
            for n in self.blocks(network)
        }

    def force(self, n, network, state, context, epoch):
        return context.get(n)

    def check(self, network, target):
        self.nudge.check(network, target)


class Pull(AbstractPull):
    r"""The force of a nudge as the network sees it, $-\beta\,\partial C/\partial s$.

    Its context is `(beta, the nudge's own context)`.
    """

    nudge: AbstractNudge
    network: AbstractNetwork
    epoch: Array

    def __call__(self, n, state, context):
        beta, own = context
        force = self.nudge.force(n, self.network, state, own, self.epoch)
        if force is None:
            return None
        # beta has the leading axes alone.
        axes = (1,) * len(self.network.shapes[n])
        return beta.reshape(beta.shape + axes) * force
