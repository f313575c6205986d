"""The cheapest settings whose gradient is still the gradient."""

import dataclasses
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import equinox as eqx
import jax
import numpy as np
from jaxtyping import ArrayLike

from .. import _checks as checks
from .._concrete import concrete
from .._custom_types import Number
from .._network import AbstractNetwork, Tied
from .._network.names import parameter_names
from .._nudge import AbstractNudge
from .._rule import (
    AbstractRule,
    Backprop,
    Centered,
    Implicit,
    OneSided,
    Task,
    check_kinds,
)
from .._solver import (
    SUCCESSFUL,
    AbstractOrder,
    AbstractSolver,
    Alternating,
    FixedSweeps,
    Phases,
    Sweeps,
    usable,
)
from .._train.programs import as_data
from ._inputs import batch, counted, solver_or
from ._shown import Shown
from ._spectrum import spectral_radius

_LADDER = (1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3)
_FEW = 8  # examples whose spectral radius is found, at 40 states each


@dataclasses.dataclass(frozen=True)
class Setting:
    """What one choice costs, and what its gradient is worth.

    Fields:
        tried: what was varied here.
        rule: makes the gradient.
        solver: of both phases.
        feedback: scale of the feedback, `None` for the network's own.
        free: mean number of sweeps of the free phase.
        nudged: that of all nudged phases together.
        unsettled: fraction of the examples with a phase that was not at rest.
        radius: mean spectral radius at the rests of a few examples.
        cosine: the smallest of all weights, with the exact gradient of this network.
        worst: the name of that weight.
        twin: likewise with the gradient of the feed-forward twin; NaN if not asked for.
    """

    tried: str
    rule: AbstractRule
    solver: AbstractSolver
    feedback: float | None
    free: float
    nudged: float
    unsettled: float
    radius: float
    cosine: float
    worst: str
    twin: float

    @property
    def sweeps(self) -> float:
        """Mean number of sweeps of all phases together."""
        return self.free + self.nudged


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
    free, nudged = _pair(solver)
    orders = [type(s.order).__name__ if s.order else "-" for s in (free, nudged)]
    order = orders[0] if orders[0] == orders[1] else " / ".join(orders)
    return f"{free.atol:g} / {nudged.atol:g}", order


@concrete
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
    judge = _Judge.of(network, x, y, nudge, exact, bool(feedback), throw)
    search = _Search(judge, cosine, [])
    free, nudged = _pair(solver)
    search.measure("given", rule, free, nudged)
    search.every(_both(tolerances), "all phases")
    search.every(_rules(rule, betas), "nudge")
    search.every(_orders(orders), "order")
    for phase in ("nudged", "free", "nudged"):
        search.every(_one(phase, tolerances), f"{phase} phases")
    own, rows = search.best, list(search.rows)
    networks: dict[float | None, AbstractNetwork] = {None: network}
    for scale, other in scaled.items():
        judge = _Judge.of(other, x, y, nudge, exact, True, throw, scale)
        search = _Search(judge, cosine, [])
        search.measure("feedback", own.rule, *_pair(own.solver))
        search.every(_one("free", tolerances), "free phases")
        search.every(_one("nudged", tolerances), "nudged phases")
        rows, networks = rows + search.rows, networks | {scale: other}
    best = _best(rows, cosine)
    left_out = len(x) - len(judge.x)
    return RecommendedSettings(
        tuple(rows), best, cosine, networks[best.feedback], len(judge.x), left_out
    )


def _check(cosine, solver, orders, throw):
    checks.flag("throw", throw)
    if not cosine <= 1:
        raise ValueError(f"`cosine` is {cosine}, but none is above 1: pass 0.99.")
    for part in _pair(solver):
        if not isinstance(part, Sweeps | FixedSweeps):
            raise ValueError(
                f"`solver` is {type(part).__name__}, which takes no sweeps: pass "
                "`ctep.Sweeps()`."
            )
    for order in checks.members("orders", orders):
        kinds = AbstractOrder, type(None)
        checks.instance("orders", order, kinds, "orders or None", "ctep.Alternating()")


def _pair(solver) -> tuple[Any, Any]:
    """Return the solvers of a free and of a nudged phase."""
    pair = isinstance(solver, Phases)
    return (solver.free, solver.nudged) if pair else (solver, solver)


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


def _best(rows: Iterable[Setting], bound: float) -> Setting:
    """Return the cheapest row above the bound, else the one of the largest cosine."""
    enough = [row for row in rows if row.cosine >= bound]
    if enough:
        return min(enough, key=lambda row: (row.sweeps, -row.cosine))
    return max(rows, key=lambda row: (row.cosine, -row.sweeps))


