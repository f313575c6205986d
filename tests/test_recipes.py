import importlib
import math
import re

import equinox as eqx
import jax
import jax.numpy as jnp
import jaxtyping
import matrix
import numpy as np
import optax
import pytest

import ctep
from ctep import recipes
from ctep.recipes import RECIPES, Recipe

SHAPES = {
    "digits": (8, 8),
    "mnist": (28, 28, 1),
    "cifar10": (32, 32, 3),
    "cifar100": (32, 32, 3),
}
# One of each family, besides the chains; the others differ in sizes and numbers.
FAMILIES = (
    "fre-10x64-agt fre-10x64-residual fre-5x64-asymmetric fre-conv-mnist p-ep-2x512 "
    "fre-resnet13 fre-air vgg7-le vgg7-kdw vgg5 vgg19-teacher"
).split()
# Layers and width; then inputs to the first, layer to layer, last to ten outputs.
PUBLISHED = {
    "fre-2x512": (2, 512, 784 * 512 + 512 * 512 + 512 * 10),
    "fre-3x512": (3, 512, 784 * 512 + 2 * 512 * 512 + 512 * 10),
    "fre-10x64": (10, 64, 784 * 64 + 9 * 64 * 64 + 64 * 10),
    "fre-20x64": (20, 64, 784 * 64 + 19 * 64 * 64 + 64 * 10),
}


def build(recipe, scale=1.0):
    return recipe.network(SHAPES[recipe.dataset], 10, jax.random.key(0), scale)


def random_images(recipe, count=20):
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (count, *SHAPES[recipe.dataset]), dtype=np.uint8)
    y = np.arange(count, dtype=np.int32) % 10
    records = ctep.data.ArrayRecords(x, y, 10)
    return ctep.data.Dataset(recipe.dataset, records, None, "random")


def setup(recipe, data, scale):
    teacher = None
    if recipe.teacher is not None:
        teacher = RECIPES[recipe.teacher].setup(data, scale=scale)[0]
    return recipe.setup(data, scale=scale, epochs=1, teacher=teacher)


def weights(network):
    return jax.tree.leaves(eqx.filter(network, eqx.is_inexact_array))


def test_every_recipe_is_listed():
    """Oracle: the modules, of which each holds those of a paper; none is left out."""
    names = [file.name[:-3] for file in importlib.resources.files(recipes).iterdir()]
    found = []
    for name in names:
        if re.match("_[a-z]+$", name) and name != "_all":
            values = vars(importlib.import_module(f"ctep.recipes.{name}")).values()
            found += jax.tree.leaves([v for v in values if type(v) in (tuple, Recipe)])
    listed = sorted(r.name for r in found if type(r) is Recipe)
    assert listed == sorted(RECIPES)
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
    assert isinstance(recipe.optimizer(3, 7), optax.GradientTransformation)


@pytest.mark.parametrize(
    ("name", "near"),
    [("fre-2x51", "fre-2x512"), ("fre_20x64", "fre-20x64"), ("digit", "digits")],
)
def test_unknown_name_suggests(name, near):
    """The nearest names; where to look if none is near."""
    match = f"`recipe` is '{name}', which is not known: did you mean {near}( or .*)?\\?"
    with pytest.raises(ValueError, match=match):
        recipes.get(name)
    with pytest.raises(ValueError, match="known: see `ctep recipes`"):
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
    assert isinstance(recipe.nudge(50, None), ctep.Frozen)
    assert (recipe.batch_size, recipe.epochs, recipe.dataset) == (500, 50, "mnist")


def test_learning_rate_as_published():
    """Adam moves each weight by its rate in the first step: 0.001."""
    for name in PUBLISHED:
        optimizer = RECIPES[name].optimizer(50, 120)
        weight = jnp.ones(2)
        step, _ = optimizer.update(jnp.array([3.0, -7.0]), optimizer.init(weight))
        np.testing.assert_allclose(step, [-1e-3, 1e-3], rtol=1e-3)


