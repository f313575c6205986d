"""What a recipe says: the axes, the data and the protocol of one published system."""

import dataclasses
import functools
import json
from collections.abc import Callable
from importlib import resources
from typing import Any, Protocol, TypedDict, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import PRNGKeyArray

from .. import _checks as checks
from .._network import AbstractNetwork, with_precision
from .._network.dense import Precision
from .._nudge import AbstractNudge, OutputError
from .._rule import AbstractRule, check_kinds
from .._solver import AbstractSolver
from .._train.watch import Watch
from ..data import Dataset, Pipeline
from ..data.selection import hold_out
from .changes import Changes


class Options(TypedDict):
    """What `ctep.fit` needs besides a network and a dataset: `fit(..., **options)`."""

    nudge: AbstractNudge
    rule: AbstractRule
    solver: AbstractSolver
    optimizer: optax.GradientTransformation
    epochs: int
    batch_size: int
    validation: float
    pipeline: Pipeline
    carry_state: bool
    average: float | None
    watch: Watch
    probe: int
    key: PRNGKeyArray


@runtime_checkable
class Builder(Protocol):
    """A function that builds the network of a recipe."""

    def __call__(
        self,
        shape: tuple[int, ...],
        classes: int,
        key: PRNGKeyArray,
        scale: float,
        /,
        *,
        feedback: float = ...,
    ) -> AbstractNetwork: ...


