"""The command line: a thin layer over `ctep.recipes` and `ctep.analysis`."""

import dataclasses
import os
import shlex
import sys
import textwrap
import warnings
from pathlib import Path
from typing import Annotated, NoReturn

import jax
import jax.numpy as jnp
import typer

from . import _checks as checks
from ._network.describe import parameters
from ._options import in_options, numbers, rule_of
from ._text import indented, printable
from ._train import Result, as_inputs, evaluate as scored
from ._train.devices.hosts import LOST, join
from ._train.score import confused
from ._train.store import history
from ._train.store.identity import version as installed
from .analysis import analyse as report
from .recipes import RECIPES, Recipe, get, study as studied, train
from .recipes.run import reopen, say
from .recipes.tune import tune as tuned, usage

# Shape and number of classes of the recipes' datasets, for lists.
_DATA = {
    "digits": ((8, 8), 10),
    "mnist": ((28, 28, 1), 10),
    "cifar10": ((32, 32, 3), 10),
    "cifar100": ((32, 32, 3), 100),
}

_COLUMNS = 80  # of a terminal

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


def _version(asked: bool) -> bool:
    if asked:
        say(f"ctep {installed('ctep')}")
        raise typer.Exit
    return asked


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option("--version", help="Print it.", callback=_version, is_eager=True),
    ] = False,
) -> None:
    pass


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
    feedback: Annotated[float | None, typer.Option(help="Scale of feedback.")] = None,
    beta: Annotated[float | None, typer.Option(help="Nudge of the rule.")] = None,
    rate: Annotated[float | None, typer.Option(help="Learning rate.")] = None,
    solver_tol: Annotated[
        float | None, typer.Option(help="Tolerance of the solver.")
    ] = None,
    batch_size: Annotated[int | None, typer.Option(help="Examples per step.")] = None,
    validation: Annotated[
        float | None, typer.Option(help="Fraction of the data to hold out.")
    ] = None,
    average: Annotated[
        float | None,
        typer.Option(help="What an average of the weights keeps in a step: 0.999."),
    ] = None,
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
    # Before all else: once JAX has looked for devices, no process can join others.
    join(coordinator, process, processes)
    own = rule_of(rule)
    watch = None
    if stop_on is not None:
        watch = dataclasses.replace(get(recipe).watch, stop=tuple(stop_on))
    result = train(
        recipe,
        dataset=dataset,
        epochs=epochs,
        seed=seed,
        scale=scale,
        rule=own,
        precision=precision,  # pyright: ignore[reportArgumentType]
        feedback=feedback,
        beta=beta,
        rate=rate,
        solver_tol=solver_tol,
        batch_size=batch_size,
        validation=validation,
        average=average,
        out=out,
        resume=resume,
        keep=keep,
        watch=watch,
        workers=workers,
        shard_parameters=shard_parameters,
        catch_signals=True,
        data_dir=data_dir,
    )
    if result.status == "interrupted" and out is not None:
        # A teacher goes on by itself: there is nothing of the student's to resume.
        more = ["--resume"] if result.out == out and not resume else []
        say(f"Continue with: {shlex.join(['ctep', *sys.argv[1:], *more])}")
    _leave(result)


@app.command()
def recipes(
    name: Annotated[str | None, typer.Argument(help="Show all of one recipe.")] = None,
) -> None:
    """List the recipes, or show one."""
    if name is not None:
        _show(get(name))
        return
    width = max(map(len, RECIPES)) + 2
    for recipe in RECIPES.values():
        lines = textwrap.wrap(recipe.summary, _COLUMNS - width)
        for first, line in zip([recipe.name, *[""] * len(lines)], lines, strict=False):
            say(f"{first:{width}}{line}")
    say("\nAll of one: `ctep recipes NAME`. Train it: `ctep fit NAME`.")


def _show(recipe: Recipe) -> None:
    rows = {
        "summary": recipe.summary,
        "dataset": recipe.dataset,
        "parameters": _count(recipe),
        "rule": str(recipe.rule),
        "solver": str(recipe.solver),
        "epochs": f"{recipe.epochs} of batches of {recipe.batch_size}",
        "rate": f"{recipe.rate:g} at most",
        "teacher": recipe.teacher,
        "published": recipe.published,
        "ours": recipe.ours,
        "per epoch": recipe.cost,
        "source": recipe.source,
    }
    say(recipe.name)
    for label, text in rows.items():
        if text is not None:
            lines = textwrap.wrap(" ".join(text.split()), _COLUMNS - 14)
            say(f"  {label:10}  " + f"\n{'':14}".join(lines))


_Numbers = typer.Option(help="One value or several, as in .01,.1,.3.")


@app.command()
def study(
    recipe: Annotated[str, typer.Argument(help="See `ctep recipes`.")],
    out: Annotated[Path, typer.Option(help="Folder of all runs and of the table.")],
    seeds: Annotated[int, typer.Option(help="How many.")] = 3,
    epochs: Annotated[int | None, typer.Option(help="Of each run.")] = None,
    feedback: Annotated[str | None, _Numbers] = None,
    beta: Annotated[str | None, _Numbers] = None,
    rate: Annotated[str | None, _Numbers] = None,
    solver_tol: Annotated[str | None, _Numbers] = None,
    batch_size: Annotated[str | None, _Numbers] = None,
    scale: Annotated[str | None, _Numbers] = None,
    validation: Annotated[
        float | None, typer.Option(help="Fraction of the data to hold out.")
    ] = None,
    rule: Annotated[
        str | None, typer.Option(help='"backprop" or "alignment" for the twin.')
    ] = None,
    dataset: _Dataset = None,
    data_dir: _DataDir = None,
) -> None:
    """Train a recipe with every combination of some numbers, several seeds each.

    One line per run and epoch is in OUT/study.csv, figures are beside it. The same
    command goes on where it was cut.
    """
    studied(
        recipe,
        out=out,
        seeds=seeds,
        epochs=epochs,
        feedback=numbers(feedback),
        beta=numbers(beta),
        rate=numbers(rate),
        solver_tol=numbers(solver_tol),
        batch_size=numbers(batch_size),
        scale=numbers(scale),
        validation=validation,
        rule=rule_of(rule),
        dataset=dataset,
        data_dir=data_dir,
    )


