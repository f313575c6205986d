"""The plane of nudges: for which of them there is an equilibrium."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import ArrayLike, Bool, Complex, Float

from .. import _checks as checks
from .._concrete import concrete
from .._network import AbstractNetwork
from .._nudge import AbstractNudge
from .._rule import Holomorphic, Task
from .._rule.stencil import zeros
from .._solver import AbstractSolver
from .._weights.resolution import effective
from ._inputs import batch, rest
from ._norms import distance
from ._shown import Shown


@dataclasses.dataclass(frozen=True)
class NudgePlane(Shown):
    r"""Which nudges have an equilibrium.

    Fields:
        beta: the nudges $\beta$; rows share the imaginary part, columns the real one.
        settled: which of them the solver has brought to rest, per example.
        distance: $\|s(\beta) - s(0)\|_2$ over all units, NaN where nothing rests.
    """

    beta: Complex[np.ndarray, "points points"]
    settled: Bool[np.ndarray, "points points batch"]
    distance: Float[np.ndarray, "points points batch"]

    @property
    def radius(self) -> float:
        r"""Largest $|\beta|$ up to which every example rests at every nudge."""
        sizes = np.abs(self.beta)
        lost = sizes[~self.settled.all(-1)]
        inside = sizes[sizes < lost.min()] if lost.size else sizes
        return float(inside.max()) if inside.size else 0.0

    def _parts(self):
        return [
            f"{100 * self.settled.mean():.1f} % of {self.beta.size} nudges up to "
            f"{np.abs(np.real(self.beta)).max():g} along each axis have a rest, all of "
            f"those up to |beta| = {self.radius:.3g}"
        ]


@concrete
@effective
def nudge_plane(
    network: AbstractNetwork,
    x: ArrayLike,
    y: ArrayLike,
    *,
    nudge: AbstractNudge | None = None,
    radius: float = 1.0,
    points: int = 21,
    solver: AbstractSolver | None = None,
    chunk: int = 32,
    epoch: int = 0,
    throw: bool = True,
) -> NudgePlane:
    r"""Return for which complex nudges the network has an equilibrium.

    On the grid $|\mathrm{Re}\,\beta|, |\mathrm{Im}\,\beta| \le r$ the nudged phase is
    solved for its increment from the free equilibrium. `Holomorphic` needs the whole
    circle of its nudges to lie within the region around zero that settles. A nudge
    whose equilibrium repels the solver's steps counts as one without. Parameters and
    inputs are real, so that $s(\bar\beta) = \overline{s(\beta)}$, and only the upper
    half is solved.

    Args:
        network: holomorphic.
        x: inputs, `(batch, *input_shape)`.
        y: labels or values, as for `ctep.gradient`.
        nudge: holomorphic; by default `OutputError()`.
        radius: $r$.
        points: of the grid along each axis; an odd number has $\beta = 0$ among them.
        solver: for all phases; by default `Sweeps` to within 100 roundings of the
            network's dtype.
        chunk: nudges solved at a time.
        epoch: for weights of nudges that are scheduled.
        throw: whether to raise if an example has no free equilibrium; otherwise none
            of its nudges counts as settled.

    Raises:
        TypeError: if an argument is not of its kind.
        ValueError: if the network or the nudge is not holomorphic, an argument is out
            of range, or `x` or `y` do not fit.
        RuntimeError: if `throw` and an example has not settled in its free phase.

    Cost: a nudged phase in complex numbers for each point of the upper half. Memory:
    `chunk` times that of one phase.

    References:
        Laborieux and Zenke, 2022, arXiv:2209.00530.
    """
    x, y, nudge, solver = batch(network, x, y, nudge, solver, epoch)
    # Of four points, since fewer are real and ask for no complex states.
    circle = Holomorphic(radius, 4)  # which checks the radius too
    checks.count("points", points, "21")
    checks.count("chunk", chunk, "32")
    circle.check(network, nudge, (x[:1], y[:1]))
    free = rest(network, x, solver, throw)
    axis = np.linspace(-radius, radius, points) if points > 1 else np.zeros(1)
    beta = axis[None, :] + 1j * axis[:, None]
    upper = beta[points // 2 :]
    rows = -(-upper.size // chunk)
    # Filled up with repeats: `lax.map` wants chunks of one length.
    padded = np.resize(upper, rows * chunk).reshape(rows, chunk)
    given = network, x, y, nudge, solver, free, jnp.asarray(padded)
    settled, distance = (
        np.asarray(a).reshape(rows * chunk, -1)[: upper.size].reshape(*upper.shape, -1)
        for a in _plane(*given)
    )
    # The rows below the real axis are those above it, mirrored.
    settled, distance = (
        np.concatenate([a[points % 2 :][::-1], a]) for a in (settled, distance)
    )
    return NudgePlane(beta, settled, distance)


@eqx.filter_jit
def _plane(network, x, y, nudge, solver, free, beta):
    task = Task.mean(x, y, nudge, solver, throw=False)
    kind = jnp.promote_types(x.dtype, jnp.complex64)

    def solve(beta):
        betas = beta[:, None].astype(kind)
        # Any stencil has this problem: it is given its nudges.
        problem = Holomorphic().problem(network, task, free, betas)
        # XLA would spend seconds on folding what is made of constant zeros.
        start = jax.lax.optimization_barrier(zeros(free, betas))
        nudged = solver.solve(problem, start, zeros=True, throw=False)
        settled = nudged.settled & free.settled
        still = tuple(map(jnp.zeros_like, nudged.state))
        far = distance(problem, network.moved(still, nudged.state))
        return settled, jnp.where(settled, far, jnp.nan)

    # One chunk after the other, which bounds the memory.
    return jax.lax.map(solve, beta)
