"""Convergence time: after how many steps a network stands still."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import ArrayLike, Bool, Int

from .. import _checks as checks
from .._network import AbstractNetwork
from ._inputs import inputs
from ._norms import distance


@dataclasses.dataclass(frozen=True)
class ConvergenceTime:
    """Steps until each example stood still.

    Fields:
        steps: of each example; for one that has not converged, the limit.
        converged: which examples have.
    """

    steps: Int[np.ndarray, " batch"]
    converged: Bool[np.ndarray, " batch"]

    @property
    def mean(self) -> float:
        """Mean over the examples that have converged, NaN if none has."""
        return float(self.steps[self.converged].mean()) if self.fraction else np.nan

    @property
    def fraction(self) -> float:
        """Fraction of the examples that have converged."""
        return float(self.converged.mean())

    def __str__(self):
        lost = int((~self.converged).sum())
        text = f"mean {self.mean:.4g} steps over {self.converged.sum()} examples"
        return text + (f", {lost} more that did not converge" if lost else "")


def convergence_time(
    network: AbstractNetwork,
    x: ArrayLike,
    tol: float = 1e-6,
    patience: int = 3,
    max_steps: int = 1000,
) -> ConvergenceTime:
    r"""Return after how many synchronous steps from zeros each example stands still.

    The time of an example is the first $t$ with $\|s^{u+1} - s^u\|_2 <$ `tol` for $u =
    t - \mathrm{patience} + 1, \dots, t$, counted from $s^0 = 0$ and over all units.
    Examples that do not get there are marked, and take no part in the mean.

    Args:
        network: any network.
        x: inputs, `(batch, *input_shape)`.
        tol: in float32 a state of $n$ units of order 1 may keep moving by up to
            $10^{-7}\sqrt n$ for good.
        patience: consecutive steps.
        max_steps: when to give up.

    Raises:
        TypeError: if an argument is not of its kind.
        ValueError: if an argument is out of range, or `x` does not fit the network.

    Cost: one application of $T$ per step, until the last example stands still.

    References:
        The definition in feedback-regulated networks: arXiv:2508.11659.
    """
    x = inputs(network, x)
    checks.positive("tol", tol, "1e-6")
    checks.count("patience", patience, "3")
    checks.count("max_steps", max_steps, "1000")
    # As arrays: other limits need no other program.
    limits = (jnp.asarray(v) for v in (tol, patience, max_steps))
    steps, converged = _times(network, x, *limits)
    return ConvergenceTime(np.asarray(steps), np.asarray(converged))


@eqx.filter_jit
def _times(network, x, tol, patience, max_steps):
    problem, state = network.free(x), network.zeros(x)

    def unfinished(carry):
        return (carry[0] < max_steps) & jnp.any(carry[2] < patience)

    def body(carry):
        t, state, still, steps = carry
        image = problem.map(state)
        change = tuple(a - b for a, b in zip(image, state, strict=True))
        # Once an example has stood still it counts, even if rounding moves it again.
        done = still >= patience
        # So that a state that is not a number does not stand still.
        moves = ~(distance(problem, change) < tol)
        still = jnp.where(done, still, jnp.where(moves, 0, still + 1))
        steps = jnp.where(done | (still >= patience), jnp.minimum(steps, t), steps)
        return t + 1, image, still, steps

    count = jnp.zeros(len(x), jnp.int32)
    carry = jnp.zeros((), jnp.int32), state, count, count + max_steps
    _, _, still, steps = jax.lax.while_loop(unfinished, body, carry)
    return steps, still >= patience
