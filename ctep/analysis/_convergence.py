"""Convergence time: after how many steps a network stands still."""

import dataclasses
import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import ArrayLike, Bool, Int

from .. import _checks as checks
from .._concrete import concrete
from .._network import AbstractNetwork
from .._weights.resolution import effective
from ._inputs import inputs, nearest, tolerance
from ._norms import distance
from ._shown import Shown


@dataclasses.dataclass(frozen=True)
class ConvergenceTime(Shown):
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

    def _parts(self):
        lost = int((~self.converged).sum())
        text = f"mean {self.mean:.4g} steps over {self.converged.sum()} examples"
        return [text + (f", {lost} more that did not converge" if lost else "")]


@concrete
@effective
def convergence_time(
    network: AbstractNetwork,
    x: ArrayLike,
    rtol: float | None = None,
    atol: float = 0.0,
    patience: int = 3,
    max_steps: int = 1000,
) -> ConvergenceTime:
    r"""Return after how many synchronous steps from zeros each example stands still.

    The time of an example is the first $t$ with

    $$\|s^{u+1} - s^u\| \leq \mathrm{atol} + \mathrm{rtol}\, \|s^{u+1}\|, \qquad
    u = t - \mathrm{patience} + 1, \dots, t, \qquad s^0 = 0$$

    in the root mean square over all units, which does not grow with their number.
    Examples that do not get there are marked, and take no part in the mean.

    ```python
    import ctep, jax

    network = ctep.mlp((4, 8, 8, 3), feedback=0.3, key=jax.random.key(0))
    print(ctep.analysis.convergence_time(network, jax.numpy.ones((2, 4))))
    ```

    Args:
        network: any network.
        x: inputs, `(batch, *input_shape)`.
        rtol: by default 100 roundings of the network's dtype, 1.2e-5 in float32. By a
            few of them a state may move for good; by $1/(1 - \varrho)$ times as many
            where it turns around its rest.
        atol: in units of the state. With both 0 not one bit may change.
        patience: consecutive steps.
        max_steps: when to give up.

    Raises:
        TypeError: if an argument is not of its kind.
        ValueError: if an argument is out of range, or `x` does not fit the network.

    Cost: one application of $T$ per step, until the last example stands still.

    References:
        Feedback-regulated networks, arXiv:2508.11659, where `rtol` is 0 and `atol`
        1e-6 over the root of the number of units.
    """
    x = inputs(network, x)
    rtol = nearest(network.dtype) if rtol is None else rtol
    tolerance("rtol", rtol)
    tolerance("atol", atol)
    checks.count("patience", patience, "3")
    checks.count("max_steps", max_steps, "1000")
    # As arrays: other limits need no other program.
    limits = (jnp.asarray(v) for v in (rtol, atol, patience, max_steps))
    steps, converged = _times(network, x, *limits)
    return ConvergenceTime(np.asarray(steps), np.asarray(converged))


@eqx.filter_jit
def _times(network, x, rtol, atol, patience, max_steps):
    problem, state = network.free(x), network.zeros(x)
    # Of all norms over all units alike, so that only `atol` knows their number.
    atol = atol * math.sqrt(sum(math.prod(shape) for shape in problem.shapes))

    def unfinished(carry):
        return (carry[0] < max_steps) & jnp.any(carry[2] < patience)

    def body(carry):
        t, state, still, steps = carry
        image = problem.map(state)
        change = tuple(a - b for a, b in zip(image, state, strict=True))
        # Once an example has stood still it counts, even if rounding moves it again.
        done = still >= patience
        # So that a state that is not a number does not stand still.
        near = atol + rtol * distance(problem, image)
        # What has left the range of floats is never at rest.
        rests = (distance(problem, change) <= near) & jnp.isfinite(near)
        still = jnp.where(done, still, jnp.where(rests, still + 1, 0))
        steps = jnp.where(done | (still >= patience), jnp.minimum(steps, t), steps)
        return t + 1, image, still, steps

    count = jnp.zeros(len(x), jnp.int32)
    carry = jnp.zeros((), jnp.int32), state, count, count + max_steps
    _, _, still, steps = jax.lax.while_loop(unfinished, body, carry)
    return steps, still >= patience
