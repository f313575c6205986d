"""Label smoothing: the cost, its pull, and the gradients of all rules by it."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import matrix
import numpy as np
import oracles
import pytest

import ctep
from ctep._train.store.identity import description

LOSS = ctep.CrossEntropy(label_smoothing=0.2)
TIGHT = ctep.Sweeps(1000, rtol=1e-13, atol=1e-13)


def smoothed(output, label):
    """Return the loss as its equation has it, once more."""
    spread = oracles.cross_entropy(output, label) * 0.8
    parts = jax.vmap(oracles.cross_entropy, (None, 0))(output, jnp.arange(len(output)))
    return spread + 0.2 * jnp.mean(parts)


@pytest.fixture
def problem(x64):
    network = ctep.mlp((6, 5, 4, 3), feedback=0.3, key=jax.random.key(0))
    plain = oracles.problem(oracles.randomised(network))
    return dataclasses.replace(plain, nudge=ctep.OutputError(LOSS), loss=smoothed)


@pytest.mark.usefixtures("x64")
def test_the_cost_of_classes_and_of_distributions():
    """Oracle: numpy."""
    rng = np.random.default_rng(0)
    output, given = rng.normal(size=(5, 4)), rng.dirichlet(np.ones(4), 5)
    logs = output - np.log(np.exp(output).sum(-1, keepdims=True))
    labels = np.arange(5) % 4
    for target, values in ((labels, np.eye(4)[labels]), (given, given)):
        wanted = -((0.8 * values + 0.05) * logs).sum(-1)
        np.testing.assert_allclose(LOSS(jnp.asarray(output), target), wanted)
    assert np.isnan(LOSS(jnp.asarray(output), np.full(5, 4))).all()
    np.testing.assert_array_equal(
        ctep.CrossEntropy(0.0)(output, labels), ctep.CrossEntropy()(output, labels)
    )


def test_the_pull(problem):
    """Oracle: finite differences of the cost, and softmax minus the target."""
    net, nudge, y = problem.network, problem.nudge, problem.y
    state = tuple(
        jnp.asarray(np.random.default_rng(n).uniform(-1, 1, (3, *shape)))
        for n, shape in enumerate(net.shapes)
    )
    last = len(net.shapes) - 1
    force = nudge.force(last, net, state, nudge.context(net, state, y))
    way = jnp.asarray(np.random.default_rng(9).normal(size=force.shape))

    def cost(step):
        return nudge.cost(net, (*state[:-1], state[-1] + step * way), y)

    slope = (cost(1e-5) - cost(-1e-5)) / 2e-5
    np.testing.assert_allclose(-jnp.sum(force * way, -1), slope, rtol=1e-8)
    output = net.output(state)
    missing = jax.nn.softmax(output) - 0.8 * jax.nn.one_hot(y, 3) - 0.2 / 3
    back = -missing @ net.readout.operator.weight.T
    np.testing.assert_allclose(force, back, rtol=1e-10)


RULES = {
    "one-sided": (ctep.OneSided(1e-8), 1e-6),
    "centered": (ctep.Centered(1e-4), 1e-7),
    "implicit": (ctep.Implicit(1e-12), 1e-9),
}


@matrix.parametrize("name", RULES, ["one-sided"])
def test_every_rule_has_its_gradient(name, problem):
    """Oracle: dense implicit differentiation at the Newton root of this loss."""
    rule, tolerance = RULES[name]
    loss, gradient = problem.gradient(rule=rule, solver=TIGHT)
    assert float(loss) == pytest.approx(float(oracles.loss(problem)), rel=1e-9)
    exact = eqx.filter(oracles.exact(problem), problem.network.trainable())
    assert oracles.error(gradient, exact) < tolerance


def test_the_gradient_by_finite_differences(problem):
    """Oracle: the loss of two networks on either side; and a twin by its own."""
    for rule in (ctep.Implicit(1e-12), ctep.Backprop()):
        net = rule.subject(problem.network)
        options = {"nudge": problem.nudge, "rule": rule, "solver": TIGHT}
        _, gradient = ctep.gradient(net, problem.x, problem.y, **options)
        way = jax.tree.map(jnp.cos, eqx.filter(net, eqx.is_inexact_array))

        def loss(step, net=net, way=way, options=options):
            moved = eqx.apply_updates(net, jax.tree.map(lambda w: step * w, way))
            return ctep.gradient(moved, problem.x, problem.y, **options)[0]

        slope = float(loss(1e-5) - loss(-1e-5)) / 2e-5
        arrays = eqx.filter(gradient, eqx.is_inexact_array)
        pairs = zip(jax.tree.leaves(arrays), jax.tree.leaves(way), strict=True)
        assert slope == pytest.approx(sum(float(jnp.vdot(*p)) for p in pairs), rel=1e-7)


def test_a_teacher_is_not_smoothed():
    """Oracle: the cost of `Distillation` beside an output error of either kind."""
    network = ctep.mlp((4, 3, 2), key=jax.random.key(0))
    teacher = ctep.mlp((4, 3, 2), feedback=None, key=jax.random.key(1))
    taught = ctep.Distillation(teacher, ((1, 1),))
    x, y = jnp.ones((2, 4)), jnp.arange(2)
    state = (jnp.full((2, 3), 0.3),)

    def cost(nudge):
        return nudge.cost(network, state, nudge.targets(x, y))

    for loss in (LOSS, ctep.CrossEntropy()):
        own = ctep.OutputError(loss)
        np.testing.assert_allclose(cost(own + taught), cost(own) + cost(taught))


def test_another_smoothing_is_another_run():
    """Oracle: what a folder keeps of it, and what is printed."""
    assert description(LOSS) != description(ctep.CrossEntropy())
    assert str(LOSS) == "CrossEntropy(label_smoothing=0.2)"
    assert str(ctep.OutputError()) == "OutputError()"


@pytest.mark.parametrize("value", [-0.1, 1.0, float("nan"), True, "0.1"])
def test_a_smoothing_out_of_range(value):
    match = "`label_smoothing` is .* (at least 0 and less than 1: pass|pass for exam)"
    with pytest.raises((ValueError, TypeError), match=match):
        ctep.CrossEntropy(value)
