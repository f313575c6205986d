import dataclasses
import functools
import itertools
import os

import equinox as eqx
import jax
import jax.numpy as jnp
import matrix
import numpy as np
import oracles
import pytest

import ctep
from ctep._rule import Task
from ctep._solver import explain

# The whole product of 2816 cells takes hours, all of it compilation.
CELLS = oracles.cells(everything=os.environ.get("CTEP_CELLS") == "all")
# Refusals compile nothing. Of the others a few hold every value of every axis.
REFUSED = [c for c in CELLS if oracles.refusal(c[0], c[1], c[3])]
FEW = matrix.cover([c for c in CELLS if c not in REFUSED])
TIGHT = ctep.Sweeps(1000, rtol=1e-12, atol=1e-12)
ENERGIES = "tanh regulated", "skips symmetric", "skips regulated", "fixed feedback"
# Rules, each of which has its own way to the mean over a batch.
MEANS = [ctep.Centered(), pytest.param(ctep.Implicit(), marks=matrix.campaign)]


@functools.cache
def truth(oracle, name, nudge="output", twin=False):
    problem = oracles.NUDGES[nudge](oracles.NETWORKS[name]())
    if twin:
        network = problem.network.without_feedback()
        problem = dataclasses.replace(problem, network=network)
    return jax.tree_util.tree_map(np.asarray, oracle(problem))


def estimate(problem, rule, solver):
    """Return the result and gradient of `rule`, compiled in a hurry."""

    @oracles.FAST
    def run(p):
        key = jax.random.key(0)
        task = Task.mean(p.x, p.y, p.nudge, solver, throw=False, key=key)
        out = rule.estimate(rule.subject(p.network), task)
        return out.loss, out.gradient[0], out.result

    return run(problem)


@pytest.mark.usefixtures("x64")
@matrix.parametrize(("network", "nudge", "solver", "rule"), CELLS, REFUSED + FEW)
def test_cell(network, nudge, solver, rule):
    """Oracle: dense implicit differentiation at the Newton root; of a twin, at its own.

    Without an energy a stencil has a limit of its own: the dense response to a nudge.
    A cell that is not legal is refused with its sentence.
    """
    problem = oracles.NUDGES[nudge](oracles.NETWORKS[network]())
    make, tolerance = oracles.RULES[rule]
    make, solver = make(), oracles.SOLVERS[solver]()
    example = problem.x[:1], problem.y[:1]
    if sentence := oracles.refusal(network, nudge, rule):
        with pytest.raises(ValueError, match=sentence):
            make.check(problem.network, problem.nudge, example)
        return
    make.check(problem.network, problem.nudge, example)
    loss, gradient, result = estimate(problem, make, solver)
    assert explain(result) is None
    approximate = network in oracles.UNGRADED and rule in oracles.STENCILS
    oracle = oracles.limit if approximate else oracles.exact
    case = network, nudge, rule == "backprop"
    exact, wanted = truth(oracle, *case), float(truth(oracles.loss, *case))
    trained = eqx.filter(exact, make.subject(problem.network).trainable())
    # The mean of an orbit is the free state up to the solver's own steps.
    assert float(loss) == pytest.approx(
        wanted, rel=1e-4 if rule == "oscillating" else 1e-7
    )
    assert oracles.error(gradient, trained) < tolerance


def test_the_selection_covers_every_pair():
    """Oracle: the product of any two axes."""
    axes = oracles.NETWORKS, oracles.NUDGES, oracles.SOLVERS, oracles.RULES
    selection = oracles.cells()
    for i, j in itertools.combinations(range(4), 2):
        pairs = {(cell[i], cell[j]) for cell in selection}
        missing = set(itertools.product(axes[i], axes[j])) - pairs
        # Nudges do not know of solvers, which see one problem or another.
        assert not missing or (i, j) == (1, 2)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", ENERGIES)
def test_networks_say_whether_they_have_an_energy(name):
    """Oracle: a dense limit of EP equals the exact gradient if and only if they do."""
    problem = oracles.NETWORKS[name]()
    same = oracles.error(truth(oracles.limit, name), truth(oracles.exact, name)) < 1e-9
    assert problem.network.has_energy == (name in oracles.GRADED)
    assert same == (name in oracles.GRADED)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", ["hard sigmoid", "relu6"])
def test_clips_are_tested_away_from_their_kinks(name):
    """Oracle: drives at the Newton root; some units are clipped, some are not."""
    p = oracles.NETWORKS[name]()
    states = [oracles.split(p.network, root) for root in oracles.roots(p)]
    drives = [oracles.drives(p.network, s, x) for s, x in zip(states, p.x, strict=True)]
    h = np.concatenate([np.ravel(v) for drive in drives for v in drive])
    clip = p.network.layers[0].activation
    assert np.min(np.abs(np.subtract.outer(h, [clip.lo, clip.hi]))) > 0.02
    assert 0.2 < np.mean((h > clip.lo) & (h < clip.hi)) < 0.8


