"""Operators of images: against loops in numpy, autodiff and plain differences."""

import functools
import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import jaxtyping
import matrix
import numpy as np
import oracles
import pytest

import ctep
from ctep._rule import Task

KEY = jax.random.key(0)


def conv(shape, **kwargs):
    return ctep.Conv(shape, 4, key=KEY, **kwargs)


def conv_then(pool, shape=(6, 8, 2)):
    first = conv(shape)
    return ctep.Chain((first, pool(first.out_shape)))


def then_conv(pool, shape=(6, 8, 2)):
    first = pool(shape)
    return ctep.Chain((first, conv(first.out_shape)))


def three():
    first = then_conv(ctep.SoftmaxPool, (9, 8, 2))
    return ctep.Chain((*first.operators, ctep.MaxPool(first.out_shape)))


def warm_pool(shape):
    return ctep.SoftmaxPool(shape, (2, 3), temperature=0.4)


OPERATORS = {
    "dense": lambda: ctep.Dense((3, 2), (5,), key=KEY),
    "conv": lambda: conv((7, 6, 3)),
    "conv stride 2": lambda: conv((8, 8, 3), stride=2, padding=1),
    "conv odd stride 2": lambda: conv((9, 7, 2), stride=2),
    "conv 1 x 1 stride 2": lambda: conv((8, 8, 3), kernel=1, stride=2, padding=0),
    "conv 5 x 5 valid": lambda: conv((6, 7, 2), kernel=5, padding="valid"),
    "conv uneven": lambda: conv(
        (7, 9, 3), kernel=(4, 3), stride=(3, 2), padding=((2, 1), (0, 2))
    ),
    "conv padded by more than its kernel": lambda: conv((4, 4, 2), padding=4),
    "conv larger than its image": lambda: conv((2, 2, 3)),
    "conv larger than its image, stride 2": lambda: conv(
        (1, 2, 2), kernel=(3, 4), stride=2, padding=((1, 1), (2, 1))
    ),
    "max": lambda: ctep.MaxPool((5, 6, 3)),
    "max 3 x 1": lambda: ctep.MaxPool((7, 3, 2), (3, 1)),
    "average": lambda: ctep.AveragePool((5, 6, 3)),
    "softmax": lambda: ctep.SoftmaxPool((5, 6, 3)),
    "skip": lambda: ctep.Skip((3, 4)),
    "skip to more channels": lambda: ctep.Skip((2, 3, 2), (2, 3, 5)),
    "multiplier": lambda: ctep.Multiplier((5,), -0.3),
    "multiplied conv": lambda: conv_then(lambda shape: ctep.Multiplier(shape, 0.7)),
    "softmax 2 x 3": lambda: warm_pool((5, 6, 3)),
    "max of conv": lambda: conv_then(ctep.MaxPool),
    "softmax of conv": lambda: conv_then(warm_pool),
    "conv of max": lambda: then_conv(ctep.MaxPool),
    "conv of average": lambda: then_conv(ctep.AveragePool),
    "max of conv of softmax": three,
    "dense of max": lambda: ctep.Chain(
        (ctep.MaxPool((4, 4, 2)), ctep.Dense((2, 2, 2), (3,), key=KEY))
    ),
}


def draw(operator, seed=0, lead=(2, 3)):
    rng = np.random.default_rng(seed)
    v, dv = (jnp.asarray(rng.normal(size=(*lead, *operator.in_shape))) for _ in "ab")
    u, du = (jnp.asarray(rng.normal(size=(*lead, *operator.out_shape))) for _ in "ab")
    return v, dv, u, du


def image(operator, v):
    return operator.apply(v)[0]


# One of each kind, and what is odd about its shape.
FEW = (
    "dense", "conv odd stride 2", "conv larger than its image", "max 3 x 1", "average",
    "softmax 2 x 3", "skip to more channels", "multiplied conv", "conv of max",
    "max of conv of softmax",
)  # fmt: skip


