"""Equilibrium propagation: nudged rests, differenced by a stencil.

Known algorithms are a choice of nudges, of the problem, and of the way it is solved:

- Cauchy's formula: nudges on a circle (`Holomorphic`); two of them are `Centered`;
- contrastive learning: a problem whose output is held at its target (`Coupled(1.0)`);
- the clamped phase of published codes: a nudge that grows step by step (`Ramped`).
"""

import abc

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from .. import _checks as checks
from .._arrays import along
from .._custom_types import Number, State
from .._network import AbstractNetwork, AbstractProblem, closure
from .._nudge import Pull
from .._solver import Equilibrium, first_failure, usable
from .base import AbstractRule, Estimate, Task, differentiate, only


class AbstractStencil(AbstractRule):
    r"""Equilibrium propagation with nudges $\beta_k$ and weights $w_k$.

    The nudged phases are solved for their increments
    $e_{k,n} = [s_n(\beta_k) - s_n(0)]/a_n$ in units of the attenuation $a_n$ of the
    feedback on its way to layer n, all phases as one more batch axis. With an energy,

    $$\frac{dL}{d\theta} \approx \sum_k w_k \left[\frac{\partial E}{\partial\theta}
    (s + a e_k) - \frac{\partial E}{\partial\theta}(s)\right]
    + \frac{\partial C}{\partial\theta}(s)$$

    with the bracket taken from the increments, and without one
    $-\sum_{k,n} w_k \langle e_{k,n}, \partial h_n/\partial\theta \rangle$ at the
    free state. In a graded network $1/a_n$ is the layer's weight in the energy.
    Parameters that only the cost knows (readouts, projections) get their direct
    gradient, the last term.

    A stencil is consistent if $\sum_k w_k \beta_k = 1$. This one combines `Centered` at
    two nudges such that an error of $O(\beta^4)$ is left:

    ```python
    import ctep, jax
    import numpy as np

    class Richardson(ctep.AbstractStencil):
        beta: float = 0.1
        rescale: bool = True

        def stencil(self):
            nudges = self.beta * np.array([1, -1, 0.5, -0.5])
            return nudges, np.array([-1, 1, 8, -8]) / (6 * self.beta)

    network = ctep.mlp((4, 8, 3), key=jax.random.key(0))
    x, y = np.ones((2, 4)), np.arange(2)
    loss, gradient = ctep.gradient(network, x, y, rule=Richardson())
    ```

    The hooks, and what overrides them: `stencil` and `phases` (which nudges:
    `RandomSign`, `Holomorphic`), `problem` (what is solved: `Coupled`), `nudged` (how:
    `Ramped`), all of `estimate` (`Oscillating`, which calls `gradient` in the end).
    """

    # Not a field here, where it would come before those of the subclasses.
    @property
    @abc.abstractmethod
    def rescale(self) -> bool:
        """Whether increments are divided by the attenuation that brought them."""

    def __check_init__(self):  # Equinox runs it beside those of subclasses
        checks.flag("rescale", self.rescale)

    @property
    def rests(self) -> bool:
        """Whether it has a free phase, from whose rest the nudged ones start."""
        return True

    @property
    def size(self):
        return float(np.abs(self.stencil()[0]).max())

    def check(self, network, nudge, example=None):
        network.check_nudged(nudge.blocks(network))
        weakest, numbers = min(network.attenuation), jnp.finfo(network.dtype)
        if not self.rescale and weakest < numbers.tiny:
            raise ValueError(
                "`rescale` is False, so that gradients are as small as the feedback is "
                f"attenuated, but that is by {weakest:.1g}, which is zero in "
                f"{network.dtype}: pass `rescale=True`, or use stronger feedback."
            )

    def exact(self, network, nudge):
        return self.rescale and network.has_energy

    def reached(self, network, nudge):
        return closure(nudge.blocks(network), network.influences)

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
        own = task.nudge.context(network, free.state, task.target)
        # One axis more for the phases, which all share the same targets.
        context = (betas, jax.tree_util.tree_map(lambda leaf: leaf[None], own))
        pull = Pull(task.nudge, network)
        return network.increments(task.x, free.state, free.memory, pull, context)

    def nudged(
        self, network: AbstractNetwork, task: Task, free: Equilibrium, betas: Array
    ) -> tuple[Equilibrium, Equilibrium]:
        """Return the increments in which all phases end, after the free state there."""
        return task.solver.solve_nudged(
            network.free(task.x),
            free,
            lambda free: self.problem(network, task, free, betas),
            zeros(free, betas),
            throw=task.throw,
        )

    def estimate(self, network, task):
        free = task.settle(network)
        betas, weights = self.phases(task)
        # `FixedSweeps` moves the free state on too: around where it has got to then.
        around, nudged = self.nudged(network, task, free, betas)
        steps = free.steps + jnp.sum(nudged.steps, 0)
        result = first_failure(free.result, nudged.result)
        return self.contrast(
            network, task, free, around, nudged.state, weights, steps, result,
            nudged.memory,
        )  # fmt: skip

    def contrast(
        self, network, task, free, around, increments, weights, steps, result, moved
    ) -> Estimate:
        r"""Return what the increments say of the gradient.

        Args:
            network: the network to be trained.
            task: the task of the whole batch, also of examples that have failed.
            free: the free equilibrium, at which the loss is taken.
            around: the free state around which the increments were solved for.
            increments: $e_k$, `(phases, batch, *shape)` per block.
            weights: $w_k$, `(phases, batch)` or `(phases, 1)`.
            steps: steps of all phases together, `(batch,)`.
            result: how each example ended: as the first phase that has failed.
            moved: what the problem of the increments recalls of them.
        """
        used = usable(result)
        task = task.of(used)
        state, increments = only(used, around.state), only(used, increments, 1)
        # After `of`, whose weights make up for the examples that are left out.
        weights = weights * task.weight
        return Estimate(
            loss=task.cost(network, task.nudge, only(used, free.state)),
            gradient=self.gradient(
                network,
                task,
                state,
                increments,
                weights,
                only(used, around.memory),
                only(used, moved, 1),
            ),
            free=free,
            sweeps=steps,
            result=result,
            nudged=network.moved(state, tuple(e[0].real for e in increments)),
        )

    def gradient(
        self, network, task, state, increments, weights, memory, moved
    ) -> PyTree:
        r"""Return what increments $e_k$ with weights $w_k$, `(phases, batch)`, make.

        Args:
            network: the network to be trained.
            task: the task of the examples that are used.
            state: the free state, `(batch, *shape)` per block.
            increments: $e_k$, `(phases, batch, *shape)` per block.
            weights: $w_k$ times the weight of each example.
            memory: what the free problem recalls of `state`.
            moved: what the problem of the increments recalls of `increments`.
        """
        # Partial derivatives, by the theorem: increments do not follow parameters.
        e, moved = jax.lax.stop_gradient((increments, moved))

        def objective(network, nudge):
            total = task.cost(network, nudge, state)
            total = total + network.drive_contrast(memory, moved, weights, self.rescale)
            # The energy has $c_n$ in it: without rescaling there is the field's alone.
            if self.rescale and network.has_energy:
                return total + network.energy_contrast(task.x, state, e, weights)
            # Of a conjugate pair one phase is solved, with twice the weight: what is
            # imaginary the other one would cancel.
            tangent = tuple(
                (1.0 if self.rescale else a) * _weighted(weights, v).real
                for v, a in zip(e, network.spread(network.attenuation), strict=True)
            )
            return total + network.field_contrast(task.x, state, tangent)

        return differentiate(objective, network, task.nudge)


