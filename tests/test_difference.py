"""Finite differences that do not cancel.

Oracles: the difference of two values in float64 where it does not cancel, the
derivative where the scale vanishes, float64 for float32.
"""

import functools

import jax
import jax.numpy as jnp
import matrix
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

import ctep

KEYS = jax.random.split(jax.random.key(0), 8)
W = np.asarray(jax.random.normal(KEYS[0], (6, 6)), np.float64)
KERNEL = np.asarray(jax.random.normal(KEYS[1], (3, 3, 2, 4)), np.float64)


def like(array, s):
    return jnp.asarray(array, s.dtype)


def conv(v):
    names = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(
        v, like(KERNEL, v), (1, 1), "SAME", dimension_numbers=names
    )


def pool(v):
    return functools.reduce(
        jnp.maximum, [v[:, i::2, j::2] for i in (0, 1) for j in (0, 1)]
    )


def window(v):
    steps = (1, 3, 3, 1), (1, 2, 2, 1)
    return jax.lax.reduce_window(v, -jnp.inf, jax.lax.max, *steps, "SAME")


def adjoint(v, u):
    return jax.vjp(lambda v: pool(conv(v)), v)[1](u)[0]


def window_adjoint(v, u):
    return jax.vjp(lambda v: window(conv(v)), v)[1](u)[0]


def attention(s):
    return jax.nn.softmax(s @ like(W, s) @ s.T) @ s


def energy_gradient(s):
    def energy(s):
        return jnp.sum(jax.nn.logsumexp(s @ like(W, s), -1)) - jnp.sum(s * s) / 2

    return jax.grad(energy)(s)


def loop(s):
    return jax.lax.fori_loop(0, 3, lambda i, u: jnp.tanh(u @ like(W, s) * 0.3), s)


def counted(s):
    def goes_on(carry):
        return carry[0] < 3

    return jax.lax.while_loop(goes_on, lambda c: (c[0] + 1, jnp.sin(c[1])), (0, s))[1]


def until(s):
    return jax.lax.while_loop(lambda u: jnp.max(u) > 0.3, lambda u: u / 2, s * s)


def rows(s):
    return jax.lax.scan(lambda c, x: (jnp.tanh(c + x), c * x), s[0], s)


def branch(s):
    return jax.lax.cond(s.sum() > 0, jnp.tanh, jnp.sin, s)


def normalised(s):
    centred = s - s.mean(-1, keepdims=True)
    return centred / jnp.sqrt(s.var(-1, keepdims=True) + 1e-3)


def of(matrix):
    return matrix + 3 * jnp.eye(6, dtype=matrix.dtype)


