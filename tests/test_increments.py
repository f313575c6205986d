import equinox as eqx
import jax
import jax.numpy as jnp
import matrix
import numpy as np
import oracles
import pytest
from hypothesis import given, settings, strategies as st

import ctep
from ctep._network import AbstractPull
from ctep._network.quadrature import path_integral
from ctep._network.stacking import unstacked_state
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


def exact_increment(activation, h, a):
    """Return rho(h + a) - rho(h) in float64, by formulas that do not cancel."""
    h, a = np.asarray(h, np.float64), np.asarray(a, np.float64)
    if isinstance(activation, ctep.Tanh):
        # tanh = 1 - 2 / (exp(2 h) + 1)
        return _logistic(2 * h, 2 * a) * 2
    if isinstance(activation, ctep.Sigmoid):
        return _logistic(
            activation.slope * (h - activation.shift), activation.slope * a
        )
    if isinstance(activation, ctep.Clip):
        lo, hi = activation.lo, activation.hi
        # The stretch of [h, h + a] that lies within the range.
        start, stop = np.clip(h, lo, hi) - h, np.clip(h + a, lo, hi) - h
        inside = (h > lo) & (h < hi)
        return np.where(inside, np.clip(a, lo - h, hi - h), stop - start)
    return a


def _logistic(u, v):
    return np.exp(-u) * -np.expm1(-v) / (1 + np.exp(-u)) / (1 + np.exp(-u - v))


def increment(activation, h, u, scale=1.0):
    return activation.increment(activation.anchor(h, scale), u, scale)


@pytest.mark.parametrize("name", ACTIVATIONS)
@settings(max_examples=60)
@given(
    h=st.floats(-3, 3, width=32),
    exponent=st.integers(-30, -1),
    mantissa=st.floats(1, 9, width=32),
    sign=st.sampled_from([-1, 1]),
    grade=st.one_of(st.just(0.0), st.floats(-37, 2)),
)
def test_increments_keep_relative_precision(name, h, exponent, mantissa, sign, grade):
    """Oracle: `expm1` and exact clipping in float64, in units from 1e-37 to 100."""
    activation, scale = ACTIVATIONS[name], float(np.float32(10**grade))
    h, u = np.float32(h), np.float32(sign * mantissa * 10.0**exponent)
    got = float(increment(activation, jnp.asarray(h), jnp.asarray(u), scale))
    a = np.float64(u) * scale
    want = float(exact_increment(activation, h, a)) / scale
    # At an end of its range a clip moves by what is left of h + a.
    edge = any(abs(h - e) <= abs(a) for e in activation.range)
    absolute = 1e-6 / scale if edge and isinstance(activation, ctep.Clip) else 0.0
    assert got == pytest.approx(want, rel=1e-5, abs=absolute)


@pytest.mark.parametrize("name", ACTIVATIONS)
@settings(max_examples=60)
@given(h=st.floats(-16, 16, width=32), a=st.floats(-32, 32, width=32))
def test_increments_equal_the_plain_difference(name, h, a):
    """Oracle: rho(h + a) - rho(h) in float64; saturated units come back, too."""
    activation = ACTIVATIONS[name]
    got = float(increment(activation, jnp.float32(h), jnp.float32(a)))
    rho = lambda v: np.asarray(oracles.rho(activation, np.float64(v)))  # noqa: E731
    with jax.enable_x64(True):
        want = float(rho(h + a) - rho(h))
    assert got == pytest.approx(want, abs=4e-6)


@pytest.mark.parametrize("scale", [1.0, 0.5, 0.01])
def test_clips_leave_their_end_in_any_unit(scale):
    """Oracle: by hand; 0.4 above its end, a move by -0.5 leaves a state of 0.9."""
    u = jnp.float32([-0.5, -0.3, 0.2]) / scale
    h = jnp.full(3, 1.4)
    found = scale * increment(ctep.HardSigmoid(), h, u, scale)
    np.testing.assert_allclose(found, [-0.1, 0, 0], atol=1e-6)


