"""What one choice of settings costs, and what its gradient is worth."""

import dataclasses
import math
from collections.abc import Callable, Iterable
from typing import Any

import equinox as eqx
import jax
import numpy as np

from .._network import AbstractNetwork
from .._network.names import parameter_names
from .._nudge import AbstractNudge
from .._rule import AbstractRule, Backprop, Implicit, Task
from .._solver import SUCCESSFUL, AbstractSolver, Phases, usable
from .._train.programs import as_data
from ._spectrum import spectral_radius

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


def pair_of(solver) -> tuple[Any, Any]:
    """Return the solvers of a free and of a nudged phase."""
    pair = isinstance(solver, Phases)
    return (solver.free, solver.nudged) if pair else (solver, solver)


def best_of(rows: Iterable[Setting], bound: float) -> Setting:
    """Return the cheapest row above the bound, else the one of the largest cosine."""
    enough = [row for row in rows if row.cosine >= bound]
    if enough:
        return min(enough, key=lambda row: (row.sweeps, -row.cosine))
    return max(rows, key=lambda row: (row.cosine, -row.sweeps))


@dataclasses.dataclass
class Search:
    """The rows so far, and how one more is measured."""

    judge: "Judge"
    bound: float
    rows: list[Setting]

    @property
    def best(self) -> Setting:
        return best_of(self.rows, self.bound)

    def measure(self, tried: str, rule, free, nudged) -> None:
        known = [(row.rule, *pair_of(row.solver)) for row in self.rows]
        if (rule, free, nudged) not in known:
            self.rows.append(self.judge(tried, rule, free, nudged))

    def every(self, vary: Callable[..., Iterable], tried: str) -> None:
        """Measure all that `vary` makes of the best row."""
        best = self.best
        for candidate in vary(best.rule, *pair_of(best.solver)):
            self.measure(tried, *candidate)


@dataclasses.dataclass
class Judge:
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
    def of(network, x, y, nudge, exact, twin, throw, feedback=None) -> "Judge":
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
        return Judge(network, x, y, nudge, truth, other, radius, feedback)

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