# ------------------------------------------------------------ forward maps


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", [n for n in OPERATORS if n.startswith("conv")][:9])
def test_convolution_against_loops(name):
    """Oracle: the sum of the docstring, in numpy loops over the outputs."""
    operator = OPERATORS[name]()
    v = np.asarray(draw(operator)[0])[0]
    weight, (pad_h, pad_w) = np.asarray(operator.weight), operator.padding
    padded = np.pad(v, ((0, 0), pad_h, pad_w, (0, 0)))
    (kh, kw), (th, tw) = weight.shape[:2], operator.stride
    want = np.zeros((len(v), *operator.out_shape))
    for i, j in itertools.product(*map(range, operator.out_shape[:2])):
        window = padded[:, i * th : i * th + kh, j * tw : j * tw + kw]
        want[:, i, j] = np.einsum("bhwc,hwco->bo", window, weight)
    np.testing.assert_allclose(image(operator, jnp.asarray(v)), want, atol=1e-12)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", ["max", "max 3 x 1", "average", "softmax 2 x 3"])
def test_pooling_against_loops(name):
    """Oracle: maximum, mean and weighted mean of each window, in numpy."""
    operator = OPERATORS[name]()
    v = np.asarray(draw(operator)[0])[0]
    (a, b), (height, width, _) = operator.window.size, operator.out_shape
    want = np.zeros((len(v), *operator.out_shape))
    for i, j in itertools.product(range(height), range(width)):
        window = v[:, i * a : (i + 1) * a, j * b : (j + 1) * b].reshape(
            len(v), a * b, -1
        )
        if isinstance(operator, ctep.MaxPool):
            want[:, i, j] = window.max(1)
        elif isinstance(operator, ctep.AveragePool):
            want[:, i, j] = window.mean(1)
        else:
            weights = np.exp(window / operator.temperature)
            want[:, i, j] = (window * weights).sum(1) / weights.sum(1)
    np.testing.assert_allclose(image(operator, jnp.asarray(v)), want, atol=1e-12)


# ------------------------------------------------------------ adjoints


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", OPERATORS)
def test_adjoint_is_exact(name):
    """Oracle: the vector-Jacobian product of the map itself."""

    @oracles.FAST
    def both(operator, v, u):
        want = jax.vjp(lambda v: image(operator, v), v)[1](u)[0]
        return operator.adjoint(u, operator.apply(v)[1]), want

    operator = OPERATORS[name]()
    v, _, u, _ = draw(operator)
    found, want = both(operator, v, u)
    np.testing.assert_allclose(found, want, atol=1e-13)


def test_unpooling_takes_the_first_of_equals():
    """Oracle: by hand; the maximum comes twice, in the second and the third place."""
    pool = ctep.MaxPool((2, 2, 1))
    v = jnp.array([[0.0, 1.0], [1.0, 0.5]])[..., None]
    out, tape = pool.apply(v)
    assert out.ravel() == 1
    back = pool.adjoint(jnp.full((1, 1, 1), 7.0), tape)
    np.testing.assert_array_equal(back[..., 0], [[0, 7], [0, 0]])


@pytest.mark.parametrize(("size", "moves"), [(1e-20, False), (1e-3, True)])
def test_a_tie_is_no_finer_than_its_rounding(size, moves):
    """Oracle: by hand; a lower layer's increment must not move the signal from above.

    Two elements tie in float32, and the second increases more. An unpooled signal of
    size 7 that changes place for an increment of 1e-20 would be the whole gradient.
    """
    pool = ctep.MaxPool((2, 2, 1))
    v = jnp.array([[0.5, 2.0], [2.0, 1.0]])[..., None]
    dv = size * jnp.array([[0.0, 1.0], [3.0, 0.0]])[..., None]
    _, tape, anchor = pool.anchor(v)
    dout, move = pool.apply_increment(dv, anchor)
    np.testing.assert_allclose(dout.ravel(), (3 if moves else 1) * size, rtol=1e-3)
    u, du = jnp.full((1, 1, 1), 7.0), jnp.full((1, 1, 1), size)
    back = pool.adjoint_increment(du, move, anchor, pool.adjoint_anchor(u, tape))
    want = [[0, -7], [7 + size, 0]] if moves else [[0, size], [0, 0]]
    np.testing.assert_allclose(back[..., 0], want, rtol=1e-6)