class Arctan(ctep.AbstractActivation):
    """An activation that knows nothing but what it must."""

    def __call__(self, h):
        return jnp.arctan(h)

    def potential(self, s):
        return -jnp.log(jnp.cos(s))

    formula = "arctan(h)"
    lipschitz = 1.0
    range = (-np.pi / 2, np.pi / 2)
    pole = 1j


def test_increments_of_a_users_own_activation():
    """Oracle: arctan(h + a) - arctan(h) = arctan(a / (1 + h (h + a))), in float64."""
    h = np.linspace(-2, 2, 9, dtype=np.float32)[:, None]
    a = np.float32([0.1, -1e-2, 1e-3, 1e-7, -1e-12, 1e-20, 1e-30])
    hs, aa = np.float64(h), np.float64(a)
    want = np.arctan(aa / (1 + hs * (hs + aa)))
    got = increment(Arctan(), jnp.asarray(h), jnp.broadcast_to(a, (9, 7)))
    np.testing.assert_allclose(got, want, rtol=1e-6)


@pytest.mark.usefixtures("x64")
def test_quadrature_is_of_ninth_order():
    """Oracle: the same formula; halving a divides the error by 2^9."""
    h, sizes = np.float64(0.3), np.array([0.4, 0.2, 0.1])
    want = np.arctan(sizes / (1 + h * (h + sizes)))
    got = path_integral(lambda t: sizes / (1 + (h + t * sizes) ** 2))
    order = np.polyfit(np.log(sizes), np.log(np.abs(got - want)), 1)[0]
    assert 8 < order < 11


class Leaky(ctep.AbstractActivation):
    """A kink at 0 and one at 1, where it stops."""

    def __call__(self, h):
        return jnp.where(h > 1, 1, jnp.where(h > 0, h, 0.1 * h))

    def potential(self, s):
        return jnp.where(s > 0, s**2 / 2, 5 * s**2)

    formula = "leaky(h)"
    lipschitz = 1.0
    range = (-np.inf, 1.0)
    pole = None


@pytest.mark.parametrize("activation", [Leaky(), Arctan()])
def test_custom_activations_on_long_ways_and_across_kinks(activation):
    """Oracle: the plain difference in float64, wherever the kinks lie on the way."""
    rng = np.random.default_rng(0)
    h = np.float32(rng.uniform(-2, 2, 400))
    a = np.float32(rng.choice([0.03, 0.3, 3.0, 30.0], 400) * rng.uniform(-1, 1, 400))
    with jax.enable_x64(True):
        want = activation(np.float64(h) + a) - activation(np.float64(h))
    got = increment(activation, jnp.asarray(h), jnp.asarray(a))
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=3e-6)


def test_kinked_activation_keeps_relative_precision():
    """Oracle: its slopes; from 1e-30 upwards, where there is no kink on the way."""
    h = np.float32([-0.7, 0.4, 0.0])[:, None]
    a = np.float32([1e-30, 1e-12, 1e-7, 1e-3])
    got = increment(Leaky(), *jnp.broadcast_arrays(h, a))
    np.testing.assert_allclose(got, np.float32([[0.1], [1], [1]]) * a, rtol=1e-6)


# ------------------------------------------------------------ phases

DEEP = ctep.Sweeps(1000, rtol=1e-6, atol=1e-6)
DEEPER = ctep.Sweeps(1000, rtol=1e-13, atol=1e-13)


def deep(depth=10, feedback=0.1, stack=False):
    """Return a chain of tanh layers, 64 wide, with sparse inputs, in float32."""
    network = ctep.mlp(
        (784, *[64] * depth, 10), feedback=feedback, bias=False, stack=stack,
        key=jax.random.key(0),
    )  # fmt: skip
    rng = np.random.default_rng(0)
    x = rng.uniform(0, 1, (8, 784)) * (rng.uniform(0, 1, (8, 784)) < 0.2)
    y = jnp.asarray(rng.integers(0, 10, 8))
    nudge = ctep.Frozen(ctep.OutputError())
    x = jnp.asarray(x, jnp.float32)
    return oracles.Problem(network, x, y, nudge, oracles.cross_entropy)


