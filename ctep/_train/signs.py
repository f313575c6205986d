"""Signs of trouble that a few examples show."""

import dataclasses

import jax.numpy as jnp
from jaxtyping import Array, Float

from .._custom_types import State
from .._network import AbstractNetwork, Network
from .._solver import AbstractSolver, FixedSweeps, Sweeps
from .._solver.descent import descent, energy_of

_FLAT = 1e-3  # of the largest slope: a unit that passes nothing on
_SWEEPS = 10


def saturated(network: AbstractNetwork, x: Array, state: State) -> Float[Array, " n"]:
    """Return per layer the fraction of units that pass nothing on, none if unknown."""
    if not isinstance(network, Network):
        return jnp.zeros(0)
    problem, found = network.free(x), []
    memory = problem.recall(state)
    for n, layer in enumerate(network.layers):
        _, memory = problem.update(n, state, memory)
        slope = jnp.abs(layer.activation.derivative(memory[1][n]))
        found.append(jnp.mean(slope < _FLAT * layer.activation.lipschitz))
    return jnp.stack(found)


def rise(
    network: AbstractNetwork, x: Array, solver: AbstractSolver
) -> Float[Array, ""] | None:
    """Return the largest rise of an energy in a sweep, as a fraction of its range.

    It is that of the first sweeps of a free phase; `None` without an energy or sweeps.
    """
    if isinstance(solver, FixedSweeps):
        solver = solver.sweeps(solver.free)
    if not (network.has_energy and isinstance(solver, Sweeps)):
        return None
    sweep = dataclasses.replace(solver, max_sweeps=1, rtol=0.0, atol=0.0)
    problem, state = network.free(x), network.zeros(x)
    steps = min(_SWEEPS, solver.max_sweeps)
    trace = descent(energy_of(network, x), problem, state, sweep, steps)
    span = jnp.maximum(jnp.max(trace, 0) - jnp.min(trace, 0), jnp.finfo(x.dtype).tiny)
    # An energy that runs away rises too, by a number that JSON knows.
    large = jnp.finfo(x.dtype).max
    return jnp.max(jnp.nan_to_num(jnp.diff(trace, axis=0) / span, nan=large))
