"""A recipe trained in one call, its teacher first, and its folder opened again."""

import dataclasses
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from .. import _checks as checks, data
from .._network import AbstractNetwork
from .._network.dense import Precision
from .._nudge import AbstractNudge
from .._rule import AbstractRule, Backprop, FeedbackAlignment, check_kinds
from .._solver import AbstractSolver
from .._text import printable
from .._train import Result, Watch, fit, restore as _restore
from .._train.devices.hosts import first
from .._train.restore import part
from .._train.store import folder
from ..data import Dataset
from ._all import get
from .base import Options, Recipe
from .changes import CHANGEABLE

# By the names that the command line and `run.json` have for them.
RULES: dict[str | None, AbstractRule | None] = {
    None: None,
    "backprop": Backprop(),
    "alignment": FeedbackAlignment(),
}


def train(
    name: str,
    *,
    dataset: object = None,
    epochs: int | None = None,
    seed: int = 0,
    scale: float = 1.0,
    rule: AbstractRule | None = None,
    precision: Precision = "float32",
    feedback: float | None = None,
    beta: float | None = None,
    rate: float | None = None,
    solver_tol: float | None = None,
    batch_size: int | None = None,
    validation: float | None = None,
    average: float | None = None,
    teacher: AbstractNetwork | None = None,
    out: str | Path | None = None,
    resume: bool = False,
    keep: int = 2,
    watch: Watch | None = None,
    workers: int | None = None,
    shard_parameters: bool = False,
    catch_signals: bool = False,
    data_dir: str | Path | None = None,
    progress: bool = True,
) -> Result:
    """Train a recipe, show progress, and print the evidence, as `ctep fit` does.

    A recipe with a teacher trains it first, for the epochs of the teacher's recipe, or
    finds it beside `out`: a run to `runs/kd` keeps its teacher in `runs/kd-teacher`.

    ```python
    import ctep

    result = ctep.recipes.train("digits", epochs=1)
    accuracy = result.history[-1]["test_accuracy"]
    ```

    Args:
        name: a recipe, see `ctep recipes`.
        dataset: data instead of the recipe's: whatever `ctep.data.load` takes.
        epochs: the length of the whole run; by default that of the recipe, of a run
            that is resumed its own.
        seed: that of the weights and the order of the examples, of a teacher too.
        scale: factor of every width, of a teacher too.
        rule: another rule than the recipe's: `ctep.Backprop()` trains the twin.
        precision: that of products, of a teacher too; see `ctep.with_precision`.
        feedback: scale of the feedback; that of a skip follows as in the recipe.
        beta: nudge of the rule.
        rate: the largest learning rate; all others are multiplied alike.
        solver_tol: relative and absolute tolerance of the solver.
        batch_size: examples per step.
        validation: fraction of the training set that is held out.
        average: what that of the weights keeps in a step, see `ctep.fit`.
        teacher: a network that is trained already, instead of one of `out-teacher`.
        out: folder for checkpoints and history, see `ctep.fit`.
        resume: continue the run in `out`. A teacher goes on by itself.
        keep: newest checkpoints to keep, besides the best one.
        watch: what counts as a fault, instead of the recipe's.
        workers: number of processes that stream the data, see `ctep.fit`.
        shard_parameters: divide each weight among the devices, see `ctep.fit`.
        catch_signals: return what is reached on Ctrl-C or SIGTERM, see `ctep.fit`.
        data_dir: where TFDS keeps its data; the variable `TFDS_DATA_DIR` by default.
        progress: whether to print.

    Returns:
        The trained network with its history; what the teacher's training returned if
        that was interrupted or diverged, for then nothing else is trained.

    Raises:
        TypeError: if an argument is not of its kind.
        ValueError: if there is no such recipe, with the nearest names; if an argument
            is out of range; or if `out` holds something else.
        FileNotFoundError: if the dataset is not prepared, or there is nothing to
            resume.

    Cost: that of `ctep.fit`; a teacher's recipe is another one of 100 epochs.
    """
    recipe = get(name)
    if rule is not None:
        check_kinds(rule=rule)
    checks.positive("scale", scale, "0.25")
    every = feedback, beta, rate, solver_tol, batch_size, validation, average
    pairs = zip(CHANGEABLE, map(checks.number, every), strict=True)
    changes = {name: value for name, value in pairs if value is not None}
    source = recipe.dataset if dataset is None else dataset
    loaded = data.load(source, data_dir=data_dir)
    session = _Session(
        loaded,
        alike={"seed": seed, "scale": float(scale), "precision": precision},
        watch=watch,
        how={
            "keep": keep,
            "workers": workers,
            "shard_parameters": shard_parameters,
            "catch_signals": catch_signals,
        },
        show=progress,
    )
    out = None if out is None else Path(out).expanduser()
    if recipe.teacher is not None and teacher is None:
        result = session.teach(get(recipe.teacher), out)
        if result.status != "completed":
            return result
        teacher = result.network
    if resume and epochs is None:
        epochs = _begun(out)
    different = _differences(recipe, loaded, scale, rule, precision, epochs, changes)
    notes = [f"dataset: {loaded!r}\n"]
    if different:
        text = f"not the recipe itself, but with other {', '.join(different)}"
        notes = [text, *notes]
    result = session.fit(
        recipe,
        f"{recipe.name}: {recipe.summary}",
        *notes,
        out=out,
        resume=resume,
        changes=changes,
        epochs=epochs,
        rule=rule,
        teacher=teacher,
    )
    session.say(result)
    if result.status == "completed" and recipe.published != "none":
        session.say(
            f"Published: nothing of this run, with other {', '.join(different)}."
            if different
            else f"Published: {recipe.published}."
        )
    return result