def test_maximum_keeps_nan():
    """Oracle: IEEE 754; a window with NaN has no maximum, wherever the NaN is."""
    pool = ctep.MaxPool((2, 2, 1))
    for place in range(4):
        v = jnp.arange(4.0).at[place].set(jnp.nan).reshape(2, 2, 1)
        assert jnp.isnan(image(pool, v)).all()


# ------------------------------------------------------------ increments


@oracles.FAST
def increments(operator, v, dv, u, du, scale=1.0):
    """Return the increments of the image and of the adjoint."""
    _, tape, anchor = operator.anchor(v, scale)
    change, move = operator.apply_increment(dv, anchor, scale)
    back = operator.adjoint_anchor(u, tape, scale)
    return change, operator.adjoint_increment(du, move, anchor, back, scale)


@oracles.FAST
def differences(operator, v, dv, u, du):
    """Return the same by plain subtraction."""
    (before, tape), (after, later) = operator.apply(v), operator.apply(v + dv)
    return after - before, operator.adjoint(u + du, later) - operator.adjoint(u, tape)


@pytest.mark.usefixtures("x64")
@matrix.product(("name", "size"), OPERATORS, [2.0, 1e-2])
def test_increments_are_differences(name, size):
    """Oracle: the plain difference in float64; at 2.0 many maxima move."""
    operator = OPERATORS[name]()
    v, dv, u, du = draw(operator)
    given = operator, v, size * dv, u, size * du
    (change, back), (want, want_back) = increments(*given), differences(*given)
    np.testing.assert_allclose(change, want, atol=1e-9)
    np.testing.assert_allclose(back, want_back, atol=1e-8)
    # In units of 0.01 the same increments are a hundred times as large.
    given = operator, v, 100 * size * dv, u, 100 * size * du, 0.01
    change, back = (0.01 * part for part in increments(*given))
    np.testing.assert_allclose(change, want, atol=1e-9)
    np.testing.assert_allclose(back, want_back, atol=1e-8)


@matrix.parametrize("name", OPERATORS, FEW)
def test_increments_keep_their_precision(name):
    """Oracle: float64 with an increment a million times larger, scaled back.

    Far below float32's resolution of the states; no maximum moves for so little.
    """
    with jax.enable_x64(True):
        operator = OPERATORS[name]()
        v, dv, u, du = draw(operator)
        want, want_back = increments(operator, v, 1e-10 * dv, u, 1e-10 * du)
    single = jax.tree_util.tree_map(
        lambda leaf: leaf.astype(jnp.float32) if eqx.is_inexact_array(leaf) else leaf,
        (operator, v, dv, u, du),
    )
    operator, v, dv, u, du = single
    for size, scale in ((1e-16, 1.0), (1.0, 1e-37)):
        found, back = increments(operator, v, size * dv, u, size * du, scale)
        for a, b in ((found, want), (back, want_back)):
            a, b = np.asarray(a, np.float64) / size, 1e10 * np.asarray(b)
            assert np.linalg.norm(a - b) < 3e-6 * np.linalg.norm(b)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("size", [1e-3, 1.0, 30.0, 2000.0, 0.3 * np.exp(0.4j)])
def test_softmax_moves_of_any_size(size):
    """Oracle: the plain difference in float64, where weights vanish and come back.

    A complex move stays where the denominator does not vanish.
    """
    pool = ctep.SoftmaxPool((4, 6, 2), temperature=0.5)
    v, dv, u, du = draw(pool)
    dv, du = size * dv, size * du
    _, tape, anchor = pool.anchor(v)
    change, move = pool.apply_increment(dv, anchor)
    want = image(pool, v + dv) - image(pool, v)
    np.testing.assert_allclose(change, want, rtol=0, atol=1e-12 * np.abs(want).max())
    found = pool.adjoint_increment(du, move, anchor, pool.adjoint_anchor(u, tape))
    want = pool.adjoint(u + du, v + dv) - pool.adjoint(u, tape)
    np.testing.assert_allclose(found, want, rtol=0, atol=1e-11 * np.abs(want).max())


