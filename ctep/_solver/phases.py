"""Free and nudged phases, each with a solver of its own."""

from .. import _checks as checks
from .base import AbstractSolver


class Phases(AbstractSolver):
    """Solve free phases by one solver, and nudged ones by another.

    What a nudged phase is asked for need not be what a free one is: the increments of a
    small nudge may stop at a tenth of their size where the state must be at rest to
    within a thousandth, or the other way round, and their number of sweeps and their
    order may be others. Each phase is judged by its own solver's tolerances.

    ```python
    import ctep, jax

    network = ctep.mlp((4, 8, 8, 3), feedback=0.3, key=jax.random.key(0))
    x, y = jax.numpy.ones((2, 4)), jax.numpy.arange(2)
    solver = ctep.Phases(
        free=ctep.Sweeps(100, rtol=1e-3, atol=1e-3),
        nudged=ctep.Sweeps(20, rtol=0.03, atol=0.03),
    )
    loss, gradient = ctep.gradient(network, x, y, solver=solver)
    ```

    Args:
        free: solver of free phases, and of all that has no nudge: `ctep.settle`,
            `ctep.evaluate`, the free phases of rules. Its tolerances are the pair's.
        nudged: solver of the increments.

    Raises:
        TypeError: if one of them is no solver.
        ValueError: if one of them is such a pair itself.

    Cost: that of the two. What only one of them does in its phase it does here too:
    `FixedSweeps` takes its `free` or its `nudged` sweeps.
    """

    free: AbstractSolver
    nudged: AbstractSolver

    def __check_init__(self):
        for name in ("free", "nudged"):
            value = getattr(self, name)
            example = "ctep.Sweeps(rtol=0.03, atol=0.03)"
            checks.instance(name, value, AbstractSolver, "a solver", example)
            if isinstance(value, Phases):
                raise ValueError(
                    f"`{name}` is a pair of solvers, but a phase has one: pass its "
                    f"`.{name}`."
                )

    @property
    def rtol(self):
        return self.free.rtol

    @property
    def atol(self):
        return self.free.atol

    def of(self, problem):
        return self.nudged if problem.incremental else self.free

    def with_tolerances(self, change):
        both = (s.with_tolerances(change) for s in (self.free, self.nudged))
        return Phases(*both)  # pyright: ignore[reportArgumentType]

    def solve(self, problem, state, *, zeros=False, throw=True):
        return self.of(problem).solve(problem, state, zeros=zeros, throw=throw)

    def solve_nudged(self, problem, free, increments, start, *, throw=True):
        return self.nudged.solve_nudged(problem, free, increments, start, throw=throw)
