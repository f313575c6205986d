"""The exact gradient, by implicit differentiation."""

import equinox as eqx
import jax
import jax.numpy as jnp

from .. import _checks as checks
from .._arrays import along
from .._solver import RESULTS, SUCCESSFUL, Adjoint, first_failure, usable
from .base import AbstractRule, Estimate, differentiate, only


class Implicit(AbstractRule):
    r"""Differentiate the free equilibrium itself, without any nudge.

    $$\frac{dL}{d\theta} = \frac{\partial C}{\partial\theta}
    + \left\langle v, \frac{\partial T}{\partial\theta} \right\rangle, \qquad
    (1 - J^\top) v = \frac{\partial C}{\partial s}, \qquad
    J = \frac{\partial T}{\partial s}$$

    solved by GMRES, each example by itself, and preconditioned by a transposed sweep
    from the output to the input, so that depth costs nothing. It is the gradient that
    every other rule approximates, for any feedback.

    ```python
    import ctep, jax

    network = ctep.mlp((4, 8, 8, 3), feedback=0.3, key=jax.random.key(0))
    x, y = jax.numpy.ones((2, 4)), jax.numpy.arange(2)
    loss, exact = ctep.gradient(network, x, y, rule=ctep.Implicit())
    ```

    Args:
        tolerance: that of the linear solve, relative to the largest element of
            $\partial C/\partial s$; by default 1e-5, in float64 1e-10.
        restart: dimension of a Krylov space, and sweeps that it takes.
        max_steps: number of such spaces, before an example counts as unsettled.

    Cost: one free phase and as many transposed sweeps as GMRES takes; memory of
    `restart` states per example. No bias but that of the tolerances.

    References:
        Recurrent backpropagation: Almeida, 1987; Pineda, 1987.
    """

    tolerance: float | None = eqx.field(default=None, converter=checks.number)
    restart: int = eqx.field(default=40, converter=checks.number)
    max_steps: int = eqx.field(default=25, converter=checks.number)

    def __check_init__(self):
        if self.tolerance is not None:
            checks.positive("tolerance", self.tolerance, "1e-5")
        for name in ("restart", "max_steps"):
            checks.count(name, getattr(self, name), "40")

    def estimate(self, network, task):
        free = task.settle(network)

        def total(state):
            # Not weighted: which examples count is known only after the solves.
            return jnp.sum(task.nudge.cost(network, state, task.target))

        # Most of it is zero, which XLA would spend minutes on folding.
        pull = jax.lax.optimization_barrier(jax.grad(total)(free.state))
        adjoint = Adjoint(self.tolerance, self.restart, self.max_steps)
        v, steps, solved = adjoint.solve(network.free(task.x), free.state, pull)

        def verdict(solved):
            return RESULTS.where(solved, SUCCESSFUL, RESULTS.not_settled)

        # The linear solve counts as one phase more, which may fail like a nudged one.
        result = first_failure(free.result, jax.vmap(jax.vmap(verdict))(solved[None]))
        used = usable(result)
        task, state = task.of(used), only(used, free.state)
        v = jax.lax.stop_gradient(only(used, v))

        def objective(network, nudge):
            image = network.free(task.x).map(state)
            total = task.cost(network, nudge, state)
            for t, w in zip(image, v, strict=True):
                total = total + jnp.sum(along(task.weight, w.ndim) * w * t)
            return total

        return Estimate(
            loss=task.cost(network, task.nudge, state),
            gradient=differentiate(objective, network, task.nudge),
            free=free,
            sweeps=free.steps + steps,
            result=result,
            nudged=state,
        )

    def exact(self, network, nudge):
        return True