def test_softmax_moves_of_a_saturated_window():
    """Oracle: float64's Jacobian; one element is far above all others, in float32.

    An increment that only its slack of 1e-9 can see, and a common shift beside it.
    """
    pool = ctep.SoftmaxPool((2, 2, 1))
    v = np.float32([[30.0, 9.0], [8.0, 7.5]])[..., None]
    dv = 1e-12 * np.float32([[0.0, 1.0], [-2.0, 0.5]])[..., None]
    u, du = jnp.float32([[[2.0]]]), jnp.float32([[[0.0]]])
    with jax.enable_x64(True):
        want = jax.jvp(lambda v: image(pool, v), (np.float64(v),), (np.float64(dv),))[1]
        back = jax.jvp(
            lambda v: pool.adjoint(jnp.float64(u), v),
            (np.float64(v),),
            (np.float64(dv),),
        )[1]
    _, tape, anchor = pool.anchor(jnp.asarray(v))
    found, move = pool.apply_increment(jnp.asarray(dv), anchor)
    np.testing.assert_allclose(found, want, rtol=1e-5)
    found = pool.adjoint_increment(du, move, anchor, pool.adjoint_anchor(u, tape))
    np.testing.assert_allclose(found, back, rtol=1e-5)


def test_derivative_of_a_softmax_move():
    """Oracle: float64; the contrast's derivative by the weights goes through the image.

    By the image itself it must be as small as the increment is.
    """
    pool = ctep.SoftmaxPool((4, 6, 2), temperature=0.4)

    def slope(scale):
        v, dv, u, _ = draw(pool)
        move = lambda v: pool.apply_increment(scale * dv, pool.anchor(v)[2])[0]  # noqa: E731
        return np.asarray(jax.vjp(move, v)[1](u)[0], np.float64) / scale

    with jax.enable_x64(True):
        want = slope(1e-7)
    found = slope(1e-14)
    assert np.linalg.norm(found - want) < 1e-6 * np.linalg.norm(want)


@matrix.parametrize("name", OPERATORS, FEW)
def test_tapes_at_zero(name):
    """Oracle: the tape of zeros, and the move that an increment of zeros makes."""

    @oracles.FAST
    def pairs(operator, v):
        _, _, anchor = operator.anchor(jnp.cos(jnp.arange(v.size)).reshape(v.shape))
        found = operator.move_at_zero((2,), v.dtype, anchor)
        tapes = operator.tape_at_zero((2,), v.dtype), operator.apply(v)[1]
        return tapes, (found, operator.apply_increment(v, anchor)[1])

    operator = OPERATORS[name]()
    for found, want in pairs(operator, jnp.zeros((2, *operator.in_shape))):
        assert eqx.tree_equal(found, want)


# ------------------------------------------------------------ whole networks


def pooled(activation=ctep.Sigmoid(2.0), **kwargs):
    return ctep.vgg(
        (3, 4), (5,), 3, input_shape=(4, 4, 2), activation=activation, key=KEY, **kwargs
    )


def resnet(**kwargs):
    return ctep.hopfield_resnet(
        (3, 4), 3, input_shape=(4, 4, 2), activation=ctep.Tanh(), key=KEY, **kwargs
    )


NETWORKS = {
    "vgg": pooled,
    "vgg, weak feedback": lambda: pooled(feedback=0.2),
    "vgg, pooled sources": lambda: pooled(
        feedback=0.2, pool_first=True, pool=ctep.SoftmaxPool
    ),
    "vgg, softmax": lambda: pooled(ctep.Tanh(), pool=ctep.SoftmaxPool),
    "vgg, average": lambda: pooled(ctep.Tanh(), pool=ctep.AveragePool),
    "vgg, one pool": lambda: pooled(pooled=(2,)),
    "vgg, fixed feedback": lambda: pooled(feedback=ctep.Fixed(0.3)),
    "resnet": resnet,
    "resnet, weak feedback": lambda: resnet(feedback=0.2),
}


