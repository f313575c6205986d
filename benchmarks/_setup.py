"""What every benchmark trains: the recipe, its data and its training loop."""

import dataclasses

import jax
import numpy as np
from _report import dataset_name

from ctep import data, recipes
from ctep._train.devices.feed import AbstractFeed, feeds
from ctep._train.devices.placement import Placement
from ctep._train.loop import Loop


def load(args, recipe: recipes.Recipe | None = None) -> data.Dataset:
    """Return the dataset that the options ask for, by default that of the recipe."""
    given = args.dataset or args.toy or recipe is None
    return data.load(dataset_name(args) if given else recipe.dataset)


def first(dataset: data.Dataset, count: int) -> data.Dataset:
    """Return the dataset with its first `count` training examples."""
    x, y = dataset.x_train[:count], dataset.y_train[:count]
    records = data.ArrayRecords(x, y, dataset.classes)
    return dataclasses.replace(dataset, train=records, content="")


def start(network, options: dict, dataset: data.Dataset, *, rule=None, solver=None):
    """Return the loop of a recipe, the state before its first batch, and its data.

    Args:
        network: of `Recipe.setup`.
        options: likewise.
        dataset: to train on.
        rule: instead of the recipe's.
        solver: instead of the recipe's.
    """
    loop, state = Loop.start(
        network,
        options["nudge"].drawn(network, options["key"]),
        rule or options["rule"],
        solver or options["solver"],
        options["optimizer"],
        options["batch_size"],
        pipeline=options["pipeline"],
        carry_state=options["carry_state"],
    )
    size, place = options["batch_size"], Placement.default()
    feed = feeds(dataset, None, options["key"], size, None, place)["train"]
    return loop, state, feed


def temporary_bytes(loop: Loop, state, feed: AbstractFeed) -> int:
    """Return what XLA allocates for a training chunk besides inputs and outputs."""
    block, _ = next(feed.blocks(0, 0))
    inputs = (state, block, *np.array([0, 1, 0]))
    compiled = Loop.train.lower(loop, *inputs).compile().compiled
    return compiled.memory_analysis().temp_size_in_bytes


def untrained(name: str, dataset: data.Dataset, args, scale: float, **changes):
    """Return what a recipe sets up, with a teacher that has learned nothing.

    Args:
        name: of the recipe.
        dataset: in its place.
        args: the options.
        scale: of every width, the teacher's too.
        changes: of the recipe's fields.
    """
    recipe, teacher = dataclasses.replace(recipes.get(name), **changes), None
    if recipe.teacher:
        teacher, _ = untrained(recipe.teacher, dataset, args, scale)
    return recipe.setup(dataset, seed=args.seed, scale=scale, teacher=teacher)


def weights(estimate) -> list[np.ndarray]:
    """Return the gradient of each weight, flat, in float64."""
    leaves = jax.tree_util.tree_leaves(estimate.gradient[0])
    return [np.ravel(np.asarray(v, float)) for v in leaves if v.ndim > 1]


def cosine(a, b):
    """Return the cosine of two arrays, 0 where one of them vanishes."""
    size = np.linalg.norm(a) * np.linalg.norm(b)
    return float(np.vdot(a, b) / size) if size > 0 else 0.0
