"""How large a nudge should be: bias against rounding."""

import dataclasses
import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import ArrayLike

from .. import _checks as checks
from .._concrete import concrete
from .._network import AbstractNetwork
from .._nudge import AbstractNudge
from .._rule import AbstractStencil, Centered, Task
from .._solver import AbstractSolver, first_failure
from .._weights.resolution import effective
from ._inputs import batch, nearest, with_settled
from ._response import Response
from ._shown import Shown


@dataclasses.dataclass(frozen=True)
class Recommendation(Shown):
    r"""The nudge at which bias and rounding are equal, with the measurements.

    Errors are distances over the norm of the gradient's limit at $\beta \to 0$, all
    arrays together.

    Fields:
        beta: recommended.
        bias: at `beta`.
        rounding: at `beta`.
        order: of the bias in $\beta$.
        measured_order: as it was between the three largest nudges that were tried.
        largest: the largest nudge that was tried; `beta` is never above it.
        biases: at `largest`, its half and its quarter.
        betas: at which rounding was measured.
        roundings: there.
        floor: $r_0$ of the rounding $r_0 + r_1/\beta$.
        growth: its $r_1$.
        examples: how many the means are taken over.
        unsettled: how many were left out.
    """

    beta: float
    bias: float
    rounding: float
    order: int
    measured_order: float
    largest: float
    biases: tuple[float, ...]
    betas: tuple[float, ...]
    roundings: tuple[float, ...]
    floor: float
    growth: float
    examples: int
    unsettled: int

    def _parts(self):
        pairs = zip(self.betas, self.roundings, strict=True)
        seen = ", ".join(f"{r:.1e} at {b:.1e}" for b, r in pairs)
        bound = " (the largest nudge tried)" if self.beta >= self.largest else ""
        return [
            f"beta = {self.beta:.3g}{bound}: bias {self.bias:.1e}, rounding "
            f"{self.rounding:.1e} of the gradient's norm",
            f"  bias grows with beta^{self.order}, measured {self.measured_order:.2f}",
            f"  rounding: {seen}",
        ]


@concrete
@effective
def recommended_beta(
    network: AbstractNetwork,
    x: ArrayLike,
    y: ArrayLike,
    *,
    rule: AbstractStencil | None = None,
    nudge: AbstractNudge | None = None,
    solver: AbstractSolver | None = None,
    epoch: int = 0,
    throw: bool = True,
) -> Recommendation:
    r"""Find the nudge at which a gradient's bias equals its rounding.

    With $g(\beta)$ the gradient in float64, bias is $\|g(\beta) - g(0)\| / \|g(0)\|$,
    which grows with $\beta$ (`OneSided`), $\beta^2$ (`Centered`) or `rule.order`;
    $g(0)$ is extrapolated from the rule's own nudge and its half. Rounding is the
    distance between the gradients in float32 and in float64, of the same weights and
    inputs rounded to float32, with the same solver; it is measured at 1e-1, 1e-7 and
    1e-14 times that nudge and taken for $r_0 + r_1/\beta$. Of a network in float64 it
    is scaled by the ratio of the two precisions.

    Below the recommended nudge a smaller one gains nothing. A plain difference of
    states has $r_1 \approx \epsilon$; phases that are solved for their increments have
    next to no $r_1$, so that the nudge may also be much smaller and do no harm.
    The solver's tolerance is in neither of the two, but for examples that rounding
    makes stop a sweep sooner or later: with loose tolerances that is most of what
    rounding does.

    Args:
        network: any network that a nudge can move.
        x: inputs, `(batch, *input_shape)`.
        y: targets, as in `ctep.gradient`.
        rule: whose nudges are the largest to consider, and whose bias has a known
            `order` in them; by default `Centered(0.1)`.
        nudge: its cost is the loss; by default `OutputError()`.
        solver: for all phases; by default `Sweeps` to within 100 roundings of the
            network's dtype. Where rounding is measured, its tolerances are at least
            100 roundings of float32.
        epoch: for weights of nudges that are scheduled.
        throw: whether to raise if an example does not settle; otherwise it is left out
            of all gradients and counted.

    Raises:
        TypeError: if an argument is not of its kind.
        ValueError: if the rule does not fit, or `x` or `y` do not.
        RuntimeError: if `throw` and an example has not settled, or if none has.

    Cost: three free phases and nine nudges, two thirds of them in float64.
    """
    rule = Centered() if rule is None else rule
    x, y, nudge, solver = batch(network, x, y, nudge, solver, epoch)
    example = "ctep.Centered(0.1)"
    checks.instance("rule", rule, AbstractStencil, "a rule that nudges", example)
    if rule.order is None:
        raise ValueError(
            f"`rule` is {rule}, but how its bias grows with the nudge is not known: "
            f"pass for example `{example}`."
        )
    rule.check(network, nudge, (x[:1], y[:1]))
    order, largest = rule.order, rule.size
    large = [largest, largest / 2, largest / 4]
    # Over thirteen decades, in which a rounding of $r_1/\beta$ could not hide.
    small = [largest * factor for factor in (1e-1, 1e-7, 1e-14)]
    # What float32 cannot reach would count as unsettled.
    least = nearest(np.float32)
    loose = solver.with_tolerances(lambda own: max(own, least))
    double = network.dtype == jnp.float64

    def gradients(dtype, x, y, solver, betas):
        with jax.enable_x64(dtype == np.float64):
            given = _cast((network, nudge, x, np.array(betas) / largest), dtype)
            y = jnp.asarray(np.asarray(y))
            found, results = _nudged(rule, given, y, solver)
            return np.asarray(found, np.float64), results

    def run(x, y):
        parts = (
            gradients(np.float32, x, y, loose, small),
            gradients(np.float64, x, y, loose, small),
            gradients(np.float64, x, y, solver, large),
        )
        return [g for g, _ in parts], [r for _, r in parts]

    (single, exact, biased), unsettled = with_settled(run, x, y, throw)
    ratio = np.finfo(np.float64).eps / np.finfo(np.float32).eps if double else 1.0
    biases, measured, size = _bias(biased, order)
    # The half is farther above its own rounding than the quarter.
    slope = biases[1] / large[1] ** order
    roundings = ratio * np.linalg.norm(single - exact, axis=1) / size
    floor, growth = _fit(np.array(small), roundings)
    beta = _balance(lambda b: slope * b**order - floor - growth / b, largest)
    return Recommendation(
        beta=beta,
        bias=slope * beta**order,
        rounding=floor + growth / beta,
        order=order,
        measured_order=measured,
        largest=largest,
        biases=biases,
        betas=tuple(small),
        roundings=tuple(roundings.tolist()),
        floor=floor,
        growth=growth,
        examples=len(x) - unsettled,
        unsettled=unsettled,
    )