@pytest.mark.parametrize("name", [name for name in RECIPES if "vgg" in name])
def test_depth_of_the_name(name):
    """A VGG-11 has eleven layers of weights, those of the outputs among them.

    Only the paper of `fre-vgg5` counts convolutions alone.
    """
    network = build(RECIPES[name], scale=0.05)
    depth = len(network.couplings) + (network.readout is not None)
    assert depth == int(re.search(r"vgg(\d+)", name)[1]) + (name == "fre-vgg5")


def test_agt_is_drawn_edge_by_edge():
    """A chain both ways; skips of either way with chance 0.2, apart from each other."""
    chain = {(n, n + 1) for n in range(1, 10)}
    skips = [(i, j) for i in range(1, 11) for j in range(i + 2, 11)]
    found = {"forward": 0, "back": 0, "both": 0}
    for seed in range(20):
        recipe = RECIPES["fre-10x64-agt"]
        network = recipe.network((28, 28, 1), 10, jax.random.key(seed), 0.05)
        pairs = {(c.source, c.target): c for c in network.couplings}
        forward = {pair for pair, c in pairs.items() if c.forward}
        back = {pair for pair, c in pairs.items() if c.feedback}
        assert chain | {(0, 1)} <= forward
        assert chain <= back
        found["forward"] += len(forward & set(skips))
        found["back"] += len(back & set(skips))
        found["both"] += len(forward & back & set(skips))
    drawn = 20 * len(skips)
    assert abs(found["forward"] / drawn - 0.2) < 0.05
    assert abs(found["back"] / drawn - 0.2) < 0.05
    assert abs(found["both"] / drawn - 0.04) < 0.03


@pytest.mark.parametrize("layers", [10, 20])
def test_skips_have_the_feedback_of_what_they_bypass(layers):
    """Spans of 3 one after another, and 0.1 to the power of the span."""
    network = build(RECIPES[f"fre-{layers}x64-residual"], scale=0.05)
    scales = {(c.source, c.target): c.feedback and c.feedback.scale
              for c in network.couplings}  # fmt: skip
    skips = {pair: scale for pair, scale in scales.items() if pair[1] > pair[0] + 1}
    assert sorted(skips) == [(n, n + 3) for n in range(1, layers - 2, 3)]
    np.testing.assert_allclose(list(skips.values()), 1e-3)
    assert {s for pair, s in scales.items() if pair not in skips} == {None, 0.1}


IMAGES = [
    name
    for name, recipe in RECIPES.items()
    if recipe.dataset.startswith("cifar") and not re.match("fre-.*(x64|conv)", name)
]


@matrix.product(
    ("name", "dataset"), IMAGES, ["cifar10", "mnist", "fashion_mnist", "cifar100"]
)
def test_image_recipes_take_other_images(name, dataset):
    """28 x 28 is padded to 32 x 32; only Hopfield's CIFAR-10 is divided by three."""
    recipe = RECIPES[name]
    pipeline = recipe.pipeline(dataset)
    shape = (28, 28, 1) if "mnist" in dataset else (32, 32, 3)
    pipeline.check(shape)
    assert pipeline.shape(shape)[:2] == (32, 32)
    recipe.network(pipeline.shape(shape), 10, jax.random.key(0), 0.02)
    tripled = dataset == "cifar10" and name in (
        "vgg5",
        "vgg5-fast",
        "hopfield-resnet13",
    )
    assert pipeline.std_factor == (3.0 if tripled else 1.0)


def momentum(nesterov):
    """Return what SGD makes of a constant gradient of 1, step by step."""

    def factor(step):
        held = (1 - 0.9 ** (step + 1)) / (1 - 0.9)
        return 1 + 0.9 * held if nesterov else held

    return factor


