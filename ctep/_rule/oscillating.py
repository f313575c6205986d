"""Equilibrium propagation that never stops: the nudge turns, the state follows."""

import dataclasses

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from .. import _checks as checks
from .._nudge import Frozen, Pull
from .._solver import RESULTS, Rescaled, check_solver, judge
from .complex import check_holomorphic
from .stencil import AbstractStencil


class Oscillating(AbstractStencil):
    r"""A complex nudge that turns in continuous time, without any free phase.

    $$\tau_n \dot s_n = -s_n + T_n\big(s; \beta(t)\big), \qquad
    \beta(t) = r\,e^{2\pi i t/P}$$

    $$\frac{dL}{d\theta} \approx \mathrm{Re}\, \frac{1}{P r} \int_0^P
    e^{-2\pi i t/P} \frac{\partial E}{\partial\theta}\big(s(t)\big)\,dt
    + \frac{\partial C}{\partial\theta}(\bar s)$$

    The state turns with the nudge, and its mean $\bar s$ over a period is the free
    equilibrium, by the mean-value property of holomorphic functions. It lags behind
    the nudge: the error is $O(r^N)$ of `Holomorphic` plus $O((\tau/P)^2)$, where
    $\tau$ is the time in which the slowest mode of the network relaxes.

    The first period is a transient and not used. An example has settled if the last
    one ends where it has begun, up to the tolerances of the task's solver (of which
    nothing else is used) times $r$. States are not solved as increments, so that
    rounding errors are of the order of the precision over $r$: for symmetric and
    shallow networks.

    Args:
        radius: $r$, size of the nudge.
        period: $P$, time of one turn in the unit of the layers' `tau`.
        periods: number of turns, the transient one included; the gradient is averaged
            over the others.
        points: $N$, number of looks at the state in each period.
        solver: a Diffrax solver, with the constant step `dt`.
        dt: length of a step in the unit of the layers' `tau`.
        rescale: whether increments are divided by the attenuation of the feedback.

    Raises:
        ValueError: if `radius`, `period` or `dt` is not positive, a period takes more
            than $2^{31}$ steps, `periods` is below 2 or `points` below 3; with a
            network, as `Holomorphic`.

    Cost: `periods` times `period / dt` steps of the solver, in complex numbers as
    pairs of real ones. Memory: `points` states per averaged period.

    References:
        Laborieux and Zenke, 2022, arXiv:2209.00530.
    """

    radius: float = eqx.field(default=0.1, converter=checks.number)
    # In this time 8.5 % of the orbits did not close where feedback was symmetric, and
    # 0.01 % where it was 0.5 (784-64-32-10, in two epochs of MNIST).
    period: float = eqx.field(default=50.0, converter=checks.number)
    periods: int = eqx.field(default=2, converter=checks.number)
    points: int = eqx.field(default=8, converter=checks.number)
    solver: dfx.AbstractSolver = dfx.Heun()
    dt: float = eqx.field(default=0.5, converter=checks.number)
    rescale: bool = eqx.field(default=True, converter=checks.number)

    def __check_init__(self):
        checks.positive("radius", self.radius, "0.1")
        checks.positive("period", self.period, "50.0")
        checks.positive("dt", self.dt, "0.5")
        if not self.period / self.dt < 2**31:
            raise ValueError(
                f"`period` is {self.period}, but with `dt` of {self.dt} it takes "
                f"{self.period / self.dt:.1g} steps: shorten it, or take longer ones."
            )
        check_solver(self.solver)
        for name, least in (("periods", 2), ("points", 3)):
            # The first period is a transient, and a circle needs three points.
            checks.count(name, getattr(self, name), str(least), least=least)

    @property
    def rests(self):
        return False

    def check(self, network, nudge, example=None):
        super().check(network, nudge, example)
        check_holomorphic(network, nudge, example)
        for n, layer in enumerate(getattr(network, "layers", ()), 1):
            if layer.learns:
                raise ValueError(
                    f"`network` has an activation with arrays of its own in layer {n}, "
                    "which `Oscillating` cannot train: make them static fields, or use "
                    "`ctep.Holomorphic()`."
                )
        frozen = lambda part: isinstance(part, Frozen)  # noqa: E731
        if any(map(frozen, jax.tree_util.tree_leaves(nudge, is_leaf=frozen))):
            raise ValueError(
                f"`nudge` is {checks.shown(nudge)}, frozen at the free state, but "
                "`Oscillating` has no free phase: leave `Frozen` out."
            )

    def exact(self, network, nudge):
        return False

    def stencil(self):
        turns = self.points * (self.periods - 1)
        nudges = self.radius * np.exp(
            2j * np.pi * np.arange(1, turns + 1) / self.points
        )
        return nudges, 1 / (turns * nudges)

    def estimate(self, network, task):
        orbit = self._follow(network, task)
        begin, end = (tuple(s[k] for s in orbit) for k in (-1 - self.points, -1))
        # The first look is at the end of the transient: the last one has its phase.
        orbit = tuple(s[1:] for s in orbit)
        # A free rest is real: what else the mean has is the error of the orbit.
        mean = tuple(s.mean(0).real for s in orbit)
        problem = network.free(task.x)
        # An orbit that does not close is no move of T, whatever its step.
        scale = problem.step / self.radius
        change = tuple(scale * (b - a) for a, b in zip(begin, end, strict=True))
        residual, excess = problem.residual(
            change, mean, task.solver.rtol, task.solver.atol
        )
        count = round(self.periods * self.period / self.dt)
        steps = jnp.full(task.weight.shape, count, jnp.int32)
        free = judge(mean, residual, excess, steps, (), task.throw, RESULTS.not_closed)
        increments = tuple(
            (s - m) / a
            for s, m, a in zip(
                orbit, mean, network.spread(network.attenuation), strict=True
            )
        )
        _, weights = self.phases(task)
        # Nothing is recalled, since `check` has refused the activations that read it.
        return self.contrast(
            network, task, free, free, increments, weights, steps, free.result, ()
        )

    def _follow(self, network, task):
        """Return the states after the transient, `(1 + looks, batch, *shape)`."""
        real = network.zeros(task.x) if task.start is None else task.start
        kind = jnp.promote_types(real[0].dtype, jnp.complex64)
        start = tuple(s.astype(kind) for s in real)
        # No rest is known yet. `Frozen`, which would need one, has been refused.
        own = task.nudge.context(network, real, task.target)
        pull = Pull(task.nudge, network)
        none = jnp.zeros((1,), kind)
        problem = network.nudged(task.x, pull, (none, own))
        units = tuple(jnp.ones((), s.dtype) for s in real)

        def scaled(t) -> Rescaled:
            beta = self.radius * jnp.exp(2j * jnp.pi * t / self.period)
            # What the inputs contribute is computed once, in `problem`.
            context = (beta.astype(kind)[None], own)
            moved = dataclasses.replace(problem, data=(problem.data[0], context))
            # In pairs of real numbers, for Diffrax warns of complex ones.
            return Rescaled(moved, units, True)

        looks = (
            self.period
            * jnp.arange(self.points, self.points * self.periods + 1)
            / self.points
        )
        solution = dfx.diffeqsolve(
            dfx.ODETerm(lambda t, s, args: scaled(t).velocity(s)),
            self.solver,
            0.0,
            self.periods * self.period,
            self.dt,
            scaled(jnp.zeros(())).to_units(start),
            saveat=dfx.SaveAt(ts=looks),
            # Never differentiated: steps need neither a limit nor checkpoints.
            adjoint=dfx.ForwardMode(),
            max_steps=None,
            throw=False,
        )
        states = solution.ys
        assert states is not None
        undo = jax.vmap(scaled(jnp.zeros(())).from_units)
        return jax.lax.stop_gradient(undo(states))
