"""What a recipe says: the axes, the data and the protocol of one published system."""

import dataclasses
from collections.abc import Callable

import optax
from jaxtyping import PRNGKeyArray

from .._network import AbstractNetwork
from .._nudge import AbstractNudge
from .._rule import AbstractRule
from .._solver import AbstractSolver


@dataclasses.dataclass(frozen=True)
class Recipe:
    """One system, ready to train.

    Fields:
        name: on the command line.
        summary: one line for a list.
        dataset: by name.
        network: function of the input's shape, the number of classes and a key.
        nudge: what pulls.
        rule: how the gradient is made.
        solver: how rest is found.
        optimizer: an optax transformation.
        batch_size: examples per step.
        epochs: of a full run.
        published: accuracy in the source, with its protocol.
        ours: accuracy of this recipe, with its protocol.
        source: where the system was published, and where the recipe departs from it.
    """

    name: str
    summary: str
    dataset: str
    network: Callable[[tuple[int, ...], int, PRNGKeyArray], AbstractNetwork]
    nudge: AbstractNudge
    rule: AbstractRule
    solver: AbstractSolver
    optimizer: optax.GradientTransformation
    batch_size: int
    epochs: int
    published: str
    ours: str
    source: str
