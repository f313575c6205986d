"""What every solver offers."""

import abc
import dataclasses
from collections.abc import Callable

import equinox as eqx
from jaxtyping import Array, Int

from .. import _checks as checks
from .._custom_types import Number, State
from .._network import AbstractProblem
from .equilibrium import RESULTS, Equilibrium, judge


class AbstractSolver(eqx.Module):
    """Finds where a problem is at rest.

    ```python
    import ctep, jax
    import jax.numpy as jnp

    class Damped(ctep.AbstractSolver):
        steps: int = 200
        rtol: float = 1e-3
        atol: float = 1e-3

        def solve(self, problem, state, *, zeros=False, throw=True):
            def step(_, s):
                return jax.tree.map(lambda a, b: (a + b) / 2, s, problem.map(s))

            state = jax.lax.fori_loop(0, self.steps, step, state)
            steps = jnp.full(state[0].shape[: -len(problem.shapes[0])], self.steps)
            return self.verdict(problem, state, steps, throw)

    network = ctep.mlp((4, 8, 3), key=jax.random.key(0))
    rest = ctep.settle(network, jnp.ones((2, 4)), solver=Damped())
    ```
    """

    rtol: eqx.AbstractVar[Number]
    atol: eqx.AbstractVar[Number]

    def __check_init__(self):
        for name in ("rtol", "atol"):
            checks.tolerance(name, getattr(self, name))

    def of(self, problem: AbstractProblem) -> "AbstractSolver":
        """Return the solver of a problem: this one, unless phases have their own."""
        del problem
        return self

    def with_tolerances(self, change: Callable[[Number], Number]) -> "AbstractSolver":
        """Return this solver with what `change` makes of each tolerance it has."""
        both = {"rtol": change(self.rtol), "atol": change(self.atol)}
        return dataclasses.replace(self, **both)  # pyright: ignore[reportCallIssue]

    @abc.abstractmethod
    def solve(
        self,
        problem: AbstractProblem,
        state: State,
        *,
        zeros: bool = False,
        throw: bool = True,
    ) -> Equilibrium:
        """Follow `problem` from `state` to rest.

        Args:
            problem: a free, nudged or incremental problem.
            state: where to start, `(*lead, *shape)` per block.
            zeros: whether `state` is known to be zero, which may save products.
            throw: whether to raise if any example has not settled.

        Raises:
            RuntimeError: if `throw` and some example has not settled; the message is
                that of its `RESULTS` member.
        """

    def solve_nudged(
        self,
        problem: AbstractProblem,
        free: Equilibrium,
        increments: Callable[[Equilibrium], AbstractProblem],
        start: State,
        *,
        throw: bool = True,
    ) -> tuple[Equilibrium, Equilibrium]:
        """Follow nudged phases from a free one to rest.

        Args:
            problem: the problem of the free phase, for solvers that go on with it.
            free: where the free phase has ended, `(batch, *shape)` per block.
            increments: function of a free equilibrium that returns the problem of the
                increments around it.
            start: increments of zero, `(phases, batch, *shape)` per block.
            throw: whether to raise if any phase has not settled.

        Returns:
            The free state, where it is at the end of the nudged phases, and the
            increments around it.

        Raises:
            RuntimeError: if `throw` and some phase has not settled.
        """
        del problem
        return free, self.solve(increments(free), start, zeros=True, throw=throw)

    def verdict(
        self,
        problem: AbstractProblem,
        state: State,
        steps: Int[Array, "..."],
        throw: bool = True,
        otherwise: RESULTS = RESULTS.not_settled,
    ) -> Equilibrium:
        """Return `state` as an equilibrium, judged by one more application of $T$.

        Args:
            problem: the problem that was to be solved.
            state: where the solver has stopped, `(*lead, *shape)` per block.
            steps: how many steps each example took, of shape `lead`.
            throw: whether to raise if any example has not settled.
            otherwise: the verdict on what has not settled, but is finite and bounded.

        Raises:
            RuntimeError: if `throw` and some example has not settled.
        """
        # Whatever a library's solver has stopped on: this one test knows forces,
        # elements and units, and its memory is of the very state that is returned.
        image, memory = problem.image(state)
        change = tuple(t - s for t, s in zip(image, state, strict=True))
        sizes = problem.sizes(state, image)
        own = self.of(problem)
        residual, excess = problem.residual(change, sizes, own.rtol, own.atol)
        return judge(state, residual, excess, steps, memory, throw, otherwise)