VECTOR, IMAGE, SQUARE, POSITIVE = "vector", "image", "square", "positive"
CASES = {
    "tanh layer": (lambda s: jnp.tanh(s @ like(W, s)), VECTOR),
    "sigmoid": (jax.nn.sigmoid, VECTOR),
    "relu6": (jax.nn.relu6, VECTOR),
    "softplus": (jax.nn.softplus, VECTOR),
    "gelu": (jax.nn.gelu, VECTOR),
    "gelu by erf": (lambda s: jax.nn.gelu(s, approximate=False), VECTOR),
    "silu": (jax.nn.silu, VECTOR),
    "selu": (jax.nn.selu, VECTOR),
    "mish": (jax.nn.mish, VECTOR),
    "leaky relu": (jax.nn.leaky_relu, VECTOR),
    "hard swish": (jax.nn.hard_swish, VECTOR),
    "log softmax": (jax.nn.log_softmax, VECTOR),
    "softmax": (jax.nn.softmax, VECTOR),
    "layer norm": (normalised, VECTOR),
    "attention": (attention, VECTOR),
    "logsumexp": (lambda s: jax.nn.logsumexp(3 * s @ like(W, s), -1), VECTOR),
    "energy gradient": (energy_gradient, VECTOR),
    "convolution": (conv, IMAGE),
    "pooled convolution": (lambda v: pool(conv(v)), IMAGE),
    "windows": (window, IMAGE),
    "adjoint": (adjoint, "image and change"),
    "adjoint of windows": (window_adjoint, "image and change"),
    "norm": (lambda s: jnp.linalg.norm(s, axis=-1), VECTOR),
    "deviation": (lambda s: s.std(0), VECTOR),
    "product": (lambda s: s.prod(-1), VECTOR),
    "sort": (lambda s: jnp.sort(s, -1), VECTOR),
    "median": (lambda s: jnp.median(s, -1), VECTOR),
    "largest three": (lambda s: jax.lax.top_k(s, 3)[0], VECTOR),
    "running maximum": (lambda s: jax.lax.cummax(s, 1), VECTOR),
    "sorted by index": (
        lambda s: jnp.take_along_axis(s, jnp.argsort(s, -1), -1), VECTOR,
    ),
    "clip": (lambda s: jnp.clip(s, -0.5, 0.5), VECTOR),
    "log": (jnp.log, POSITIVE),
    "power": (lambda s: s**1.7, POSITIVE),
    "inverse square": (lambda s: s**-2, POSITIVE),
    "square root": (jnp.sqrt, POSITIVE),
    "inverse root": (jax.lax.rsqrt, POSITIVE),
    "cubic root": (jnp.cbrt, VECTOR),
    "arc tangent": (jnp.arctan, VECTOR),
    "hyperbolic": (lambda s: jnp.sinh(s) - jnp.cosh(s), VECTOR),
    "sine": (lambda s: jnp.sin(s) + jnp.cos(2 * s), VECTOR),
    "without a rule": (jnp.arcsinh, VECTOR),
    "solve": (lambda s: jnp.linalg.solve(of(s), jnp.ones((6, 2), s.dtype)), SQUARE),
    "determinant": (lambda s: jnp.linalg.slogdet(s)[1], SQUARE),
    "cholesky": (lambda s: jnp.linalg.cholesky(of(s @ s.T)), SQUARE),
    "fourier": (lambda s: jnp.abs(jnp.fft.rfft(s, axis=-1)), VECTOR),
    "gamma": (jax.scipy.special.gammaln, POSITIVE),
    "loop": (loop, VECTOR),
    "while": (counted, VECTOR),
    "while it is large": (until, VECTOR),
    "scan": (rows, VECTOR),
    "branch": (branch, VECTOR),
    "checkpoint": (jax.checkpoint(jnp.tanh), VECTOR),
}  # fmt: skip
FEW = ["softmax", "adjoint", "sort", "cholesky", "while", "scan", "power"]


def arguments(kind):
    shapes = {IMAGE: [(2, 8, 8, 2)], SQUARE: [(6, 6)]}
    shapes["image and change"] = [(2, 8, 8, 2), (2, 4, 4, 4)]
    shapes = shapes.get(kind, [(5, 6)])
    s = [jax.random.normal(key, n, float) for key, n in zip(KEYS[2:], shapes)]  # noqa: B905
    e = [jax.random.normal(key, n, float) for key, n in zip(KEYS[4:], shapes)]  # noqa: B905
    if kind == POSITIVE:
        s, e = [jnp.abs(x) + 0.3 for x in s], [0.2 * x for x in e]
    return s, e


def assert_near(got, wanted, error):
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(wanted), strict=True):
        gap = np.abs(np.asarray(a, np.float64) - np.asarray(b, np.float64)).max()
        assert gap <= error * np.abs(b).max()


