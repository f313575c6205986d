"""A number of sweeps that a protocol asks for, at rest or not."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp

from .. import _checks as checks
from .._custom_types import Number
from .base import AbstractSolver
from .equilibrium import RESULTS, judge, raised
from .order import AbstractOrder
from .sweeps import Sweeps, shares


class FixedSweeps(AbstractSolver):
    r"""Sweep exactly as often as a published protocol does.

    What is not at rest afterwards is no failure but `RESULTS.as_published`: it takes
    part in the gradient, which is then as good as its cosine with the exact one says.
    The history counts such examples apart from unsettled ones.

    A free state that still moves goes on along with its increments: one more sweep of
    it for each of theirs, and they are those around the state that it has reached. So
    nothing is lost against the difference of two states that both go on.

    Args:
        free: number of sweeps of a free phase.
        nudged: number of sweeps of a nudged phase.
        rtol: relative tolerance; with `atol` it lets an example that is at rest stop
            before. With both 0 it stops early only where not one bit changes any more.
        atol: absolute tolerance, in units of the largest element for increments.
        order: sequence of the blocks; by default the direction of the signal.
        relaxation: $\omega$, how much of each block's move is made, within (0, 2).
        gather: falling shares of the batch at which what still moves goes on alone.
        follow: whether a free state goes on. Without it a free state that merely
            chatters, by less than what matters, costs no more than one at rest.

    Raises:
        ValueError: if `free` or `nudged` is not positive, and as `Sweeps`.
        TypeError: if an argument is of the wrong kind.

    Cost: as `Sweeps`; with `follow` three more applications of $T$ per nudged sweep
    where a free phase has ended short of rest.
    """

    free: int = eqx.field(default=100, converter=checks.number)
    nudged: int = eqx.field(default=20, converter=checks.number)
    rtol: Number = eqx.field(default=0.0, converter=checks.number)
    atol: Number = eqx.field(default=0.0, converter=checks.number)
    order: AbstractOrder | None = None
    relaxation: float = eqx.field(default=1.0, converter=checks.number)
    gather: tuple[float, ...] = eqx.field(default=(), converter=shares)
    follow: bool = eqx.field(default=True, converter=checks.number)

    def __check_init__(self):
        for name in ("free", "nudged"):
            checks.count(name, getattr(self, name), "20")
        checks.flag("follow", self.follow)
        self.sweeps(self.free)  # which checks the others

    def solve(self, problem, state, *, zeros=False, throw=True):
        count = self.nudged if problem.incremental else self.free
        found = self.sweeps(count).sweep(problem, state, zeros)
        parts = found.state, found.residual, found.excess, found.steps, found.memory
        return judge(*parts, throw, RESULTS.as_published)

    def solve_nudged(self, problem, free, increments, start, *, throw=True):
        one = self.sweeps(1)
        # A constant within a branch XLA would spend its time on folding.
        start = jax.lax.optimization_barrier(start)

        def stay(free):
            return free, self.solve(increments(free), start, zeros=True, throw=False)

        def move(free):
            """Let the free state go on: a sweep of the increments, then one of it."""

            def at(state):
                memory = problem.image(state)[1]  # that of a sweep has seen older ones
                return dataclasses.replace(free, state=state, memory=memory)

            def step(_, carry):
                found, d = carry
                # In this order a synchronous d becomes T(s + d) - T(s): both states
                # have taken the same step, and no difference of them was formed.
                d = one.sweep(increments(found), d).state
                return at(one.sweep(problem, found.state).state), d

            carry = at(free.state), start
            free, d = jax.lax.fori_loop(0, self.nudged, step, carry)
            steps = jnp.full((len(d[0]), *free.steps.shape), self.nudged, jnp.int32)
            kind = RESULTS.as_published
            return free, self.verdict(increments(free), d, steps, False, kind)

        if self.follow:
            # One answer for the whole batch: `cond` runs one branch alone, but under a
            # mask for each example both would run.
            moving = jnp.any(free.result == RESULTS.as_published)
            free, nudged = jax.lax.cond(moving, move, stay, free)
        else:
            free, nudged = stay(free)
        return free, raised(nudged) if throw else nudged

    def sweeps(self, count: int) -> Sweeps:
        """Return the solver of at most so many sweeps."""
        return Sweeps(
            max_sweeps=count,
            rtol=self.rtol,
            atol=self.atol,
            order=self.order,
            relaxation=self.relaxation,
            gather=self.gather,
        )