@oracles.FAST
def by_increments(p, solver, beta=0.1):
    """Return the free state and the increments of one nudge."""
    free = solver.solve(p.network.free(p.x), p.network.zeros(p.x), throw=False)
    own = p.nudge.context(p.network, free.state, p.y)
    own = jax.tree_util.tree_map(lambda leaf: leaf[None], own)
    pull = Pull(p.nudge, p.network)
    context = (jnp.full((1, 1), beta), own)
    problem = p.network.increments(p.x, free.state, free.memory, pull, context)
    start = tuple(jnp.zeros((1, *s.shape), s.dtype) for s in free.state)
    nudged = solver.solve(problem, start, throw=False)
    settled = free.settled.all() & nudged.settled.all()
    units = p.network.spread(p.network.attenuation)
    pairs = zip(units, nudged.state, strict=True)
    return free.state, tuple(a * e[0] for a, e in pairs), settled


@oracles.FAST
def by_difference(p, solver, beta=0.1):
    """Return the difference of two states, each solved for by itself."""
    free = solver.solve(p.network.free(p.x), p.network.zeros(p.x), throw=False)
    own = p.nudge.context(p.network, free.state, p.y)
    pull = Pull(p.nudge, p.network)
    problem = p.network.nudged(p.x, pull, (jnp.full((1,), beta), own))
    nudged = solver.solve(problem, free.state, throw=False)
    return tuple(a - b for a, b in zip(nudged.state, free.state, strict=True))


def test_increments_at_the_first_of_ten_layers():
    """Oracle: float64; and a published size, 2e-11 at the first layer.

    The plain difference of two float32 states holds nothing but rounding there.
    """
    p = deep(stack=True)  # which compiles faster, and is the same
    _, single, settled = by_increments(p, DEEP)
    assert settled
    plain = by_difference(p, ctep.Sweeps(1000, rtol=0.0, atol=1e-7))
    with jax.enable_x64(True):
        _, double, settled = by_increments(oracles.as_double(p), DEEPER)
        assert settled
    single, plain, double = (
        unstacked_state(p.network, d) for d in (single, plain, double)
    )
    assert oracles.cosine(single[0], double[0]) > 0.999
    assert abs(oracles.cosine(plain[0] + 1e-30, double[0])) < 0.5
    # At the output there is nothing to lose.
    assert oracles.cosine(plain[-1], double[-1]) > 0.999
    for a, b in zip(single, double, strict=True):
        a, b = np.asarray(a, np.float64), np.asarray(b)
        assert np.linalg.norm(a - b) < 1e-4 * np.linalg.norm(b)
    assert 2e-12 < np.sqrt(np.mean(np.square(double[0]))) < 2e-10


@pytest.mark.parametrize(("feedback", "size"), [(0.01, 1.3e-6), (0.001, 1.3e-8)])
def test_published_increments_of_three_layers(feedback, size):
    """Oracle: published sizes of the first layer's increments, nudge 0.1."""
    _, d, settled = by_increments(deep(3, feedback), DEEP)
    assert settled
    rms = float(jnp.sqrt(jnp.mean(d[0] ** 2)))
    assert size / 2 < rms < size * 2