def _cast(tree, dtype):
    """Return a tree in a precision, its numbers rounded to float32 before."""
    numbers, rest = eqx.partition(tree, eqx.is_inexact_array)
    single = jax.tree_util.tree_map(lambda v: np.asarray(v, np.float32), numbers)
    cast = jax.tree_util.tree_map(lambda v: jnp.asarray(v, dtype), single)
    return eqx.combine(cast, rest)


@eqx.filter_jit
def _nudged(rule, given, y, solver):
    """Return the gradient with nudges scaled in turn, flat, and the phases' results."""
    network, nudge, x, scales = given
    task = Task.mean(x, y, nudge, solver, throw=False)
    free = task.settle(network)

    def one(scale):
        response = Response.of(rule, network, task, free, scale)
        nudged = response.settle(solver)
        gradient, _ = ravel_pytree(response.gradient(nudged.state, nudged.memory))
        return gradient, first_failure(free.result, nudged.result)

    return jax.lax.map(one, scales)


def _bias(gradients, order) -> tuple[tuple[float, ...], float, float]:
    """Return the biases, their measured order, and the norm of the limit.

    Args:
        gradients: at the largest nudge, its half and its quarter.
        order: as it should be.
    """
    first, second, third = gradients
    limit = (2**order * second - first) / (2**order - 1)
    norm = float(np.linalg.norm(limit)) or 1.0
    steps = [float(np.linalg.norm(v)) for v in (first - second, second - third)]
    measured = math.log2(steps[0] / steps[1]) if min(steps) > 0 else math.nan
    biases = tuple(float(np.linalg.norm(v - limit)) / norm for v in gradients)
    return biases, measured, norm


def _fit(betas, roundings) -> tuple[float, float]:
    r"""Return $r_0, r_1 \geq 0$ of $r_0 + r_1/\beta$, by relative least squares."""
    # A rounding of 0 cannot be divided by, as relative squares would.
    if not np.all(roundings > 0):
        return float(np.max(roundings)), 0.0
    columns = np.stack([np.ones(len(betas)), 1 / betas]) / roundings
    best = np.linalg.lstsq(columns.T, np.ones(len(betas)), rcond=None)[0]
    if np.all(best >= 0):
        return float(best[0]), float(best[1])
    # The best on the boundary: one of the two alone.
    alone = [c.sum() / (c @ c) for c in columns]
    errors = [np.linalg.norm(a * c - 1) for a, c in zip(alone, columns, strict=True)]
    floor = errors[0] <= errors[1]
    return (float(alone[0]), 0.0) if floor else (0.0, float(alone[1]))


def _balance(excess, largest) -> float:
    """Return where an increasing function vanishes, at most `largest`."""
    low, high = 1e-12 * largest, largest
    if excess(high) > 0:
        for _ in range(60):
            # Halved in logarithms: it may lie anywhere in twelve decades.
            middle = math.sqrt(low * high)
            low, high = (middle, high) if excess(middle) < 0 else (low, middle)
    return high
