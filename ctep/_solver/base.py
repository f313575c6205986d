"""What every solver offers."""

import abc
from collections.abc import Callable

import equinox as eqx
from jaxtyping import Array, Int

from .. import _checks as checks
from .._custom_types import State
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

    rtol: eqx.AbstractVar[float]
    atol: eqx.AbstractVar[float]

    def __check_init__(self):
        for name in ("rtol", "atol"):
            checks.real(name, getattr(self, name), "1e-3")
            if not getattr(self, name) >= 0:
                raise ValueError(
                    f"`{name}` is {getattr(self, name)}, but a tolerance must be 0 or "
                    "more: pass for example 1e-3."
                )

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
            problem: free, nudged or incremental.
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
            problem: of the free phase.
            free: where it has ended.
            increments: returns the problem of the increments around a free state.
            start: increments of zero, `(phases, batch, *shape)` per block.
            throw: as in `solve`.

        Returns:
            The free state, where it is at the end of the nudged phases, and the
            increments around it.

        Raises:
            RuntimeError: as in `solve`.
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
            problem: whose state it is.
            state: where somebody has stopped.
            steps: that each example took.
            throw: as in `solve`.
            otherwise: of an example that has not settled, but is finite and bounded.

        Raises:
            RuntimeError: as in `solve`.
        """
        image, memory = problem.image(state)
        change = tuple(t - s for t, s in zip(image, state, strict=True))
        sizes = problem.sizes(state, image)
        residual, excess = problem.residual(change, sizes, self.rtol, self.atol)
        return judge(state, residual, excess, steps, memory, throw, otherwise)
