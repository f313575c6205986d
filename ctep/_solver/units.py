"""Problems in units of their own, for solvers that know only absolute sizes."""

from __future__ import annotations

import equinox as eqx

from .._custom_types import State
from .._network import AbstractProblem


class Rescaled(eqx.Module):
    """A problem whose state is measured in `units`, so that tolerances make sense.

    Increments behind weak feedback are as small as 1e-30; an absolute tolerance that
    suits a free phase would take them for settled at the first look.
    """

    problem: AbstractProblem
    units: State

    @staticmethod
    def of(problem: AbstractProblem, state: State) -> tuple[Rescaled, State]:
        """Return the problem in its units, and `state` in them."""
        units = problem.units(state)
        scaled = tuple(s / u for s, u in zip(state, units, strict=True))
        return Rescaled(problem, units), scaled

    def undo(self, state: State) -> State:
        """Return `state` in the problem's own units."""
        return tuple(s * u for s, u in zip(state, self.units, strict=True))

    def map(self, state: State) -> State:
        """Return $T(s)$ in units."""
        image = self.problem.map(self.undo(state))
        return tuple(t / u for t, u in zip(image, self.units, strict=True))

    def velocity(self, state: State) -> State:
        """Return the velocity in units."""
        velocity = self.problem.velocity(self.undo(state))
        return tuple(v / u for v, u in zip(velocity, self.units, strict=True))
