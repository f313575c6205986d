"""The command line: a thin layer over `ctep.fit` and the recipes."""

import dataclasses
import json
import os
import shlex
import sys
import warnings
from pathlib import Path
from typing import Annotated, NamedTuple, NoReturn

import jax
import jax.numpy as jnp
import typer

from . import _checks as checks, data
from ._network import AbstractNetwork, with_precision
from ._network.describe import parameters
from ._nudge import AbstractNudge
from ._rule import Backprop, FeedbackAlignment
from ._train import Result, fit as _fit, inputs, restore, score
from ._train.feed import feeds
from ._train.hosts import LOST, first, join
from ._train.placement import Placement
from ._train.printable import printable
from .analysis import analyse as report
from .recipes import RECIPES, Recipe, get

# Shape and number of classes of the recipes' datasets, for lists.
_DATA = {
    "digits": ((8, 8), 10),
    "mnist": ((28, 28, 1), 10),
    "cifar10": ((32, 32, 3), 10),
    "cifar100": ((32, 32, 3), 100),
}

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Train networks that settle, by equilibrium propagation.",
)

_Dataset = Annotated[
    str | None,
    typer.Option(help='Instead of the recipe\'s: "digits" or a TFDS name.'),
]
_DataDir = Annotated[
    Path | None, typer.Option(help="Of TFDS; by default $TFDS_DATA_DIR.")
]


@app.command()
def fit(
    recipe: Annotated[str, typer.Argument(help="See `ctep recipes`.")] = "digits",
    dataset: _Dataset = None,
    epochs: Annotated[int | None, typer.Option(help="Of the whole run.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for checkpoints and history.")
    ] = None,
    resume: Annotated[bool, typer.Option(help="Continue the run in `--out`.")] = False,
    seed: Annotated[int, typer.Option(help="Of weights and order of examples.")] = 0,
    rule: Annotated[
        str | None, typer.Option(help='"backprop" or "alignment" for the twin.')
    ] = None,
    scale: Annotated[float, typer.Option(help="Factor of every width.")] = 1.0,
    precision: Annotated[
        str, typer.Option(help="Of products: float32, tensorfloat32, bfloat16.")
    ] = "float32",
    data_dir: _DataDir = None,
    keep: Annotated[
        int, typer.Option(help="Newest checkpoints to keep, besides the best.")
    ] = 2,
    stop_on: Annotated[
        list[str] | None,
        typer.Option(help="A kind of fault that ends the run; may be repeated."),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(help="Stream the data by so many processes; 0: a thread."),
    ] = None,
    shard_parameters: Annotated[
        bool, typer.Option(help="Divide weights among the devices.")
    ] = False,
    coordinator: Annotated[
        str | None,
        typer.Option(help="HOST:PORT of process 0, if several train together."),
    ] = None,
    process: Annotated[
        int | None, typer.Option(help="Number of this process, from 0.")
    ] = None,
    processes: Annotated[int | None, typer.Option(help="How many there are.")] = None,
) -> None:
    """Train a recipe, show progress, and print the evidence.

    Under Slurm processes find each other; in indexed jobs of Kubernetes they know
    their number.
    """
    join(coordinator, process, processes)
    chosen = get(recipe)
    words = _Words(
        recipe, dataset, epochs, seed, rule, scale, precision, data_dir,
        keep, stop_on, workers, shard_parameters,
    )  # fmt: skip
    loaded = data.load(dataset or chosen.dataset, data_dir=data_dir)
    teacher = None
    if chosen.teacher is not None:
        teacher = _teacher(get(chosen.teacher), loaded, words, out)
        if isinstance(teacher, Result):
            _leave(teacher)
    network, options = _setup(chosen, loaded, words, teacher)
    _say(f"{chosen.name}: {chosen.summary}\n{network}")
    if scale != 1:
        _say(f"scale: {scale:g} of every width, so this is not the recipe itself")
    _say(f"dataset: {loaded!r}\n")
    result = _fit(
        network, loaded, out=out, resume=resume, identity=words.identity(loaded),
        **options,
    )  # fmt: skip
    _say(result)
    if scale != 1:
        _say(f"Trained at {scale:g} of every width.")
    elif result.status == "completed" and chosen.published != "none" and not rule:
        _say(f"Published: {chosen.published}.")
    if result.status == "interrupted" and out is not None:
        _say(f"Continue with: {words.again(out)}")
    _leave(result)


