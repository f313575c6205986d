"""The exact gradient, by implicit differentiation."""

import jax
import jax.numpy as jnp
import lineax as lx

from .. import _checks as checks
from .._solver import RESULTS, SUCCESSFUL, first_failure
from .base import AbstractRule, Estimate, differentiate


class Implicit(AbstractRule):
    r"""Differentiate the free equilibrium itself, without any nudge.

    $$\frac{dL}{d\theta} = \frac{\partial C}{\partial\theta}
    + \left\langle v, \frac{\partial T}{\partial\theta} \right\rangle, \qquad
    (1 - J^\top) v = \frac{\partial C}{\partial s}, \qquad
    J = \frac{\partial T}{\partial s}$$

    solved by GMRES from Jacobian-vector products, each example by itself. It is the
    gradient that every other rule approximates, for any feedback.

    Args:
        tolerance: of the linear solve, relative to the largest element of
            $\partial C/\partial s$; by default 1e-5, in float64 1e-10.
        restart: dimension of the Krylov space; a chain of L layers needs L or more.
        max_steps: when to give up.

    Cost: one free phase and as many products with $J^\top$ as GMRES takes; memory of
    `restart` states per example. No bias but that of the tolerances.

    References:
        Recurrent backpropagation: Almeida, 1987; Pineda, 1987.
    """

    tolerance: float | None = None
    restart: int = 40
    max_steps: int = 1000

    def __check_init__(self):
        if self.tolerance is not None:
            checks.positive("tolerance", self.tolerance, "1e-5")
        for name in ("restart", "max_steps"):
            checks.count(name, getattr(self, name), "40")

    def estimate(self, network, task):
        free = task.settle(network)
        problem = network.free(task.x)

        def total(state):
            costs = task.nudge.cost(network, state, task.target, task.epoch)
            return jnp.sum(costs)

        # Most of it is zero, which XLA would spend minutes on folding.
        pull = jax.lax.optimization_barrier(jax.grad(total)(free.state))
        tolerance = self.tolerance
        if tolerance is None:
            double = free.state[0].dtype == jnp.float64
            tolerance = 1e-10 if double else 1e-5
        solver = lx.GMRES(
            tolerance, tolerance, max_steps=self.max_steps, restart=self.restart
        )

        def adjoint(problem, state, pull):
            sizes = jnp.stack([jnp.max(jnp.abs(p)) for p in pull])
            unit = jnp.where(jnp.any(sizes > 0), jnp.max(sizes), 1)
            pull = tuple(p / unit for p in pull)
            _, transpose = jax.vjp(problem.map, state)
            operator = lx.FunctionLinearOperator(
                lambda v: tuple(a - b for a, b in zip(v, transpose(v)[0], strict=True)),
                jax.eval_shape(lambda: pull),
            )
            solution = lx.linear_solve(operator, pull, solver, throw=False)
            steps = jnp.asarray(solution.stats["num_steps"], jnp.int32)
            v = tuple(p * unit for p in solution.value)
            return v, steps, solution.result == lx.RESULTS.successful

        v, steps, solved = problem.per_example(adjoint, free.state, pull)
        v = jax.lax.stop_gradient(v)

        def verdict(solved):
            return RESULTS.where(solved, SUCCESSFUL, RESULTS.not_settled)

        def objective(network, nudge):
            image = network.free(task.x).map(free.state)
            total = task.cost(network, nudge, free.state)
            for t, w in zip(image, v, strict=True):
                weight = task.weight.reshape((-1,) + (1,) * (w.ndim - 1))
                total = total + jnp.sum(weight * w * t)
            return total

        return Estimate(
            loss=task.cost(network, task.nudge, free.state),
            gradient=differentiate(objective, network, task.nudge),
            free=free,
            sweeps=free.steps + steps,
            result=first_failure(
                free.result, jax.vmap(jax.vmap(verdict))(solved[None])
            ),
            nudged=free.state,
        )
