import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import matrix
import numpy as np
import oracles
import pytest
from hypothesis import given, settings, strategies as st

import ctep
from ctep._nudge import Pull

ACTIVATIONS = {
    "identity": ctep.Identity(),
    "tanh": ctep.Tanh(),
    "sigmoid": ctep.Sigmoid(),
    "steep sigmoid": ctep.Sigmoid(4.0, 0.5),
    "hard sigmoid": ctep.HardSigmoid(),
    "relu6": ctep.ReLU6(),
    "relu": ctep.ReLU(),
}
# The inverse of each activation, G', in numpy.
INVERSES = {
    "identity": lambda s: s,
    "tanh": np.arctanh,
    "sigmoid": lambda s: np.log(s / (1 - s)),
    "steep sigmoid": lambda s: 0.5 + np.log(s / (1 - s)) / 4,
    "hard sigmoid": lambda s: s,
    "relu6": lambda s: s,
    "relu": lambda s: s,
}
seeds = st.integers(0, 2**32 - 1)

# A chain, and a graph whose skip carries the product of the scales below it.
SHAPES = {
    "chain": [(0, 1), (1, 2), (2, 3)],
    "skip": [(0, 1), (1, 2), (2, 3), (1, 3), (0, 3)],
}


@functools.cache
def template(name, shape, scale):
    network = ctep.graph(
        (4, 5, 4, 3),
        SHAPES[shape],
        activation=ACTIVATIONS[name],
        feedback=scale,
        readout=False,
        key=jax.random.key(0),
    )
    couplings = [
        dataclasses.replace(c, feedback=ctep.Tied(scale ** (c.target - c.source)))
        if c.source
        else c
        for c in network.couplings
    ]
    return dataclasses.replace(network, couplings=couplings)


def draw(name, shape, scale, seed, spread=1.0):
    """Return a network with random parameters, inputs and states within the range."""
    rng = np.random.default_rng(seed)
    network = jax.tree_util.tree_map(
        lambda leaf: jnp.asarray(rng.normal(0, spread, leaf.shape)),
        template(name, shape, scale),
    )
    lo, hi = (min(max(end, -2.0), 2.0) for end in ACTIVATIONS[name].range)
    margin = 1e-3 * (hi - lo)
    state = tuple(
        jnp.asarray(rng.uniform(lo + margin, hi - margin, (2, *s)))
        for s in network.shapes
    )
    return network, jnp.asarray(rng.uniform(-1, 1, (2, 4))), state


# ------------------------------------------------------------ value and slope


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("scale", [1.0, 0.2])
def test_energy_written_out(scale):
    r"""Oracle: the formula for three layers in numpy, with $c = \gamma^{-2, -1, 0}$."""
    network, x, (s1, s2, s3) = draw("tanh", "skip", scale, 0)
    w = {(c.source, c.target): np.asarray(c.forward.weight) for c in network.couplings}
    b = [np.asarray(layer.bias) for layer in network.layers]
    c1, c2, c3 = scale**-2, 1 / scale, 1.0
    potential = lambda s: np.sum(s * np.arctanh(s) + 0.5 * np.log(1 - s * s), -1)  # noqa: E731
    local = sum(
        c * (potential(np.asarray(s)) - np.asarray(s) @ bias)
        for c, s, bias in zip((c1, c2, c3), (s1, s2, s3), b, strict=True)
    )
    product = lambda a, e, z: np.sum((np.asarray(a) @ w[e]) * np.asarray(z), -1)  # noqa: E731
    mixed = c1 * product(x, (0, 1), s1) + c2 * product(s1, (1, 2), s2)
    mixed += c3 * (product(s2, (2, 3), s3) + product(s1, (1, 3), s3))
    mixed += c3 * product(x, (0, 3), s3)
    found = oracles.FAST(network.energies)((s1, s2, s3), x)
    np.testing.assert_allclose(found, local - mixed)


@oracles.FAST
def slope(network, state, x):
    return jax.grad(lambda s: jnp.sum(network.energies(s, x)))(state)


@pytest.mark.usefixtures("x64")
@matrix.product(("name", "net"), ACTIVATIONS, [("skip", 0.3), ("chain", 1.0)])
def test_gradient_of_the_energy_is_what_the_drive_lacks(name, net):
    r"""Oracle: $c_n [G_n'(s_n) - h_n]$ in numpy, at any state.

    So the stationary points are the fixed points, and no others.
    """
    shape, scale = net
    network, x, state = draw(name, shape, scale, 1)
    got = slope(network, state, x)
    network, x = jax.tree_util.tree_map(np.asarray, (network, x))
    for n in range(2):
        one = tuple(np.asarray(s[n]) for s in state)
        drives = oracles.drives(network, one, x[n])
        for k, (s, h) in enumerate(zip(one, drives, strict=True)):
            want = scale ** (k - 2) * (INVERSES[name](s) - np.asarray(h))
            np.testing.assert_allclose(got[k][n], want, rtol=1e-9, atol=1e-12)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", ["tanh regulated", "sigmoid", "skips symmetric"])
