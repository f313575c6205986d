"""Problems as other libraries' solvers like them: of order one, and real."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp

from .._custom_types import State
from .._network import AbstractProblem


class Rescaled(eqx.Module):
    """A problem whose state is measured in `units`, so that tolerances make sense.

    Increments behind weak feedback are as small as 1e-30; an absolute tolerance that
    suits a free phase would take them for settled at the first look. Complex states
    become real ones, with their two parts along a new first axis.
    """

    problem: AbstractProblem
    units: State
    complex: bool = eqx.field(static=True)

    @staticmethod
    def of(problem: AbstractProblem, state: State) -> tuple[Rescaled, State]:
        """Return the problem in its units, and `state` in them."""
        pair = jnp.iscomplexobj(state[0])
        scaled = Rescaled(problem, problem.units(state), pair)
        return scaled, scaled.to_units(state)

    def to_units(self, state: State) -> State:
        """Return `state` measured in `units`, as real numbers of order one."""
        scaled = tuple(s / u for s, u in zip(state, self.units, strict=True))
        if not self.complex:
            return scaled
        # Pairs, as Diffrax itself advises: its complex dtypes are work in progress.
        return tuple(jnp.stack([s.real, s.imag]) for s in scaled)

    def from_units(self, state: State) -> State:
        """Return `state` as the problem has it: undo `to_units`."""
        if self.complex:
            state = tuple(jax.lax.complex(s[0], s[1]) for s in state)
        return tuple(s * u for s, u in zip(state, self.units, strict=True))

    def map(self, state: State) -> State:
        """Return $T(s)$, both measured in `units`."""
        return self.to_units(self.problem.map(self.from_units(state)))

    def velocity(self, state: State) -> State:
        """Return the velocity at a state, both measured in `units`."""
        return self.to_units(self.problem.velocity(self.from_units(state)))
