import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import oracles
import pytest

import ctep

KEY = jax.random.key(0)
TIGHT = ctep.Sweeps(2000, rtol=1e-12, atol=1e-12)


@oracles.FAST
def settle(network, x, solver):
    """Return the state and the output of the free phase."""
    rest = solver.solve(network.free(x), network.zeros(x), throw=False)
    return rest.state, network.output(rest.state)


@pytest.fixture
def unchecked(monkeypatch):
    """Run the test as a user runs the package: without type checks of every call."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


def weights(network):
    """Return the forward weights per edge, as numpy arrays."""
    return {
        (c.source, c.target): np.asarray(c.forward.weight)
        for c in network.couplings
        if c.forward is not None
    }


def scaled(network, scales):
    """Return `network` with the given scale of tied feedback per edge."""
    couplings = [
        dataclasses.replace(c, feedback=ctep.Tied(scales[c.source, c.target]))
        if c.source
        else c
        for c in network.couplings
    ]
    return dataclasses.replace(network, couplings=couplings)


# ------------------------------------------------------------ builders


def test_mlp_is_a_chain_with_a_readout():
    """Oracle: the sizes that were asked for."""
    network = ctep.mlp((7, 5, 4, 3), feedback=0.1, key=KEY)
    assert network.input_shape == (7,)
    assert network.shapes == ((5,), (4,))
    assert network.output_shape == (3,)
    assert network.edges == ((0, 1),)
    assert network.taus == (1.0, 1.0)
    assert [c.scale for c in network.couplings] == [0.0, 0.1]
    assert network.readout.operator.weight.shape == (4, 3)
    assert [w.shape for w in weights(network).values()] == [(7, 5), (5, 4)]
    assert all(layer.activation == ctep.Tanh() for layer in network.layers)
    assert all(not np.any(layer.bias) for layer in network.layers)


def test_mlp_without_a_readout():
    """Oracle: the sizes; the last of them is a layer, with its own activation."""
    network = ctep.mlp(
        (7, 5, 3),
        activation=ctep.ReLU6(),
        output_activation=ctep.Identity(),
        readout=False,
        bias=False,
        key=KEY,
    )
    assert network.readout is None
    assert network.shapes == ((5,), (3,))
    assert network.output_shape == (3,)
    kinds = [layer.activation for layer in network.layers]
    assert kinds == [ctep.ReLU6(), ctep.Identity()]
    assert [layer.bias for layer in network.layers] == [None, None]
    state = tuple(jnp.ones((2, *shape)) for shape in network.shapes)
    assert network.output(state) is state[-1]


def test_shapes_are_flattened_row_by_row():
    """Oracle: the same network of flat sizes, driven by the flattened image."""
    image = ctep.mlp(((4, 3, 2), 5, (2, 2), 3), key=KEY)
    flat = ctep.mlp((24, 5, 4, 3), key=KEY)
    assert image.input_shape == (4, 3, 2)
    assert image.shapes == ((5,), (2, 2))
    assert image.layers[1].bias.shape == (2, 2)
    x = jax.random.normal(jax.random.key(1), (6, 4, 3, 2))
    state, outputs = settle(image, x, ctep.Sweeps())
    flat_state, flat_outputs = settle(flat, x.reshape(6, 24), ctep.Sweeps())
    assert state[1].shape == (6, 2, 2)
    np.testing.assert_allclose(state[1].reshape(6, 4), flat_state[1], atol=1e-6)
    np.testing.assert_allclose(outputs, flat_outputs, atol=1e-6)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("kind", [int, np.int64])
def test_sizes_may_be_any_integers(kind):
    """Oracle: plain integers."""
    sizes = tuple(kind(n) for n in (4, 3, 2))
    assert ctep.mlp(sizes, key=KEY).shapes == ((3,),)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("kind", [float, np.float32, np.float64])
def test_feedback_may_be_any_real_number(kind):
    """Oracle: a plain float."""
    network = ctep.mlp((4, 3, 3, 2), feedback=kind(0.5), key=KEY)
    assert network.couplings[1].feedback == ctep.Tied(0.5)


def test_initial_weights_follow_the_initialiser_and_the_key():
    """Oracle: Glorot's bound; another key is another draw, the same one is not."""
    a = weights(ctep.mlp((300, 200, 3), key=KEY))[0, 1]
    bound = np.sqrt(6 / 500)
    assert 0.99 * bound < np.max(np.abs(a)) <= bound
    assert np.std(a) == pytest.approx(bound / np.sqrt(3), rel=0.02)
    same, other = (
        weights(ctep.mlp((300, 200, 3), key=jax.random.key(n)))[0, 1] for n in (0, 1)
    )
    np.testing.assert_array_equal(a, same)
    assert abs(np.corrcoef(np.ravel(a), np.ravel(other))[0, 1]) < 0.02
    ones = ctep.mlp((4, 3, 2), init=jax.nn.initializers.ones, key=KEY)
    assert np.all(weights(ones)[0, 1] == 1)
    assert np.all(np.asarray(ones.readout.operator.weight) == 1)