@pytest.mark.smoke
@pytest.mark.usefixtures("x64")
def test_linear_network_in_closed_form():
    """Oracle: a dense linear solve, and the derivative of `jnp.linalg.solve`."""
    init = jax.nn.initializers.uniform(0.3)
    p = oracles.chain(init=init, feedback=0.3, **oracles.LINEAR)
    free = jax.jit(lambda x: TIGHT.solve(p.network.free(x), p.network.zeros(x)))(p.x)
    states = np.concatenate(free.state, -1)
    wanted = [oracles.linear_state(p.network, x) for x in p.x]
    np.testing.assert_allclose(states, wanted, atol=1e-10)
    exact = oracles.FAST(oracles.linear_gradient)(p)
    for rule in (ctep.Centered(1e-4), ctep.Implicit(1e-11)):
        _, gradient = p.gradient(rule=rule, solver=TIGHT)
        assert oracles.error(gradient, exact) < 1e-6


@pytest.mark.usefixtures("x64")
def test_quartic_energy_with_known_minimum():
    """Oracle: the minimum m = x W + b, so that dL/dm is m - y at the output."""
    p = oracles.quartic()
    mean, last = p.network.minimum(p.x)
    free = TIGHT.solve(p.network.free(p.x), p.network.zeros(p.x))
    np.testing.assert_allclose(free.state[0], mean, atol=1e-10)
    np.testing.assert_allclose(free.state[1], last, atol=1e-10)
    pull = np.concatenate([np.zeros((3, 4)), last - p.y], 1) / 3
    loss, gradient = p.gradient(rule=ctep.Centered(1e-3), solver=TIGHT)
    assert float(loss) == pytest.approx(0.5 * np.mean(np.sum((last - p.y) ** 2, 1)))
    np.testing.assert_allclose(gradient.weight, p.x.T @ pull, atol=1e-5)
    np.testing.assert_allclose(gradient.bias, pull.sum(0), atol=1e-5)
    np.testing.assert_allclose(gradient.mixing, 0, atol=1e-5)


@pytest.mark.usefixtures("x64")
@matrix.parametrize("name", ["tanh regulated", "skips regulated"], ["skips regulated"])
def test_implicit_against_finite_differences(name):
    """Oracle: central differences of the loss at the Newton root."""
    p = oracles.NETWORKS[name]()
    _, gradient = p.gradient(rule=ctep.Implicit(1e-10), solver=TIGHT)
    params = eqx.filter(p.network, eqx.is_inexact_array)
    keys = jax.random.split(jax.random.key(0), 3)
    for key in keys:
        direction = oracles.random_like(params, key)
        slope = oracles.slope(p, direction)
        along = oracles.vector(gradient) @ oracles.vector(direction)
        assert along == pytest.approx(slope, rel=1e-6)


@pytest.mark.usefixtures("x64")
def test_feed_forward_has_an_exact_gradient_and_no_other():
    """Oracle: backpropagation; a nudge would train the last layer alone."""
    p = oracles.chain((6, 5, 5, 4, 3), feedback=None)
    exact = oracles.backprop(p)
    assert np.linalg.norm(oracles.vector(exact.couplings[:2])) > 1e-2
    _, implicit = p.gradient(rule=ctep.Implicit(1e-10), solver=TIGHT)
    assert oracles.error(implicit, exact) < 1e-8
    with pytest.raises(ValueError, match="no nudge moves layer 1"):
        p.gradient(rule=ctep.Centered(1e-3), solver=TIGHT)


@pytest.mark.usefixtures("x64")
def test_fixed_feedback_is_never_trained():
    """Oracle: finite differences, which say that the loss does depend on it."""
    p = oracles.NETWORKS["fixed feedback"]()
    _, gradient = p.gradient(solver=TIGHT)
    feedback = gradient.couplings[1].feedback.operator.weight
    assert feedback.shape == (5, 4)
    assert not np.any(feedback)
    weight = lambda n: n.couplings[1].feedback.operator.weight  # noqa: E731
    zeros = jax.tree_util.tree_map(
        jnp.zeros_like, eqx.filter(p.network, eqx.is_inexact_array)
    )
    direction = eqx.tree_at(weight, zeros, jnp.ones((5, 4)))
    assert abs(oracles.slope(p, direction)) > 1e-3


def test_gradient_inside_and_outside_jit():
    """Oracle: each other; and the tree, shapes and dtypes of the network."""
    p = oracles.skips(feedback=ctep.Fixed(0.3))
    loss, gradient = p.gradient()
    inside, again = eqx.filter_jit(lambda p: p.gradient())(p)
    assert float(inside) == pytest.approx(float(loss), rel=1e-6)
    assert oracles.error(again, gradient) < 1e-5
    for tree in (gradient, again):
        pairs = zip(
            jax.tree_util.tree_leaves_with_path(tree),
            jax.tree_util.tree_leaves_with_path(p.network),
            strict=True,
        )
        for (path, leaf), (own_path, own) in pairs:
            assert path == own_path
            assert (leaf.shape, leaf.dtype) == (own.shape, own.dtype)
        structure = jax.tree_util.tree_structure
        assert structure(tree) == structure(p.network)


