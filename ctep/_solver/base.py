"""What every solver offers."""

import abc
import functools

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Int

from .. import _checks as checks
from .._custom_types import State
from .._network import AbstractProblem
from .equilibrium import Equilibrium, judge


class AbstractSolver(eqx.Module):
    """Finds where a problem is at rest."""

    rtol: eqx.AbstractVar[float]
    atol: eqx.AbstractVar[float]

    def __check_init__(self):
        for name in ("rtol", "atol"):
            checks.real(name, getattr(self, name), "1e-3")
            if not getattr(self, name) >= 0:
                raise ValueError(
                    f"`{name}` is {getattr(self, name)}, but a tolerance must be 0 or "
                    "more: pass for example 1e-3."
                )

    @abc.abstractmethod
    def solve(
        self,
        problem: AbstractProblem,
        state: State,
        *,
        zeros: bool = False,
        throw: bool = True,
    ) -> Equilibrium:
        """Follow `problem` from `state` to rest.

        Args:
            problem: free, nudged or incremental.
            state: where to start, `(*lead, *shape)` per block.
            zeros: whether `state` is known to be zero, which may save products.
            throw: whether to raise if any example has not settled.

        Raises:
            RuntimeError: if `throw` and some example has not settled; the message is
                that of its `RESULTS` member.
        """

    def verdict(
        self,
        problem: AbstractProblem,
        state: State,
        steps: Int[Array, "..."],
        throw: bool = True,
    ) -> Equilibrium:
        """Return `state` as an equilibrium, judged by one more application of $T$.

        Args:
            problem: whose state it is.
            state: where somebody has stopped.
            steps: that each example took.
            throw: as in `solve`.

        Raises:
            RuntimeError: as in `solve`.
        """
        image, memory = problem.image(state)
        change = tuple(t - s for t, s in zip(image, state, strict=True))
        sizes = _sizes(problem, state, image) if problem.incremental else state
        residual, excess = problem.residual(change, sizes, self.rtol, self.atol)
        return judge(state, residual, excess, steps, memory, throw)


def _sizes(problem, state, image):
    """Return what changes of increments are measured against: the increments.

    A block that $T$ maps to zeros feels nothing, and has no size of its own: the
    rounding that a solver leaves in it is measured against the largest block.
    """
    axes = [problem.ndims(n) for n in range(len(state))]
    own = [
        jnp.max(jnp.abs(s), a, keepdims=True) for s, a in zip(state, axes, strict=True)
    ]
    lead = state[0].shape[: state[0].ndim - len(axes[0])]
    largest = functools.reduce(jnp.maximum, [m.reshape(lead) for m in own])

    def size(s, t, a):
        felt = jnp.any(t != 0, a, keepdims=True)
        return jnp.where(felt, s, jnp.expand_dims(largest, a))

    return tuple(map(size, state, image, axes))
