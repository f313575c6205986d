"""Stacks: a run of equal layers as one block, held against the layers one by one."""

import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import matrix
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

import ctep
from ctep import analysis
from ctep._network.stacking import unstacked_state

KEY = jax.random.key(0)
TIGHT = ctep.Sweeps(3000, rtol=1e-9, atol=1e-9)


def stirred(network):
    """Return a network with other numbers in every array, biases too."""
    arrays, rest = eqx.partition(network, eqx.is_inexact_array)
    leaves, structure = jax.tree_util.tree_flatten(arrays)
    keys = jax.random.split(jax.random.key(7), len(leaves))
    leaves = [
        leaf + 0.1 * jax.random.normal(key, leaf.shape, leaf.dtype)
        for leaf, key in zip(leaves, keys, strict=True)
    ]
    return eqx.combine(jax.tree_util.tree_unflatten(structure, leaves), rest)


def dense(activation=ctep.Tanh(), feedback=0.3, **options):
    sizes = (6, *[8] * 5, 4, 3)
    return stirred(
        ctep.mlp(sizes, activation=activation, feedback=feedback, key=KEY, **options)
    )


def images():
    """Convolutions of one shape, a pool before them and a dense layer behind."""
    conv = lambda k: ctep.Conv((3, 4, 2), 2, kernel=3, padding=1, key=k)  # noqa: E731
    keys = jax.random.split(KEY, 6)
    first = ctep.Conv((6, 8, 1), 2, kernel=3, padding=1, key=keys[0])
    couplings = [
        ctep.Coupling(0, 1, ctep.Chain((first, ctep.MaxPool(first.out_shape)))),
        *(ctep.Coupling(n, n + 1, conv(keys[n]), ctep.Tied(0.2)) for n in (1, 2, 3)),
        ctep.Coupling(4, 5, ctep.Dense((3, 4, 2), (3,), key=keys[4]), ctep.Tied(0.5)),
    ]
    layers = [ctep.Layer((3, 4, 2), ctep.HardSigmoid(), jnp.zeros(2)) for _ in range(4)]
    last = ctep.Layer((3,), ctep.Identity(), jnp.zeros(3))
    return stirred(ctep.Network((6, 8, 1), [*layers, last], couplings))


def skipped():
    """A skip from the input to the first layer of a run, whose last is the output."""
    sizes, edges = (
        (6, 7, *[3] * 4),
        [(0, 1), (0, 2), *((n, n + 1) for n in range(1, 5))],
    )
    return stirred(ctep.graph(sizes, edges, feedback=0.4, readout=False, key=KEY))


def one_way():
    """A run without feedback, to whose last layer something comes back."""
    keys = jax.random.split(KEY, 4)
    sizes, feedback = [(6, 4), (4, 4), (4, 4), (4, 3)], [None, None, None, 0.5]
    couplings = [
        ctep.Coupling(
            n, n + 1, ctep.Dense((i,), (j,), key=keys[n]), back and ctep.Tied(back)
        )
        for n, ((i, j), back) in enumerate(zip(sizes, feedback, strict=True))
    ]
    layers = [ctep.Layer((4,), ctep.Tanh(), jnp.zeros(4)) for _ in range(3)]
    last = ctep.Layer((3,), ctep.Identity(), jnp.zeros(3))
    return stirred(ctep.Network((6,), [*layers, last], couplings))


NETWORKS = {
    "tanh": dense,
    "sigmoid": lambda: dense(ctep.Sigmoid(), feedback=1.0),
    "hard sigmoid": lambda: dense(ctep.HardSigmoid(), feedback=0.5, bias=False),
    "images": images,
    "skipped": skipped,
    "one-way": one_way,
}


class Shuffled(ctep.AbstractOrder):
    """Layers in no sequence, some of them together."""

    def groups(self, count, edges):
        order = [int(n) for n in np.random.default_rng(0).permutation(count)]
        return (tuple(order[:2]), *((n,) for n in order[2:]))