@pytest.mark.parametrize("feedback", [0.3, ctep.Fixed(0.3)])
def test_an_edge_more_changes_no_other_weight(feedback):
    """Oracle: the graph without the edge."""
    sizes, edges = (4, 3, 3, 3, 2), [(0, 1), (1, 2), (2, 3)]
    build = lambda edges: ctep.graph(sizes, edges, feedback=feedback, key=KEY)  # noqa: E731
    few, more = build(edges), build([(1, 3), *edges, (0, 3)])
    assert set(weights(more)) - set(weights(few)) == {(1, 3), (0, 3)}
    for edge, weight in weights(few).items():
        np.testing.assert_array_equal(weights(more)[edge], weight)
    drawn = [c.returning.weight for n in (few, more) for c in n.couplings if c.source]
    np.testing.assert_array_equal(drawn[0], drawn[3])
    np.testing.assert_array_equal(drawn[1], drawn[4])
    readouts = [n.readout.operator.weight for n in (few, more)]
    np.testing.assert_array_equal(*readouts)


def test_weights_of_two_edges_differ():
    """Oracle: independent draws, forward, fixed feedback and feedback edges alike."""
    network = ctep.graph(
        (40, 40, 40, 40),
        [(0, 1), (1, 2), (2, 3), (1, 3)],
        feedback=ctep.Fixed(1.0),
        readout=False,
        key=KEY,
    )
    drawn = list(weights(network).values())
    drawn += [c.returning.weight for c in network.couplings if c.source]
    assert len(drawn) == 7
    assert np.max(np.abs(np.corrcoef([np.ravel(w) for w in drawn]) - np.eye(7))) < 0.1


def test_mlp_is_the_graph_of_a_chain():
    """Oracle: `ctep.graph` with the edges of the chain."""
    chain = ctep.mlp((4, 3, 3, 2), feedback=0.2, key=KEY)
    graph = ctep.graph((4, 3, 3, 2), [(0, 1), (1, 2)], feedback=0.2, key=KEY)
    assert eqx.tree_equal(chain, graph)


def test_feedback_runs_along_the_feedback_edges_alone():
    """Oracle: couplings with one direction, with both, and without a forward map."""
    network = ctep.graph(
        (4, 3, 3, 3),
        [(0, 1), (1, 2), (2, 3)],
        feedback_edges=[(3, 1), (3, 2)],
        feedback=ctep.Fixed(0.5),
        readout=False,
        key=KEY,
    )
    back = {(c.source, c.target): c for c in network.couplings}
    assert set(back) == {(0, 1), (1, 2), (2, 3), (1, 3)}
    assert back[1, 3].forward is None
    assert back[1, 2].feedback is None
    for edge in ((1, 3), (2, 3)):
        assert isinstance(back[edge].feedback, ctep.Fixed)
        assert back[edge].scale == 0.5
    plain = ctep.graph(
        (4, 3, 3, 3), [(0, 1), (1, 2), (2, 3)], readout=False, key=KEY
    )  # fmt: skip
    for edge, weight in weights(plain).items():
        np.testing.assert_array_equal(weights(network)[edge], weight)


# ------------------------------------------------------------ the drive


def _draw(network, seed=0, batch=3):
    rng = np.random.default_rng(seed)
    x = rng.uniform(-1, 1, (batch, *network.input_shape))
    state = tuple(rng.uniform(-1, 1, (batch, *s)) for s in network.shapes)
    return x, state