def _begun(out: Path | None) -> int | None:
    """Return the epochs of the run in a folder, None if it does not say."""
    if out is None or not (out / "run.json").is_file():
        return None  # which `fit` has an error for
    epochs = folder.read(out, "out").get("epochs")
    return epochs if type(epochs) is int else None


def _differences(recipe, loaded, scale, rule, precision, epochs, changes) -> list[str]:
    """Return the names of what is not as the recipe has it."""
    other = {
        "scale": scale != 1,
        "rule": rule is not None,
        "precision": precision != "float32",
        "dataset": loaded.name.partition(":")[0] != recipe.dataset,
        "epochs": epochs not in (None, recipe.epochs),
    }
    return [*(name for name, given in other.items() if given), *changes]


class Restored(NamedTuple):
    """A run of a recipe as it was, with the weights of a checkpoint.

    Fields:
        recipe: what was trained.
        dataset: what it was trained on, or was asked for instead.
        network: the trained one, for rules of feed-forward networks their twin.
        options: those of its training, the trained nudge among them.
    """

    recipe: Recipe
    dataset: Dataset
    network: AbstractNetwork
    options: Options


def restore(
    run: str | Path,
    *,
    dataset: object = None,
    data_dir: str | Path | None = None,
    best: bool = False,
) -> Restored:
    """Open the folder of a recipe's run.

    Args:
        run: the `out` of `train`, or the `--out` of `ctep fit`.
        dataset: data instead of what it was trained on.
        data_dir: where TFDS keeps its data; the variable `TFDS_DATA_DIR` by default.
        best: take the best epoch's checkpoint, see `ctep.restore`, not the newest.

    Raises:
        FileNotFoundError: if there is no run, or its dataset is not prepared.
        ValueError: if it is not the run of a recipe.
        ctep.CheckpointError: if no checkpoint is valid.
    """
    kept = folder.read(run, "run")
    path = Path(run).expanduser() / "run.json"
    try:
        name, trained_on, seed = kept["recipe"], str(kept["data"]), int(kept["seed"])
        scale, rule = float(kept.get("scale", 1.0)), RULES[kept.get("rule_name")]
        precision = kept.get("precision", "float32")
        changes = dict(kept.get("changes", {}))
        if not changes.keys() <= set(CHANGEABLE):
            raise ValueError
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path} names no recipe and seed, or a rule of your own, so the network "
            "cannot be built from it: restore it in Python, with `ctep.restore`."
        ) from error
    recipe, teacher = get(name), None
    alike = {"seed": seed, "scale": scale, "precision": precision}
    loaded = _dataset(run, trained_on, dataset, data_dir)
    if recipe.teacher is not None:
        # Its arrays are part of the checkpoint; here it lends its structure alone.
        teacher, _ = get(recipe.teacher).setup(loaded, **alike)
    network, options = recipe.setup(
        loaded, rule=rule, teacher=teacher, **alike, **changes
    )
    network, options["nudge"] = _restore(
        run,
        network,
        nudge=options["nudge"],
        optimizer=options["optimizer"],
        batch_size=options["batch_size"] if options["carry_state"] else None,
        best=best,
    )
    network = options["rule"].subject(network)
    return Restored(recipe, loaded, network, options)


