"""The gradient of the relaxation itself, by backpropagation through time."""

import equinox as eqx
import jax
import jax.numpy as jnp

from .. import _checks as checks
from .._solver import RESULTS, usable
from .base import AbstractRule, Estimate, only, partition


class Unrolled(AbstractRule):
    r"""Backpropagation through time: differentiate a fixed number of steps.

    $$s^{t+1} = T(s^t), \qquad
    \frac{dL}{d\theta} = \frac{d}{d\theta} C\big(s^{T}(\theta), y\big)$$

    with synchronous steps, from the start of a free phase. Of the solver only the
    tolerances are used, to say whether the last state is at rest; where it is not, the
    gradient of so many steps is taken all the same (`RESULTS.as_published`). What
    remains of a transient vanishes from the gradient geometrically, as it does from the
    state, and in the limit this is `Implicit`. Truncated to the last $K$ steps of a
    settled relaxation, in a network with an energy, it is what equilibrium propagation
    has after $K$ nudged steps, to the order of the nudge
    (`ctep.analysis.gradient_curve`).

    Args:
        steps: $T$, number of synchronous steps.
        truncate: $K$, the last steps that are differentiated; all of them by default.
        rematerialise: keep only the states of the differentiated steps and compute
            everything else once more on the way back.

    Raises:
        ValueError: if `steps` or `truncate` is not positive, or `truncate` is above
            `steps`.

    Cost: $T$ synchronous sweeps and about two more for each differentiated one.
    Memory: in proportion to the differentiated steps, all intermediate results of
    each, or one state with `rematerialise`. With 140 of them a batch of `vgg7` takes
    19.6 times the memory that `Centered` does, 4.0 times rematerialised.

    References:
        Ernoult et al., 2019, arXiv:1905.13633; Laborieux et al., 2021,
        doi:10.3389/fnins.2021.633674.
    """

    steps: int = eqx.field(default=100, converter=checks.number)
    truncate: int | None = eqx.field(default=None, converter=checks.number)
    rematerialise: bool = eqx.field(default=False, converter=checks.number)

    def __check_init__(self):
        checks.count("steps", self.steps, "100")
        checks.flag("rematerialise", self.rematerialise)
        if self.truncate is not None:
            checks.count("truncate", self.truncate, "10")
            if self.truncate > self.steps:
                raise ValueError(
                    f"`truncate` is {self.truncate}, but only {self.steps} steps are "
                    "taken: pass at most that many, or raise `steps`."
                )

    def exact(self, network, nudge):
        return self.truncate is None

    def loss(self, network, task, estimate):
        # Not truncated: who differentiates the loss gets the derivative of all steps.
        task = task.of(usable(estimate.result))
        start = network.zeros(task.x) if task.start is None else task.start
        state = _relax(network, task.x, start, self.steps)
        return task.cost(network, task.nudge, state)

    def estimate(self, network, task):
        last = self.steps if self.truncate is None else self.truncate
        start = network.zeros(task.x) if task.start is None else task.start
        # Outside of what is differentiated: a truncated gradient takes it as given.
        start = _relax(network, task.x, start, self.steps - last)

        trained, rest = partition(network, task.nudge)
        steps = jnp.full(task.weight.shape, self.steps, jnp.int32)

        def objective(trained):
            network, nudge = eqx.combine(trained, rest)
            state = _relax(network, task.x, start, last, self.rematerialise)
            # Judged in here, since the cost is to be taken of usable examples alone.
            free = task.solver.verdict(
                network.free(task.x), jax.lax.stop_gradient(state), steps, task.throw,
                RESULTS.as_published,
            )  # fmt: skip
            used = usable(free.result)
            cost = task.of(used).cost(network, nudge, only(used, state))
            return cost, jax.lax.stop_gradient(free)

        (loss, free), gradient = jax.value_and_grad(objective, has_aux=True)(trained)
        return Estimate(
            loss=loss,
            gradient=gradient,
            free=free,
            sweeps=steps + last,
            result=free.result,
            nudged=only(usable(free.result), free.state),
        )


def _relax(network, x, state, count, rematerialise=False):
    """Return the state after `count` synchronous steps."""

    def step(state, _):
        return network.free(x).map(state), None

    if rematerialise:
        step = eqx.filter_checkpoint(step)
    return jax.lax.scan(step, state, None, length=count)[0]
