"""Nudged phases at a free equilibrium, one sweep or all the way."""

from __future__ import annotations

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from .._custom_types import Memory, State
from .._network import AbstractNetwork, AbstractProblem
from .._rule import AbstractStencil, Task
from .._solver import Equilibrium


class Response(eqx.Module):
    """The nudged phases of a stencil at a free equilibrium, and what to make of them.

    Fields:
        problem: of the increments.
        start: increments of zero, `(phases, batch, *shape)`.
        weights: of the stencil and the examples, `(phases, batch)`.
    """

    problem: AbstractProblem
    start: State
    weights: Array
    rule: AbstractStencil
    network: AbstractNetwork
    task: Task
    free: Equilibrium

    @staticmethod
    def of(
        rule: AbstractStencil,
        network: AbstractNetwork,
        task: Task,
        free: Equilibrium,
        scale: float | Array = 1.0,
    ) -> Response:
        """Return the phases of `rule` with all of its nudges times `scale`."""
        betas, weights = rule.phases(task)
        lead = (len(betas),)
        return Response(
            rule.problem(network, task, free, scale * betas),
            tuple(jnp.zeros(lead + s.shape, betas.dtype) for s in free.state),
            weights * task.weight / scale,
            rule,
            network,
            task,
            free,
        )

    def gradient(self, increments: State, moved: Memory) -> PyTree:
        """Return the rule's gradient by the network, were the phases to end here.

        Args:
            increments: $d_k$.
            moved: what the problem recalls of them.
        """
        network, task, free = self.network, self.task, self.free
        both = self.rule.gradient(
            network, task, free.state, increments, self.weights, free.memory, moved
        )
        return both[0]
