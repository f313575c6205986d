"""What a quantity does along the first sweeps of a phase."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array

from .._custom_types import State
from .._network import AbstractProblem
from .sweeps import Sweeps


def descent(
    value: Callable[[State], Array],
    problem: AbstractProblem,
    state: State,
    sweep: Sweeps,
    steps: int,
) -> Array:
    """Return a function's values before the first sweep and after each.

    Args:
        value: function of a state that returns one number per example.
        problem: the problem to relax, free or nudged.
        state: where to begin, `(batch, *shape)` per block.
        sweep: a solver that does one sweep.
        steps: number of sweeps.
    """

    def step(state, _):
        state = sweep.solve(problem, state, throw=False).state
        # Values alone are kept, or the states of all sweeps would lie in memory.
        return state, value(state)

    _, trace = jax.lax.scan(step, state, length=steps)
    return jnp.concatenate([value(state)[None], trace])