@matrix.parametrize("name", NETWORKS, [])
def test_gradients_of_images_against_dense_differentiation(name):
    """Oracle: Newton's roots and a dense adjoint solve, in float64.

    One matrix per example; the rest is found by damped iteration.
    """
    with jax.enable_x64(True):
        network = oracles.randomised(NETWORKS[name](), scale=0.2)
        network = jax.tree_util.tree_map(
            lambda leaf: 0.35 * leaf if eqx.is_inexact_array(leaf) else leaf, network
        )
        rng = np.random.default_rng(0)
        x = jnp.asarray(rng.uniform(size=(2, *network.input_shape)))
        y = jnp.array([0, 2])
        found, implicit = _gradients(network, x, y)
        truth = oracles.vector(_dense_gradient(network, x, y))
    size = np.linalg.norm(truth)
    assert np.linalg.norm(oracles.vector(implicit) - truth) < 1e-8 * size
    if network.has_energy:
        error = np.linalg.norm(oracles.vector(found) - truth)
        assert error < 1e-5 * size
    else:
        assert oracles.cosine(oracles.vector(found), truth) > 0.9


@oracles.FAST
def _gradients(network, x, y):
    solver = ctep.Sweeps(1000, rtol=1e-12, atol=1e-12)
    task = Task.mean(x, y, ctep.OutputError(), solver, throw=False)
    rules = (ctep.Centered(1e-3), ctep.Implicit())
    return [rule.estimate(network, task).gradient[0] for rule in rules]


def _dense_gradient(network, x, y):
    """Return the gradient by `jnp.linalg.solve`, from the free map alone."""
    sizes = [int(np.prod(s)) for s in network.shapes]
    cuts = np.cumsum(sizes)[:-1]

    def unflatten(flat):
        parts = jnp.split(flat, cuts)
        return tuple(
            p.reshape((1, *s)) for p, s in zip(parts, network.shapes, strict=True)
        )

    def image(network, flat, x):
        state = network.free(x[None]).map(unflatten(flat))
        return jnp.concatenate([s.ravel() for s in state])

    def cost(network, flat, y):
        return oracles.cross_entropy(network.output(unflatten(flat))[0], y)

    @oracles.FAST
    def one(network, x, y):
        flat = jnp.zeros(sum(sizes))
        half = lambda _, s: 0.5 * (s + image(network, s, x))  # noqa: E731
        flat = jax.lax.fori_loop(0, 1000, half, flat)
        jacobian = jax.jacrev(lambda s: image(network, s, x))(flat)
        pull = jax.grad(lambda s: cost(network, s, y))(flat)
        adjoint = jnp.linalg.solve(jnp.eye(len(flat)) - jacobian.T, pull)
        return eqx.filter_grad(
            lambda n: cost(n, flat, y) + jnp.vdot(adjoint, image(n, flat, x))
        )(network)

    total = [one(network, *pair) for pair in zip(x, y, strict=True)]
    mean = jax.tree_util.tree_map(lambda *g: sum(g) / len(g), *total)
    return eqx.filter(mean, network.trainable())


@pytest.mark.parametrize("name", ["vgg, weak feedback", "resnet, weak feedback"])
def test_weak_feedback_keeps_the_energy(name):
    """Oracle: the definition of graded feedback; a skip is as weak as what it skips."""
    network = NETWORKS[name]()
    assert network.has_energy
    for c in network.couplings:
        want = 0.2 ** (c.target - c.source) if c.source else 0.0
        assert c.scale == pytest.approx(want)


@matrix.parametrize(
    "name", ["vgg", "vgg, weak feedback", "vgg, pooled sources"], ["vgg"]
)
def test_a_sweep_costs_two_convolutions_per_coupling(name):
    """Oracle: the operations that one sweep of each phase compiles from, counted."""
    network = NETWORKS[name]()
    x = jnp.ones((2, *network.input_shape))
    free = network.free(x)
    state = tuple(jnp.ones((2, *s)) for s in network.shapes)

    def sweep(problem, state, memory):
        for n in range(len(state)):
            value, memory = problem.update(n, state, memory)
            state = (*state[:n], value, *state[n + 1 :])
        return state

    memory = free.recall(state)
    between = sum(
        any(leaf.ndim == 4 for leaf in jax.tree_util.tree_leaves(c.forward))
        for c in network.couplings
        if c.source
    )
    assert _convolutions(sweep, free, state, memory) == 2 * between
    pull = ctep._nudge.Pull(ctep.OutputError(), network)
    context = (jnp.ones((1, 1)), jnp.zeros((1, 2), jnp.int32))
    problem = network.increments(x, state, memory, pull, context)
    d = tuple(s[None] for s in state)
    assert _convolutions(sweep, problem, d, problem.recall(d)) == 2 * between


