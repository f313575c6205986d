"""A nudge that grows step by step and is left before anything rests."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from .. import _checks as checks
from .._custom_types import Number
from .._solver import RESULTS
from .stencil import AbstractStencil, zeros


class Ramped(AbstractStencil):
    r"""A nudge that grows by `beta` at each of `steps` synchronous steps.

    $$d^0 = 0, \qquad d^k = T_{k\beta}(s + d^{k-1}) - T_0(s), \qquad
    s'(0) \approx \frac{d^K}{K\beta}$$

    With `Frozen(OutputError())` this is the clamped phase of the published code of
    feedback-regulated networks with skips, whose nudge is added again at every step.
    It ends where nothing rests: $d^K$ lags behind the nudge by the time that signals
    take through the network, an error of $O(1/K)$ beside that of $O(K\beta)$. Its
    examples are therefore taken as published (`RESULTS.as_published`), unless they
    happen to keep up within the solver's tolerances.

    Args:
        beta: what each step adds to the nudge.
        steps: $K$, number of synchronous steps.
        rescale: whether increments are divided by the attenuation of the feedback.

    Raises:
        ValueError: if `beta` is not positive or `steps` is not a positive integer.
        RuntimeError: from `ctep.gradient`, if the free phase does not settle.

    Cost: one free phase, and `steps` + 1 applications of $T$; memory does not depend on
    their number.

    References:
        The code published with arXiv:2508.11659.
    """

    beta: Number = eqx.field(default=0.1, converter=checks.number)
    steps: int = eqx.field(default=50, converter=checks.number)
    rescale: bool = eqx.field(default=True, converter=checks.number)

    def __check_init__(self):
        checks.nudge("beta", self.beta)
        checks.count("steps", self.steps, "50")

    def exact(self, network, nudge):
        return False

    def stencil(self):
        last = self.steps * self.beta
        return last * np.ones(1), np.ones(1) / last

    def nudged(self, network, task, free, betas):
        def step(k, d):
            # `betas` has the last nudge; the first step already feels `self.beta`.
            part = jnp.asarray(k + 1, betas.dtype) / self.steps
            # All blocks at once, as published: a sweep from the output would carry the
            # nudge to the input in one step, and there would be no lag.
            return self.problem(network, task, free, part * betas).image(d)[0]

        d = jax.lax.fori_loop(0, self.steps, step, zeros(free, betas))
        # Judged at the last nudge: it rests there only if it has kept up with the ramp.
        last = self.problem(network, task, free, betas)
        taken = jnp.full((1, len(task.x)), self.steps, jnp.int32)
        return free, task.solver.verdict(
            last, d, taken, task.throw, RESULTS.as_published
        )