@pytest.mark.usefixtures("x64")
def test_drive_of_a_chain_written_out():
    """Oracle: the equations of three layers in numpy, term by term."""
    network = oracles.randomised(ctep.mlp((6, 5, 4, 3, 2), feedback=0.3, key=KEY))
    x, (s1, s2, s3) = _draw(network)
    w = weights(network)
    b1, b2, b3 = (np.asarray(layer.bias) for layer in network.layers)
    want = (
        np.tanh(b1 + x @ w[0, 1] + 0.3 * s2 @ w[1, 2].T),
        np.tanh(b2 + s1 @ w[1, 2] + 0.3 * s3 @ w[2, 3].T),
        np.tanh(b3 + s2 @ w[2, 3]),
    )
    problem = network.free(jnp.asarray(x))
    got = problem.map(tuple(map(jnp.asarray, (s1, s2, s3))))
    for a, b in zip(got, want, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-14)


@pytest.mark.usefixtures("x64")
def test_drive_of_a_graph_written_out():
    """Oracle: the equations in numpy: a skip, fixed feedback, an edge of feedback."""
    network = ctep.graph(
        (4, 3, 3, 2),
        [(0, 1), (1, 2), (0, 2), (2, 3)],
        feedback=ctep.Fixed(0.7),
        feedback_edges=[(2, 1), (3, 2), (3, 1)],
        activation=ctep.Sigmoid(2.0, 0.1),
        readout=False,
        key=KEY,
    )
    network = oracles.randomised(network)
    x, (s1, s2, s3) = _draw(network)
    w = weights(network)
    b1, b2, b3 = (np.asarray(layer.bias) for layer in network.layers)
    back = {
        (c.source, c.target): np.asarray(c.feedback.operator.weight)
        for c in network.couplings
        if c.source
    }
    h1 = b1 + x @ w[0, 1] + 0.7 * s2 @ back[1, 2].T + 0.7 * s3 @ back[1, 3].T
    h2 = b2 + s1 @ w[1, 2] + x @ w[0, 2] + 0.7 * s3 @ back[2, 3].T
    h3 = b3 + s2 @ w[2, 3]
    got = network.free(jnp.asarray(x)).map(tuple(map(jnp.asarray, (s1, s2, s3))))
    for a, h in zip(got, (h1, h2, h3), strict=True):
        np.testing.assert_allclose(a, 1 / (1 + np.exp(-2 * (h - 0.1))), atol=1e-14)


@pytest.mark.usefixtures("x64")
def test_couplings_may_run_both_ways():
    """Oracle: numpy; two layers that drive each other through weights of their own."""
    a, b, c = (
        ctep.Dense(i, j, key=jax.random.key(n))
        for n, (i, j) in enumerate((((4,), (3,)), ((3,), (2,)), ((2,), (3,))))
    )
    layers = [ctep.Layer((n,), ctep.Tanh()) for n in (3, 2)]
    couplings = [
        ctep.Coupling(0, 1, a),
        ctep.Coupling(1, 2, b, ctep.Tied(0.5)),
        ctep.Coupling(2, 1, c),
    ]
    network = ctep.Network((4,), layers, couplings)
    x, (s1, s2) = _draw(network)
    wa, wb, wc = (np.asarray(m.weight) for m in (a, b, c))
    got = network.free(jnp.asarray(x)).map((jnp.asarray(s1), jnp.asarray(s2)))
    np.testing.assert_allclose(got[0], np.tanh(x @ wa + 0.5 * s2 @ wb.T + s2 @ wc))
    np.testing.assert_allclose(got[1], np.tanh(s1 @ wb))
    assert network.edges == ((0, 1), (1, 0))
    assert not network.has_energy


def test_bias_of_one_number_per_channel():
    """Oracle: the same bias written out for every pixel."""
    dense = ctep.Dense((4,), (2, 3, 5), key=KEY)
    channel = jnp.arange(5.0) / 5
    states, x = [], jnp.ones((2, 4))
    for bias in (channel, jnp.broadcast_to(channel, (2, 3, 5))):
        layer = ctep.Layer((2, 3, 5), ctep.Tanh(), bias)
        network = ctep.Network((4,), [layer], [ctep.Coupling(0, 1, dense)])
        states.append(network.free(x).map(network.zeros(x)))
    np.testing.assert_array_equal(states[0][0], states[1][0])
    assert np.ptp(np.asarray(states[0][0])) > 0.1