@dataclasses.dataclass
class _Search:
    """The rows so far, and how one more is measured."""

    judge: "_Judge"
    bound: float
    rows: list[Setting]

    @property
    def best(self) -> Setting:
        return _best(self.rows, self.bound)

    def measure(self, tried: str, rule, free, nudged) -> None:
        known = [(row.rule, *_pair(row.solver)) for row in self.rows]
        if (rule, free, nudged) not in known:
            self.rows.append(self.judge(tried, rule, free, nudged))

    def every(self, vary: Callable[..., Iterable], tried: str) -> None:
        """Measure all that `vary` makes of the best row."""
        best = self.best
        for candidate in vary(best.rule, *_pair(best.solver)):
            self.measure(tried, *candidate)


@dataclasses.dataclass
class _Judge:
    """What gradients are compared with: the exact one, at examples that settle."""

    network: AbstractNetwork
    x: Any
    y: Any
    nudge: AbstractNudge
    truth: list[np.ndarray]
    twin: list[np.ndarray] | None
    radius: float
    feedback: float | None

    @staticmethod
    def of(network, x, y, nudge, exact, twin, throw, feedback=None) -> "_Judge":
        found, rest = _gradient(network, x, y, nudge, Implicit(), exact)
        settled = np.asarray(usable(rest[-1]))
        if not settled.all():
            if throw or not settled.any():
                raise RuntimeError(
                    f"{np.sum(~settled)} of {len(x)} examples have not settled by "
                    f"{exact}, so they have no exact gradient: pass `throw=False` to "
                    "leave them out, or a looser `exact`."
                )
            x, y = x[settled], y[settled]
            found, _ = _gradient(network, x, y, nudge, Implicit(), exact)
        other = None
        if twin:
            try:
                Backprop().check(network, nudge, (x[:1], y[:1]))
                other = _weights(_gradient(network, x, y, nudge, Backprop(), exact)[0])
            except ValueError:  # which has none, and none is shown
                other = None
        radii = spectral_radius(network, x[:_FEW], solver=exact, tol=0.01, throw=False)
        radii = radii[np.isfinite(radii)]
        radius = float(np.mean(radii)) if len(radii) else math.nan
        truth = _weights(found)
        return _Judge(network, x, y, nudge, truth, other, radius, feedback)

    def __call__(self, tried, rule, free, nudged) -> Setting:
        solver = free if free == nudged else Phases(free=free, nudged=nudged)  # pyright: ignore[reportCallIssue]
        # A pair in any case: one program for all.
        pair = Phases(free=free, nudged=nudged)  # pyright: ignore[reportCallIssue]
        gradient, (first, steps, rested, _) = _gradient(
            self.network, self.x, self.y, self.nudge, rule, pair
        )
        found = _weights(gradient)
        cosines = [_cosine(a, b) for a, b in zip(found, self.truth, strict=True)]
        twin = math.nan
        if self.twin is not None:
            both = zip(found, self.twin, strict=True)
            twin = min(_cosine(a, b) for a, b in both)
        worst = int(np.argmin(cosines))
        names = _weight_names(self.network)
        return Setting(
            tried=tried,
            rule=rule,
            solver=solver,
            feedback=self.feedback,
            free=float(np.mean(first)),
            nudged=float(np.mean(steps - first)),
            unsettled=float(np.mean(~np.asarray(rested))),
            radius=self.radius,
            cosine=cosines[worst],
            worst=names[worst],
            twin=twin,
        )


def _gradient(network, x, y, nudge, rule, solver):
    return _estimated(network, x, y, nudge, as_data(rule), as_data(solver))


@eqx.filter_jit
def _estimated(network, x, y, nudge, rule, solver):
    """Return the gradient; steps of the free phase and of all, and how they ended."""
    found = rule.estimate(network, Task.mean(x, y, nudge, solver, throw=False))
    rested = found.result == SUCCESSFUL
    return found.gradient[0], (found.free.steps, found.sweeps, rested, found.result)


def _is_weight(leaf) -> bool:
    return leaf.ndim > 1


def _weights(gradient) -> list[np.ndarray]:
    """Return what has more than one axis, flat: biases follow from their layers."""
    leaves = jax.tree_util.tree_leaves(gradient.unstacked())
    kept = [leaf for leaf in leaves if _is_weight(leaf)] or leaves
    # In float64, where squares of float32 numbers neither vanish nor overflow.
    return [np.ravel(np.asarray(leaf, np.float64)) for leaf in kept]


def _weight_names(network) -> list[str]:
    whole = network.unstacked()
    kinds = eqx.filter(whole, whole.differentiable())
    leaves = jax.tree_util.tree_leaves(kinds)
    names = list(parameter_names(whole))
    kept = [n for n, leaf in zip(names, leaves, strict=True) if _is_weight(leaf)]
    return kept or names


def _cosine(a, b) -> float:
    size = float(np.linalg.norm(a) * np.linalg.norm(b))
    # Where the exact gradient vanishes there is nothing to be right about.
    if not np.any(b):
        return 1.0
    return float(a @ b) / size if size > 0 else 0.0
