"""Optimistix fixed points: the discrete dynamics with any of its solvers."""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
import optimistix as optx

from .. import _checks as checks
from .._custom_types import Number
from .base import AbstractSolver
from .units import Rescaled


class FixedPoint(AbstractSolver):
    r"""Solve $s = T(s)$ with an Optimistix solver, each example by itself.

    ```python
    import ctep, jax

    network = ctep.mlp((4, 8, 3), key=jax.random.key(0))
    rest = ctep.settle(network, jax.numpy.ones((2, 4)), solver=ctep.FixedPoint())
    ```

    Args:
        solver: `optimistix.FixedPointIteration`, or a root finder such as
            `optimistix.Newton` (which builds the Jacobian of one example: small
            networks only); by default fixed-point iteration to a tenth of the
            tolerances below.
        max_steps: iterations after which to give up.
        rtol: relative tolerance of the verdict on $|T(s) - s|$, element by element,
            whatever the solver itself stops on.
        atol: absolute tolerance of the verdict.

    Raises:
        ValueError: if `max_steps` is not positive, a tolerance is negative, or the
            solver is for one number.

    Cost: one application of $T$ per iteration, plus one for the verdict.
    """

    solver: Any = None
    max_steps: int = eqx.field(default=1000, converter=checks.number)
    rtol: Number = eqx.field(default=1e-3, converter=checks.number)
    atol: Number = eqx.field(default=1e-3, converter=checks.number)

    def __check_init__(self):
        kinds = (
            optx.AbstractFixedPointSolver,
            optx.AbstractRootFinder,
            optx.AbstractLeastSquaresSolver,
            optx.AbstractMinimiser,
            type(None),
        )
        example = "optimistix.Newton(1e-6, 1e-6)"
        checks.instance("solver", self.solver, kinds, "an Optimistix solver", example)
        if isinstance(self.solver, optx.Bisection):
            raise ValueError(
                "`solver` is a Bisection, which finds one number between two bounds, "
                "but a rest has many: pass `optimistix.Newton(1e-6, 1e-6)` or "
                "`optimistix.Chord(1e-6, 1e-6)`."
            )
        checks.count("max_steps", self.max_steps, "1000")

    def solve(self, problem, state, *, zeros=False, throw=True):
        # Its tolerances are of the move T(s) - s, ours of the force: that over `step`.
        tenth = 0.1 * problem.step
        solver = self.solver or optx.FixedPointIteration(
            tenth * self.rtol,  # pyright: ignore[reportArgumentType]
            tenth * self.atol,  # pyright: ignore[reportArgumentType]
        )

        def one(problem, state):
            scaled, start = Rescaled.of(problem, state)
            solution = optx.fixed_point(
                lambda s, _: scaled.map(s),
                solver,
                start,
                max_steps=self.max_steps,
                # One example that fails must not raise for all: each has a verdict.
                throw=False,
            )
            return scaled.from_units(solution.value), solution.stats["num_steps"]

        # By example, as Optimistix stops everything that it is given at once.
        state, steps = problem.per_example(one, state)
        return self.verdict(problem, state, jnp.asarray(steps), throw)
