"""Nudged phases at a free equilibrium, one sweep or all the way."""

from __future__ import annotations

import equinox as eqx
from jaxtyping import Array, PyTree

from .._custom_types import Memory, State
from .._network import AbstractNetwork, AbstractProblem
from .._rule import AbstractStencil, Task
from .._rule.stencil import zeros
from .._solver import AbstractSolver, Equilibrium


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
        return Response(
            rule.problem(network, task, free, scale * betas),
            zeros(free, betas),
            # Divided by it, so that the sum of weights times nudges stays 1.
            weights * task.weight / scale,
            rule,
            network,
            task,
            free,
        )

    def settle(self, solver: AbstractSolver) -> Equilibrium:
        """Return the increments in which the phases end."""
        return solver.solve(self.problem, self.start, zeros=True, throw=False)

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