@pytest.mark.usefixtures("x64")
@matrix.parametrize("name", CASES, FEW)
def test_differences_do_not_cancel(name):
    """At scales of 1, .01, 1e-30 and 0; and float32 at 1e-9, and in between."""
    function, kind = CASES[name]
    s, e = arguments(kind)
    value, push = ctep.difference(function, *s)
    assert_near(value, function(*s), 1e-15)
    for a in (1.0, 0.01):
        moved = function(*(x + a * v for x, v in zip(s, e, strict=True)))
        wanted = jax.tree.map(lambda n, o: (n - o) / a, moved, function(*s))  # noqa: B023
        assert_near(push(*e, scale=a), wanted, 1e-12 if a == 1 else 1e-11)
    _, wanted = jax.jvp(function, s, e)
    assert_near(push(*e, scale=1e-30), wanted, 1e-12)
    assert_near(push(*e, scale=0.0), wanted, 1e-12)
    small = [[x.astype(jnp.float32) for x in values] for values in (s, e)]
    got = ctep.difference(function, *small[0])[1](*small[1], scale=1e-9)
    _, wanted = jax.jvp(function, *[[x.astype(float) for x in v] for v in small])
    assert_near(got, wanted, 1e-5)


BETWEEN = {
    "gamma": (jax.scipy.special.gammaln, POSITIVE),
    "cholesky": CASES["cholesky"],
    "inverse": (lambda s: jnp.linalg.inv(of(s)), SQUARE),  # its pivots move at .1
}


@pytest.mark.usefixtures("x64")
@matrix.parametrize("name", BETWEEN, ["gamma"])
def test_quadrature_and_plain_difference_meet(name):
    """In float32, at scales where either alone has few digits. Oracle: float64."""
    function, kind = BETWEEN[name]
    s, e = ([x.astype(jnp.float32) for x in values] for values in arguments(kind))
    exact = [[x.astype(float) for x in values] for values in (s, e)]
    push = jax.jit(ctep.difference(function, *s)[1])
    for a in np.float32([0.1, 0.01, 1e-3, 1e-4, 1e-5]):
        moved = function(*(x + float(a) * v for x, v in zip(*exact, strict=True)))
        wanted = (moved - function(*exact[0])) / float(a)
        assert_near(push(*e, scale=a), wanted, 1e-6)


def test_a_jump_that_no_node_sees():
    """The remainder wraps at the end of the path. Oracle: by hand."""
    _, push = ctep.difference(lambda s: jnp.mod(s, 1.0), jnp.array([0.5, 0.25]))
    np.testing.assert_allclose(push(jnp.array([0.505, 0.5])), [-0.495, 0.5], rtol=1e-6)


def test_linear_systems_need_no_quadrature():
    """Oracle: the matrix by hand; the system has no rule but that of its matrix."""
    matrix = jnp.array([[2.0, 1.0], [1.0, 3.0]])

    def solved(s, b):
        return jax.scipy.sparse.linalg.cg(lambda v: s * (matrix @ v), b)[0]

    assert ctep.difference.explain(solved, jnp.array(1.0), jnp.ones(2)) == {}
    _, push = ctep.difference(solved, jnp.array(1.0), jnp.ones(2))
    x = np.linalg.solve(matrix, np.ones(2))  # of 1 / s, the difference is -1 / (1 + a)
    got = push(jnp.array(1.0), None, scale=1e-9)
    np.testing.assert_allclose(got, -x, rtol=1e-5)
    got = push(jnp.array(1.0), jnp.ones(2), scale=1.0)
    np.testing.assert_allclose(got, np.zeros(2), atol=1e-6)


def test_losers_overtake():
    """Oracle: by hand. 1e-9 apart in units of 1e-9, and 2 faster."""
    s = jnp.array([1.0, 1.0 - 2.0**-20])
    _, push = ctep.difference(jnp.max, s)
    gap = 2.0**-20
    assert push(jnp.array([0.0, 3.0]), scale=gap) == 2.0  # from 1 to 1 + 2 gap
    assert push(jnp.array([0.0, 0.5]), scale=gap) == 0.0
    assert push(jnp.array([0.0, 0.5]), scale=-gap) == 0.0
    assert push(jnp.array([0.0, -3.0]), scale=-gap) == -2.0  # it goes up as well
    _, push = ctep.difference(jnp.argmax, s)
    assert push(jnp.array([0.0, 3.0]), scale=gap) == 1
    for function in (lambda s: jax.lax.top_k(s, 1)[0], lambda s: jax.lax.cummax(s)[1:]):
        _, push = ctep.difference(function, s)
        assert push(jnp.array([0.0, 3.0]), scale=gap) == 2.0
        assert push(jnp.array([0.0, 0.5]), scale=gap) == 0.0