@pytest.mark.usefixtures("x64")
@matrix.parametrize(
    "name", ["tanh regulated", "hard sigmoid", "energy"], ["tanh regulated", "energy"]
)
def test_increments_equal_the_difference_of_newton_roots(name):
    """Oracle: Newton's roots with and without the nudge, subtracted in float64."""
    p = oracles.NETWORKS[name]()
    state, d, settled = by_increments(p, DEEPER, 0.2)
    assert settled

    def nudged(x, y):
        cost = lambda flat: p.loss(oracles.readout(p.network, flat), y)  # noqa: E731
        pull = lambda flat: -0.2 * jax.grad(cost)(flat)  # noqa: E731
        return oracles.newton(p.network, x, pull)

    free = oracles.roots(p)
    difference = oracles.FAST(jax.vmap(nudged))(p.x, p.y) - free
    np.testing.assert_allclose(np.concatenate(state, -1), free, atol=1e-10)
    np.testing.assert_allclose(np.concatenate(d, -1), difference, atol=1e-10)
    assert np.abs(difference).max() > 1e-2


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", ["tanh regulated", "skips symmetric"])
def test_energy_contrast_equals_the_difference_of_energies(name):
    """Oracle: the gradient of sum_k w_k (E(s + a e_k) - E(s)), subtracted in float64.

    For any state and any increments: none of them need be at rest.
    """
    p = oracles.NETWORKS[name]()
    rng = np.random.default_rng(3)
    draw = lambda *lead: tuple(  # noqa: E731
        jnp.asarray(rng.uniform(0.2, 0.4, (*lead, *s))) for s in p.network.shapes
    )
    state, increments = draw(3), draw(2, 3)
    weights = jnp.asarray(rng.normal(size=(2, 3)))

    def contrast(network):
        return network.energy_contrast(p.x, state, increments, weights)

    def difference(network):
        x = jnp.broadcast_to(p.x, (2, *p.x.shape))
        blocks = zip(state, network.attenuation, increments, strict=True)
        moved = tuple(s + a * e for s, a, e in blocks)
        change = network.energies(moved, x) - network.energies(state, p.x)
        return jnp.sum(weights * change)

    got, want = (_compiled_gradient(f, p.network) for f in (contrast, difference))
    assert np.linalg.norm(oracles.vector(want)) > 0.1
    assert oracles.error(got, want) < 1e-12


@pytest.mark.usefixtures("x64")
def test_energy_contrast_of_an_energy_network():
    """Oracle: the same difference, for a scalar energy that a user wrote."""
    p = oracles.NETWORKS["energy"]()
    rng = np.random.default_rng(3)
    state = tuple(jnp.asarray(rng.normal(size=(3, *s))) for s in p.network.shapes)
    increments = tuple(
        jnp.asarray(rng.normal(size=(2, 3, *s))) for s in p.network.shapes
    )
    weights = jnp.asarray(rng.normal(size=(2, 3)))
    energies = jax.vmap(lambda n, s, x: n.energies(s, x), (None, 0, 0))

    def difference(network):
        moved = tuple(s + d for s, d in zip(state, increments, strict=True))
        nudged = jax.vmap(lambda s: energies(network, s, p.x))(moved)
        return jnp.sum(weights * (nudged - energies(network, state, p.x)))

    def contrast(network):
        return network.energy_contrast(p.x, state, increments, weights)

    got, want = (_compiled_gradient(f, p.network) for f in (contrast, difference))
    assert oracles.error(got, want) < 1e-12


class Rectified(ctep.EnergyNetwork):
    r"""Forces with kinks: $(s^2 + o^2 + (a s)_+^2)/2 - x W s - .3 s_+^2 V \tanh o$."""

    below: jax.Array
    above: jax.Array
    slope: jax.Array
    input_shape: tuple = eqx.field(static=True, default=(6,))
    shapes: tuple = eqx.field(static=True, default=((9,), (4,)))
    step: float = eqx.field(static=True, default=0.4)

    def energy(self, state, x):
        s, o = state
        wells = s @ s + o @ o + jnp.sum(jnp.maximum(self.slope * s, 0) ** 2)
        drive = x @ self.below @ s + 0.3 * jnp.maximum(
            s, 0
        ) ** 2 @ self.above @ jnp.tanh(o)
        return 0.5 * wells - drive


def rectified(dtype):
    rng = np.random.default_rng(7)
    weights = [rng.normal(size=s) / 3 for s in ((6, 9), (9, 4))]
    weights.append(rng.uniform(0.5, 1, 9))
    return Rectified(*(jnp.asarray(np.float32(w), dtype) for w in weights))


class Nothing(AbstractPull):
    blocks = ()

    def __call__(self, n, state, context):
        raise NotImplementedError


