"""What a run changes of its recipe, so that it is no longer the recipe itself."""

import dataclasses
from typing import Any

import optax

from .. import _checks as checks
from .._rule import AbstractRule, Backprop
from .._solver import AbstractSolver

# What `train` and the command line can change, all by these names.
CHANGEABLE = (
    "feedback", "beta", "rate", "solver_tol", "batch_size", "validation", "average",
)  # fmt: skip

# What could be passed for each, in errors.
_EXAMPLES = {"feedback": "0.1", "beta": "0.01", "rate": "0.001", "solver_tol": "1e-3"}


@dataclasses.dataclass(frozen=True)
class Changes:
    """Numbers in place of a recipe's; `None` leaves the recipe's own.

    Fields:
        feedback: scale of the feedback; that of a skip follows as in the recipe.
        beta: nudge of the rule.
        rate: the largest learning rate, by which all others are multiplied alike.
        solver_tol: both tolerances of the solver, in every phase.

    Raises:
        TypeError: if one is no number.
        ValueError: if one is not positive and finite.
    """

    feedback: float | None = None
    beta: float | None = None
    rate: float | None = None
    solver_tol: float | None = None

    def __post_init__(self):
        for name, value in self.given.items():
            checks.positive(name, value, _EXAMPLES[name])

    @property
    def given(self) -> dict[str, Any]:
        """Those that are not the recipe's own, by name."""
        every = {name: getattr(self, name) for name in _EXAMPLES}
        return {name: value for name, value in every.items() if value is not None}

    def rule(self, rule: AbstractRule) -> AbstractRule:
        """Return the rule with this nudge.

        Raises:
            ValueError: if it has none, or trains a twin that has no feedback.
        """
        name = type(rule).__name__
        if self.feedback is not None and isinstance(rule, Backprop):
            raise ValueError(
                f"`feedback` is {self.feedback}, but {name} trains a network without "
                "feedback: leave `feedback` out."
            )
        if self.beta is None:
            return rule
        if "beta" not in {field.name for field in dataclasses.fields(rule)}:
            raise ValueError(
                f"`beta` is {self.beta}, but {name} has no nudge of that name: leave "
                "`beta` out."
            )
        return dataclasses.replace(rule, beta=float(self.beta))  # pyright: ignore[reportCallIssue]

    def solver(self, solver: AbstractSolver) -> AbstractSolver:
        """Return the solver with these tolerances, in every phase."""
        if self.solver_tol is None:
            return solver
        tolerance = float(self.solver_tol)
        return solver.with_tolerances(lambda _: tolerance)

    def optimizer(
        self, optimizer: optax.GradientTransformation, rate: float
    ) -> optax.GradientTransformation:
        """Return the optimiser at this rate; `rate` is the one that it has."""
        if self.rate is None:
            return optimizer
        # All of them multiply by their rate in the end. As a number of the state, the
        # factor is no part of the program: runs at other rates share one.
        scale = optax.inject_hyperparams(optax.scale)
        return optax.chain(optimizer, scale(float(self.rate) / rate))