@pytest.mark.usefixtures("x64")
def test_velocity_is_per_time_constant():
    """Oracle: (T(s) - s) / tau."""
    network = ctep.mlp((4, 3, 3, 2), key=KEY)
    layers = [
        dataclasses.replace(layer, tau=tau)
        for layer, tau in zip(network.layers, (0.5, 4.0), strict=True)
    ]
    network = dataclasses.replace(network, layers=layers)
    x, state = _draw(network)
    problem = network.free(jnp.asarray(x))
    state = tuple(map(jnp.asarray, state))
    velocity, image = problem.velocity(state), problem.map(state)
    np.testing.assert_allclose(velocity[0], (image[0] - state[0]) / 0.5)
    np.testing.assert_allclose(velocity[1], (image[1] - state[1]) / 4.0)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("shapes", [((4,), (3,)), ((2, 3), (5,)), ((4,), (3, 2))])
def test_adjoint_of_a_dense_operator(shapes):
    """Oracle: the defining identity <u, c(v)> = <c*(u), v>, and autodiff."""
    operator = ctep.Dense(*shapes, key=KEY)
    rng = np.random.default_rng(0)
    v, u = (jnp.asarray(rng.normal(size=(2, *shape))) for shape in shapes)
    image, tape = operator.apply(v)
    back = operator.adjoint(u, tape)
    assert image.shape == u.shape
    assert float(jnp.vdot(u, image)) == pytest.approx(float(jnp.vdot(back, v)))
    auto = jax.grad(lambda v: jnp.vdot(u, operator.apply(v)[0]))(v)
    np.testing.assert_allclose(back, auto, atol=1e-14)


# ------------------------------------------------------------ facts about networks


def _graph(edges, scales, layers=4):
    network = ctep.graph(
        (3,) + (3,) * layers, edges, readout=False, key=KEY, feedback=1.0
    )  # fmt: skip
    return scaled(network, scales)


ATTENUATIONS = {
    "symmetric chain": ({(1, 2): 1.0, (2, 3): 1.0, (3, 4): 1.0}, (1, 1, 1), True),
    "chain": ({(1, 2): 0.5, (2, 3): 0.2, (3, 4): 0.1}, (0.01, 0.02, 0.1), True),
    "skip that fits": (
        {(1, 2): 0.5, (2, 3): 0.2, (3, 4): 0.1, (1, 4): 0.01},
        (0.01, 0.02, 0.1),
        True,
    ),
    "skip that does not": (
        {(1, 2): 0.1, (2, 3): 0.1, (3, 4): 0.1, (1, 4): 0.1},
        (0.1, 0.01, 0.1),
        False,
    ),
    "strong detour": (
        {(1, 2): 1.0, (2, 3): 1.0, (3, 4): 1.0, (1, 4): 0.1},
        (1.0, 1.0, 1.0),
        False,
    ),
}


@pytest.mark.parametrize("name", ATTENUATIONS)
def test_attenuation_and_energy_of_graphs(name):
    """Oracle: products of scales along the paths from the output, by hand."""
    scales, attenuation, energy = ATTENUATIONS[name]
    network = _graph([(0, 1), *scales], scales)
    np.testing.assert_allclose(network.attenuation, (*attenuation, 1.0), rtol=1e-12)
    assert network.has_energy is energy


@pytest.mark.parametrize(
    ("feedback", "attenuation", "energy"),
    [
        (0.1, (0.01, 0.1, 1), True),
        (ctep.Fixed(0.1), (0.01, 0.1, 1), False),
        (None, (1, 1, 1), False),
    ],
)
def test_attenuation_and_energy_of_chains(feedback, attenuation, energy):
    """Oracle: powers of the scale by hand; no energy without tied feedback."""
    network = ctep.mlp((4, 3, 3, 3, 2), feedback=feedback, key=KEY)
    np.testing.assert_allclose(network.attenuation, attenuation, rtol=1e-12)
    assert network.has_energy is energy


def test_one_layer_has_an_energy_whatever_its_feedback():
    """Oracle: nothing returns to the input, so there is nothing to tie."""
    for feedback in (1.0, 0.1, None, ctep.Fixed()):
        network = ctep.mlp((4, 3, 2), feedback=feedback, key=KEY)
        assert network.has_energy
        assert network.attenuation == (1.0,)