@pytest.mark.unhurried
def test_compilers_round_products_otherwise():
    """Fused with a difference they are rounded once. Oracle: float64, at the winner."""
    jax.config.update("jax_disable_most_optimizations", False)
    s, e = (jax.random.normal(key, (50, 8)) for key in KEYS[:2])
    largest = lambda s: jnp.max(20.1 * s, -1)  # noqa: E731
    push = jax.jit(lambda s, e, a: ctep.difference(largest, s)[1](e, scale=a))
    winner = np.argmax(s, -1)[:, None]
    wanted = 20.1 * np.take_along_axis(np.asarray(e, float), winner, -1)[:, 0]
    got = push(s, e, 1e-9)
    jax.config.update("jax_disable_most_optimizations", True)
    np.testing.assert_allclose(got, wanted, rtol=1e-5)


def test_what_a_window_sends_back_goes_to_the_winner():
    """Oracle: by hand. Two elements tie; the second rises by less than a rounding."""
    v, u = jnp.array([1.0, 1.0]), jnp.array([2.0**-10])

    def pooled(v):
        return jax.lax.reduce_window(v, -jnp.inf, jax.lax.max, (2,), (2,), "VALID")

    _, push = ctep.difference(lambda v, u: jax.vjp(pooled, v)[1](u)[0], v, u)
    a = 2.0**-24
    stays = push(jnp.array([1.0, 0.5]), jnp.array([2.0]), scale=a)
    np.testing.assert_array_equal(stays, [2.0, 0.0])
    moves = push(jnp.array([0.5, 1.0]), jnp.array([2.0]), scale=a)
    np.testing.assert_array_equal(moves, [-(2.0**14), 2.0**14 + 2.0])


def test_flat_ends_keep_their_digits():
    """Oracle: float64, where tanh and the logistic function are 1 in float32."""
    s, e = np.array([12.0, -12.0, 30.0], np.float32), np.ones(3, np.float32)
    for function, wanted in (
        (jnp.tanh, 4 * np.exp(-2 * np.abs(s.astype(float)))),
        (jax.nn.sigmoid, np.exp(-np.abs(s.astype(float)))),
    ):
        _, push = ctep.difference(function, jnp.asarray(s))
        np.testing.assert_allclose(push(e, scale=1e-9), wanted, rtol=1e-4)


@matrix.campaign
def test_transformations():
    """Oracle: the same outside of `jit`, `vmap` and `grad`; finite differences."""
    s, e = (jax.random.normal(key, (5, 6)) for key in KEYS[:2])

    def change(s, e, a):
        return ctep.difference(attention, s)[1](e, scale=a)

    wanted = change(s, e, 1e-6)
    np.testing.assert_allclose(jax.jit(change)(s, e, 1e-6), wanted, rtol=1e-5)
    several = jax.vmap(change, (None, None, 0))(s, e, jnp.array([1e-6, 1.0]))
    np.testing.assert_allclose(several[0], wanted, rtol=1e-5, atol=1e-6)
    batch = jax.vmap(change, (0, 0, None))(jnp.stack([s, 2 * s]), jnp.stack([e, e]), 0)
    np.testing.assert_allclose(batch[1], change(2 * s, e, 0), rtol=1e-4, atol=1e-5)
    # In the limit the increment is linear in e: its gradient is the adjoint.
    slope = jax.grad(lambda e: jnp.sum(change(s, e, 0.0)))(e)
    adjoint = jax.vjp(attention, s)[1](jnp.ones_like(s))[0]
    np.testing.assert_allclose(slope, adjoint, rtol=1e-4, atol=1e-5)


