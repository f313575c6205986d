"""How far the gradients of rules are from the exact one."""

import dataclasses
import math
from collections.abc import Mapping, Sequence

import equinox as eqx
import jax
import numpy as np
from jaxtyping import ArrayLike, Float

from .. import _checks as checks
from .._concrete import concrete
from .._network import AbstractNetwork
from .._network.names import parameter_names
from .._nudge import AbstractNudge
from .._rule import AbstractRule, Implicit, Task, check_kinds
from .._solver import AbstractSolver
from .._weights.resolution import effective
from ._inputs import batch, counted, nearest, with_settled
from ._shown import Shown


@dataclasses.dataclass(frozen=True)
class GradientCheck(Shown):
    r"""How each rule's gradient compares with the exact one, array by array.

    Fields:
        rules: names of the rules.
        names: of the trained arrays, as the network prints them; the last is "all".
        cosine: $\langle g, g^* \rangle / \|g\| \|g^*\|$.
        relative_error: $\|g - g^*\| / \|g^*\|$.
        sign_agreement: fraction of the elements whose signs agree, of those of $g^*$
            that are above 100 roundings of its largest one.
        examples: how many the means are taken over.
        unsettled: how many were left out.

    Where a gradient vanishes, what would divide by it is NaN.
    """

    rules: tuple[str, ...]
    names: tuple[str, ...]
    cosine: Float[np.ndarray, "rules arrays"]
    relative_error: Float[np.ndarray, "rules arrays"]
    sign_agreement: Float[np.ndarray, "rules arrays"]
    examples: int
    unsettled: int

    def _parts(self):
        taken = counted(self.examples, self.unsettled)
        parts: list = [f"gradients against the exact one, {taken}"]
        titles = ["", "cosine", "relative error", "signs %"]
        for r, rule in enumerate(self.rules):
            rows = [titles]
            for n, name in enumerate(self.names):
                values = (
                    f"{self.cosine[r, n]:.6f}",
                    f"{self.relative_error[r, n]:.2e}",
                    f"{100 * self.sign_agreement[r, n]:.2f}",
                )
                rows.append([name, *("-" if v == "nan" else v for v in values)])
            parts += [rule, rows]
        return parts


@concrete
@effective
def gradient_check(
    network: AbstractNetwork,
    x: ArrayLike,
    y: ArrayLike,
    rules: Mapping[str, AbstractRule] | Sequence[AbstractRule],
    *,
    nudge: AbstractNudge | None = None,
    solver: AbstractSolver | None = None,
    exact: AbstractRule | None = None,
    epoch: int = 0,
    throw: bool = True,
) -> GradientCheck:
    r"""Compare the gradients of rules with the exact one, array by array.

    Every phase is settled by the given solver: differences below its tolerance tell
    nothing of the rules. Rules that draw at random do so once, with a fixed key.

    Args:
        network: any network.
        x: inputs, `(batch, *input_shape)`.
        y: targets, as in `ctep.gradient`.
        rules: by name, or a sequence of rules that are named as they print.
        nudge: its cost is the loss; by default `OutputError()`.
        solver: for all phases; by default `Sweeps` to within 100 roundings of the
            network's dtype.
        exact: what to compare with; by default `Implicit()`.
        epoch: for weights of nudges that are scheduled.
        throw: whether to raise if an example does not settle. Otherwise examples that
            do not under one of the rules are left out for all of them, and counted.

    Raises:
        TypeError: if an argument is not of its kind.
        ValueError: if there are no rules or two of a name, a rule does not fit, or `x`
            or `y` do not.
        RuntimeError: if `throw` and an example has not settled, or if none has.

    Cost: that of all the rules, and of the exact one; twice that if examples are left
    out.
    """
    exact = Implicit() if exact is None else exact
    x, y, nudge, solver = batch(network, x, y, nudge, solver, epoch)
    named = _named(rules)
    for rule in (exact, *named.values()):
        check_kinds(rule=rule)
        rule.check(network, nudge, (x[:1], y[:1]))

    def run(x, y):
        found = [
            _estimate(network, x, y, nudge, rule, solver)
            for rule in (exact, *named.values())
        ]
        gradients = [jax.tree_util.tree_leaves(g.unstacked()) for g, _ in found]
        return gradients, [result for _, result in found]

    (truth, *found), unsettled = with_settled(run, x, y, throw)
    least = nearest(network.dtype)
    measures = np.array([_compare(g, truth, least) for g in found])
    return GradientCheck(
        tuple(named),
        (*parameter_names(network.unstacked()), "all"),
        *np.moveaxis(measures, -1, 0),
        examples=len(x) - unsettled,
        unsettled=unsettled,
    )


def _named(rules):
    if isinstance(rules, AbstractRule):
        rules = (rules,)
    if not isinstance(rules, Mapping):
        checks.instance(
            "rules", rules, Sequence, "a dictionary or a sequence of rules",
            "[ctep.Centered(0.1)]",
        )  # fmt: skip
        names = [str(rule) for rule in rules]
        if len(set(names)) < len(names):
            raise ValueError(
                f"`rules` holds {max(names, key=names.count)} twice: leave one out, or "
                "pass a dictionary with a name for each."
            )
        rules = dict(zip(names, rules, strict=True))
    if not rules:
        raise ValueError(
            "`rules` is empty, but at least one gradient must be checked: pass for "
            "example `[ctep.Centered(0.1)]`."
        )
    return dict(rules)


@eqx.filter_jit
def _estimate(network, x, y, nudge, rule, solver):
    key = jax.random.key(0)  # for rules that draw at random
    task = Task.mean(x, y, nudge, solver, throw=False, key=key)
    estimate = rule.estimate(network, task)
    return estimate.gradient[0], estimate.result


def _compare(gradient, truth, least):
    """Return cosine, relative error and agreement of signs, per array and of all."""
    ours, theirs = _arrays(gradient), _arrays(truth)
    ours.append(np.concatenate(ours))
    theirs.append(np.concatenate(theirs))
    rows = []
    for got, want in zip(ours, theirs, strict=True):
        size, other = np.linalg.norm(want), np.linalg.norm(got)
        # The sign of what is nothing but rounding says nothing.
        signed = np.abs(want) > least * np.max(np.abs(want), initial=0.0)
        agree = np.sum(np.sign(got[signed]) == np.sign(want[signed]))
        pairs = (
            (got @ want, size * other),
            (np.linalg.norm(got - want), size),
            (agree, signed.sum()),
        )
        rows.append([a / b if b > 0 else math.nan for a, b in pairs])
    return rows


def _arrays(tree):
    leaves = jax.tree_util.tree_leaves(tree)
    # In float64, where squares of float32 numbers neither vanish nor overflow.
    return [np.ravel(np.asarray(leaf, np.float64)) for leaf in leaves]