@matrix.parametrize("name", ["fixed feedback", "energy"], ["fixed feedback"])
def test_float32_agrees_with_float64(name):
    """Oracle: the same weights and data in float64."""
    solver = ctep.Sweeps(200, rtol=1e-6, atol=1e-6)
    p = oracles.NETWORKS[name]()
    loss, gradient = p.gradient(solver=solver)
    assert oracles.vector(gradient).dtype == np.float64
    assert jax.tree_util.tree_leaves(gradient)[0].dtype == jnp.float32
    with jax.enable_x64(True):
        exact_loss, exact = oracles.as_double(p).gradient(solver=solver)
        assert jax.tree_util.tree_leaves(exact)[0].dtype == jnp.float64
    assert float(loss) == pytest.approx(float(exact_loss), rel=1e-6)
    assert oracles.error(gradient, exact) < 1e-4


def test_centered_in_float32_against_the_exact_gradient_in_float64():
    """Oracle: dense implicit differentiation in float64, of the whole vector."""
    p = oracles.chain((20, 16, 16, 16, 5), batch=16, init=oracles.centred(0.15))
    solver = ctep.Sweeps(1000, rtol=1e-6, atol=1e-6)
    _, gradient = p.gradient(rule=ctep.Centered(0.01), solver=solver)
    with jax.enable_x64(True):
        exact = oracles.exact(oracles.as_double(p))
    got, want = oracles.vector(gradient), oracles.vector(exact)
    assert np.linalg.norm(got - want) < 1e-3 * np.linalg.norm(want)


@pytest.mark.parametrize("rule", MEANS)
def test_gradient_of_a_batch_is_the_mean_of_its_parts(rule):
    """Oracle: the mean of the losses and gradients of two halves."""
    p = oracles.chain(feedback=0.3, batch=4)
    data = lambda p: (p.x, p.y)  # noqa: E731
    first = eqx.tree_at(data, p, (p.x[::2], p.y[::2]))
    last = eqx.tree_at(data, p, (p.x[1::2], p.y[1::2]))
    loss, whole = p.gradient(rule=rule)
    parts = [part.gradient(rule=rule) for part in (first, last)]
    assert float(loss) == pytest.approx(np.mean([float(part[0]) for part in parts]))
    mean = sum(oracles.vector(part[1]) for part in parts) / 2
    np.testing.assert_allclose(oracles.vector(whole), mean, atol=2e-6)


def restless():
    """Return two units that turn in a circle for a small input, and rest for a large.

    $s_1 = \\tanh(x - 4 s_2)$, $s_2 = \\tanh(4 s_1)$.
    """
    one = lambda w: ctep.Dense((1,), (1,), key=jax.random.key(0), init=w)  # noqa: E731
    full = jax.nn.initializers.constant
    layers = [ctep.Layer((1,), ctep.Tanh())] * 2
    back = ctep.Fixed(1.0, one(full(-4.0)))
    couplings = [
        ctep.Coupling(0, 1, one(full(1.0))),
        ctep.Coupling(1, 2, one(full(4.0)), back),
    ]
    return ctep.Network((1,), layers, couplings)


@pytest.mark.parametrize("order", [None, ctep.Synchronous()])
def test_an_example_does_not_depend_on_its_batch(order):
    """Oracle: the same example alone, next to one that never settles or not."""
    network, solver = restless(), ctep.Sweeps(50, order=order)
    x = jnp.array([[8.0], [0.1], [-6.0], [9.0]])
    solve = eqx.filter_jit(
        lambda x: solver.solve(network.free(x), network.zeros(x), throw=False)
    )
    together = solve(x)
    np.testing.assert_array_equal(together.settled, [True, False, True, True])
    assert int(together.steps[1]) == 50
    assert int(together.steps[0]) < 20
    for n in range(4):
        alone = solve(x[n : n + 1])
        assert int(alone.steps[0]) == int(together.steps[n])
        for a, b in zip(alone.state, together.state, strict=True):
            np.testing.assert_allclose(a[0], b[n], atol=1e-6)


@pytest.mark.parametrize("rule", MEANS)
def test_rows_of_weight_zero_change_nothing(rule):
    """Oracle: the batch without its padding."""
    p = oracles.chain(feedback=0.3, batch=3)
    solver = ctep.Sweeps()

    @eqx.filter_jit
    def run(x, y, weight):
        task = Task(x, y, p.nudge, solver, weight, False)
        estimate = rule.estimate(p.network, task)
        return estimate.loss, estimate.gradient

    third = jnp.full(3, 1 / 3)
    loss, plain = run(p.x, p.y, third)
    x = jnp.concatenate([p.x, jnp.full((2, 6), 50.0)])
    y = jnp.concatenate([p.y, jnp.array([0, 2])])
    padded_loss, padded = run(x, y, jnp.concatenate([third, jnp.zeros(2)]))
    assert float(padded_loss) == pytest.approx(float(loss), rel=1e-6)
    assert oracles.error(padded, plain) < 1e-5