def test_all_but_fixed_feedback_is_trainable():
    """Oracle: the count of all other arrays."""
    for feedback in (0.1, ctep.Fixed(0.1), None):
        network = ctep.mlp((4, 3, 3, 2), feedback=feedback, key=KEY)
        mask = network.trainable()
        count = lambda tree: sum(  # noqa: E731
            int(np.size(leaf)) for leaf in jax.tree_util.tree_leaves(tree)
        )
        assert count(eqx.filter(network, mask)) == 12 + 9 + 6 + 3 + 3 + 2
        frozen = eqx.filter(network, mask, inverse=True)
        assert count(frozen) == (9 if isinstance(feedback, ctep.Fixed) else 0)
    fixed = ctep.mlp((4, 3, 3, 2), feedback=ctep.Fixed(), key=KEY)
    assert fixed.trainable().couplings[1].feedback.operator.weight is False
    assert fixed.trainable().couplings[1].forward.weight is True


def test_networks_are_pytrees():
    """Oracle: the network before the round trip."""
    network = ctep.mlp((4, 3, 3, 2), feedback=ctep.Fixed(0.1), key=KEY)
    leaves, structure = jax.tree_util.tree_flatten(network)
    assert all(isinstance(leaf, jax.Array) for leaf in leaves)
    again = jax.tree_util.tree_unflatten(structure, leaves)
    assert eqx.tree_equal(network, again)
    assert str(again) == str(network)
    doubled = jax.tree_util.tree_map(lambda leaf: 2 * leaf, network)
    np.testing.assert_array_equal(weights(doubled)[1, 2], 2 * weights(network)[1, 2])
    assert not eqx.tree_equal(network, doubled)


def test_jit_and_vmap_over_inputs_and_networks():
    """Oracle: one example, and one network, at a time."""
    keys = jax.random.split(KEY, 2)
    build = lambda key: ctep.mlp((4, 3, 3, 2), feedback=0.5, key=key)  # noqa: E731
    networks = eqx.filter_vmap(build)(keys)
    x = jax.random.normal(jax.random.key(1), (5, 4))

    def predict(network, x):
        return settle(network, x, ctep.Sweeps())[1]

    both = eqx.filter_vmap(predict, in_axes=(eqx.if_array(0), None))(networks, x)
    assert both.shape == (2, 5, 2)
    for n, key in enumerate(keys):
        network = build(key)
        np.testing.assert_allclose(both[n], predict(network, x), atol=1e-5)
    each = jax.vmap(lambda x: predict(network, x))(x)
    np.testing.assert_allclose(each, both[1], atol=1e-5)


# ------------------------------------------------------------ print

CHAIN = """\
Network: 784 inputs, 2 layers of 768 units in all, 10 outputs, 535,818 parameters
  x      = clamped input                       784
  s1     = tanh(W0_1 x + 0.01 W1_2' s2 + b1)   512
  s2     = tanh(W1_2 s1 + b2)                  256
  output = W_out s2 + b_out                    10
  energy: yes, its layers weighted by the inverse feedback scales"""

GRAPH = """\
Network: 2 x 3 inputs, 3 layers of 10 units in all, 2 outputs, 68 parameters
  x      = clamped input                                               2 x 3
  s1     = sigmoid(4 (W0_1 x + 0.25 B1_2' s2 + 0.25 B1_3' s3 - 0.5))   4
  s2     = sigmoid(4 (W1_2 s1 + 0.25 B2_3' s3 - 0.5))                  4
  s3     = max(W2_3 s2 + W0_3 x + W1_3 s1, 0)                          2
  output = s3                                                          2
  energy: none, the dynamics is a vector field"""


def test_print_of_a_chain():
    """Oracle: the text."""
    network = ctep.mlp((784, 512, 256, 10), feedback=0.01, key=KEY)
    assert str(network) == CHAIN
    assert 784 * 512 + 512 * 256 + 256 * 10 + 512 + 256 + 10 == 535_818


def test_print_of_a_graph():
    """Oracle: the text; each layer shows its own terms, scales and activation."""
    network = ctep.graph(
        ((2, 3), 4, 4, 2),
        [(0, 1), (1, 2), (2, 3), (0, 3), (1, 3)],
        feedback=ctep.Fixed(0.25),
        activation=ctep.Sigmoid(4.0, 0.5),
        output_activation=ctep.ReLU(),
        bias=False,
        readout=False,
        key=KEY,
    )
    assert str(network) == GRAPH
    assert 6 * 4 + 4 * 4 + 4 * 2 + 6 * 2 + 4 * 2 == 68