@app.command()
def recipes() -> None:
    """List the recipes."""
    rows = [("recipe", "dataset", "parameters", "published", "ours", "per epoch", "")]
    rows += [
        (r.name, r.dataset, _count(r), r.published, r.ours, r.cost, r.summary)
        for r in RECIPES.values()
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        _say("  ".join(map(str.ljust, row, widths)).rstrip())


@app.command()
def evaluate(
    run: Annotated[Path, typer.Argument(help="The `--out` of a run.")],
    dataset: _Dataset = None,
    data_dir: _DataDir = None,
    best: Annotated[
        bool, typer.Option(help="The best epoch's checkpoint, not the newest.")
    ] = False,
) -> None:
    """Print the test accuracy of a run's newest checkpoint."""
    opened = _open(run, dataset, data_dir, best)
    loaded, options = opened.loaded, opened.options
    place = Placement.default()
    splits = feeds(loaded, None, options["key"], 1, None, place)
    if "test" not in splits:
        raise ValueError(f"`dataset` {loaded.name!r} has no test set: choose another.")
    solver, pipeline = opened.recipe.solver, options["pipeline"]
    out = score(opened.network, solver, pipeline, splits["test"], place)
    _say(
        f"{opened.recipe.name} on the test set of {loaded.name} "
        f"({splits['test'].order.examples} examples): "
        f"accuracy {100 * out['accuracy']:.2f} %, "
        f"unsettled {100 * out['unsettled']:.2f} %"
    )


@app.command()
def analyse(
    run: Annotated[Path, typer.Argument(help="The `--out` of a run.")],
    examples: Annotated[int, typer.Option(help="Of the test set.")] = 100,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the results; RUN/analysis.")
    ] = None,
    dataset: _Dataset = None,
    data_dir: _DataDir = None,
) -> None:
    """Write figures and numbers that show why a trained network settles."""
    checks.count("examples", examples, "100")
    opened = _open(run, dataset, data_dir)
    loaded, options = opened.loaded, opened.options
    x, y = loaded.x_test, loaded.y_test
    if x is None or y is None:
        x, y = loaded.x_train, loaded.y_train
    x, y = jnp.asarray(x[:examples]), jnp.asarray(y[:examples])
    lines = (run / "history.jsonl").read_text().splitlines()
    folder = run / "analysis" if out is None else out
    _say(f"{opened.recipe.name}, {len(y)} examples of {loaded.name}")
    report(
        opened.network,
        inputs(options["pipeline"], x, opened.network),
        y,
        folder,
        nudge=opened.nudge,
        rule=options["rule"],
        history=[json.loads(line) for line in lines],
        say=_say,
    )
    _say(f"Figures and numbers are in {folder}.")


