"""Complex nudges: the rule on a circle, and what it needs of each part."""

import equinox as eqx
import jax
import jax.numpy as jnp
import matrix
import numpy as np
import oracles
import pytest

import ctep
from ctep._rule import Task
from ctep._rule.complex import extends

TIGHT = ctep.Sweeps(2000, rtol=1e-13, atol=1e-13)


def smooth(sizes=(6, 5, 4, 4, 3), **kwargs):
    """A chain of three sigmoid layers, whose nearest pole is far for `slope` 1."""
    options = {"activation": ctep.Sigmoid(1.0), "init": oracles.centred(0.5)}
    return oracles.chain(sizes, **(options | kwargs))


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
@matrix.parametrize(
    ("points", "feedback"),
    [(points, feedback) for points in (3, 4, 5) for feedback in (1.0, 0.3)],
    [(4, 0.3)],
)
def test_error_falls_as_radius_to_the_points(points, feedback):
    """Oracle: dense implicit differentiation; the documented order in the radius."""
    p, radii = smooth(feedback=feedback), np.array([0.4, 0.2, 0.1])
    found = gradients(p, *(ctep.Holomorphic(float(r), points) for r in radii))
    errors = [error(g, exact(p)) for g in found]
    slope = np.polyfit(np.log(radii), np.log(errors), 1)[0]
    assert abs(slope - points) < 0.2


@pytest.mark.usefixtures("x64")
@matrix.parametrize(
    "solver", ["forward", "synchronous", "tsit5", "fixed point"], ["forward"]
)
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


@matrix.campaign
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


@matrix.campaign
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
    p = smooth((6, 5, 4, 3), output_activation=ctep.Identity(), readout=False)
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


# ------------------------------------------------------------ in continuous time

SETTLED = ctep.Sweeps(1000, rtol=1e-6, atol=1e-6)


@matrix.campaign
@pytest.mark.usefixtures("x64")
def test_oscillating_error_falls_as_the_squared_period():
    """Oracle: dense implicit differentiation; the lag of a real response is even."""
    p, periods = smooth(), np.array([50.0, 100.0, 200.0])
    rules = (ctep.Oscillating(0.3, float(t), points=8) for t in periods)
    errors = [error(g, exact(p)) for g in gradients(p, *rules, solver=SETTLED)]
    slope = np.polyfit(np.log(periods), np.log(errors), 1)[0]
    assert abs(slope + 2) < 0.2
    assert errors[-1] < 2e-3


@pytest.mark.usefixtures("x64")
def test_oscillating_regulated_and_averaged():
    """Oracle: dense implicit differentiation, behind feedback of 0.3; two periods."""
    p = smooth(feedback=0.3)
    rule = ctep.Oscillating(0.3, 200.0, 3)
    (found,) = gradients(p, rule, solver=SETTLED)
    assert error(found, exact(p)) < 2e-3


@pytest.mark.usefixtures("x64")
def test_the_mean_of_an_orbit_is_the_free_equilibrium():
    """Oracle: Newton's roots; the mean-value property needs no slow turning."""
    p = smooth()
    rule = ctep.Oscillating(0.3, 20.0, 6, dt=0.05)
    task = Task.mean(p.x, p.y, p.nudge, SETTLED, throw=True)
    estimate = eqx.filter_jit(rule.estimate)(p.network, task)
    mean = np.concatenate(estimate.free.state, -1)
    np.testing.assert_allclose(mean, oracles.roots(p), atol=1e-5)
    assert float(estimate.loss) == pytest.approx(float(oracles.loss(p)), abs=1e-5)


def test_an_orbit_that_has_not_closed_is_not_settled():
    """Oracle: a transient of one time constant is still there in the second."""
    p, rule = smooth(), ctep.Oscillating(0.3, 1.0, 2, dt=0.1)
    with pytest.raises(RuntimeError, match=r"did not close: .* Raise `periods`"):
        p.gradient(rule=rule, solver=SETTLED)


