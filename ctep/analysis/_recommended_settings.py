"""The cheapest settings whose gradient is still the gradient."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import jax
from jaxtyping import ArrayLike

from .. import _checks as checks
from .._concrete import concrete
from .._custom_types import Number
from .._network import AbstractNetwork, Tied
from .._nudge import AbstractNudge
from .._rule import AbstractRule, Centered, OneSided, check_kinds
from .._solver import AbstractOrder, AbstractSolver, Alternating, FixedSweeps, Sweeps
from .._weights.resolution import effective
from ._inputs import batch, counted, solver_or
from ._settings import Judge, Search, Setting, best_of, pair_of
from ._shown import Shown

_LADDER = (1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3)


@dataclasses.dataclass(frozen=True)
class RecommendedSettings(Shown):
    """What was tried, and the cheapest of it.

    Fields:
        rows: all that was tried; the first is what was given.
        best: the cheapest row whose cosine is above the bound; without one, that of
            the largest cosine.
        bound: the cosine that was asked for.
        network: the given one, at the scale of feedback that `best` has.
        examples: how many the means are taken over.
        unsettled: how many were left out, which have no rest to differentiate at.
    """

    rows: tuple[Setting, ...]
    best: Setting
    bound: float
    network: AbstractNetwork
    examples: int
    unsettled: int

    @property
    def settings(self) -> dict[str, Any]:
        """What to train with: `ctep.fit(r.network, dataset, **r.settings)`."""
        return {"rule": self.best.rule, "solver": self.best.solver}

    @property
    def saved(self) -> float:
        """Sweeps of the best setting, as a fraction of those of the given one."""
        return self.best.sweeps / self.rows[0].sweeps

    def _parts(self):
        titles = ["", "rule", "tolerances", "order", "sweeps", "unsettled %", "radius"]
        titles += ["cosine", "of", "twin"]
        table, best = [titles], self.best
        for row in self.rows:
            twin = "-" if math.isnan(row.twin) else f"{row.twin:.4f}"
            scale = "" if row.feedback is None else f", feedback {row.feedback:g}"
            entry = [row.tried + scale, _short(row.rule), *_described(row.solver)]
            entry += [
                f"{row.free:.1f} + {row.nudged:.1f}",
                f"{100 * row.unsettled:.1f}",
            ]
            entry += [f"{row.radius:.2f}", f"{row.cosine:.4f}", row.worst, twin]
            table.append(entry)
        taken = counted(self.examples, self.unsettled)
        reached = best.cosine >= self.bound
        scale = "" if best.feedback is None else f", feedback {best.feedback:g}"
        parts: list = [f"sweeps and the smallest cosine of a weight, {taken}", table]
        if not reached:
            parts.append(f"Nothing has a cosine of {self.bound:g}; the best gradient:")
        what = f"rule={best.rule}, solver={best.solver}{scale}"
        parts.append(
            f"{what}: {best.sweeps:.1f} sweeps, {self.saved:.2f} of those given, "
            f"cosine {best.cosine:.4f} or more"
        )
        return parts


def _short(rule):
    return f"{type(rule).__name__}({getattr(rule, 'beta', '')})"


def _described(solver):
    free, nudged = pair_of(solver)
    orders = [type(s.order).__name__ if s.order else "-" for s in (free, nudged)]
    order = orders[0] if orders[0] == orders[1] else " / ".join(orders)
    return f"{free.atol:g} / {nudged.atol:g}", order


@concrete
@effective
def recommended_settings(
    network: AbstractNetwork,
    x: ArrayLike,
    y: ArrayLike,
    *,
    cosine: Number = 0.99,
    rule: AbstractRule | None = None,
    solver: AbstractSolver | None = None,
    nudge: AbstractNudge | None = None,
    betas: Sequence[Number] = (0.1, 0.01, 1e-3),
    tolerances: Sequence[Number] = _LADDER,
    orders: Sequence[AbstractOrder | None] = (None, Alternating()),
    feedback: Sequence[Number] = (),
    exact: AbstractSolver | None = None,
    epoch: int = 0,
    throw: bool = True,
) -> RecommendedSettings:
    r"""Find the fewest sweeps that keep the gradient.

    The gradient of each choice is compared with the exact one of the same network,
    $\cos = \min_W \langle g_W, g^*_W \rangle / \|g_W\| \|g^*_W\|$ over its weights. One
    knob is turned at a time, at the best of the others so far:

    1. tolerance of all phases together, then nudge and rule: what a nudge does is seen
       only where phases come near enough to rest, and the reverse. The bias of
       `OneSided` is of order $\beta$, of `Centered` of order $\beta^2$, at half as many
       nudged phases; from below nothing bounds the nudge but the dtype's range, since
       increments do not cancel.
    2. order of the sweeps: along the signal, or two groups that alternate.
    3. tolerance of nudged phases, of free ones, and of nudged ones once more. That of a
       free phase moves the point at which the gradient is taken: it is absolute, so
       activities bound it. That of a nudged phase is in units of the increments of each
       layer, so the cosine asked for bounds it, at any nudge. All of the ladder is
       tried, since the cosine need not fall with a tolerance: examples stop at whole
       sweeps.
    4. scale of tied feedback, if any is given: another network each, with its own
       exact gradient. Weak feedback takes fewer sweeps, until the dtype or the twin
       bounds it.

    ```python
    import ctep, jax

    network = ctep.mlp((4, 8, 8, 3), feedback=0.3, key=jax.random.key(0))
    x, y = jax.random.normal(jax.random.key(1), (8, 4)), jax.numpy.arange(8) % 3
    found = ctep.analysis.recommended_settings(network, x, y, tolerances=(1e-3, 0.1))
    print(found)
    options = found.settings  # ctep.fit(found.network, dataset, **options)
    ```

    Measure at weights that have been trained for some hundred batches: at initial ones
    networks settle sooner.

    Args:
        network: as it will go on training.
        x: inputs, `(batch, *input_shape)`; some thirty examples will do.
        y: targets, as in `ctep.gradient`.
        cosine: the smallest that a weight's gradient may have.
        rule: what is given, and measured first; by default `Centered(0.1)`.
        solver: likewise, a `Sweeps`, a `FixedSweeps` or `Phases` of them, whose limits
            and relaxation stay; by default `Sweeps()`.
        nudge: its cost is the loss; by default `OutputError()`.
        betas: nudges to try, one-sided and centred.
        tolerances: to try in either phase, as `rtol` and `atol` both.
        orders: to try in both phases; `None` is the direction of the signal.
        feedback: scales of tied feedback to try, none by default.
        exact: solver of the free phase that the exact gradient is taken at; by default
            `Sweeps` to within 100 roundings of the network's dtype.
        epoch: for weights of nudges that are scheduled.
        throw: whether to raise if an example does not settle by `exact`; otherwise it
            is left out everywhere, and counted.

    Raises:
        TypeError: if an argument is not of its kind.
        ValueError: if a number is out of range, the solver takes no sweeps, feedback is
            asked for where it has not one scale, or `x` or `y` do not fit.
        RuntimeError: if `throw` and an example has not settled, or if none has.

    Cost: with the defaults some 35 gradients of the batch, by 4 to 6 programs, since
    numbers are data of theirs; the exact one; and `spectral_radius` of 8 examples.
    """
    rule = Centered() if rule is None else rule
    solver = Sweeps() if solver is None else solver
    check_kinds(rule=rule, solver=solver)
    cosine = float(checks.positive("cosine", cosine, "0.99"))
    _check(cosine, solver, orders, throw)
    betas, tolerances, feedback = (
        tuple(checks.positive(name, value, "(0.1, 0.01)") for value in values)
        for name, values in (
            ("betas", checks.members("betas", betas)),
            ("tolerances", checks.members("tolerances", tolerances)),
            ("feedback", checks.members("feedback", feedback)),
        )
    )
    exact = solver_or(exact, network.dtype) if exact is None else exact
    check_kinds(solver=exact)
    x, y, nudge, _ = batch(network, x, y, nudge, solver, epoch)
    rule.check(network, nudge, (x[:1], y[:1]))
    scaled = {scale: _with_feedback(network, scale) for scale in feedback}
    judge = Judge.of(network, x, y, nudge, exact, bool(feedback), throw)
    search = Search(judge, cosine, [])
    free, nudged = pair_of(solver)
    search.measure("given", rule, free, nudged)
    search.every(_both(tolerances), "all phases")
    search.every(_rules(rule, betas), "nudge")
    search.every(_orders(orders), "order")
    for phase in ("nudged", "free", "nudged"):
        search.every(_one(phase, tolerances), f"{phase} phases")
    own, rows = search.best, list(search.rows)
    networks: dict[float | None, AbstractNetwork] = {None: network}
    for scale, other in scaled.items():
        judge = Judge.of(other, x, y, nudge, exact, True, throw, scale)
        search = Search(judge, cosine, [])
        search.measure("feedback", own.rule, *pair_of(own.solver))
        search.every(_one("free", tolerances), "free phases")
        search.every(_one("nudged", tolerances), "nudged phases")
        rows, networks = rows + search.rows, networks | {scale: other}
    best = best_of(rows, cosine)
    left_out = len(x) - len(judge.x)
    return RecommendedSettings(
        tuple(rows), best, cosine, networks[best.feedback], len(judge.x), left_out
    )


def _check(cosine, solver, orders, throw):
    checks.flag("throw", throw)
    if not cosine <= 1:
        raise ValueError(f"`cosine` is {cosine}, but none is above 1: pass 0.99.")
    for part in pair_of(solver):
        if not isinstance(part, Sweeps | FixedSweeps):
            raise ValueError(
                f"`solver` is {type(part).__name__}, which takes no sweeps: pass "
                "`ctep.Sweeps()`."
            )
    for order in checks.members("orders", orders):
        kinds = AbstractOrder, type(None)
        checks.instance("orders", order, kinds, "orders or None", "ctep.Alternating()")


def _with_feedback(network, scale):
    """Return a network at another scale of its tied feedback, or raise."""

    def is_tied(node):
        return isinstance(node, Tied)

    found = jax.tree_util.tree_leaves(network, is_leaf=is_tied)
    scales = {node.scale for node in found if is_tied(node)}
    if len(scales) != 1:
        raise ValueError(
            f"`feedback` is given, but this network has {len(scales)} scales of tied "
            "feedback: leave it out, and pass networks of other scales one by one."
        )
    return jax.tree_util.tree_map(
        lambda node: Tied(scale) if is_tied(node) else node, network, is_leaf=is_tied
    )


# What is varied: functions of the best row that return rules and pairs of solvers.


def _set(solver, tolerance):
    return solver.with_tolerances(lambda _: tolerance)


def _both(tolerances):
    return lambda rule, free, nudged: (
        (rule, _set(free, t), _set(nudged, t)) for t in tolerances
    )


def _one(phase, tolerances):
    if phase == "free":
        return lambda rule, free, nudged: (
            (rule, _set(free, t), nudged) for t in tolerances
        )
    return lambda rule, free, nudged: (
        (rule, free, _set(nudged, t)) for t in tolerances
    )


def _rules(given, betas):
    rescale = getattr(given, "rescale", True)
    return lambda rule, free, nudged: (
        (kind(beta, rescale), free, nudged)
        for kind in (OneSided, Centered)
        for beta in betas
    )


def _orders(orders):
    return lambda rule, free, nudged: (
        (rule, *(dataclasses.replace(s, order=order) for s in (free, nudged)))
        for order in orders
    )