def main() -> None:
    """Run the command line; bad input ends it with one sentence and code 2."""
    warnings.showwarning = _show_warning
    try:
        app()
    except (ValueError, TypeError, OSError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and type(error) is not RuntimeError:
            raise  # of a library: a fault of ours, which needs its traceback
        _say(f"error: {error}", err=True)
        sys.exit(2)


@dataclasses.dataclass(frozen=True)
class _Words:
    """What was said on the command line, and makes up a run."""

    recipe: str
    dataset: str | None
    epochs: int | None
    seed: int
    rule: str | None
    scale: float
    precision: str
    data_dir: Path | None
    keep: int = 2
    stop_on: list[str] | None = None
    workers: int | None = None
    shard_parameters: bool = False

    @staticmethod
    def of(who: dict) -> "_Words":
        """Return the words of a run from its `run.json`."""
        return _Words(
            who["recipe"], None, None, int(who["seed"]), who.get("rule_name"),
            float(who.get("scale", 1.0)), who.get("precision", "float32"), None,
        )  # fmt: skip

    def identity(self, loaded: data.Dataset) -> dict:
        """Return what `run.json` must keep so that `of` can read it."""
        return {
            "recipe": self.recipe,
            "seed": self.seed,
            "data": loaded.name,
            "rule_name": self.rule,
            "scale": self.scale,
            "precision": self.precision,
        }

    def again(self, out: Path) -> str:
        """Return the command that resumes the run."""
        words = ["ctep", "fit", self.recipe]
        options = {
            "--dataset": self.dataset,
            "--epochs": self.epochs,
            "--seed": self.seed or None,
            "--rule": self.rule,
            "--scale": None if self.scale == 1 else f"{self.scale:g}",
            "--precision": None if self.precision == "float32" else self.precision,
            "--data-dir": self.data_dir,
            "--keep": None if self.keep == 2 else self.keep,
            "--workers": self.workers,
        }
        for name, value in options.items():
            words += [] if value is None else [name, str(value)]
        for kind in self.stop_on or ():
            words += ["--stop-on", kind]
        words += ["--shard-parameters"] if self.shard_parameters else []
        return shlex.join([*words, "--out", str(out), "--resume"])


def _setup(recipe: Recipe, loaded: data.Dataset, words: _Words, teacher=None):
    """Return the network of a run and its options for `ctep.fit`."""
    rules = {None: None, "backprop": Backprop(), "alignment": FeedbackAlignment()}
    if words.rule not in rules:
        raise ValueError(
            f"`rule` is {words.rule!r}, but must be 'backprop' or 'alignment': pass "
            "one of them, or leave it out for the recipe's own."
        )
    network, options = recipe.setup(
        loaded,
        seed=words.seed,
        epochs=words.epochs,
        scale=words.scale,
        rule=rules[words.rule],
        teacher=teacher,
    )
    options |= {"keep": words.keep, "workers": words.workers}
    options["shard_parameters"] = words.shard_parameters
    if words.stop_on is not None:
        watch = options["watch"]
        options["watch"] = dataclasses.replace(watch, stop=tuple(words.stop_on))
    return with_precision(network, words.precision), options  # pyright: ignore[reportArgumentType]


class _Opened(NamedTuple):
    """A run as it was, with its newest weights."""

    recipe: Recipe
    loaded: data.Dataset
    network: AbstractNetwork
    nudge: AbstractNudge
    options: dict


def _open(
    run: Path, dataset: str | None, data_dir: Path | None, best: bool = False
) -> _Opened:
    """Return what a folder of `ctep fit` holds, on other data if it is named."""
    path = run / "run.json"
    if not path.is_file():
        raise FileNotFoundError(
            f"`run` is {run}, which holds no run.json: pass the `--out` of a "
            "`ctep fit`."
        )
    try:
        who = json.loads(path.read_text())
        words = _Words.of(who)
        trained_on = str(who["data"])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path} names no recipe and seed, so the network cannot be built from it: "
            "runs of `ctep.fit` are restored in Python, with `ctep.restore`."
        ) from error
    recipe, teacher = get(words.recipe), None
    loaded = data.load(dataset or trained_on, data_dir=data_dir)
    if recipe.teacher is not None:
        # Its arrays are part of the checkpoint; here it lends its structure alone.
        other = dataclasses.replace(words, recipe=recipe.teacher, rule=None)
        teacher, _ = _setup(get(recipe.teacher), loaded, other)
    network, options = _setup(recipe, loaded, words, teacher)
    network, nudge = restore(
        run,
        network,
        nudge=options["nudge"],
        optimizer=options["optimizer"],
        batch_size=options["batch_size"] if options["carry_state"] else None,
        best=best,
    )
    network = options["rule"].subject(network)
    return _Opened(recipe, loaded, network, nudge, options)


def _teacher(recipe: Recipe, loaded: data.Dataset, words: _Words, out: Path | None):
    """Return the recipe's trained network; the result itself if training stopped.

    It is kept beside the student's run, as `<out>-teacher`, and found there again.
    """
    words = dataclasses.replace(words, recipe=recipe.name, rule=None, epochs=None)
    folder = None if out is None else out.with_name(f"{out.name}-teacher")
    network, options = _setup(recipe, loaded, words)
    found = folder is not None and (folder / "run.json").is_file()
    where = "in memory" if folder is None else f"in {folder}"
    verb = "found" if found else "to be trained"
    _say(f"teacher: {recipe.name}, {verb} {where}\n{network}\n")
    result = _fit(
        network, loaded, out=folder, resume=found, identity=words.identity(loaded),
        **options,
    )  # fmt: skip
    _say(f"teacher: {result}\n")
    return result.network if result.status == "completed" else result


def _count(recipe: Recipe) -> str:
    """Return the number of trained parameters, without drawing any."""
    shape, classes = _DATA[recipe.dataset]
    shape = recipe.pipeline(recipe.dataset).shape(shape)
    counts, key = [], jax.random.key(0)

    def build():
        network = recipe.network(shape, classes, key, 1.0)
        counts.append(parameters(network))

    jax.eval_shape(build)
    return f"{counts[0]:,}"


def _leave(result: Result) -> NoReturn:
    """End the process, with a code that says how the training ended."""
    code = 0 if result.status == "completed" else 1
    if result.status == "interrupted" and result.signal is not None:
        code = 128 + result.signal
    if LOST in result.reason:
        # On its way out JAX would wait for the process that is lost, then abort.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    raise typer.Exit(code)


def _say(text: object, err: bool = False) -> None:
    """Print in one process of several; what names and paths hold cannot act here."""
    if first() or err:
        typer.echo(printable(str(text)), err=err)


def _show_warning(message, category, filename, lineno, file=None, line=None):
    _say(f"warning: {message}", err=True)
