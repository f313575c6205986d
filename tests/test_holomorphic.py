"""Complex nudges: the rule on a circle, and what it needs of each part."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest

import ctep
from ctep._rule import Task

TIGHT = ctep.Sweeps(2000, rtol=1e-13, atol=1e-13)


def smooth(**kwargs):
    """A chain of three sigmoid layers, whose nearest pole is far for `slope` 1."""
    options = {"activation": ctep.Sigmoid(1.0), "init": oracles.centred(0.5)}
    return oracles.chain(**(options | kwargs))


@oracles.FAST
def _gradients(p, rules, solver):
    task = Task.mean(p.x, p.y, p.nudge, solver, throw=False)
    return [rule.estimate(p.network, task).gradient[0] for rule in rules]


def gradients(p, *rules, solver=TIGHT):
    return [oracles.vector(gradient) for gradient in _gradients(p, rules, solver)]


def exact(p):
    return oracles.vector(eqx.filter(oracles.exact(p), p.network.trainable()))


def error(found, want):
    return np.linalg.norm(found - want) / np.linalg.norm(want)


# ------------------------------------------------------------ the circle


@pytest.mark.parametrize("points", [1, 2, 3, 4, 5, 8])
@pytest.mark.parametrize("radius", [0.1, 2.0])
def test_stencil_takes_out_one_power(points, radius):
    """Oracle: Cauchy's formula; of 1, b, b^2, ... only b and b^(1 + N) are left."""
    nudges, weights = ctep.Holomorphic(radius, points).stencil()
    assert len(nudges) == points // 2 + 1
    for power in range(2 * points):
        want = radius ** (power - 1) if power % points == 1 % points else 0
        found = np.sum(weights * nudges**power).real
        assert found == pytest.approx(want, abs=1e-12 * radius**power)


@pytest.mark.usefixtures("x64")
def test_few_points_are_known_rules():
    """Oracle: `OneSided` and `Centered`, to the last bit."""
    p = smooth()
    rules = ctep.OneSided(0.3), ctep.Centered(0.3)
    known = gradients(p, *rules)
    found = gradients(p, ctep.Holomorphic(0.3, 1), ctep.Holomorphic(0.3, 2))
    np.testing.assert_array_equal(found, known)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("feedback", [1.0, 0.3])
@pytest.mark.parametrize("points", [3, 4, 5])
def test_error_falls_as_radius_to_the_points(points, feedback):
    """Oracle: dense implicit differentiation; the documented order in the radius."""
    p, radii = smooth(feedback=feedback), np.array([0.4, 0.2, 0.1])
    found = gradients(p, *(ctep.Holomorphic(float(r), points) for r in radii))
    errors = [error(g, exact(p)) for g in found]
    slope = np.polyfit(np.log(radii), np.log(errors), 1)[0]
    assert abs(slope - points) < 0.2


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("solver", ["forward", "synchronous", "tsit5", "fixed point"])
def test_eight_points_are_exact(solver):
    """Oracle: dense implicit differentiation; a large radius, six digits."""
    p = smooth()
    solver = oracles.SOLVERS[solver]()
    (found,) = gradients(p, ctep.Holomorphic(0.3, 8), solver=solver)
    assert error(found, exact(p)) < 1e-6


@pytest.mark.usefixtures("x64")
def test_without_an_energy_it_has_the_limit_of_other_stencils():
    """Oracle: the dense response to a nudge."""
    p = smooth(feedback=ctep.Fixed(0.5))
    want = oracles.vector(eqx.filter(oracles.limit(p), p.network.trainable()))
    (found,) = gradients(p, ctep.Holomorphic(0.3, 8))
    assert error(found, want) < 1e-6


def test_increments_keep_their_precision_in_float32():
    """Oracle: the same in float64; the first of ten layers behind feedback of 0.1."""
    sizes, key = (6, *(8,) * 10, 3), jax.random.key(0)
    network = ctep.mlp(sizes, activation=ctep.Tanh(), feedback=0.1, key=key)
    x = jax.random.normal(jax.random.key(1), (4, 6))
    y = jnp.arange(4) % 3

    def first(network, x, tolerance):
        solver = ctep.Sweeps(300, rtol=tolerance, atol=tolerance)
        rule = ctep.Holomorphic(0.1, 4)
        _, gradient = ctep.gradient(network, x, y, rule=rule, solver=solver)
        return np.ravel(np.asarray(gradient.couplings[0].forward.weight, float))

    single = first(network, x, 1e-5)
    with jax.enable_x64(True):
        wide = lambda v: jnp.asarray(np.asarray(v), float)  # noqa: E731
        double = first(jax.tree_util.tree_map(wide, network), wide(x), 1e-12)
    assert oracles.cosine(single, double) > 0.9999


# ------------------------------------------------------------ images


@pytest.mark.usefixtures("x64")
def test_pooled_by_softmax():
    """Oracle: `Implicit`, itself held against dense differentiation elsewhere."""
    network = ctep.vgg(
        (3, 4), input_shape=(8, 8, 2), classes=3, pool=ctep.SoftmaxPool,
        activation=ctep.Sigmoid(1.0), key=jax.random.key(0),
    )  # fmt: skip
    x = jax.random.uniform(jax.random.key(1), (3, 8, 8, 2))
    y = jnp.arange(3)
    solver = ctep.Sweeps(2000, rtol=1e-12, atol=1e-12)
    rules = ctep.Holomorphic(0.2, 6), ctep.Implicit(1e-12)
    found, want = (
        oracles.vector(ctep.gradient(network, x, y, rule=rule, solver=solver)[1])
        for rule in rules
    )
    assert error(found, want) < 1e-6


# ------------------------------------------------------------ what does not settle


@pytest.mark.usefixtures("x64")
def test_an_example_outside_the_disc_is_left_out():
    """Oracle: the batch without it. Its target is thirty, its nudge too strong."""
    p = smooth(output_activation=ctep.Identity(), readout=False)
    y = jax.random.uniform(jax.random.key(3), (len(p.x), 3)).at[0].set(30)
    nudge = ctep.OutputError(ctep.SquaredError())
    rule = ctep.Holomorphic(0.5, 4)

    def run(x, y):
        task = Task.mean(x, y, nudge, ctep.Sweeps(200), throw=False)
        estimate = eqx.filter_jit(rule.estimate)(p.network, task)
        return oracles.vector(estimate.gradient[0]), estimate.result

    found, result = run(p.x, y)
    settled = np.asarray(result == ctep.RESULTS.successful)
    assert list(settled) == [False] + [True] * (len(p.x) - 1)
    want, _ = run(p.x[1:], y[1:])
    np.testing.assert_allclose(found, want, rtol=1e-9, atol=1e-12)