@matrix.campaign
@pytest.mark.usefixtures("x64")
def test_gradient_of_an_increment():
    """By state, increment and scale, at 0 too. Oracle: central differences."""
    s, e = (jax.random.normal(key, (4,), float) for key in KEYS[:2])

    def total(s, e, a):
        function = lambda s: jax.nn.softmax(jnp.tanh(s) * s)  # noqa: E731
        return jnp.sum(ctep.difference(function, s)[1](e, scale=a) * jnp.arange(4.0))

    for a in (0.0, 0.3):
        slopes = jax.grad(total, (0, 1, 2))(s, e, a)
        h = 1e-6
        for n, slope in enumerate(slopes):
            at = [s, e, jnp.asarray(a)]
            way = jnp.ones_like(at[n])
            up, down = ([*at[:n], at[n] + t * way, *at[n + 1 :]] for t in (h, -h))
            wanted = (total(*up) - total(*down)) / (2 * h)
            assert jnp.sum(slope) == pytest.approx(float(wanted), rel=1e-7)


@pytest.mark.parametrize("dtype", ["complex64", "bfloat16", "float16"])
def test_other_dtypes(dtype):
    """Oracle: the derivative, to the digits of the dtype."""
    s, e = (jax.random.normal(key, (4, 6)) for key in KEYS[:2])
    if dtype == "complex64":
        s, e = s + 0.3j * e, e - 0.2j * s
    s, e = s.astype(dtype), e.astype(dtype)

    def function(s):
        return jnp.tanh(s @ s.T) * jnp.exp(s[:, :4] / 4)

    got = ctep.difference(function, s)[1](e, scale=1e-20)
    assert got.dtype == s.dtype
    _, wanted = jax.jvp(function, (s,), (e,))
    error = {"complex64": 1e-5, "bfloat16": 0.1, "float16": 0.02}[dtype]
    np.testing.assert_allclose(
        np.asarray(got, complex), np.asarray(wanted, complex), rtol=error, atol=error
    )


def test_other_arguments_stay_or_jump():
    """Oracle: the function itself; trees, indices, and results that do not move."""
    table = {"rows": jnp.arange(6.0).reshape(3, 2), "at": jnp.array(1)}

    def function(table):
        return {"row": jnp.tanh(table["rows"][table["at"]]), "one": jnp.ones(2)}

    value, push = ctep.difference(function, table)
    np.testing.assert_allclose(value["row"], np.tanh([2.0, 3.0]), rtol=1e-6)
    out = push({"rows": jnp.ones((3, 2)), "at": None}, scale=0.0)
    np.testing.assert_allclose(out["row"], 1 / np.cosh([2.0, 3.0]) ** 2, rtol=1e-5)
    np.testing.assert_array_equal(out["one"], 0)
    out = push({"rows": None, "at": jnp.array(2)}, scale=0.5)
    wanted = (np.tanh([4.0, 5.0]) - np.tanh([2.0, 3.0])) / 0.5
    np.testing.assert_allclose(out["row"], wanted, rtol=1e-4)


def test_a_function_with_a_rule_of_its_own():
    """It is called where the function is, and not where it was mapped to another."""
    called = []

    @ctep.custom_difference
    def cube(s):
        return s * s * s + 0 * s.sum()

    @cube.defdifference
    def rule(s, out, e, scale):
        called.append(s.shape)
        new = s + scale * e
        return e * (new * new + new * s + s * s)

    s, e = jnp.array([1.0, -2.0]), jnp.array([0.5, 1.0])
    np.testing.assert_allclose(cube(s), s**3)
    wanted = ctep.difference(lambda s: jnp.tanh(s**3), s)[1](e, scale=0.3)
    got = ctep.difference(lambda s: jnp.tanh(cube(s)), s)[1](e, scale=0.3)
    np.testing.assert_allclose(got, wanted, rtol=1e-6)
    assert called == [(2,)]
    several = jnp.stack([s, 2 * s]), jnp.stack([e, e])
    got = ctep.difference(jax.vmap(cube), several[0])[1](several[1], scale=0.0)
    np.testing.assert_allclose(got, 3 * several[0] ** 2 * e, rtol=1e-6)
    assert called == [(2,)]