class Leaky(ctep.Tanh):
    """Only its print is of interest."""

    @property
    def formula(self):
        return "max(h, 0.2 h) - h + 3 (h - 1)"


def test_print_brackets_what_it_substitutes():
    """Oracle: the text; a factor and a sign take all of a sum, a term need not."""
    network = ctep.mlp((4, 3, 3, 2), activation=Leaky(), feedback=None, key=KEY)
    drive = "W0_1 x + b1"
    text = f"max({drive}, 0.2 ({drive})) - ({drive}) + 3 ({drive} - 1)"
    assert f"s1     = {text}  " in str(network)
    pool = ctep.AveragePool((4, 4, 1))
    pooled = ctep.Chain((pool, ctep.Dense(pool.out_shape, (3,), key=KEY)))
    assert pooled.formula("W", "s1") == "W mean(s1)"
    conv = ctep.Conv((4, 4, 1), 1, key=KEY)
    twice = ctep.Chain((conv, ctep.Dense(conv.out_shape, (3,), key=KEY)))
    assert twice.formula("W", "s1") == "W (W * s1)"
    assert twice.adjoint_formula("W", "s2") == "W' * (W' s2)"


@pytest.mark.parametrize(
    ("feedback", "line", "energy"),
    [
        (1.0, "tanh(W0_1 x + W1_2' s2 + b1)", "yes, all feedback is symmetric"),
        (None, "tanh(W0_1 x + b1)", "none, the dynamics is a vector field"),
    ],
)
def test_print_of_symmetric_and_absent_feedback(feedback, line, energy):
    """Oracle: the text; a scale of 1 is not written, absent feedback is no term."""
    text = str(ctep.mlp((4, 3, 3, 2), feedback=feedback, key=KEY))
    assert f"s1     = {line} " in text
    assert text.endswith(f"energy: {energy}")


# ------------------------------------------------------------ a user's energy


class Springs(ctep.EnergyNetwork):
    r"""$E = \frac12 |s_1|^2 + \frac12 |s_2|^2 - x U s_1 - s_1 V s_2$."""

    u: jax.Array
    v: jax.Array
    input_shape: tuple = eqx.field(static=True, default=(3,))
    shapes: tuple = eqx.field(static=True, default=((4,), (2,)))
    step: float = eqx.field(static=True, default=0.5)

    def energy(self, state, x):
        a, b = state
        return 0.5 * (a @ a + b @ b) - x @ self.u @ a - a @ self.v @ b


@pytest.mark.usefixtures("x64")
def test_energy_of_ones_own_end_to_end():
    r"""Oracle: $(1 - V^\top V) s_2 = V^\top U^\top x$ solved by numpy; its adjoint.

    With $A = (1 - V^\top V)^{-1}$ and the error $e = s_2 - y$, the derivative by U is
    $x (V A e)^\top$, and by V $s_1 (A e)^\top + V A e\, s_2^\top$.
    """
    rng = np.random.default_rng(0)
    u, v = rng.normal(size=(3, 4)), 0.3 * rng.normal(size=(4, 2))
    x, y = rng.normal(size=(5, 3)), rng.normal(size=(5, 2))
    inverse = np.linalg.inv(np.eye(2) - v.T @ v)
    last = x @ u @ v @ inverse
    first = x @ u + last @ v.T
    network = Springs(jnp.asarray(u), jnp.asarray(v))
    assert network.output_shape == (2,)
    assert network.has_energy
    assert network.attenuation == (1.0, 1.0)
    state, _ = settle(network, jnp.asarray(x), TIGHT)
    np.testing.assert_allclose(state[0], first, atol=1e-9)
    np.testing.assert_allclose(state[1], last, atol=1e-9)
    loss, gradient = ctep.gradient(
        network,
        jnp.asarray(x),
        jnp.asarray(y),
        nudge=ctep.OutputError(ctep.SquaredError()),
        rule=ctep.Centered(1e-4),
        solver=TIGHT,
    )
    error = (last - y) / 5
    adjoint = error @ inverse
    assert float(loss) == pytest.approx(0.5 * np.mean(np.sum((last - y) ** 2, 1)))
    np.testing.assert_allclose(gradient.u, x.T @ (adjoint @ v.T), rtol=1e-5)
    dv = first.T @ adjoint + (adjoint @ v.T).T @ last
    np.testing.assert_allclose(gradient.v, dv, rtol=1e-5)
    assert isinstance(gradient, Springs)