ORDERS = {
    "forward": ctep.Forward(),
    "backward": ctep.Backward(),
    "alternating": ctep.Alternating(),
    "synchronous": ctep.Synchronous(),
    "shuffled": Shuffled(),
}
SOLVERS = {
    "over-relaxed": ctep.Sweeps(3000, rtol=1e-9, atol=1e-9, relaxation=1.1),
    "gathered": ctep.Sweeps(3000, rtol=1e-9, atol=1e-9, gather=(0.5,)),
    "fixed sweeps": ctep.FixedSweeps(9, 7, order=ctep.Synchronous()),
    "ode": ctep.ODE(t1=300.0, rtol=1e-4, atol=1e-4),
    "fixed point": ctep.FixedPoint(rtol=1e-8, atol=1e-8, max_steps=5000),
}
RULES = {
    "one-sided": ctep.OneSided(),
    "as published": ctep.OneSided(rescale=False),
    "centered": ctep.Centered(),
    "holomorphic": ctep.Holomorphic(),
    "random sign": ctep.RandomSign(),
    "ramped": ctep.Ramped(),
    "implicit": ctep.Implicit(),
    "unrolled": ctep.Unrolled(30),
    "backprop": ctep.Backprop(),
}


def batch(network):
    x = jax.random.normal(jax.random.key(1), (5, *network.input_shape))
    return x, jnp.arange(5) % 3


def both(network, **options):
    """Return the gradients of a network with stacks and of its layers, as layers."""
    found = []
    for own in (network.stacked(), network):
        x, y = batch(own)
        options = {"solver": TIGHT, "throw": False, "key": KEY} | options
        found.append(ctep.gradient(own, x, y, **options)[1].unstacked())
    return found


def assert_equal(found, want, **tolerance):
    pairs = zip(*map(jax.tree_util.tree_leaves, (found, want)), strict=True)
    for a, b in pairs:
        np.testing.assert_allclose(a, b, **tolerance)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", NETWORKS)
def test_stacks_and_layers_are_two_forms_of_one_network(name):
    """Oracle: the network itself, array by array."""
    network = NETWORKS[name]()
    stacked = network.stacked()
    assert max(stacked.depths) > 1
    assert sum(stacked.depths) == len(network.layers)
    again = stacked.unstacked()
    assert eqx.tree_equal(again, network)
    assert stacked.attenuation == network.attenuation
    assert stacked.has_energy == network.has_energy
    assert network.unstacked() is network


@pytest.mark.usefixtures("x64")
@matrix.product(("name", "order"), list(NETWORKS), list(ORDERS))
def test_rests_and_gradients_in_every_order(name, order):
    """Oracle: the layers one by one: the same states, sweeps, residuals, gradients."""
    network, solver = NETWORKS[name](), ctep.Sweeps(
        3000, rtol=1e-9, atol=1e-9, order=ORDERS[order]
    )  # fmt: skip
    x, _ = batch(network)
    stacked = network.stacked()
    found = ctep.settle(stacked, x, solver=solver)
    want = ctep.settle(network, x, solver=solver)
    assert_equal(unstacked_state(stacked, found.state), want.state, atol=1e-12)
    np.testing.assert_array_equal(found.steps, want.steps)
    np.testing.assert_allclose(found.residual, want.residual, atol=1e-12)
    assert_equal(*both(network, solver=solver), rtol=1e-9, atol=1e-12)


@pytest.mark.usefixtures("x64")
@matrix.parametrize(
    ("name", "solver"),
    itertools.product(NETWORKS, SOLVERS),
    [("images", "over-relaxed"), ("tanh", "fixed sweeps")],
)
def test_gradients_by_every_solver(name, solver):
    """Oracle: the layers one by one."""
    network = NETWORKS[name]()
    assert_equal(*both(network, solver=SOLVERS[solver]), rtol=1e-6, atol=1e-9)