@app.command()
def tune(
    recipe: Annotated[str, typer.Argument(help="See `ctep recipes`.")] = "digits",
    batches: Annotated[int, typer.Option(help="To train for before.")] = 64,
    examples: Annotated[int, typer.Option(help="To measure on.")] = 32,
    cosine: Annotated[
        float, typer.Option(help="The smallest that a weight's gradient may have.")
    ] = 0.99,
    feedback: Annotated[str | None, _Numbers] = None,
    seed: Annotated[int, typer.Option(help="Of weights and order of examples.")] = 0,
    scale: Annotated[float, typer.Option(help="Factor of every width.")] = 1.0,
    batch_size: Annotated[int | None, typer.Option(help="Examples per step.")] = None,
    dataset: _Dataset = None,
    data_dir: _DataDir = None,
) -> None:
    """Find the cheapest settings of a recipe that keep its gradient.

    It trains for some batches, and measures on other examples what sweeps cost and what
    their gradient is worth.
    """
    found = tuned(
        recipe,
        batches=batches,
        examples=examples,
        cosine=cosine,
        feedback=numbers(feedback) or (),
        seed=seed,
        scale=scale,
        batch_size=batch_size,
        dataset=dataset,
        data_dir=data_dir,
    )
    say(str(found))
    say("Train with it:\n" + usage(recipe, found))


@app.command()
def evaluate(
    run: Annotated[Path, typer.Argument(help="The `--out` of a run.")],
    dataset: _Dataset = None,
    data_dir: _DataDir = None,
    best: Annotated[
        bool, typer.Option(help="The best epoch's checkpoint, not the newest.")
    ] = False,
) -> None:
    """Print the score of a run's newest checkpoint on the test set."""
    opened = reopen(run, dataset=dataset, data_dir=data_dir, best=best)
    loaded = opened.dataset
    if loaded.test is None:
        raise ValueError(f"`dataset` {loaded.name!r} has no test set: choose another.")
    out = scored(
        opened.network,
        loaded,
        solver=opened.solver,
        pipeline=opened.pipeline,
        nudge=opened.nudge,
    )
    say(f"{opened.name} on the test set of {loaded.name}: {out}")
    parts = confused(out.confusion)
    for part in ["", *parts] if len(parts) > 1 else parts:
        say(part if isinstance(part, str) else "\n".join(indented(part)))


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
    opened = reopen(run, dataset=dataset, data_dir=data_dir)
    loaded = opened.dataset
    x, y = loaded.x_test, loaded.y_test
    if x is None or y is None:
        x, y = loaded.x_train, loaded.y_train
    x, y = jnp.asarray(x[:examples]), jnp.asarray(y[:examples])
    folder = run / "analysis" if out is None else out
    say(f"{opened.name}, {len(y)} examples of {loaded.name}")
    report(
        opened.network,
        as_inputs(opened.pipeline, x, opened.network),
        y,
        folder,
        nudge=opened.nudge,
        rule=opened.rule,
        history=history.read(run),
        say=say,
    )
    say(f"Figures and numbers are in {folder}.")


def main() -> None:
    """Run the command line; bad input ends it with one sentence and code 2."""
    warnings.showwarning = _show_warning
    try:
        app()
    except (ValueError, TypeError, OSError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and type(error) is not RuntimeError:
            raise  # of a library: a fault of ours, which needs its traceback
        commands = typer.main.get_group(app).commands.values()
        given = [option for command in commands for option in command.params]
        names = {o.name for o in given if o.param_type_name == "option"}
        _warn(f"error: {in_options(str(error), names)}")
        sys.exit(2)


def _count(recipe: Recipe) -> str:
    """Return the number of trained parameters, without drawing any."""
    shape, classes = _DATA[recipe.dataset]
    shape = recipe.pipeline(recipe.dataset).shape(shape)
    counts, key = [], jax.random.key(0)

    def build():
        network = recipe.network(shape, classes, key, 1.0)
        # Aside, for of what `build` returned `eval_shape` would leave shape and dtype.
        counts.append(parameters(network))

    jax.eval_shape(build)
    return f"{counts[0]:,}"


def _leave(result: Result) -> NoReturn:
    """End the process, with a code that says how the training ended."""
    code = 0 if result.status == "completed" else 1
    if result.status == "interrupted" and result.signal is not None:
        # As shells report a process that a signal has ended: 130 after Ctrl-C.
        code = 128 + result.signal
    if LOST in result.reason:
        # On its way out JAX would wait for the process that is lost, then abort.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    raise typer.Exit(code)


def _warn(text: object) -> None:
    print(printable(str(text)), file=sys.stderr, flush=True)


def _show_warning(message, category, filename, lineno, file=None, line=None):
    _warn(f"warning: {message}")
