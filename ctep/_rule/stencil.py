"""Equilibrium propagation: nudged rests, differenced by a stencil."""

import abc

import jax
import jax.numpy as jnp
import numpy as np

from .. import _checks as checks
from .._custom_types import State
from .._nudge import Pull
from .._solver import first_failure
from .base import AbstractRule, Estimate, Task, differentiate


class AbstractStencil(AbstractRule):
    r"""Equilibrium propagation with nudges $\beta_k$ and weights $w_k$.

    The nudged phases are solved for their increments $d_k = s(\beta_k) - s(0)$, all
    of them as one more batch axis. With an energy,

    $$\frac{dL}{d\theta} \approx \sum_k w_k \left[\frac{\partial E}{\partial\theta}
    (s + d_k) - \frac{\partial E}{\partial\theta}(s)\right]
    + \frac{\partial C}{\partial\theta}(s)$$

    with the bracket taken from the increments, and without one
    $-\sum_{k,n} w_k c_n \langle d_{k,n}, \partial h_n/\partial\theta \rangle$ at the
    free state. $c_n$ undoes the attenuation of the feedback on its way to layer n; in
    a graded network it is the layer's weight in the energy. Parameters that only the
    cost knows (readouts, projections) get their direct gradient, the last term.

    A stencil is consistent if $\sum_k w_k \beta_k = 1$.
    """

    # Not a field here, where it would come before those of the subclasses.
    @property
    @abc.abstractmethod
    def rescale(self) -> bool:
        """Whether increments are divided by the attenuation that brought them."""

    def check(self, network, nudge):
        network.check_nudged()

    @abc.abstractmethod
    def stencil(self) -> tuple[np.ndarray, np.ndarray]:
        r"""Return the nudges $\beta_k$ and the weights $w_k$."""

    def kept(self, task, result, increments) -> tuple[Task, State]:
        """Return the task and the increments of the examples that count: of all.

        Args:
            task: the whole batch.
            result: of each example, the first phase that has not settled.
            increments: `(phases, batch, *shape)` per block.
        """
        return task, increments

    def estimate(self, network, task):
        free = task.settle(network)
        nudges, stencil = self.stencil()
        dtype = free.state[0].dtype
        kind = dtype
        if np.iscomplexobj(nudges):
            kind = jnp.promote_types(dtype, jnp.complex64)
        betas = jnp.asarray(nudges, kind)[:, None]
        own = task.nudge.context(network, free.state, task.target, task.epoch)
        context = (betas, jax.tree_util.tree_map(lambda leaf: leaf[None], own))
        problem = network.increments(
            task.x,
            free.state,
            free.memory,
            Pull(task.nudge, network, task.epoch),
            context,
        )
        start = tuple(jnp.zeros((len(nudges), *s.shape), kind) for s in free.state)
        nudged = task.solver.solve(problem, start, zeros=True, throw=task.throw)
        result = first_failure(free.result, nudged.result)
        loss = task.cost(network, task.nudge, free.state)
        task, d = self.kept(task, result, nudged.state)
        d = jax.lax.stop_gradient(d)
        weights = jnp.asarray(stencil, kind)[:, None] * task.weight

        def objective(network, nudge):
            direct = task.cost(network, nudge, free.state)
            if self.rescale and network.has_energy:
                contrast = network.energy_contrast(task.x, free.state, d, weights)
                return direct + contrast
            tangent = tuple(
                _weighted(weights, v).real / (a if self.rescale else 1.0)
                for v, a in zip(d, network.attenuation, strict=True)
            )
            return direct + network.field_contrast(task.x, free.state, tangent)

        return Estimate(
            loss=loss,
            gradient=differentiate(objective, network, task.nudge),
            free=free,
            sweeps=free.steps + jnp.sum(nudged.steps, 0),
            result=result,
            nudged=tuple(s + v[0].real for s, v in zip(free.state, d, strict=True)),
        )


class OneSided(AbstractStencil):
    r"""One nudge: $(s(\beta) - s(0))/\beta$, error $O(\beta)$.

    Args:
        beta: size of the nudge. Increments keep their precision however small it is.
        rescale: whether each layer's increments are divided by the attenuation of the
            feedback that brought them; without it the gradient of a regulated network
            is that of the published codes, smaller by $\gamma$ per layer.

    Raises:
        ValueError: if `beta` is not positive.

    Cost: one free and one nudged phase; memory does not depend on their length.

    References:
        Scellier and Bengio, 2017, arXiv:1602.05179.
    """

    beta: float = 0.01
    rescale: bool = True

    def __check_init__(self):
        _check_beta(self.beta)

    def stencil(self):
        return np.array([self.beta]), np.array([1 / self.beta])


class Centered(AbstractStencil):
    r"""Two nudges: $(s(\beta) - s(-\beta))/2\beta$, error $O(\beta^2)$.

    Args:
        beta: size of the nudge.
        rescale: as in `OneSided`.

    Raises:
        ValueError: if `beta` is not positive.

    Cost: one free and two nudged phases (as one phase of twice the batch).

    References:
        Laborieux et al., 2021, arXiv:2006.03824.
    """

    beta: float = 0.1
    rescale: bool = True

    def __check_init__(self):
        _check_beta(self.beta)

    def stencil(self):
        beta = self.beta
        return np.array([beta, -beta]), np.array([0.5, -0.5]) / beta


def _check_beta(beta):
    checks.real("beta", beta, "0.1")
    if not beta > 0:
        raise ValueError(
            f"`beta` is {beta}, but a nudge must be positive: pass for example 0.1."
        )


def _weighted(weights, values):
    """Return the sum over phases of weights times values."""
    axes = (1,) * (values.ndim - weights.ndim)
    return jnp.sum(weights.reshape(weights.shape + axes) * values, 0)
