"""Nudges of hidden layers, teachers, and the rules of feed-forward twins."""

import equinox as eqx
import jax
import jax.numpy as jnp
import matrix
import numpy as np
import optax
import oracles
import pytest

import ctep
from ctep._nudge import AbstractNudge
from ctep._nudge.base import parts_of
from ctep._rule import Task, partition
from ctep.analysis._certificate import force_bound
from ctep.data.selection import BatchOrder

KEY = jax.random.key(0)
TIGHT = ctep.Sweeps(1000, rtol=1e-12, atol=1e-12)


def network(**kwargs):
    return oracles.randomised(ctep.mlp((6, 5, 4, 3), key=KEY, **kwargs))


def batch(count=4, inputs=6, classes=3):
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.uniform(-1, 1, (count, inputs)))
    return x, jnp.arange(count, dtype=jnp.int32) % classes


def softmax(v):
    powers = np.exp(v - v.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def teacher():
    return oracles.randomised(ctep.mlp((6, 5, 4, 3), feedback=None, key=KEY), seed=3)


def wide_teacher():
    return ctep.mlp((6, 7, 3), feedback=None, key=jax.random.key(5))


NUDGES = {
    "local": lambda: ctep.OutputError() + 0.65 * ctep.LocalError((1, 2)),
    "local, squared": lambda: ctep.LocalError((2,), ctep.SquaredError(), 2.0),
    "distilled": lambda: (
        ctep.OutputError() + 0.65 * ctep.Distillation(teacher(), ((1, 1), (2, 2)))
    ),
    "distilled, mapped": lambda: (
        ctep.OutputError()
        + ctep.cosine(0.65, 10)
        * ctep.Distillation(wide_teacher(), ((1, 1), (2, 1)), mapping="linear")
    ),
}


def built(name, net):
    return NUDGES[name]().drawn(net, jax.random.key(7))


# ------------------------------------------------------------ costs


def test_local_error_written_out():
    """Oracle: cross-entropy of softmax(B s / tau) in numpy."""
    net, (_, y) = network(), batch()
    nudge = ctep.LocalError((1, 2), temperature=3.0).drawn(net, KEY)
    rng = np.random.default_rng(1)
    state = tuple(rng.uniform(-1, 1, (4, *s)).astype(np.float32) for s in net.shapes)
    want = 0.0
    for s, p in zip(state, nudge.projections, strict=True):
        probabilities = softmax(s @ np.asarray(p.weight) / 3.0)
        want = want - np.log(probabilities[np.arange(4), np.asarray(y)])
    found = nudge.cost(net, tuple(map(jnp.asarray, state)), y)
    np.testing.assert_allclose(found, want, rtol=1e-5)


def test_distillation_written_out():
    """Oracle: numpy; the teacher's layers by its weights, the maps by theirs."""
    net, (x, y) = network(), batch()
    x = x.astype(jnp.float32)
    nudge = built("distilled, mapped", net).nudges[1].nudge
    other = nudge.teacher
    first = np.asarray(other.couplings[0].forward.weight)
    taught = softmax(np.tanh(np.asarray(x) @ first) / 4)
    rng = np.random.default_rng(1)
    state = tuple(rng.uniform(-1, 1, (4, *s)).astype(np.float32) for s in net.shapes)
    want = 0.0
    for s, m in zip(state, nudge.maps, strict=True):
        own = softmax(s @ np.asarray(m.weight) / 4)
        want = want - (taught * np.log(own)).sum(-1)
    state = tuple(map(jnp.asarray, state))
    found = nudge.cost(net, state, nudge.targets(x, y))
    np.testing.assert_allclose(found, want, rtol=1e-5)


def test_schedules_as_published():
    """Oracle: the formulas, in numpy."""
    epochs = np.arange(12)
    left = np.minimum(epochs / 10, 1)
    pairs = {
        ctep.linear(0.65, 10): 0.65 * (1 - left),
        ctep.exponential(0.65, 0.02): 0.65 * np.exp(-0.02 * epochs),
        ctep.cosine(0.65, 10, 0.1): 0.1 + 0.275 * (1 + np.cos(np.pi * left)),
    }
    for schedule, want in pairs.items():
        found = [float(schedule(jnp.asarray(e))) for e in epochs]
        np.testing.assert_allclose(found, want, atol=1e-6)
    assert ctep.cosine(0.65, 10) == ctep.cosine(0.65, 10)


def test_an_optax_schedule_is_a_weight():
    """Oracle: by hand, 0.5 (1 - 4 / 10) of the cost in epoch 4."""
    net = ctep.mlp((3, 4, 2), key=jax.random.key(0))
    state, nudge = (jnp.ones((2, 4)),), ctep.OutputError()
    y = jnp.array([0, 1])
    faded = optax.linear_schedule(0.5, 0.0, 10) * nudge
    want = 0.3 * nudge.cost(net, state, y)
    found = faded.at(4).cost(net, state, y)
    np.testing.assert_allclose(found, want, rtol=1e-6)


def test_the_nudge_of_an_epoch_has_numbers_for_weights():
    """Oracle: by hand, 0.3 of the cost in epoch 4; a weight is no parameter."""
    net = network()
    faded = ctep.linear(0.5, 10) * (built("local", net) + Pull())
    nudge = (2.0 * faded + ctep.Frozen(faded)).at(4)
    first, second = nudge.nudges[0].nudge.weight, nudge.nudges[1].nudge.weight
    np.testing.assert_allclose([first, second], 0.3, rtol=1e-6)
    assert nudge.nudges[0].weight == 2.0
    assert eqx.tree_equal(nudge, nudge.at(5))
    trained = partition(net, nudge)[0][1]
    assert len(jax.tree_util.tree_leaves(trained)) == 4  # projections alone


def test_epochs_share_a_program():
    """Oracle: a count of traces."""
    net, (x, y) = network(), batch()
    traces, found, counts = [], [], []

    class Counted(ctep.AbstractLoss):
        def __call__(self, output, target):
            traces.append(output)
            return ctep.CrossEntropy()(output, target)

    nudge = ctep.linear(0.5, 10) * ctep.OutputError(Counted())
    for epoch in range(3):
        found.append(ctep.gradient(net, x, y, nudge=nudge, epoch=epoch)[0])
        counts.append(len(traces))
    np.testing.assert_allclose(found, np.array([1, 0.9, 0.8]) * found[0], rtol=1e-5)
    assert counts[0] == counts[-1]


@pytest.mark.parametrize("name", NUDGES)
def test_force_is_lipschitz(name):
    """Oracle: the differences of the force at random states, against the bound."""
    net, (x, y) = network(), batch(1)
    nudge = built(name, net).at(0)
    target = nudge.targets(x.astype(jnp.float32), y)

    @jax.jit
    def slope(state):
        return jax.grad(lambda s: nudge.cost(net, s, target)[0])(state)

    ones, largest = [1.0] * len(net.shapes), 0.0
    bound = force_bound(net, parts_of(nudge), ones, 2, ones)
    for seed in range(20):
        keys = jax.random.split(jax.random.key(seed), 4)
        a = tuple(
            jax.random.normal(k, (1, *s))
            for k, s in zip(keys[:2], net.shapes, strict=True)
        )
        b = tuple(
            s + 0.1 * jax.random.normal(k, s.shape)
            for k, s in zip(keys[2:], a, strict=True)
        )
        flat = [
            np.concatenate([np.ravel(s) for s in v]) for v in (slope(a), slope(b), a, b)
        ]
        ratio = np.linalg.norm(flat[0] - flat[1]) / np.linalg.norm(flat[2] - flat[3])
        largest = max(largest, ratio)
    assert 0 < largest <= bound < np.inf


# ------------------------------------------------------------ gradients


@oracles.FAST
def _estimates(net, x, y, nudge):
    task = Task.mean(x, y, nudge.at(2), TIGHT, throw=False)
    rules = (ctep.Centered(1e-4), ctep.Implicit())
    return [rule.estimate(net, task).gradient for rule in rules]


@matrix.product(("name", "feedback"), NUDGES, [1.0, 0.2])
def test_gradients_of_network_and_nudge(name, feedback):
    """Oracle: implicit differentiation of the same cost, for all that is trained."""
    with jax.enable_x64(True):
        net = network(feedback=feedback)
        nudge = built(name, net)
        found, want = _estimates(net, *batch(), nudge)
        assert (name == "distilled") == (not jax.tree_util.tree_leaves(found[1]))
        for a, b in zip(found, want, strict=True):
            if not jax.tree_util.tree_leaves(b):
                continue
            a, b = oracles.vector(a), oracles.vector(b)
            assert np.linalg.norm(a - b) <= 1e-6 * np.linalg.norm(b)


def test_a_teacher_is_not_trained():
    """Oracle: the mask; projections and maps are owned, the teacher is not."""
    net = network()
    for name, owned in {"distilled": 0, "distilled, mapped": 2, "local": 2}.items():
        trained = partition(net, built(name, net))[0][1]
        assert len(jax.tree_util.tree_leaves(trained)) == owned


@matrix.campaign
def test_fit_trains_what_a_nudge_owns():
    """Oracle: the weights before and after; the teacher's stay to the bit."""
    net, (x, y) = network(), batch(40)
    nudge = built("distilled, mapped", net)
    result = ctep.fit(net, (x, y), nudge=nudge, epochs=1, probe=4, progress=False)
    before, after = (n.nudges[1].nudge for n in (nudge, result.nudge))
    assert eqx.tree_equal(before.teacher, after.teacher)
    assert not eqx.tree_equal(before.maps, after.maps)
    assert result.history[0]["gradient_cosine"] > 0.99


def test_fit_draws_what_a_nudge_lacks():
    """Oracle: the same run with projections drawn from the same key twice."""
    net, data = network(), batch(40)
    runs = [
        ctep.fit(net, data, nudge=NUDGES["local"](), epochs=1, probe=0, progress=False)
        for _ in "ab"
    ]
    assert eqx.tree_equal(runs[0].nudge, runs[1].nudge)
    assert runs[0].nudge.nudges[1].nudge.projections is not None


class Pull(AbstractNudge):
    """A user's own nudge: towards zero, at every layer."""

    def blocks(self, network):
        return tuple(range(len(network.shapes)))

    def cost(self, network, state, target):
        return 0.5 * sum(jnp.sum(s**2, -1) for s in state)


def test_own_nudges_need_a_cost_alone():
    """Oracle: implicit differentiation."""
    with jax.enable_x64(True):
        found, want = _estimates(network(feedback=0.5), *batch(), Pull())
    a, b = oracles.vector(found), oracles.vector(want)
    assert np.linalg.norm(a - b) < 1e-6 * np.linalg.norm(b)
    assert Pull().heads(network()) is None


# ------------------------------------------------------------ twins


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("feedback", [None, 0.3])
def test_backprop_of_the_twin(feedback):
    """Oracle: reverse-mode differentiation of the layers written in plain jnp."""
    p = oracles.chain(feedback=feedback)
    found = ctep.gradient(p.network, p.x, p.y, rule=ctep.Backprop())[1]
    want = oracles.vector(oracles.backprop(p))
    np.testing.assert_allclose(oracles.vector(found), want, atol=1e-12)


@pytest.mark.usefixtures("x64")
def test_feedback_alignment_written_out():
    """Oracle: two tanh layers in numpy, the error carried by the fixed weights."""
    net = network(feedback=ctep.Fixed(0.1))
    x, y = batch()
    found = ctep.gradient(net, x, y, rule=ctep.FeedbackAlignment())[1]
    w0, w1 = (np.asarray(c.forward.weight) for c in net.couplings)
    back = np.asarray(net.couplings[1].feedback.operator.weight)
    out = np.asarray(net.readout.operator.weight)
    b1, b2 = (np.asarray(layer.bias) for layer in net.layers)
    s1 = np.tanh(x @ w0 + b1)
    s2 = np.tanh(s1 @ w1 + b2)
    error = softmax(s2 @ out + np.asarray(net.readout.bias)) - np.eye(3)[np.asarray(y)]
    d2 = (error @ out.T) * (1 - s2**2)
    d1 = (d2 @ back.T) * (1 - s1**2)
    gradient = found.couplings[0].forward.weight
    np.testing.assert_allclose(gradient, np.asarray(x).T @ d1 / len(x), atol=1e-12)
    gradient = found.couplings[1].forward.weight
    np.testing.assert_allclose(gradient, s1.T @ d2 / len(x), atol=1e-12)
    gradient = found.readout.operator.weight
    np.testing.assert_allclose(gradient, s2.T @ error / len(x), atol=1e-12)


@pytest.mark.parametrize("rule", [ctep.Backprop(), ctep.FeedbackAlignment()])
def test_fit_returns_the_twin(rule):
    """Oracle: the network that was trained is the one that is evaluated."""
    net, data = network(feedback=ctep.Fixed(0.5)), batch(60)
    result = ctep.fit(net, (data, data), rule=rule, epochs=2, probe=8, progress=False)
    assert all(c.feedback is None for c in result.network.couplings)
    state = result.network.feedforward(data[0].astype(jnp.float32))
    right = jnp.argmax(result.network.output(state), -1) == data[1]
    assert result.history[-1]["test_accuracy"] == pytest.approx(float(right.mean()))
    exact = isinstance(rule, ctep.Backprop)
    assert (result.history[-1]["gradient_cosine"] > 0.9999) == exact


@pytest.mark.usefixtures("x64")
def test_a_module_trains_as_by_hand():
    """Oracle: Equinox and optax alone, one batch."""
    module = eqx.nn.MLP(6, 3, 8, 1, key=KEY)
    x, y = batch()
    wrapped = ctep.Module(module, (6,))

    def loss(module):
        logits = jax.vmap(module)(x)
        return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()

    value, want = eqx.filter_value_and_grad(loss)(module)
    for rule in (ctep.Backprop(), ctep.Implicit()):
        got, found = ctep.gradient(wrapped, x, y, rule=rule)
        assert float(got) == pytest.approx(float(value))
        np.testing.assert_allclose(
            oracles.vector(found), oracles.vector(want), atol=1e-9
        )


def test_a_module_can_teach():
    """Oracle: the module's own layers."""

    class Two(eqx.Module):
        inner: eqx.nn.Linear
        outer: eqx.nn.Linear

        def __call__(self, x):
            hidden = jnp.tanh(self.inner(x))
            return hidden, self.outer(hidden)

    keys = jax.random.split(KEY)
    module = Two(eqx.nn.Linear(6, 5, key=keys[0]), eqx.nn.Linear(5, 3, key=keys[1]))
    wrapped = ctep.Module(module, (6,))
    assert wrapped.shapes == ((5,), (3,))
    x = batch()[0].astype(jnp.float32)
    (target,) = ctep.Distillation(wrapped, ((1, 1),)).targets(x, None)
    want = softmax(np.asarray(jax.vmap(module)(x)[0]) / 4)
    np.testing.assert_allclose(target, want, rtol=1e-5)


# ------------------------------------------------------------ states carried over


def test_states_are_carried_over():
    """Oracle: a loop by hand, each free phase from the nudged state before it."""
    net, (x, y) = network(feedback=0.5), batch(40)
    x = x.astype(jnp.float32)
    rule, solver = ctep.Centered(0.5), ctep.Sweeps(3, 1e-9, 1e-9)
    optimizer, key = optax.sgd(0.1), jax.random.key(3)
    result = ctep.fit(
        net,
        (x, y),
        rule=rule,
        solver=solver,
        optimizer=optimizer,
        batch_size=20,
        epochs=1,
        probe=0,
        key=key,
        carry_state=True,
        watch=ctep.Watch(unsettled=1.0),
        progress=False,
    )
    order = BatchOrder(40, 20, 20, tuple(jax.random.key_data(key).tolist()))(0)
    start, nudge = net.zeros(x[:20]), ctep.OutputError()
    for rows in order:
        task = Task.mean(x[rows], y[rows], nudge, solver, throw=False)
        task = eqx.tree_at(lambda t: t.start, task, start, is_leaf=lambda v: v is None)
        estimate = eqx.filter_jit(rule.estimate)(net, task)
        start = estimate.nudged
        net = eqx.apply_updates(
            net, jax.tree_util.tree_map(lambda g: -0.1 * g, estimate.gradient[0])
        )
    for a, b in zip(
        *map(jax.tree_util.tree_leaves, (net, result.network)), strict=True
    ):
        np.testing.assert_allclose(a, b, atol=1e-6)