def test_what_has_no_rule_is_named():
    explain = ctep.difference.explain
    assert explain(jax.nn.softmax, jnp.ones(3)) == {}
    assert explain(jnp.linalg.cholesky, jnp.eye(3)) == {"cholesky": 1}

    def twice(s):
        return jax.lax.fori_loop(0, 2, lambda i, u: jnp.arcsinh(u), jnp.arcsinh(s))

    assert explain(twice, jnp.ones(3)) == {"asinh": 2}


UNARY = [
    jnp.tanh, jax.nn.sigmoid, jax.nn.relu, jax.nn.softplus, jnp.sin, jnp.square,
    jnp.abs, jax.nn.softmax, jnp.arctan, lambda s: jnp.sqrt(1 + s * s), jax.nn.elu,
    lambda s: jnp.exp(-(s**2)), lambda s: s - s.max(-1, keepdims=True),
    lambda s: jnp.clip(s, -1, 1), lambda s: s @ like(W, s) / 3, jnp.flip,
    lambda s: jnp.cumsum(s, -1) / 3, lambda s: jnp.log1p(s * s),
]  # fmt: skip
BINARY = [
    jnp.add, jnp.multiply, jnp.maximum, jnp.minimum, lambda s, t: s / (1 + t * t),
    lambda s, t: jnp.where(s > t, s, 0.5 * t + 0.5 * s), jnp.logaddexp,
]  # fmt: skip
PROGRAMS = st.lists(
    st.tuples(
        st.integers(0, len(UNARY) + len(BINARY) - 1),
        st.integers(0, 9),
        st.integers(0, 9),
    ),
    min_size=1,
    max_size=8,
)


def program(steps):
    """Return a function that does some steps, each with what came before it."""

    def run(s):
        known = [s]
        for which, i, j in steps:
            first, second = known[-1 - i % len(known)], known[-1 - j % len(known)]
            if which < len(UNARY):
                known.append(UNARY[which](first))
            else:
                known.append(BINARY[which - len(UNARY)](first, second))
        return known[-1]

    return run


@matrix.campaign
@pytest.mark.usefixtures("x64")
@settings(max_examples=60)
@given(PROGRAMS, st.integers(0, 1000), st.sampled_from([1.0, 0.03, 1e-3]))
def test_any_program(steps, seed, a):
    """Oracle: two values in float64, as far as they do not cancel."""
    function, random = program(steps), np.random.default_rng(seed)
    s, e = (
        jnp.asarray(random.normal(size=(2, 6))),
        jnp.asarray(random.normal(size=(2, 6))),
    )
    value, push = ctep.difference(function, s)
    wanted = (function(s + a * e) - value) / a
    size = float(jnp.abs(value).max()) / a + float(jnp.abs(wanted).max())
    np.testing.assert_allclose(push(e, scale=a), wanted, rtol=1e-9, atol=1e-12 * size)
    single = ctep.difference(function, s.astype(jnp.float32))[1]
    tiny = single(e.astype(jnp.float32), scale=1e-12)
    exact = ctep.difference(function, s.astype(jnp.float32).astype(float))[1]
    wanted = exact(e.astype(jnp.float32).astype(float), scale=1e-12)
    near = 1e-3 * (1e-3 + float(jnp.abs(wanted).max()))
    np.testing.assert_allclose(tiny, wanted, rtol=1e-3, atol=near)
