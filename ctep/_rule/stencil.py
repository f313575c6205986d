"""Equilibrium propagation: nudged rests, differenced by a stencil."""

import abc
import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, PyTree

from .. import _checks as checks
from .._custom_types import State
from .._network import AbstractNetwork, AbstractProblem
from .._nudge import Pull
from .._solver import RESULTS, Equilibrium, first_failure
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

    def check(self, network, nudge, example=None):
        network.check_nudged()

    @abc.abstractmethod
    def stencil(self) -> tuple[np.ndarray, np.ndarray]:
        r"""Return the nudges $\beta_k$ and the weights $w_k$."""

    def phases(self, task: Task) -> tuple[Array, Array]:
        r"""Return $\beta_k$ and $w_k$, `(phases, batch)` or `(phases, 1)`."""
        nudges, weights = self.stencil()
        dtype = task.x.dtype
        if np.iscomplexobj(nudges):
            dtype = jnp.promote_types(dtype, jnp.complex64)
        return jnp.asarray(nudges, dtype)[:, None], jnp.asarray(weights, dtype)[:, None]

    def problem(
        self, network: AbstractNetwork, task: Task, free: Equilibrium, betas: Array
    ) -> AbstractProblem:
        """Return the problem of the increments of all phases."""
        own = task.nudge.context(network, free.state, task.target, task.epoch)
        context = (betas, jax.tree_util.tree_map(lambda leaf: leaf[None], own))
        pull = Pull(task.nudge, network, task.epoch)
        return network.increments(task.x, free.state, free.memory, pull, context)

    def counted(self, result: RESULTS) -> Bool[Array, " batch"] | None:
        """Return which examples count, `None` for all.

        Args:
            result: of each example, the first phase that has not settled.
        """
        del result
        return None

    def nudged(
        self, network: AbstractNetwork, task: Task, free: Equilibrium, betas: Array
    ) -> Equilibrium:
        """Return the increments in which all phases end."""
        problem, start = self.problem(network, task, free, betas), zeros(free, betas)
        return task.solver.solve(problem, start, zeros=True, throw=task.throw)

    def estimate(self, network, task):
        free = task.settle(network)
        betas, weights = self.phases(task)
        nudged = self.nudged(network, task, free, betas)
        steps = free.steps + jnp.sum(nudged.steps, 0)
        result = first_failure(free.result, nudged.result)
        return self.contrast(network, task, free, nudged.state, weights, steps, result)

    def contrast(
        self, network, task, free, increments, weights, steps, result
    ) -> Estimate:
        r"""Return what the increments say of the gradient.

        Args:
            network: whose increments they are.
            task: the whole batch.
            free: the free equilibrium.
            increments: $d_k$, `(phases, batch, *shape)` per block.
            weights: $w_k$, `(phases, batch)` or `(phases, 1)`.
            steps: of all phases together, `(batch,)`.
            result: of each example, the first phase that has not settled.
        """
        state, d = free.state, increments
        if (counted := self.counted(result)) is not None:
            task, state, d = _masked(counted, task, state, d)
        weights = weights * task.weight
        return Estimate(
            loss=task.cost(network, task.nudge, state),
            gradient=self.gradient(network, task, state, d, weights),
            free=free,
            sweeps=steps,
            result=result,
            nudged=tuple(s + v[0].real for s, v in zip(state, d, strict=True)),
        )

    def gradient(self, network, task, state, increments, weights) -> PyTree:
        r"""Return what increments $d_k$ with weights $w_k$, `(phases, batch)`, make."""
        d = jax.lax.stop_gradient(increments)

        def objective(network, nudge):
            direct = task.cost(network, nudge, state)
            if self.rescale and network.has_energy:
                return direct + network.energy_contrast(task.x, state, d, weights)
            tangent = tuple(
                _weighted(weights, v).real / (a if self.rescale else 1.0)
                for v, a in zip(d, network.attenuation, strict=True)
            )
            return direct + network.field_contrast(task.x, state, tangent)

        return differentiate(objective, network, task.nudge)


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
        checks.positive("beta", self.beta, "0.1")
        checks.flag("rescale", self.rescale)

    def stencil(self):
        return np.array([self.beta]), np.array([1 / self.beta])


class Centered(AbstractStencil):
    r"""Two nudges: $(s(\beta) - s(-\beta))/2\beta$, error $O(\beta^2)$.

    Args:
        beta: size of the nudge.
        rescale: as in `OneSided`.

    Raises:
        ValueError: if `beta` is not positive.

    Cost: one free and two nudged phases (as one phase of twice the batch). Memory does
    not depend on their length.

    References:
        Laborieux et al., 2021, arXiv:2006.03824.
    """

    beta: float = 0.1
    rescale: bool = True

    def __check_init__(self):
        checks.positive("beta", self.beta, "0.1")
        checks.flag("rescale", self.rescale)

    def stencil(self):
        beta = self.beta
        return np.array([beta, -beta]), np.array([0.5, -0.5]) / beta


class RandomSign(AbstractStencil):
    r"""One nudge of random sign per example, $\pm\beta$: error $O(\beta^2)$ on average.

    $$\sigma = \pm 1, \qquad \frac{s(\sigma\beta) - s(0)}{\sigma\beta}
    = s'(0) + \frac{\sigma\beta}{2} s''(0) + O(\beta^2)$$

    The bias of `OneSided` becomes noise of zero mean, at the cost of `OneSided`.

    Args:
        beta: size of the nudge.
        rescale: as in `OneSided`.

    Raises:
        ValueError: if `beta` is not positive; from `ctep.gradient`, without a `key`.

    Cost: one free and one nudged phase; memory does not depend on their length.

    References:
        Laborieux et al., 2021, arXiv:2006.03824, with one sign per batch.
    """

    beta: float = 0.1
    rescale: bool = True

    def __check_init__(self):
        checks.positive("beta", self.beta, "0.1")
        checks.flag("rescale", self.rescale)

    @property
    def random(self):
        return True

    def stencil(self):
        return OneSided(self.beta).stencil()

    def phases(self, task):
        signs = jax.vmap(lambda key: jax.random.rademacher(key, (), task.x.dtype))
        betas, weights = super().phases(task)
        sign = signs(task.keys)[None]
        return sign * betas, sign * weights


def zeros(free: Equilibrium, betas: Array) -> State:
    """Return increments of zero, `(phases, batch, *shape)` per block."""
    return tuple(jnp.zeros((len(betas), *s.shape), betas.dtype) for s in free.state)


def _masked(counted, task, state, increments):
    """Return task, state and increments without the examples that do not count."""
    weight = jnp.where(counted, task.weight, 0)
    share = jnp.sum(weight) / jnp.sum(task.weight)
    weight = weight / jnp.where(share > 0, share, 1)

    def mask(values, axis):
        others = [n for n in range(values.ndim) if n != axis]
        keep = jnp.expand_dims(counted, others)
        return jnp.where(keep, values, 0)  # what has diverged may be NaN

    state = tuple(mask(s, 0) for s in state)
    increments = tuple(mask(d, 1) for d in increments)
    return dataclasses.replace(task, weight=weight), state, increments


def _weighted(weights, values):
    """Return the sum over phases of weights times values."""
    axes = (1,) * (values.ndim - weights.ndim)
    return jnp.sum(weights.reshape(weights.shape + axes) * values, 0)