class OneSided(AbstractStencil):
    r"""One nudge: $(s(\beta) - s(0))/\beta$, error $O(\beta)$.

    ```python
    import ctep, jax

    network = ctep.mlp((64, 32, 32, 10), feedback=0.3, key=jax.random.key(0))
    rule = ctep.OneSided(0.01)
    run = ctep.fit(network, "digits", rule=rule, epochs=1, progress=False)
    ```

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

    beta: Number = eqx.field(default=0.01, converter=checks.number)
    rescale: bool = eqx.field(default=True, converter=checks.number)

    def __check_init__(self):
        checks.nudge("beta", self.beta)

    @property
    def order(self):
        return 1

    def stencil(self):
        return self.beta * np.ones(1), np.ones(1) / self.beta


class Centered(AbstractStencil):
    r"""Two nudges: $(s(\beta) - s(-\beta))/2\beta$, error $O(\beta^2)$.

    ```python
    import ctep, jax

    network = ctep.mlp((4, 8, 8, 3), feedback=0.3, key=jax.random.key(0))
    x, y = jax.numpy.ones((2, 4)), jax.numpy.arange(2)
    loss, gradient = ctep.gradient(network, x, y, rule=ctep.Centered(0.05))
    ```

    Args:
        beta: size of the nudge.
        rescale: whether increments are divided by the attenuation of the feedback.

    Raises:
        ValueError: if `beta` is not positive.

    Cost: one free and two nudged phases (as one phase of twice the batch). Memory does
    not depend on their length.

    References:
        Laborieux et al., 2021, arXiv:2006.03824.
    """

    beta: Number = eqx.field(default=0.1, converter=checks.number)
    rescale: bool = eqx.field(default=True, converter=checks.number)

    def __check_init__(self):
        checks.nudge("beta", self.beta)

    @property
    def order(self):
        return 2

    def stencil(self):
        signs = np.array([1, -1])
        return self.beta * signs, signs / (2 * self.beta)


class RandomSign(AbstractStencil):
    r"""One nudge of random sign per example, $\pm\beta$: error $O(\beta^2)$ on average.

    $$\sigma = \pm 1, \qquad \frac{s(\sigma\beta) - s(0)}{\sigma\beta}
    = s'(0) + \frac{\sigma\beta}{2} s''(0) + O(\beta^2)$$

    The bias of `OneSided` becomes noise of zero mean, at the cost of `OneSided`.

    Args:
        beta: size of the nudge.
        rescale: whether increments are divided by the attenuation of the feedback.

    Raises:
        ValueError: if `beta` is not positive; from `ctep.gradient`, without a `key`.

    Cost: one free and one nudged phase; memory does not depend on their length.

    References:
        Laborieux et al., 2021, arXiv:2006.03824, with one sign per batch.
    """

    beta: Number = eqx.field(default=0.1, converter=checks.number)
    rescale: bool = eqx.field(default=True, converter=checks.number)

    def __check_init__(self):
        checks.nudge("beta", self.beta)

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


def _weighted(weights, values):
    """Return the sum over phases of weights times values."""
    return jnp.sum(along(weights, values.ndim) * values, 0)