def test_energy_is_stationary_at_the_rest(name):
    """Oracle: the root of Newton's iteration; autodiff of the energy vanishes there."""
    p = oracles.NETWORKS[name]()
    state = jax.vmap(lambda flat: oracles.split(p.network, flat))(oracles.roots(p))
    for part in slope(p.network, state, p.x):
        np.testing.assert_allclose(part, 0, atol=1e-10)
    moved = tuple(s + 0.01 for s in state)
    assert max(np.max(np.abs(part)) for part in slope(p.network, moved, p.x)) > 1e-3


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", ["hard sigmoid", "relu6"])
def test_clipped_rests_are_minima_within_the_range(name):
    """Oracle: Kuhn and Tucker at the root of Newton's iteration.

    The energy is flat in a unit inside the range; at an end of it it rises inwards.
    """
    p = oracles.NETWORKS[name]()
    state = jax.vmap(lambda flat: oracles.split(p.network, flat))(oracles.roots(p))
    lo, hi = p.network.layers[0].activation.range
    kinds = set()
    for part, s in zip(slope(p.network, state, p.x), state, strict=True):
        part, s = np.ravel(part), np.ravel(s)
        for value, unit in zip(part, s, strict=True):
            kinds.add("lo" if unit <= lo else "hi" if unit >= hi else "inside")
            if lo < unit < hi:
                assert abs(value) < 1e-10
            else:
                assert (value if unit <= lo else -value) > 1e-3
    assert {"lo", "inside"} <= kinds


class Everywhere(ctep.AbstractNudge):
    """A quadratic cost of the first and of the last block, one target for both."""

    def blocks(self, network):
        return 0, len(network.shapes) - 1

    def cost(self, network, state, target):
        first, last = (jnp.sum((state[n] - target) ** 2, -1) for n in (0, -1))
        return first + 2 * last


@oracles.FAST
def nudged_slope(network, x, beta, increments):
    """Return the gradient of E + beta C at the nudged rest, and whether it is one.

    The rest is solved for by itself, or as the free rest and an increment.
    """
    solver, nudge = ctep.Sweeps(3000, rtol=1e-13, atol=1e-13), Everywhere()
    target = jnp.full((2, 1), 0.3)
    pull = Pull(nudge, network)
    free = solver.solve(network.free(x), network.zeros(x), throw=False)
    if increments:
        context = (jnp.full((1, 1), beta), target[None])
        problem = network.increments(x, free.state, free.memory, pull, context)
        start = tuple(s[None] for s in network.zeros(x))
        rest = solver.solve(problem, start, throw=False)
        blocks = zip(free.state, network.attenuation, rest.state, strict=True)
        state = tuple(s + a * e[0] for s, a, e in blocks)
    else:
        problem = network.nudged(x, pull, (jnp.full((2,), beta), target))
        rest = solver.solve(problem, network.zeros(x), throw=False)
        state = rest.state

    def total(state):
        cost = nudge.cost(network, state, target)
        return jnp.sum(network.energies(state, x) + beta * cost)

    moved = jnp.max(jnp.abs(state[0] - free.state[0]))
    return jax.grad(total)(state), jnp.all(rest.settled), moved


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("increments", [False, True])
@pytest.mark.parametrize("scale", [1.0, 0.3])
def test_nudged_rest_is_stationary_for_the_nudged_energy(scale, increments):
    r"""Oracle: autodiff of $E + \beta C$, whose cost pulls at two layers.

    A layer behind attenuating feedback is pulled more weakly, as its energy weighs
    more.
    """
    network, x, _ = draw("tanh", "skip", scale, 3, 0.3)
    parts, settled, moved = nudged_slope(network, x, 0.2, increments)
    assert bool(settled)
    assert float(moved) > 1e-2
    for part in parts:
        np.testing.assert_allclose(part, 0, atol=1e-9)


# ------------------------------------------------------------ descent


@oracles.FAST
def descent(network, x, state, other):
    """Return energies along block updates, of rivals to them, and along the flow."""
    problem = network.free(x)
    memory = problem.recall(state)
    energies, rivals = [network.energies(state, x)], []
    flow = jax.jvp(
        lambda s: network.energies(s, x), (state,), (problem.velocity(state),)
    )
    # Forward, backward, and for a chain its odd layers at once.
    groups = [(0,), (1,), (2,), (2,), (1,), (0,)]
    if len(network.edges) == 2:
        groups += [(0, 2), (1,), (0, 2)]
    for group in groups:
        rival = tuple(other[n] if n in group else s for n, s in enumerate(state))
        rivals.append(network.energies(rival, x))
        new = list(state)
        for n in group:
            new[n], memory = problem.update(n, state, memory)
        state = tuple(new)
        energies.append(network.energies(state, x))
    return jnp.stack(energies), jnp.stack(rivals), flow[1]