class Reopened(NamedTuple):
    """A run in use, of a recipe or of a network of one's own.

    Fields:
        name: of the recipe, or of the folder.
        dataset: what it was trained on, or was asked for instead.
        network: the trained one, for rules of feed-forward networks their twin.
        nudge: the trained one.
        rule: that of its training.
        solver: likewise.
        pipeline: likewise.
    """

    name: str
    dataset: Dataset
    network: AbstractNetwork
    nudge: AbstractNudge
    rule: AbstractRule
    solver: AbstractSolver
    pipeline: data.Pipeline


def reopen(
    run: str | Path,
    *,
    dataset: object = None,
    data_dir: str | Path | None = None,
    best: bool = False,
) -> Reopened:
    """Open the folder of any run: of a recipe, or of the library's own classes.

    See `restore` for the arguments and for what it raises.
    """
    kept = folder.read(run, "run")
    known = any(kept.get("rule_name") == name for name in RULES)
    if "recipe" in kept and known:
        found = restore(run, dataset=dataset, data_dir=data_dir, best=best)
        how = {name: found.options[name] for name in Reopened._fields[3:]}
        return Reopened(found.recipe.name, found.dataset, found.network, **how)
    network, nudge = _restore(run, best=best)
    names = "rule", "solver", "pipeline"
    rule, solver, pipeline = (part(Path(run).expanduser(), name) for name in names)
    trained_on = str(kept.get("dataset")).rpartition(",")[0]
    loaded = _dataset(run, trained_on, dataset, data_dir)
    return Reopened(
        Path(run).name, loaded, rule.subject(network), nudge, rule, solver, pipeline
    )


def _dataset(run, trained_on, dataset, data_dir):
    if dataset is None and trained_on == "arrays":
        raise ValueError(
            f"`run` is {run}, which was trained on arrays in memory that no run keeps: "
            "pass a dataset by name, or call "
            f"`ctep.evaluate(ctep.restore({str(run)!r})[0], (x, y))` in Python."
        )
    return data.load(trained_on if dataset is None else dataset, data_dir=data_dir)


def say(text: object) -> None:
    """Print in one process of several; what names and paths hold cannot act here."""
    if first():
        print(printable(str(text)), flush=True)


@dataclasses.dataclass(frozen=True)
class _Session:
    """How a recipe and its teacher are trained alike.

    Fields:
        dataset: the data that both learn from.
        alike: the seed, the scale and the precision of both.
        watch: instead of each recipe's.
        how: other arguments of `ctep.fit`, by name.
        show: whether to print.
    """

    dataset: Any
    alike: dict[str, Any]
    watch: Watch | None
    how: dict[str, Any]
    show: bool

    def say(self, *lines: object) -> None:
        for line in lines if self.show else ():
            say(line)

    def fit(
        self, recipe: Recipe, title: str, *notes, out: Path | None, resume, rule=None,
        changes: Mapping[str, Any] = types.MappingProxyType({}), **own,
    ) -> Result:  # fmt: skip
        """Train a recipe, and say what it is: first, and in `run.json`."""
        network, options = recipe.setup(
            self.dataset, rule=rule, **self.alike, **changes, **own
        )
        if self.watch is not None:
            options["watch"] = self.watch
        subject = options["rule"].subject(network)  # of a twin's rule the twin
        known = (name for name, other in RULES.items() if rule == other)
        identity = {
            "recipe": recipe.name,
            "data": self.dataset.name,
            # A rule of the user's own has a name that `restore` does not know.
            "rule_name": next(known, type(rule).__name__),
            **self.alike,
            **({"changes": dict(changes)} if changes else {}),
        }
        return fit(
            network, self.dataset, out=out, resume=resume, identity=identity,
            progress=self.show and "\n".join(map(str, (title, subject, *notes))),
            **self.how, **options,
        )  # fmt: skip

    def teach(self, recipe: Recipe, out: Path | None) -> Result:
        """Train a teacher, or find it beside the student's run, as `<out>-teacher`."""
        folder = None if out is None else out.with_name(f"{out.name}-teacher")
        found = folder is not None and (folder / "run.json").is_file()
        verb = "found" if found else "to be trained"
        where = "in memory" if folder is None else f"in {folder}"
        title = f"teacher: {recipe.name}, {verb} {where}"
        # A teacher whose run is complete comes back without another batch.
        result = self.fit(recipe, title, "", out=folder, resume=found)
        self.say(f"teacher: {result}\n")
        return result