class Exponential(ctep.AbstractLoss):
    """Pulls without bound where the target is large, and is 1 at an output of 0."""

    holomorphic = True

    def __call__(self, output, target):
        return jnp.sum(jnp.exp(target * output), -1)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(
    "rule",
    [
        pytest.param(ctep.Oscillating(0.1, 20.0), marks=matrix.campaign),
        ctep.Holomorphic(0.1),
    ],
)
def test_an_example_that_is_not_finite_is_left_out(rule):
    """Oracle: the batch without it; the force on its output overflows."""
    p = smooth(output_activation=ctep.Identity(), readout=False)
    y = jax.random.uniform(jax.random.key(3), (len(p.x), 3)).at[0].set(1e4)
    nudge, solver = ctep.OutputError(Exponential()), ctep.Sweeps(200, 1e-3, 1e-3)

    def run(x, y):
        task = Task.mean(x, y, nudge, solver, throw=False)
        estimate = eqx.filter_jit(rule.estimate)(p.network, task)
        return estimate, oracles.vector(estimate.gradient[0])

    estimate, found = run(p.x, y)
    failed = np.asarray(estimate.result == ctep.RESULTS.not_finite)
    assert list(failed) == [True] + [False] * (len(p.x) - 1)
    other, want = run(p.x[1:], y[1:])
    np.testing.assert_allclose(found, want, rtol=1e-9, atol=1e-12)
    assert float(estimate.loss) == pytest.approx(float(other.loss))
    assert all(np.isfinite(np.asarray(s)).all() for s in estimate.nudged)


# ------------------------------------------------------------ functions of one's own


@pytest.mark.parametrize(
    ("function", "answer"),
    [
        (jnp.tanh, True),
        (lambda s: s**3 - 2 * s, True),
        (lambda s: 1 / (1 + jnp.exp(-s)), True),
        (jnp.abs, False),
        (jnp.conj, False),
        (jnp.real, False),
        (lambda s: jnp.where(s.real > 0, s, 0), False),
        (lambda s: s * jnp.max(s.real, -1, keepdims=True), False),
        (lambda s: 1 / (s**2 + 1e-4), False),  # poles at 0.01 i
        (lambda s: jnp.clip(s, 0, 1), False),  # raises
        (jnp.log, False),  # a branch cut
        (lambda s: 1e4 + jnp.tanh(s), True),  # rounding is no kink
    ],
)
def test_functions_are_tried(function, answer):
    """Oracle: complex analysis."""
    assert extends(lambda state: function(state[0]), ((5,),)) is answer


@matrix.campaign
@pytest.mark.usefixtures("x64")
def test_an_energy_of_ones_own_is_tried():
    """Oracle: dense implicit differentiation of a polynomial; a modulus is refused."""
    p = oracles.NETWORKS["energy"]()
    solver = ctep.Sweeps(1000, rtol=1e-12, atol=1e-12)
    _, found = p.gradient(rule=ctep.Holomorphic(0.05, 8), solver=solver)
    assert oracles.error(found, oracles.exact(p)) < 1e-6

    class Modulus(oracles.Hopfield):
        def energy(self, state, x):
            return super().energy(state, x) + jnp.sum(jnp.abs(state[0]))

    network = Modulus(p.network.u, p.network.v, p.network.b)
    with pytest.raises(ValueError, match="`network` is a Modulus, which does not ext"):
        ctep.gradient(network, p.x, p.y, nudge=p.nudge, rule=ctep.Holomorphic())


class Quartic(ctep.AbstractLoss):
    """A loss that says nothing of itself."""

    def __call__(self, output, target):
        return jnp.sum((output - target) ** 4, -1)


class Distance(ctep.AbstractLoss):
    def __call__(self, output, target):
        return jnp.sum(jnp.abs(output - target), -1)


@matrix.campaign
@pytest.mark.usefixtures("x64")
def test_a_loss_of_ones_own_is_tried():
    """Oracle: `Implicit`; a modulus is refused."""
    p = smooth(values=True)
    nudge = 0.5 * ctep.OutputError(Quartic()) + p.nudge
    _, want = ctep.gradient(
        p.network, p.x, p.y, nudge=nudge, rule=ctep.Implicit(1e-12), solver=TIGHT
    )
    rule = ctep.Holomorphic(0.02, 8)
    _, found = ctep.gradient(p.network, p.x, p.y, nudge=nudge, rule=rule, solver=TIGHT)
    assert oracles.error(found, want) < 1e-6
    nudge = p.nudge + ctep.OutputError(Distance())
    with pytest.raises(ValueError, match=r"`nudge` is .*not known to extend"):
        ctep.gradient(p.network, p.x, p.y, nudge=nudge, rule=rule)