def _convolutions(function, *args):
    arrays, static = eqx.partition(args, eqx.is_array)
    jaxpr = jax.make_jaxpr(lambda arrays: function(*eqx.combine(arrays, static)))(
        arrays
    )
    return str(jaxpr).count("Convolution(")


# ------------------------------------------------------------ builders


def test_published_parameter_counts():
    """Oracle: the counts of the published tables, weights and biases."""
    shapes = jax.eval_shape
    vgg5 = shapes(lambda: ctep.vgg((128, 256, 512, 512), readout=False, key=KEY))
    resnet = shapes(lambda: ctep.hopfield_resnet(key=KEY))

    def count(network):
        return sum(leaf.size for leaf in jax.tree_util.tree_leaves(network))

    assert count(vgg5) == 3_857_792 + 1_418
    assert count(resnet) == 9_740_032 + 2_826
    assert resnet.shapes == (
        *((32, 32, 128), (16, 16, 128), (16, 16, 256), (8, 8, 256), (8, 8, 512)),
        *((4, 4, 512), (4, 4, 512), (2, 2, 512), (10,)),
    )
    assert {c.source for c in resnet.couplings if c.target == 2} == {0, 1}


def test_biases_are_drawn_within_their_gain():
    """Oracle: the bound gain / sqrt(fan-in), reached to within a tenth by many."""
    network = ctep.vgg((400, 400), bias_gain=0.5, input_shape=(4, 4, 3), key=KEY)
    for layer, fan_in in zip(network.layers, (27, 3600), strict=True):
        top = float(jnp.max(jnp.abs(layer.bias))) * fan_in**0.5
        assert 0.45 < top <= 0.5


# ------------------------------------------------------------ precision


@pytest.mark.parametrize("images", [False, True])
def test_bfloat16_rounds_the_factors_alone(images):
    """Oracle: by hand, 1 + 1/512, which needs ten bits, of factors that need eight."""
    if images:
        operator = ctep.Conv((1, 2, 1), 1, kernel=(1, 2), padding="valid", key=KEY)
        weight, shape = jnp.ones((1, 2, 1, 1)), (1, 1, 2, 1)
    else:
        operator = ctep.Dense((2,), (1,), key=KEY)
        weight, shape = jnp.ones_like(operator.weight), (1, 2)
    operator = eqx.tree_at(lambda o: o.weight, operator, weight)
    operator = ctep.with_precision(operator, "bfloat16")
    exact = operator.image(jnp.array([1, 1 / 512]).reshape(shape))
    np.testing.assert_array_equal(exact.ravel(), [1 + 1 / 512])
    rounded = operator.image(jnp.array([1 + 1 / 512, 0]).reshape(shape))
    np.testing.assert_array_equal(rounded.ravel(), [1.0])


def _deep_images():
    network = ctep.vgg(
        (4, 4, 4), (8, 8), input_shape=(8, 8, 2), feedback=0.05, key=KEY,
        activation=ctep.Sigmoid(2.0),
    )  # fmt: skip
    return network, jax.random.uniform(jax.random.key(1), (8, 8, 8, 2))


@functools.cache
def _wide_gradient():
    """Return the first layer's gradient in float64."""
    network, x = _deep_images()
    y, rule = jnp.arange(8) % 10, ctep.OneSided(0.01)
    with jax.enable_x64(True):
        wide = jnp.asarray(np.asarray(x), jnp.float64)
        solver = ctep.Sweeps(60, 1e-9, 1e-9)
        double = oracles.as_double(network)
        _, want = ctep.gradient(double, wide, y, rule=rule, solver=solver)
        return np.asarray(want.couplings[0].forward.operators[0].weight).ravel()