@pytest.mark.usefixtures("x64")
@matrix.product(
    ("name", "net"),
    ACTIVATIONS,
    [("chain", 1.0), ("chain", 0.3), ("skip", 0.5), ("skip", 2.0)],
)
@settings(max_examples=15)
@given(seed=seeds, spread=st.sampled_from([0.1, 1.0, 3.0]))
def test_energy_falls_at_every_block_update(name, net, seed, spread):
    """Oracle: the energy itself; an update is the best state of its block.

    It falls along the continuous dynamics, too.
    """
    shape, scale = net
    if name in ("identity", "relu"):
        spread = min(spread, 1.0)  # nothing bounds these states
    network, x, state = draw(name, shape, scale, seed, spread)
    _, _, other = draw(name, shape, scale, seed + 1)
    energies, rivals, flow = map(np.asarray, descent(network, x, state, other))
    assert np.all(np.isfinite(energies))
    slack = 1e-11 * np.maximum(1, np.abs(energies).max())
    assert np.all(np.diff(energies, axis=0) <= slack)
    assert np.all(energies[1:] <= rivals + slack)
    assert np.all(flow <= slack)
    assert np.all(energies[1] < energies[0])


@pytest.mark.usefixtures("x64")
def test_synchronous_updates_may_raise_the_energy():
    """Oracle: two strongly coupled units of opposite signs, which both give way."""
    layers = [ctep.Layer((1,), ctep.Tanh())] * 2
    dense = lambda w: ctep.Dense(  # noqa: E731
        (1,), (1,), key=jax.random.key(0), init=jax.nn.initializers.constant(w)
    )
    couplings = [
        ctep.Coupling(0, 1, dense(0.0)),
        ctep.Coupling(1, 2, dense(4.0), ctep.Tied()),
    ]
    network = ctep.Network((1,), layers, couplings)
    x, state = jnp.zeros((1, 1)), (jnp.full((1, 1), 0.5), jnp.full((1, 1), -0.5))
    image = network.free(x).map(state)
    assert float(network.energies(image, x)[0]) > float(network.energies(state, x)[0])


@pytest.mark.usefixtures("x64")
def test_descent_of_an_energy_of_ones_own():
    """Oracle: the energy itself; a step below 2 over the curvature goes down."""
    p = oracles.NETWORKS["energy"]()
    problem = p.network.free(p.x)
    state = p.network.zeros(p.x)
    energy = jax.jit(lambda state, x: p.network.total_energy(state, x))
    energies = [energy(state, p.x)]
    step = jax.jit(lambda s, n=0: problem.map(s))
    for _ in range(5):
        state = step(state)
        energies.append(energy(state, p.x))
    assert np.all(np.diff(energies) < 0)
    one = p.network.energies(tuple(s[0] for s in state), p.x[0])
    alone = p.network.total_energy(tuple(s[:1] for s in state), p.x[:1])
    assert float(one) == pytest.approx(float(alone))


# ------------------------------------------------------------ refusal

REFUSING = {
    "fixed feedback": lambda: oracles.NETWORKS["fixed feedback"]().network,
    "feed-forward": lambda: oracles.NETWORKS["feed-forward"]().network,
    "skips regulated": lambda: oracles.NETWORKS["skips regulated"]().network,
}


@pytest.mark.parametrize("name", REFUSING)
def test_networks_without_an_energy_refuse(name):
    """Oracle: the sentence."""
    network = REFUSING[name]()
    state = tuple(jnp.zeros(shape) for shape in network.shapes)
    with pytest.raises(ValueError, match=r"^`energies` needs feedback that is tied"):
        network.energies(state, jnp.zeros(network.input_shape))


@pytest.mark.usefixtures("x64")
def test_energy_outside_the_range_is_infinite():
    """Oracle: the potential of a clip, which forbids such states."""
    network = template("hard sigmoid", "chain", 1.0)
    state = tuple(jnp.full((1, *shape), 0.5) for shape in network.shapes)
    x = jnp.zeros((1, 4))
    energy = oracles.FAST(network.energies)
    assert math.isfinite(float(energy(state, x)[0]))
    state = (state[0], state[1].at[0, 1].set(1.2), state[2])
    assert math.isinf(float(energy(state, x)[0]))