def moves(size, dtype=jnp.float32):
    """Return what increments do to forces and gradient, and the plain differences.

    Everything per unit of their size. Some units start right at their kink.
    """
    network, rng = rectified(dtype), np.random.default_rng(8)
    draw = lambda *s: jnp.asarray(np.float32(rng.normal(size=s)), dtype)  # noqa: E731
    x, weights = draw(3, 6), draw(2, 3)
    d = tuple(size * draw(2, 3, *s) for s in network.shapes)
    state = (0.5 * draw(3, 9).at[:, 0].set(0), 0.5 * draw(3, 4))

    @oracles.FAST
    def found(network):
        problem = network.increments(x, state, (), Nothing(), ())
        pairs = zip(problem.map(d), d, strict=True)
        contrast = lambda n: n.energy_contrast(x, state, d, weights)  # noqa: E731
        return [a - b for a, b in pairs], eqx.filter_grad(contrast)(network)

    def at(t, network):
        moved = tuple(s + t * v for s, v in zip(state, d, strict=True))
        each = jax.vmap(network.energies)
        energies = lambda s: jax.vmap(lambda s: each(s, x))(s)  # noqa: E731
        force = jax.grad(lambda s: -network.step * jnp.sum(energies(s)))(moved)
        weighted = lambda n: jnp.sum(  # noqa: E731
            weights * jax.vmap(lambda s: jax.vmap(n.energies)(s, x))(moved)
        )
        return list(force), eqx.filter_grad(weighted)(network)

    plain = jax.tree_util.tree_map(
        lambda a, b: b - a, *(oracles.FAST(at)(t, network) for t in (0.0, 1.0))
    )
    return [
        [
            np.asarray(leaf, np.float64) / size
            for leaf in jax.tree_util.tree_leaves(tree)
        ]
        for tree in (found(network), plain)
    ]


@matrix.parametrize(
    ("size", "tolerance"),
    [(1e-20, 1e-6), (1e-12, 1e-6), (0.1, 3e-5), (3.0, 2e-6)],
    [(1e-20, 1e-6)],
)
def test_energies_with_kinks(size, tolerance):
    """Oracle: plain differences of forces and gradients in float64.

    Tiny increments, beside which float32 sees nothing of the state, and long ones.
    """
    found, _ = moves(size)
    with jax.enable_x64(True):
        _, want = moves(max(size, 1e-8), jnp.float64)
    for a, b in zip(found, want, strict=True):
        assert np.linalg.norm(a - b) < tolerance * np.linalg.norm(b)


@pytest.mark.usefixtures("x64")
@matrix.parametrize("size", [1e-3, 0.1, 3.0], [3.0])
def test_energies_with_kinks_in_double_precision(size):
    """Oracle: the same plain differences."""
    for a, b in zip(*moves(size, jnp.float64), strict=True):
        assert np.linalg.norm(a - b) < 1e-11 * np.linalg.norm(b)


@pytest.mark.usefixtures("x64")
@matrix.campaign
@pytest.mark.parametrize("beta", [0.5, 1e-3])
def test_gradient_of_an_energy_with_kinks(beta):
    """Oracle: the contrast by autodiff at two states that were each solved for."""
    network, rng = rectified(jnp.float64), np.random.default_rng(9)
    x, y = jnp.asarray(rng.normal(size=(9, 6))), jnp.asarray(rng.normal(size=(9, 4)))
    nudge, solver = (
        ctep.OutputError(ctep.SquaredError()),
        ctep.Sweeps(5000, 1e-13, 1e-13),
    )
    _, found = ctep.gradient(
        network, x, y, nudge=nudge, rule=ctep.Centered(beta), solver=solver
    )

    @oracles.FAST
    def rest(network, beta):
        cost = lambda s: jnp.sum(nudge.loss(s[-1], y))  # noqa: E731
        total = lambda s: network.total_energy(s, x) + beta * cost(s)  # noqa: E731

        def step(_, s):
            return jax.tree_util.tree_map(
                lambda v, g: v - 0.3 * g, s, jax.grad(total)(s)
            )

        s = jax.lax.fori_loop(0, 2000, step, network.zeros(x))
        return eqx.filter_grad(lambda n: n.total_energy(s, x) / len(x))(network)

    want = jax.tree_util.tree_map(
        lambda a, b: (a - b) / (2 * beta), rest(network, beta), rest(network, -beta)
    )
    assert oracles.error(found, want) < 1e-9


def _compiled_gradient(function, network):
    return oracles.FAST(eqx.filter_grad(function))(network)
