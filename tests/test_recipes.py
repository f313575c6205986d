import importlib
import math
import re

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import ctep
from ctep import recipes
from ctep.recipes import RECIPES

SHAPES = {"digits": (8, 8), "mnist": (28, 28, 1), "cifar10": (32, 32, 3)}
# Layers and width; then inputs to the first, layer to layer, last to ten outputs.
PUBLISHED = {
    "fre-2x512": (2, 512, 784 * 512 + 512 * 512 + 512 * 10),
    "fre-3x512": (3, 512, 784 * 512 + 2 * 512 * 512 + 512 * 10),
    "fre-10x64": (10, 64, 784 * 64 + 9 * 64 * 64 + 64 * 10),
    "fre-20x64": (20, 64, 784 * 64 + 19 * 64 * 64 + 64 * 10),
}


def build(recipe):
    return recipe.network(SHAPES[recipe.dataset], 10, jax.random.key(0))


def weights(network):
    return jax.tree.leaves(eqx.filter(network, eqx.is_inexact_array))


@pytest.fixture
def hurry():
    """Spend less time on compiling than on running."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


def test_names_are_those_of_the_files():
    """`fre-2x512` is in `fre_2x512.py`, and nothing is listed twice or not at all."""
    folder = importlib.resources.files(recipes)
    files = {file.name for file in folder.iterdir() if file.name[0] not in "_."}
    modules = sorted(file[:-3] for file in files - {"base.py"})
    named = {}
    for module in modules:
        recipe = importlib.import_module(f"ctep.recipes.{module}").RECIPE
        named[recipe.name] = module
    assert named == {name: name.replace("-", "_") for name in RECIPES}
    assert all(recipe.name == name for name, recipe in RECIPES.items())
    assert {"digits", *PUBLISHED} <= set(RECIPES)


@pytest.mark.parametrize("name", RECIPES)
def test_get(name):
    """The recipe of that name, with every field filled in."""
    recipe = recipes.get(name)
    assert recipe is RECIPES[name]
    for field in ("summary", "published", "ours", "source"):
        text = getattr(recipe, field)
        assert text == text.strip() != ""
        assert "\n" not in text
    assert recipe.epochs >= 1
    assert isinstance(recipe.optimizer, optax.GradientTransformation)


@pytest.mark.parametrize(
    ("name", "near"),
    [("fre-2x51", "fre-2x512"), ("fre_20x64", "fre-20x64"), ("digit", "digits")],
)
def test_unknown_name_suggests(name, near):
    """The nearest names; all of them if none is near."""
    match = f"`recipe` is '{name}', which is not known: did you mean {near}( or .*)?\\?"
    with pytest.raises(ValueError, match=match):
        recipes.get(name)
    with pytest.raises(ValueError, match=re.escape(" or ".join(RECIPES))):
        recipes.get("@@@@")


@pytest.mark.parametrize("name", PUBLISHED)
def test_sizes_as_published(name):
    """Oracle: the product of the layer sizes; no biases, tied feedback all along."""
    layers, width, parameters = PUBLISHED[name]
    recipe = RECIPES[name]
    network = build(recipe)
    assert network.shapes == ((width,),) * layers
    assert sum(leaf.size for leaf in weights(network)) == parameters
    assert all(leaf.ndim == 2 for leaf in weights(network))
    assert [(c.source, c.target) for c in network.couplings] == [
        (n, n + 1) for n in range(layers)
    ]
    scales = {c.feedback.scale for c in network.couplings[1:]}
    assert scales == {0.01 if width == 512 else 0.1}
    assert network.couplings[0].feedback is None
    assert all(layer.activation == ctep.Tanh() for layer in network.layers)
    assert isinstance(recipe.nudge, ctep.Frozen)
    assert (recipe.batch_size, recipe.epochs, recipe.dataset) == (500, 50, "mnist")


def test_learning_rate_as_published():
    """Adam moves each weight by its rate in the first step: 0.001."""
    for name in PUBLISHED:
        optimizer = RECIPES[name].optimizer
        weight = jnp.ones(2)
        step, _ = optimizer.update(jnp.array([3.0, -7.0]), optimizer.init(weight))
        np.testing.assert_allclose(step, [-1e-3, 1e-3], rtol=1e-3)


@pytest.mark.usefixtures("hurry")
@pytest.mark.parametrize("name", sorted(set(RECIPES) - {"digits", "fre-2x512"}))
def test_one_step(name):
    """Of the network, nudge, rule, solver and optimiser together, on random images.

    The command line's tests train `digits` and `fre-2x512`.
    """
    recipe = RECIPES[name]
    rng, network = np.random.default_rng(0), build(recipe)
    x = rng.integers(0, 256, (20, *SHAPES[recipe.dataset]), dtype=np.uint8)
    result = ctep.fit(
        network,
        (x, np.arange(20) % 10),
        nudge=recipe.nudge,
        rule=recipe.rule,
        solver=recipe.solver,
        optimizer=recipe.optimizer,
        epochs=1,
        probe=0,
        progress=False,
    )
    (record,) = result.history
    assert result.status == "completed"
    assert record["unsettled"] == 0
    assert 0.5 * math.log(10) < record["loss"] < 3 * math.log(10)
    pairs = zip(weights(network), weights(result.network), strict=True)
    for before, after in pairs:
        assert np.isfinite(after).all()
        assert np.any(before != after)


@pytest.mark.mnist
def test_deep_chain_learns_mnist(mnist):
    """Ten layers, three epochs of 20 steps on 10,000 images; the gradient is exact."""
    data = ctep.data.load("mnist", data_dir=mnist)
    train = (data.x_train[:10_000], data.y_train[:10_000])
    recipe = RECIPES["fre-10x64"]
    result = ctep.fit(
        recipe.network(data.shape, data.classes, jax.random.key(0)),
        (train, (data.x_test, data.y_test)),
        nudge=recipe.nudge,
        rule=recipe.rule,
        solver=recipe.solver,
        optimizer=recipe.optimizer,
        batch_size=recipe.batch_size,
        epochs=3,
        key=jax.random.key(1),
        progress=False,
    )
    assert result.status == "completed"
    assert result.history[-1]["test_accuracy"] > 0.84
    for record in result.history:
        assert record["unsettled"] == 0
        assert record["gradient_cosine"] > 0.999
