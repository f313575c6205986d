"""What every benchmark trains: the recipe, its data and its training loop."""

import jax
import jax.numpy as jnp
from _report import dataset_name

from ctep import data, recipes
from ctep._train.loop import Loop


def load(args) -> data.Dataset:
    """Return the dataset that the options ask for."""
    return data.load(dataset_name(args))


def build(recipe: recipes.Recipe, dataset: data.Dataset, seed: int):
    """Return the network and the key of the examples' order, as `ctep fit` does."""
    weights, key = jax.random.split(jax.random.key(seed))
    return recipe.network(dataset.shape, dataset.classes, weights), key


def start(recipe, network, dataset, *, rule=None, solver=None):
    """Return the training loop of a recipe and the state before its first batch."""
    return Loop.start(
        network,
        recipe.nudge,
        rule or recipe.rule,
        solver or recipe.solver,
        recipe.optimizer,
        jnp.asarray(dataset.x_train),
        jnp.asarray(dataset.y_train),
        min(recipe.batch_size, len(dataset.y_train)),
    )
