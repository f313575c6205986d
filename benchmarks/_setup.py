"""What every benchmark trains: the recipe, its data and its training loop."""

import jax.numpy as jnp
from _report import dataset_name

from ctep import data, recipes
from ctep._train.loop import Loop


def load(args, recipe: recipes.Recipe | None = None) -> data.Dataset:
    """Return the dataset that the options ask for, by default that of the recipe."""
    given = args.dataset or args.toy or recipe is None
    return data.load(dataset_name(args) if given else recipe.dataset)


def start(network, options: dict, dataset: data.Dataset, *, rule=None, solver=None):
    """Return the training loop of a recipe and the state before its first batch.

    Args:
        network: of `Recipe.setup`.
        options: likewise.
        dataset: to train on.
        rule: instead of the recipe's.
        solver: instead of the recipe's.
    """
    return Loop.start(
        network,
        options["nudge"].drawn(network, options["key"]),
        rule or options["rule"],
        solver or options["solver"],
        options["optimizer"],
        jnp.asarray(dataset.x_train),
        jnp.asarray(dataset.y_train),
        options["batch_size"],
        options["pipeline"],
        carry_state=options["carry_state"],
    )


def temporary_bytes(loop: Loop, state, options: dict) -> int:
    """Return what XLA allocates for a training chunk besides inputs and outputs."""
    inputs = (state, loop.order(options["key"], 0), *map(jnp.asarray, (0, 1, 0)))
    compiled = Loop.train.lower(loop, *inputs).compile().compiled
    return compiled.memory_analysis().temp_size_in_bytes