@matrix.campaign
@pytest.mark.parametrize("precision", ["float32", "tensorfloat32", "bfloat16"])
def test_increments_survive_rounded_products(precision):
    """Oracle: the gradient of the same network in float64.

    The products are rounded, the increments are not: even bfloat16 keeps the direction
    at the first layer, where the difference of two rounded states is zeros and noise.
    """
    network, x = _deep_images()
    y, want = jnp.arange(8) % 10, _wide_gradient()
    rounded = ctep.with_precision(network, precision)
    solver = ctep.Sweeps(60, 1e-2, 1e-2) if precision == "bfloat16" else ctep.Sweeps()
    _, found = ctep.gradient(rounded, x, y, rule=ctep.OneSided(0.01), solver=solver)
    found = np.asarray(found.couplings[0].forward.operators[0].weight).ravel()
    limit = {"float32": 0.9999, "tensorfloat32": 0.999, "bfloat16": 0.99}[precision]
    assert oracles.cosine(found, want) > limit
    plain = _plain_difference(rounded, x, y)
    assert not plain.any() or oracles.cosine(plain, want) < 0.9


def _plain_difference(network, x, y, beta=0.01):
    """Return the first layer's gradient from s(beta) - s(0), as published codes do."""
    nudge = ctep.OutputError()
    pull = ctep._nudge.Pull(nudge, network)
    context = (jnp.full((1,), beta), y)

    @eqx.filter_jit
    def rest(problem, state):
        return jax.lax.fori_loop(0, 60, lambda _, s: problem.map(s), state)

    free = rest(network.free(x), network.zeros(x))
    nudged = rest(network.nudged(x, pull, context), free)
    tangent = tuple((b - a) / beta for a, b in zip(free, nudged, strict=True))
    grad = eqx.filter_grad(lambda n: n.field_contrast(x, free, tangent))(network)
    return np.asarray(grad.couplings[0].forward.operators[0].weight).ravel()


@matrix.parametrize("pool", [ctep.MaxPool, ctep.SoftmaxPool], [ctep.SoftmaxPool])
def test_windows_of_more_elements_than_a_byte_counts(pool):
    """Oracle: NumPy; the largest is the last of 144."""
    operator = pool((12, 12, 1), 12)
    v = jnp.arange(144.0).reshape(1, 12, 12, 1) / 144
    image, tape = operator.apply(v)
    flat = np.arange(144.0) / 144
    weights = np.exp(flat) / np.exp(flat).sum()
    wanted, slope = weights @ flat, weights * (1 + flat - weights @ flat)
    if pool is ctep.MaxPool:
        wanted, slope = flat.max(), flat == flat.max()
    assert image.item() == pytest.approx(wanted, rel=1e-6)
    back = operator.adjoint(jnp.ones_like(image), tape)
    np.testing.assert_allclose(np.ravel(back), slope, rtol=1e-5, atol=1e-7)


def test_padding_counts_whole_numbers(monkeypatch):
    """NumPy's integers are numbers; a truth value and a fraction are none."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    shapes = {conv((4, 4, 1), padding=n).out_shape for n in (1, np.int64(1))}
    assert shapes == {conv((4, 4, 1), padding=((1, 1), (1, np.int32(1)))).out_shape}
    for wrong in (True, ((1.5, 1), (1, 1)), ((1, 1), (1, False))):
        with pytest.raises(ValueError, match=r"`padding` is .*must be 'same'"):
            conv((4, 4, 1), padding=wrong)


@pytest.mark.parametrize("precision", ["bfloat16", "tensorfloat32"])
def test_rounded_products_have_no_proved_norm(precision):
    """Two inputs whose rounded images are further apart than the norm allows."""
    dense = ctep.Dense((1,), (1,), key=KEY, init=jax.nn.initializers.ones)
    rounded = ctep.with_precision(dense, precision)
    assert ctep.operator_norm(dense) == pytest.approx(1)
    assert ctep.operator_norm(rounded) == ctep.operator_norm(rounded, 1) == np.inf
    if precision == "bfloat16":
        x = jnp.array([[1.00390], [1.00391]])  # on both sides of a rounding
        a, b = rounded.apply(x)[0]
        assert abs(a - b) > 100 * abs(x[0] - x[1])
