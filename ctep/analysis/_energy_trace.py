"""The energy along a relaxation."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from .. import _checks as checks
from .._network import AbstractNetwork
from .._nudge import AbstractNudge, Pull
from .._rule import check_batch
from .._solver import AbstractSolver, Sweeps
from .._solver.descent import descent
from .._solver.order import AbstractOrder, Forward
from .._weights.resolution import effective
from ._inputs import inputs, nudge_at, rest, solver_or


@effective
def energy_trace(
    network: AbstractNetwork,
    x: ArrayLike,
    *,
    steps: int = 50,
    order: AbstractOrder | None = None,
    y: ArrayLike | None = None,
    nudge: AbstractNudge | None = None,
    beta: float = 0.0,
    solver: AbstractSolver | None = None,
    epoch: int = 0,
) -> Float[Array, "{steps}+1 batch"]:
    r"""Return the energy along a relaxation, sweep by sweep.

    A free phase starts from zeros, and the trace is that of $E(s)$. A nudged one
    starts from the free equilibrium, and the trace is that of $E(s) + \beta C(s, y)$.
    In a free phase of a `ctep.Network` with linear couplings (or maximum pools below
    states that are not negative) updates of one block after the other only lower it,
    whatever the weights. Other traces may rise: those of blocks that drive each other
    and are updated at once (`ctep.Synchronous`; `ctep.Alternating` where skips join its
    groups), of nudges whose force, which is explicit, overshoots ($\beta$ times the
    curvature of $C$ above 1, for activations with slopes up to 1), of other pools, and
    of a `ctep.EnergyNetwork` whose `step` is too large.

    Args:
        network: with an energy.
        x: inputs, `(batch, *input_shape)`.
        steps: sweeps.
        order: of the blocks in a sweep; `ctep.Forward()` by default.
        y: labels or values, for a nudged phase.
        nudge: gives the cost $C$; `OutputError()` by default.
        beta: $\beta$, not 0 for a nudged phase.
        solver: for the free equilibrium that a nudged phase starts from; by default
            `Sweeps` to within 100 roundings of the network's dtype.
        epoch: for weights of nudges that are scheduled.

    Returns:
        The energy of each example, not averaged, before the first sweep and after each.

    Raises:
        TypeError: if an argument is not of its kind.
        ValueError: if the network has no energy, only one of `y` and `beta` is given,
            or `x` or `y` do not fit.
        RuntimeError: if an example has no free equilibrium to start from.

    Cost: `steps` sweeps and as many energies.
    """
    x, network = inputs(network, x), network.unstacked()
    checks.count("steps", steps, "50")
    checks.real("beta", beta, "0.1")
    order = Forward() if order is None else order
    checks.instance("order", order, AbstractOrder, "an order", "ctep.Forward()")
    if not network.has_energy:
        raise ValueError(
            "`network` has no energy to trace: use `Tied` feedback everywhere with "
            "scales that multiply to the same product along every path to the output."
        )
    if (y is None) != (beta == 0):
        raise ValueError(
            f"`beta` is {beta} and `y` is {'missing' if y is None else 'given'}, but a "
            "nudged phase needs both and a free one neither: pass for example "
            "`y=y, beta=0.1`."
        )
    state, target = network.zeros(x), None
    nudge, solver = nudge_at(nudge, epoch), solver_or(solver, network.dtype)
    if y is not None:
        y = checks.array("y", y)
        check_batch(network, nudge, x, y)
        state, target = rest(network, x, solver, throw=True).state, nudge.targets(x, y)
    # Within a tolerance blocks would stay where they are: every sweep is to move them.
    sweep = Sweeps(max_sweeps=1, rtol=0.0, atol=0.0, order=order)
    given = network, x, state, target, nudge, jnp.asarray(beta)
    return _trace(*given, sweep, steps)


@eqx.filter_jit
def _trace(network, x, state, target, nudge, beta, sweep, steps):
    problem = network.free(x)
    if target is not None:
        own = nudge.context(network, state, target)
        context = (beta.astype(x.dtype)[None], own)
        problem = network.nudged(x, Pull(nudge, network), context)

    def total(state):
        value = network.energies(state, x)
        if target is not None:
            value = value + beta * nudge.cost(network, state, target)
        return value

    return descent(total, problem, state, sweep, steps)