# Recipes whose rate falls: how an optimiser moves a weight by it, the first and the
# last rate, and whether it is published to fall once per epoch.
FALLING = {
    "hopfield-resnet13": (momentum(True), 3e-2, 2e-6, True),
    "vgg5": (momentum(True), 3e-2, 2e-6, True),
    "fre-conv-cifar10": (lambda step: 2.0, 2.5e-4, 1e-6, True),
    "vgg7-le": (momentum(False), 0.03, 0.0, False),
    "fre-vgg11": (lambda step: 2.0, 1e-3, 0.0, False),
    "fre-vgg11-he": (lambda step: 2.0, 3e-4, 0.0, False),
    "fre-vgg5": (momentum(True), 0.04, 1e-6, False),
    "fre-air": (momentum(True), 0.01, 0.0, False),  # of what is a tenth of the weights'
}


@pytest.mark.parametrize("name", FALLING)
def test_rates_fall_as_published(name):
    """Oracle: half a cosine in numpy, of the epoch where that is published."""
    factor, first, last, per_epoch = FALLING[name]
    epochs, steps = 3, 4
    optimizer = RECIPES[name].optimizer(epochs, steps)
    weight = jnp.zeros(1)
    state, found = optimizer.init(weight), []
    for step in range(epochs * steps):
        move, state = optimizer.update(jnp.full(1, 0.5), state, weight)
        found.append(-float(move[0]) / (0.5 * factor(step)))
    step = np.arange(epochs * steps)
    turn = (step // steps) / epochs if per_epoch else step / (epochs * steps)
    want = last + (first - last) * (1 + np.cos(np.pi * turn)) / 2
    np.testing.assert_allclose(found, want, rtol=1e-4)


# Published steps of the free and of a nudged phase, where some examples never settle.
# Three sweeps of the convolutional ones are ours.
PHASES = {
    "p-ep-2x512": (100, 20),
    "fre-5x64": (50, 25),
    "fre-conv-mnist": (3, 3),
    "fre-conv-cifar10": (3, 3),
    "vgg5": (120, 50),
    "hopfield-resnet13": (120, 50),
    "vgg7": (250, 50),
    "vgg7-le": (250, 50),
    "vgg7-kd": (250, 60),
    "vgg7-kdw": (100, 50),
    "vgg11-le": (400, 40),
    "vgg13-le": (140, 50),
    "vgg10-kd": (130, 50),
    "vgg12-kd": (100, 15),
}


def test_fixed_phases_are_as_long_as_published():
    """Oracle: the published table; no recipe counts on unsettled examples."""
    found = {
        name: (recipe.solver.free, recipe.solver.nudged)
        for name, recipe in RECIPES.items()
        if isinstance(recipe.solver, ctep.FixedSweeps)
    }
    assert found == PHASES
    assert all(recipe.watch == ctep.Watch() for recipe in RECIPES.values())


# What a recipe does in another way than published, by a word of its source.
DEPARTURES = {
    "fre-2x512": ("synchronous", "drawn anew", "divided by the nudge"),
    "fre-5x64": ("50 and 25",),
    "fre-5x64-asymmetric": ("synchronous", "feeds back through random weights"),
    "fre-10x64-agt": ("synchronous", "feeds back through random", "clamped phase"),
    "fre-10x64-residual": ("`ctep.Ramped`", "the cube", "after the clamped phase"),
    "fre-conv-cifar10": ("40 and 10", "an empty image", "clip", "step by step"),
    "fre-conv-mnist": ("20 and 10", "the step before"),
    "vgg5": ("RandAugment", "partial batch", "fell step by step", "three times"),
    "vgg7-le": ("targets", "synchronous", "biases", "step by step", "norm of 1"),
    "vgg7-kd": ("rectified and pooled", "from noise"),
    "vgg13-le": ("targets", "no signal"),
    "fre-vgg5": ("step by step", "sums over classes"),
    "p-ep-2x512": ("another sigmoid", "batches of 500", "positive"),
}


@pytest.mark.parametrize("name", DEPARTURES)
def test_departures_are_declared(name):
    """Oracle: the list of them."""
    for words in DEPARTURES[name]:
        assert words in RECIPES[name].source


@pytest.mark.parametrize("name", ["fre-vgg11-he", "fre-vgg13-he", "fre-resnet13-he"])
def test_rate_falls_to_zero(name):
    """Adam moves a weight by its rate: 3e-4 first, half of it in the middle."""
    optimizer = RECIPES[name].optimizer(2, 10)
    weight = jnp.ones(1)
    state, moves = optimizer.init(weight), []
    for _ in range(21):
        step, state = optimizer.update(jnp.ones(1), state)
        moves.append(-float(step[0]))
    np.testing.assert_allclose(
        [moves[0], moves[10], moves[20]], [3e-4, 1.5e-4, 0], rtol=1e-3, atol=1e-9
    )


def test_agt_is_ramped_as_published():
    """By 0.1 in each of 50 steps, with the error of the start."""
    recipe = RECIPES["fre-10x64-agt"]
    assert recipe.rule == ctep.Ramped(0.1, 50)
    assert isinstance(recipe.nudge(50, None), ctep.Frozen)


@pytest.mark.parametrize("name", sorted(set(RECIPES) - {"digits"}))
def test_setup(name):
    """The parts of a recipe fit each other, also with every width an eighth."""
    recipe = RECIPES[name]
    data = random_images(recipe)
    network, options = setup(recipe, data, 0.125)
    nudge = options["nudge"].drawn(network, jax.random.key(0))
    nudge.check(network, jnp.asarray(data.y_train))
    options["rule"].check(network, nudge)
    assert network.input_shape in (data.shape, (math.prod(data.shape),))
    state = options["optimizer"].init(ctep._rule.partition(network, nudge)[0])
    assert jax.tree.leaves(state)
    if name not in PUBLISHED:
        return
    full = build(recipe)
    wide = sum(leaf.size for leaf in weights(full))
    assert sum(leaf.size for leaf in weights(network)) < wide / 6


@matrix.parametrize(
    "name",
    ["fre-3x512", "fre-20x64", *FAMILIES],
    ["fre-conv-mnist"],
)
def test_one_step(name):
    """Of the network, nudge, rule, solver and optimiser together, on random images.

    Every example takes part: it is at rest, or where its published phase ends. The
    command line's tests train `digits` and `fre-2x512`.
    """
    recipe = RECIPES[name]
    data = random_images(recipe)
    network, options = setup(recipe, data, 0.05 if len(data.shape) == 3 else 1.0)
    if name in PUBLISHED:
        network, options = setup(recipe, data, 1.0)
    result = ctep.fit(network, data, **(options | {"probe": 0, "progress": False}))
    (record,) = result.history
    assert result.status == "completed"
    assert record["unsettled"] == 0
    if name in PUBLISHED:
        assert 0.5 * math.log(10) < record["loss"] < 3 * math.log(10)
    pairs = list(zip(weights(network), weights(result.network), strict=True))
    assert all(np.isfinite(after).all() for _, after in pairs)
    moved = [np.any(before != after) for before, after in pairs]
    # Fixed feedback stays, a unit that nothing reaches may have no gradient, and where
    # the readout is zero the first error ends there.
    assert np.mean(moved) > (0.0 if name == "fre-air" else 0.5)


@matrix.campaign
def test_train_is_fit_of_what_is_set_up(tmp_path, capsys):
    """Oracle: `ctep.fit` of `Recipe.setup`, bit for bit; `restore` finds the same."""
    changes = {"epochs": 1, "seed": 3, "scale": 0.1, "precision": "bfloat16"}
    rule, out = ctep.Backprop(), tmp_path / "run"
    digits = ctep.data.load("digits")
    network, options = RECIPES["digits"].setup(digits, rule=rule, **changes)
    wanted = ctep.fit(network, digits, **options, progress=False)
    found = recipes.train("digits", rule=rule, out=str(out), progress=False, **changes)
    again = recipes.restore(out)
    assert capsys.readouterr() == ("", "")
    assert found.status == "completed"
    first, second = found.history[0], wanted.history[0]
    assert first | {"seconds": 0} == second | {"seconds": 0}
    for other in (found.network, again.network):
        assert eqx.tree_equal(wanted.network, other)
    assert (again.recipe, again.dataset.name) == (RECIPES["digits"], "digits")
    assert again.options["rule"] == rule


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"rule": "backprop"}, "`rule` is 'backprop', but must be"),
        ({"scale": "0.5"}, "`scale` is '0.5', but must be a number"),
        ({"seed": 0.5}, "`seed` is 0.5, but must be a whole number"),
        ({"watch": "all"}, "`watch` is 'all', but must be a watch"),
        ({"teacher": 5}, "`teacher` is 5, but must be a network"),
        ({"dataset": 5}, "`dataset` must be a name"),
    ],
)
def test_train_refuses(monkeypatch, options, match):
    """Before anything is trained; types go unchecked where users run it."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    with pytest.raises(TypeError, match=match):
        recipes.train("digits", **options)


def test_a_teacher_is_asked_for():
    """The name of the recipe that trains it; no other recipe takes one."""
    recipe = RECIPES["vgg7-kd"]
    with pytest.raises(ValueError, match=r"`teacher` is None, but .* vgg19-teacher"):
        recipe.setup(random_images(recipe))
    digits = RECIPES["digits"]
    with pytest.raises(ValueError, match="`teacher` is a network, but digits learns f"):
        recipes.train("digits", teacher=build(digits))


@pytest.mark.parametrize("size", [1e-9, 1.0])
def test_rates_by_layer(size):
    """Oracle: the published list; each array moves by the rate of its layer.

    A gradient whose norm is above 1 is shrunk to it as a whole.
    """
    recipe = RECIPES["vgg11-le"]
    network, options = setup(recipe, random_images(recipe), 0.05)
    nudge = options["nudge"].drawn(network, jax.random.key(0))
    trained, _ = ctep._rule.partition(network, nudge)
    gradient = jax.tree.map(lambda leaf: jnp.full_like(leaf, size), trained)
    count = sum(leaf.size for leaf in jax.tree.leaves(trained))
    optimizer = options["optimizer"]
    zeros = jax.tree.map(jnp.zeros_like, trained)
    update = eqx.filter_jit(
        lambda g: optimizer.update(g, optimizer.init(trained), zeros)
    )
    moved = update(gradient)[0][0]
    found = [-float(c.forward.weight.ravel()[0]) if hasattr(c.forward, "weight")
             else -float(c.forward.operators[0].weight.ravel()[0])
             for c in moved.couplings]  # fmt: skip
    found.append(-float(moved.readout.operator.weight.ravel()[0]))
    each = min(size, count**-0.5)
    rates = np.array([0.03, *[0.05] * 7, *[0.025] * 3])
    np.testing.assert_allclose(found, each * rates, rtol=1e-5)


@matrix.campaign
@pytest.mark.mnist
def test_deep_chain_learns_mnist(mnist):
    """Ten layers, three epochs of 20 steps on 10,000 images; the gradient is exact."""
    data = ctep.data.load("mnist", data_dir=mnist)
    train = (data.x_train[:10_000], data.y_train[:10_000])
    recipe = RECIPES["fre-10x64"]
    short = ctep.data.load((train, (data.x_test, data.y_test)))
    network, options = recipe.setup(short, epochs=3)
    result = ctep.fit(network, short, **options, progress=False)
    assert result.status == "completed"
    assert result.history[-1]["test_accuracy"] > 0.84
    for record in result.history:
        assert record["unsettled"] == 0
        assert record["gradient_cosine"] > 0.999


def test_an_error_of_training_comes_before_any_word(tmp_path, capfd):
    """What `fit` finds wrong is said alone, without the network before it."""
    (tmp_path / "notes.txt").touch()
    (tmp_path / "run.json").write_text("{}")
    with pytest.raises(ValueError, match="`out`"):
        ctep.recipes.train("digits", out=tmp_path, epochs=1)
    assert capfd.readouterr().out == ""