@dataclasses.dataclass(frozen=True)
class Recipe:
    """One system, ready to train.

    Fields:
        name: what `get`, `train` and the command line call it.
        summary: one line for a list.
        dataset: the name of what it was published on.
        network: function of the input's shape, the number of classes, a key, and a
            factor for every width; `feedback`, the scale of it, has a default, and so
            have `images`, where `sample` asks for some.
        rule: how the gradient is made.
        solver: how rest is found.
        optimizer: function of the epochs and the steps of one epoch.
        rate: the largest learning rate that it has.
        batch_size: examples per step.
        epochs: the length of a full run.
        published: accuracy in the source, with its protocol.
        source: where the system was published, and where the recipe departs from it.
        cost: seconds per epoch as measured, median of a run, with the machine.
        nudge: what pulls, a function of the epochs and the teacher.
        pipeline: function of the dataset's name.
        carry_state: whether free phases start from the last batch's nudged state.
        average: what an average of the weights keeps of itself in a step, if one is
            kept.
        watch: what counts as a fault.
        probe: number of examples in the probe batch.
        teacher: name of the recipe that trains the teacher, if there is one.
        sample: number of training images that the network is built with.
    """

    name: str
    summary: str
    dataset: str
    network: Builder
    rule: AbstractRule
    solver: AbstractSolver
    optimizer: Callable[[int, int], optax.GradientTransformation]
    rate: float
    batch_size: int
    epochs: int
    published: str
    source: str
    cost: str = "not measured"
    nudge: Callable[[int, AbstractNetwork | None], AbstractNudge] = (
        lambda epochs, teacher: OutputError()
    )
    pipeline: Callable[[str], Pipeline] = lambda dataset: Pipeline()
    carry_state: bool = False
    average: float | None = None
    watch: Watch = dataclasses.field(default_factory=Watch)
    probe: int = 64
    teacher: str | None = None
    sample: int = 0

    @property
    def ours(self) -> str:
        """Accuracy of this recipe in the runs that are kept, with its protocol."""
        return reached().get(self.name, "not run")

    def setup(
        self,
        dataset: Dataset,
        *,
        seed: int = 0,
        epochs: int | None = None,
        scale: float = 1.0,
        rule: AbstractRule | None = None,
        precision: Precision = "float32",
        teacher: AbstractNetwork | None = None,
        feedback: float | None = None,
        beta: float | None = None,
        rate: float | None = None,
        solver_tol: float | None = None,
        batch_size: int | None = None,
        validation: float = 0.0,
        average: float | None = None,
    ) -> tuple[AbstractNetwork, Options]:
        """Return the network of a run, and what to pass to `ctep.fit` with it.

        Args:
            dataset: what it is to be trained on.
            seed: that of the weights and the order of the examples.
            epochs: length of the run instead of the recipe's; schedules stretch along.
            scale: factor of every width.
            rule: what makes the gradient instead of the recipe's rule.
            precision: that of products: "float32", "tensorfloat32" or "bfloat16".
            teacher: the trained network, of a recipe that has one.
            feedback: scale of the feedback; that of a skip follows as in the recipe.
            beta: nudge of the rule.
            rate: the largest learning rate; all others are multiplied alike.
            solver_tol: relative and absolute tolerance of the solver.
            batch_size: examples per step.
            validation: fraction of the training set that is held out.
            average: what an average of the weights keeps of itself in a step.

        Raises:
            TypeError: if an argument is not of its kind.
            ValueError: if an option is out of range, or a teacher is missing or not
                asked for.
        """
        changes = Changes(feedback, beta, rate, solver_tol)
        self._check(dataset, seed, epochs, scale, rule, teacher)
        size = self.batch_size if batch_size is None else batch_size
        size = checks.count("batch_size", size, "50")
        weights, key = jax.random.split(jax.random.key(seed))
        pipeline = self.pipeline(dataset.name)
        shape = pipeline.shape(dataset.shape)
        epochs = self.epochs if epochs is None else epochs
        count = _remaining(dataset, validation)
        size = min(size, count)
        # Optax refuses a cosine of no steps, before `fit` can say what is wrong.
        optimizer = self.optimizer(max(epochs, 1), -(-count // size))
        options: Options = {
            "nudge": self.nudge(epochs, teacher),
            "rule": changes.rule(self.rule if rule is None else rule),
            "solver": changes.solver(self.solver),
            "optimizer": changes.optimizer(optimizer, self.rate),
            "epochs": epochs,
            "batch_size": size,
            "validation": validation,
            "pipeline": pipeline,
            "carry_state": self.carry_state,
            "average": self.average if average is None else average,
            "watch": self.watch,
            "probe": self.probe,
            "key": key,
        }
        given: dict[str, Any] = {}
        if feedback is not None:
            given["feedback"] = float(feedback)
        if self.sample:
            given["images"] = _images(dataset, pipeline, self.sample)
        classes = dataset.classes
        assert classes is not None  # as `_check` has seen
        network = self.network(shape, classes, weights, scale, **given)
        return with_precision(network, precision), options

    def _check(self, dataset, seed, epochs, scale, rule, teacher):
        example = 'ctep.data.load("digits")'
        checks.instance("dataset", dataset, Dataset, "a dataset", example)
        checks.instance("seed", seed, int, "a whole number", "0")
        if epochs is not None:
            checks.integer("epochs", epochs, "10")
        if rule is not None:
            check_kinds(rule=rule)
        if not -(2**63) <= seed < 2**63:
            raise ValueError(
                f"`seed` is {seed}, but must fit into 64 bits: choose a smaller one."
            )
        checks.positive("scale", scale, "0.25")
        if teacher is not None:
            example = 'ctep.recipes.train("vgg19-teacher").network'
            checks.instance("teacher", teacher, AbstractNetwork, "a network", example)
        if self.teacher is None and teacher is not None:
            raise ValueError(
                f"`teacher` is a network, but {self.name} learns from none: leave it "
                "out."
            )
        if self.teacher is not None and teacher is None:
            raise ValueError(
                f"`teacher` is None, but {self.name} learns from one: train the recipe "
                f"{self.teacher} and pass its network."
            )
        if dataset.classes is None:
            raise ValueError(
                f"`dataset` {dataset.name!r} has values for targets, but recipes are "
                "for classes: build a network with `ctep.mlp` and call `ctep.fit`."
            )


@functools.cache
def reached() -> dict[str, str]:
    """Return what recipes have reached in runs that are kept, by name."""
    file = resources.files("ctep.recipes").joinpath("reached.json")
    return json.loads(file.read_text(encoding="utf-8"))


def _images(dataset, pipeline, count) -> np.ndarray:
    """Return the first training images as the network gets them, none augmented."""
    x, _ = dataset.train.read(np.arange(min(count, dataset.examples)))
    with jax.ensure_compile_time_eval():  # though a study traces this
        return np.asarray(pipeline(jnp.asarray(x), jnp.result_type(float)))


def _remaining(dataset, validation) -> int:
    """Return the number of examples that are left to train on."""
    checks.real("validation", validation, "0.1")
    if not validation:
        return dataset.examples
    # By any key, and though a study traces this: it is a number all the same.
    with jax.ensure_compile_time_eval():
        return len(hold_out(dataset.examples, validation, jax.random.key(0))[0])


def widths(values: tuple[int, ...], scale: float) -> tuple[int, ...]:
    """Return widths times `scale`, at least 1."""
    return tuple(max(1, round(value * scale)) for value in values)


def within(bound: float):
    """Return the initialiser of weights within `bound` / sqrt(fan-in)."""
    scaling = jax.nn.initializers.variance_scaling
    # Numbers that are uniform within b have a variance of b**2 / 3.
    return scaling(bound**2 / 3, "fan_in", "uniform")


def padded(dataset: str, **options) -> Pipeline:
    """Return `Pipeline.standard`, with images of 28 x 28 padded to 32 x 32."""
    small = dataset.startswith(("mnist", "fashion_mnist"))
    return Pipeline.standard(dataset, pad=2 if small else 0, **options)


def cosine_decay(
    rate: float, epochs: int, steps: int, least: float = 0.0, per_epoch: bool = False
):
    """Return a rate that falls along half a cosine over the run.

    Args:
        rate: learning rate of the first step.
        epochs: number of epochs of the run.
        steps: number of steps of an epoch.
        least: learning rate at the end.
        per_epoch: whether it stays the same within an epoch; else it falls step by
            step.
    """
    schedule = optax.cosine_decay_schedule(rate, epochs * steps, least / rate)
    return (lambda step: schedule(step // steps * steps)) if per_epoch else schedule