@pytest.mark.usefixtures("x64")
@matrix.parametrize(
    ("name", "rule"),
    itertools.product(NETWORKS, RULES),
    [("skipped", "one-sided"), ("tanh", "implicit"), ("images", "backprop")],
)
def test_gradients_of_every_rule(name, rule):
    """Oracle: the layers one by one."""
    network = NETWORKS[name]()
    if rule == "holomorphic" and name in ("images", "hard sigmoid"):
        return  # no rule for complex states
    assert_equal(*both(network, rule=RULES[rule]), rtol=1e-8, atol=1e-11)


@pytest.mark.usefixtures("x64")
def test_a_stack_that_feels_the_nudge():
    """Oracle: the layers; the force is that of the last one alone."""
    network = skipped()
    nudge = ctep.OutputError(ctep.SquaredError())
    assert network.stacked().depths == (1, 4)
    assert_equal(*both(network, nudge=nudge), rtol=1e-9, atol=1e-12)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", NETWORKS)
def test_energies(name):
    """Oracle: those of the layers at the same random states."""
    network, stacked = NETWORKS[name](), NETWORKS[name]().stacked()
    x, _ = batch(network)
    state = tuple(
        jax.random.uniform(jax.random.key(n), (5, *shape), minval=0.1, maxval=0.9)
        for n, shape in enumerate(stacked.shapes)
    )
    if not network.has_energy:
        return
    found = stacked.energies(state, x)
    want = network.energies(unstacked_state(stacked, state), x)
    np.testing.assert_allclose(found, want, rtol=1e-12)


def test_a_program_does_not_grow_with_the_depth():
    """Oracle: the lines of the lowered step."""

    def lines(depth):
        network = ctep.mlp((6, *[4] * depth, 3), feedback=0.1, key=KEY)
        step = eqx.filter_jit(lambda n, x, y: ctep.gradient(n, x, y)[1])
        x, y = batch(network)
        return step.lower(network, x, y).as_text().count("\n")

    assert lines(200) == lines(40)


def test_a_builder_stacks_long_runs():
    """By default those of 32 equal layers or more, and those that are asked for."""
    depths = lambda sizes, **o: ctep.mlp(sizes, key=KEY, **o).depths  # noqa: E731
    long, short = (6, 5, *[4] * 32, 7, 3), (6, 5, *[4] * 31, 7, 3)
    assert depths(long) == (1, 32, 1)
    assert depths(short) == (1,) * 33
    assert depths(long, stack=False) == (1,) * 34
    assert depths((6, 4, 4, 5, 3), stack=True) == (2, 1)
    # Random weights of feedback are no part of a stack.
    assert depths(long, feedback=ctep.Fixed(0.1)) == (1,) * 34
    found = ctep.mlp(long, key=KEY, feedback=0.1)
    assert eqx.tree_equal(
        found.unstacked(), ctep.mlp(long, key=KEY, feedback=0.1, stack=False)
    )


def test_it_prints_as_one_line():
    """Layers are numbered through the stack, as they would be without it."""
    text = str(ctep.mlp((6, 5, *[4] * 40, 7, 3), feedback=0.1, key=KEY))
    assert "42 layers of 172 units" in text
    line = "s2..41 = tanh(W[n-1] s[n-1] + 0.1 W[n]' s[n+1] + b[n])   40 layers of 4"
    assert line in text
    assert "s42    = tanh(W41_42 s41 + b42)" in text
    assert "s1     = tanh(W0_1 x + 0.1 W1_2' s2 + b1)" in text


def test_it_trains_resumes_and_comes_back(tmp_path):
    """Oracle: the layers; a run without a break; what was trained."""
    options = {"batch_size": 100, "probe": 20, "progress": False}
    network = ctep.mlp((64, *[8] * 4, 10), feedback=0.1, stack=True, key=KEY)
    whole = ctep.fit(network, "digits", epochs=2, **options)
    plain = ctep.fit(network.unstacked(), "digits", epochs=2, **options)
    for record, other in zip(whole.history, plain.history, strict=True):
        assert record["loss"] == pytest.approx(other["loss"], rel=1e-4)
        assert record["gradient_cosine"] > 0.999
    ctep.fit(network, "digits", epochs=1, out=tmp_path / "run", **options)
    more = ctep.fit(
        network, "digits", epochs=2, out=tmp_path / "run", resume=True, **options
    )
    assert eqx.tree_equal(more.network, whole.network)
    found, _ = ctep.restore(tmp_path / "run")
    assert eqx.tree_equal(found, whole.network)


