"""The command line: a thin layer over `ctep.fit` and the recipes."""

import json
import shlex
import sys
import warnings
from pathlib import Path
from typing import Annotated

import jax
import jax.numpy as jnp
import typer

from . import data
from ._train import Result, fit as _fit, restore, score
from .recipes import RECIPES, Recipe, get

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
    data_dir: _DataDir = None,
) -> None:
    """Train a recipe, show progress, and print the evidence."""
    chosen = get(recipe)
    loaded = data.load(dataset or chosen.dataset, data_dir=data_dir)
    network, key = _build(chosen, loaded, seed)
    typer.echo(f"{chosen.name}: {chosen.summary}\n{network}")
    typer.echo(f"dataset: {loaded!r}\n")
    result = _fit(
        network,
        loaded,
        nudge=chosen.nudge,
        rule=chosen.rule,
        solver=chosen.solver,
        optimizer=chosen.optimizer,
        epochs=chosen.epochs if epochs is None else epochs,
        batch_size=chosen.batch_size,
        key=key,
        out=out,
        resume=resume,
        identity={"recipe": chosen.name, "seed": seed, "data": loaded.name},
    )
    typer.echo(result)
    if result.status == "completed" and chosen.published != "none":
        typer.echo(f"Published: {chosen.published}.")
    if result.status == "interrupted" and out is not None:
        again = _again(chosen, dataset, epochs, out, seed, data_dir)
        typer.echo(f"Continue with: {again}")
    raise typer.Exit(_code(result))


@app.command()
def recipes() -> None:
    """List the recipes."""
    rows = [("recipe", "dataset", "published", "ours", "what")]
    rows += [
        (r.name, r.dataset, r.published, r.ours, r.summary) for r in RECIPES.values()
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        typer.echo("  ".join(map(str.ljust, row, widths)).rstrip())


@app.command()
def evaluate(
    run: Annotated[Path, typer.Argument(help="The `--out` of a run.")],
    dataset: _Dataset = None,
    data_dir: _DataDir = None,
) -> None:
    """Print the test accuracy of a run's newest checkpoint."""
    path = run / "run.json"
    if not path.is_file():
        raise FileNotFoundError(
            f"`run` is {run}, which holds no run.json: pass the `--out` of a "
            "`ctep fit`."
        )
    try:
        who = json.loads(path.read_text())
        name, seed, trained_on = who["recipe"], int(who["seed"]), str(who["data"])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path} names no recipe and seed, so the network cannot be built from it: "
            "runs of `ctep.fit` are restored in Python, with `ctep.restore`."
        ) from error
    chosen = get(name)
    loaded = data.load(dataset or trained_on, data_dir=data_dir)
    network, _ = _build(chosen, loaded, seed)
    network, _ = restore(run, network, nudge=chosen.nudge, optimizer=chosen.optimizer)
    if loaded.x_test is None:
        raise ValueError(f"`dataset` {loaded.name!r} has no test set: choose another.")
    x, y = jnp.asarray(loaded.x_test), jnp.asarray(loaded.y_test)
    out = score(network, chosen.solver, x, y)
    typer.echo(
        f"{chosen.name} on the test set of {loaded.name} ({len(y)} "
        f"examples): accuracy {100 * out['accuracy']:.2f} %, "
        f"unsettled {100 * out['unsettled']:.2f} %"
    )


def main() -> None:
    """Run the command line; bad input ends it with one sentence and code 2."""
    warnings.showwarning = _show_warning
    try:
        app()
    except (ValueError, TypeError, OSError) as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(2)


def _build(recipe: Recipe, loaded: data.Dataset, seed: int):
    if not -(2**63) <= seed < 2**63:
        raise ValueError(
            f"`seed` is {seed}, but must fit into 64 bits: choose a smaller one."
        )
    weights, key = jax.random.split(jax.random.key(seed))
    return recipe.network(loaded.shape, loaded.classes, weights), key


def _code(result: Result) -> int:
    if result.status == "interrupted":
        return 128 + (result.signal or 2)
    return int(result.status == "diverged")


def _again(recipe, dataset, epochs, out, seed, data_dir):
    words = ["ctep", "fit", recipe.name]
    words += ["--dataset", dataset] if dataset else []
    words += ["--epochs", str(epochs)] if epochs else []
    words += ["--seed", str(seed)] if seed else []
    words += ["--data-dir", str(data_dir)] if data_dir else []
    return shlex.join([*words, "--out", str(out), "--resume"])


def _show_warning(message, category, filename, lineno, file=None, line=None):
    typer.echo(f"warning: {message}", err=True)
