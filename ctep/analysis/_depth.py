"""Depth: how signals change from layer to layer."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import ArrayLike, Float

from .. import _checks as checks
from .._concrete import concrete
from .._network import AbstractNetwork
from .._network.names import owners
from .._nudge import AbstractNudge
from .._rule import OneSided, Task
from .._solver import AbstractSolver, first_failure
from .._weights.resolution import effective
from ._inputs import batch, counted, layered, with_settled
from ._norms import norm
from ._response import Response
from ._shown import Shown


@dataclasses.dataclass(frozen=True)
class DepthProfile(Shown):
    r"""What each layer does and feels, from the input's side to the output.

    Means are over the units of a layer and over the examples.

    Fields:
        beta: the nudge.
        activity: mean of $s_n$.
        rms: root mean square of $s_n$, which does not cancel.
        low: fraction of units at the lower end of the activation's range.
        high: fraction at its upper end; NaN for an end that the range does not have.
        displacement: root mean square of $s_n(\beta) - s_n(0)$.
        gradient: norm of the gradient of the weights into the layer and its bias.
        examples: how many the means are taken over.
        unsettled: how many were left out.
    """

    beta: float
    activity: Float[np.ndarray, " layers"]
    rms: Float[np.ndarray, " layers"]
    low: Float[np.ndarray, " layers"]
    high: Float[np.ndarray, " layers"]
    displacement: Float[np.ndarray, " layers"]
    gradient: Float[np.ndarray, " layers"]
    examples: int
    unsettled: int

    def _parts(self):
        head = f"beta = {self.beta:g}, {counted(self.examples, self.unsettled)}"
        rows = [["", "activity", "rms", "low %", "high %", "displacement", "gradient"]]
        for n in range(len(self.activity)):
            ends = 100 * self.low[n], 100 * self.high[n]
            ends = ["-" if np.isnan(v) else f"{v:.1f}" for v in ends]
            sizes = [f"{v[n]:.2e}" for v in (self.displacement, self.gradient)]
            means = [f"{v[n]:.3g}" for v in (self.activity, self.rms)]
            rows.append([f"s{n + 1}", *means, *ends, *sizes])
        return [head, rows]


@concrete
@effective
def depth_profile(
    network: AbstractNetwork,
    x: ArrayLike,
    y: ArrayLike,
    *,
    nudge: AbstractNudge | None = None,
    solver: AbstractSolver | None = None,
    beta: float = 0.1,
    rescale: bool = True,
    tolerance: float = 0.01,
    epoch: int = 0,
    throw: bool = True,
) -> DepthProfile:
    r"""Show where in a network signals vanish or saturate.

    In deep networks with symmetric feedback the published diagnosis is activity that
    decays in the middle layers, and displacements $\|s(\beta) - s(0)\|$ and gradients
    that are smallest there. With regulated feedback displacements fall by $\gamma$ per
    layer from the output down; the gradient's rescaling undoes that. Displacements are
    solved for as increments and are correct however small.

    Args:
        network: a `ctep.Network`.
        x: inputs, `(batch, *input_shape)`.
        y: targets, as in `ctep.gradient`.
        nudge: by default `OutputError()`.
        solver: for both phases; by default `Sweeps` to within 100 roundings of the
            network's dtype.
        beta: $\beta$ of the one nudge; negative ones pull away from the target.
        rescale: as in `ctep.OneSided`, for the gradient.
        tolerance: how near to an end of its range a unit counts as saturated, as a
            fraction of the range, or in units of the state if it has one end only.
        epoch: for weights of nudges that are scheduled.
        throw: whether to raise if an example does not settle; otherwise it is left out
            and counted.

    Raises:
        TypeError: if an argument is not of its kind.
        ValueError: if the network is not a `ctep.Network`, `beta` is 0, `tolerance` is
            not positive, or `x` or `y` do not fit.
        RuntimeError: if `throw` and an example has not settled, or if none has.

    Cost: one free and one nudged phase.

    References:
        Scalable equilibrium propagation via intermediate error signals, 2025,
        arXiv:2508.15989.
    """
    network = layered(network)
    x, y, nudge, solver = batch(network, x, y, nudge, solver, epoch)
    checks.real("beta", beta, "0.1")
    if not beta:
        raise ValueError(
            "`beta` is 0, but without a nudge nothing moves: pass for example 0.1."
        )
    checks.positive("tolerance", tolerance, "0.01")
    # The nudge as an array and the rule's own of 1: another one needs no new program,
    # and it may be negative, which no rule would take.
    size = jnp.asarray(beta, x.dtype)
    rule = OneSided(1.0, rescale)

    def run(x, y):
        out, result = _profile(
            network, x, y, nudge, rule, size, solver, float(tolerance)
        )
        return out, [result]

    (means, arrays), unsettled = with_settled(run, x, y, throw)
    means = np.array(means, np.float64)
    means[4] *= network.attenuation  # which float32 may be unable to hold
    arrays = np.asarray(arrays, np.float64)
    owner = np.array(owners(network))
    # `hypot` squares nothing, so that norms of any size add up.
    own = [np.hypot.reduce(arrays[owner == n]) for n in range(len(network.layers))]
    ends = np.array([layer.activation.range for layer in network.layers])
    means[2:4][~np.isfinite(ends.T)] = np.nan
    return DepthProfile(
        float(beta),
        *means,
        gradient=np.array(own),
        examples=len(x) - unsettled,
        unsettled=unsettled,
    )


@eqx.filter_jit
def _profile(network, x, y, nudge, rule, beta, solver, tolerance):
    task = Task.mean(x, y, nudge, solver, throw=False)
    free = task.settle(network)
    response = Response.of(rule, network, task, free, beta)
    nudged = response.settle(solver)
    rows = []
    for layer, s, d in zip(network.layers, free.state, nudged.state, strict=True):
        low, high = layer.activation.range
        size = high - low
        width = tolerance * (size if np.isfinite(size) else 1.0)
        ends = s <= low + width, s >= high - width
        ends = [jnp.mean(end, dtype=x.dtype) for end in ends]
        # Not a root of mean squares: in float32 the square of 1e-20 underflows.
        sizes = [norm(v) / v.size**0.5 for v in (s, d)]
        rows.append((jnp.mean(s), sizes[0], *ends, sizes[1]))
    gradient = jax.tree_util.tree_leaves(response.gradient(nudged.state, nudged.memory))
    norms = jnp.stack([norm(g) for g in gradient])
    means = jnp.array(rows).T
    return (means, norms), first_failure(free.result, nudged.result)