ANALYSES = matrix.ANALYSES | {
    "energy_trace": lambda n, x, y: analysis.energy_trace(n, x)
}


@pytest.mark.usefixtures("x64")
@matrix.parametrize("name", ANALYSES, ["spectral_radius", "gradient_check"])
def test_analyses_see_the_layers(name):
    """Oracle: the same of the layers."""
    network = dense()
    x, y = batch(network)
    found = np.asarray(ANALYSES[name](network.stacked(), x, y))
    want = np.asarray(ANALYSES[name](network, x, y))
    assert found.shape == want.shape
    np.testing.assert_allclose(found, want, rtol=1e-5, atol=1e-8)


def layers_of(depth, feedback, x64):
    """Return the gradient of each layer of a chain at the edge of chaos."""
    with jax.enable_x64(x64):
        gain = ctep.edge_of_chaos(ctep.Tanh(), feedback=feedback).gain
        init = jax.nn.initializers.orthogonal(gain)
        with jax.enable_x64(False):
            network = ctep.mlp(
                (6, *[8] * depth, 3), feedback=feedback, bias=False, init=init,
                stack=True, key=KEY,
            )  # fmt: skip
            x, y = batch(network)
        dtype = jnp.float64 if x64 else jnp.float32
        network, x = jax.tree_util.tree_map(
            lambda v: v.astype(dtype) if eqx.is_inexact_array(v) else v, (network, x)
        )
        solver = ctep.Sweeps(400, rtol=0.0, atol=1e-9 if x64 else 1e-6)
        gradient = ctep.gradient(network, x, y, solver=solver)[1]
        (stack,) = gradient.layers
        return np.asarray(stack.forward.weight, np.float64)


@matrix.campaign
@pytest.mark.parametrize("depth", [100, 1000])
def test_all_digits_at_a_thousand_layers(depth):
    """Oracle: the same in float64, layer by layer: none is lost on the way down."""
    found, want = (layers_of(depth, 0.1, x64) for x64 in (False, True))
    sizes = [np.linalg.norm(g.reshape(depth - 1, -1), axis=1) for g in (found, want)]
    cosine = np.sum(found * want, (1, 2)) / sizes[0] / sizes[1]
    assert cosine.min() > 0.9999


@settings(max_examples=5)
@given(log=st.floats(-6, -0.3), depth=st.sampled_from([2, 7, 40, 200]))
def test_nothing_is_lost_at_any_scale_and_depth(log, depth):
    """No gradient is zero or not finite that is not zero in exact arithmetic."""
    found = layers_of(depth, 10**log, False)
    assert np.isfinite(found).all()
    assert (np.linalg.norm(found.reshape(depth - 1, -1), axis=1) > 0).all()


def test_no_unit_is_zero():
    """Oracle: the same chain without its clips, which no state reaches."""
    init = jax.nn.initializers.orthogonal()
    found, want = (
        ctep.gradient(
            ctep.mlp(
                (6, *[4] * 40, 3), activation=activation, feedback=1e-3, bias=False,
                init=init, key=KEY, stack=True,
            ),
            jnp.full((2, 6), 0.1),
            jnp.arange(2),
        )[1].layers[0].forward.weight
        for activation in (ctep.Clip(-1.0, 1.0), ctep.Identity())
    )  # fmt: skip
    assert (np.linalg.norm(found.reshape(39, -1), axis=1) > 0).all()
    np.testing.assert_allclose(found, want, rtol=1e-4, atol=1e-8)
