"""The nudged phase, step by step, against backpropagation through time."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import ArrayLike, Float

from .. import _checks as checks
from .._concrete import concrete
from .._network import AbstractNetwork
from .._network.names import parameter_names
from .._nudge import AbstractNudge
from .._rule import AbstractStencil, Centered, Task, partition
from .._solver import AbstractSolver
from .._weights.resolution import effective
from ._inputs import batch, counted, with_settled
from ._norms import cosine, norm
from ._response import Response
from ._shown import Shown


@dataclasses.dataclass(frozen=True)
class GradientCurve(Shown):
    r"""Two gradients over the steps of the nudged phase, array by array.

    Fields:
        rule: that nudged, as it prints.
        names: of the trained arrays.
        ep_norm: norm of the gradient after $t$ nudged steps, row $t - 1$.
        bptt_norm: norm of the gradient by the last $t$ steps of the relaxation.
        cosine: of the two.
        relative_error: their distance over `bptt_norm`.
        examples: how many the means are taken over.
        unsettled: how many were left out.
    """

    rule: str
    names: tuple[str, ...]
    ep_norm: Float[np.ndarray, "steps arrays"]
    bptt_norm: Float[np.ndarray, "steps arrays"]
    cosine: Float[np.ndarray, "steps arrays"]
    relative_error: Float[np.ndarray, "steps arrays"]
    examples: int
    unsettled: int

    def _parts(self):
        head = (
            f"{self.rule} after t nudged steps against backpropagation through the "
            f"last t, {counted(self.examples, self.unsettled)}"
        )
        rows = [("", "largest error", "at t", "error at the end", "norm at the end")]
        for n, name in enumerate(self.names):
            error = np.nan_to_num(self.relative_error[:, n])
            worst = int(np.argmax(error))
            last = f"{error[-1]:.2e}", f"{self.bptt_norm[-1, n]:.2e}"
            rows.append((name, f"{error[worst]:.2e}", str(worst + 1), *last))
        return [head, rows]


@concrete
@effective
def gradient_curve(
    network: AbstractNetwork,
    x: ArrayLike,
    y: ArrayLike,
    *,
    steps: int = 30,
    rule: AbstractStencil | None = None,
    nudge: AbstractNudge | None = None,
    solver: AbstractSolver | None = None,
    epoch: int = 0,
    throw: bool = True,
) -> GradientCurve:
    r"""Compare the nudged phase, step by step, with backpropagation through time.

    With $T$ the map of one synchronous step, $s$ the free equilibrium and $d^t$ the
    increments after $t$ nudged steps from it,

    $$g_{EP}^t = \sum_k w_k \left[\frac{\partial E}{\partial\theta}(s + d_k^t)
    - \frac{\partial E}{\partial\theta}(s)\right]
    + \frac{\partial C}{\partial\theta}, \qquad
    g_{BPTT}^t = \frac{\partial C}{\partial\theta} + \sum_{i < t} \left\langle
    (J^\top)^i \frac{\partial C}{\partial s},
    \frac{\partial T}{\partial\theta} \right\rangle$$

    The second is the gradient by the last $t$ steps of a settled relaxation,
    `ctep.Unrolled(steps, truncate=t)`. In a network with an energy the two are equal at
    every $t$, to the order of the nudge: equilibrium propagation has
    gradient-descending updates. Without an energy they differ, and this says by how
    much and from which step on.

    Args:
        network: any network that a nudge can move.
        x: inputs, `(batch, *input_shape)`.
        y: targets, as in `ctep.gradient`.
        steps: largest $t$.
        rule: how increments make a gradient; by default `Centered(1e-3)`, whose bias
            is small and which increments keep precise.
        nudge: its cost is the loss; by default `OutputError()`.
        solver: of the free phase; by default `Sweeps` to within 100 roundings of the
            network's dtype.
            The nudged one is synchronous.
        epoch: for weights of nudges that are scheduled.
        throw: whether to raise if an example is not at rest after the free phase;
            otherwise it is left out and counted.

    Raises:
        TypeError: if an argument is not of its kind.
        ValueError: if `steps` is not positive, the rule does not fit or has no nudges
            that stand still, or `x` or `y` do not fit.
        RuntimeError: if `throw` and an example has not settled, or if none has.

    Cost: one free phase; per step one nudged sweep, one product with $J^\top$ and two
    gradients, whatever $t$. Memory does not depend on `steps`, but for its numbers.

    References:
        Ernoult et al., 2019, arXiv:1905.13633.
    """
    rule = Centered(1e-3) if rule is None else rule
    x, y, nudge, solver = batch(network, x, y, nudge, solver, epoch)
    network = network.unstacked()
    kind, example = AbstractStencil, "ctep.Centered(0.1)"
    checks.instance("rule", rule, kind, "a rule that nudges", example)
    if not rule.rests:
        raise ValueError(
            f"`rule` is {rule}, but the steps of a curve need nudges that stand still: "
            "pass for example `ctep.Holomorphic(0.1, 4)`."
        )
    rule.check(network, nudge, (x[:1], y[:1]))
    checks.count("steps", steps, "30")

    def run(x, y):
        out, result = _curve(network, x, y, nudge, rule, solver, steps)
        return out, [result]

    found, unsettled = with_settled(run, x, y, throw)
    ep, bptt, cosines, distance = np.asarray(found, np.float64)
    # Where a gradient vanishes, NaN or infinity is the answer and no cause to warn.
    with np.errstate(divide="ignore", invalid="ignore"):
        return GradientCurve(
            str(rule),
            parameter_names(network),
            ep_norm=ep,
            bptt_norm=bptt,
            cosine=cosines,
            relative_error=distance / bptt,
            examples=len(x) - unsettled,
            unsettled=unsettled,
        )


@eqx.filter_jit
def _curve(network, x, y, nudge, rule, solver, steps):
    key = jax.random.key(0)  # for rules that draw at random
    task = Task.mean(x, y, nudge, solver, throw=False, key=key)
    free = task.settle(network)
    response = Response.of(rule, network, task, free)
    trained, rest = partition(network, nudge)

    def image(state, trained):
        return eqx.combine(trained, rest)[0].free(x).map(state)

    def cost(state, trained):
        network, nudge = eqx.combine(trained, rest)
        return task.cost(network, nudge, state)

    # The cost is a mean over the batch, and so is all that comes back from it.
    adjoint, direct = jax.grad(cost, argnums=(0, 1))(free.state, trained)
    # Linearised once: the state is at rest, so that each step back has the same J.
    _, back = jax.vjp(image, free.state, trained)

    def step(carry, _):
        increments, adjoint, bptt = carry
        # Of the update itself: this memory has the drives that made the new increments.
        increments, moved = response.problem.image(increments)
        adjoint, own = back(adjoint)
        bptt = jax.tree_util.tree_map(jnp.add, bptt, own)
        pairs = zip(
            jax.tree_util.tree_leaves(response.gradient(increments, moved)),
            jax.tree_util.tree_leaves(bptt[0]),
            strict=True,
        )
        # Numbers at once: gradients that are kept would take memory for each step.
        numbers = [(norm(a), norm(b), cosine(a, b), norm(a - b)) for a, b in pairs]
        return (increments, adjoint, bptt), numbers

    carry = (response.start, adjoint, direct)
    _, numbers = jax.lax.scan(step, carry, None, length=steps)
    return jnp.moveaxis(jnp.array(numbers), 0, -1), free.result
