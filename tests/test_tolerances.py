"""Tolerances follow the number of units and their dtype: of all analyses, to a verdict.

Networks are copies of two units that drive each other, side by side: any number of
units has the eigenvalues of two, so who settles is known, and when.
"""

import math

import jax
import jax.numpy as jnp
import matrix
import numpy as np
import pytest

import ctep
from ctep import analysis
from ctep.analysis import _lyapunov, _norms
from ctep.analysis._inputs import nearest, solver_or

KEY = jax.random.key(0)
SIZES, DTYPES = (2, 1000, 10_000), (np.float32, np.float64)
every = matrix.product(("units", "dtype"), SIZES, DTYPES)


def pairs(units, dtype, gain, feedback, activation=None):
    """Return pairs of units: eigenvalues of the map are +-i gain, or +-gain if tied."""
    shape = (units // 2, 1, 1)
    constant = lambda v: lambda key, shape, _: jnp.full(shape, v, dtype)  # noqa: E731
    each = lambda v: ctep.Conv(shape, 1, kernel=1, key=KEY, init=constant(v))  # noqa: E731
    back = ctep.Tied() if feedback == "tied" else ctep.Fixed(1.0, each(-gain))
    layers = [ctep.Layer(shape, activation or ctep.Identity()) for _ in range(2)]
    couplings = [ctep.Coupling(0, 1, each(0.3)), ctep.Coupling(1, 2, each(gain), back)]
    readout = ctep.Dense(shape, (3,), key=KEY, init=constant(0.1 / units))
    return ctep.Network(shape, layers, couplings, ctep.Readout(readout))


def inputs(units, dtype):
    """Return three examples of one value each; the last one is zero."""
    x = np.ones((3, units // 2, 1, 1), dtype)
    return jnp.asarray(x * np.array([1.0, 1e-3, 0.0], dtype)[:, None, None, None])


def double(dtype):
    return jax.enable_x64(dtype == np.float64)


def times(gain, rtol, x=1.0):
    """Return when one pair stands still, in numpy's longest floats."""
    a, b, still, t = np.longdouble(0), np.longdouble(0), 0, -1
    while still < 3:
        t, old = t + 1, (a, b)
        a, b = np.longdouble(0.3) * x - gain * b, gain * a
        near = math.hypot(a - old[0], b - old[1]) <= rtol * math.hypot(a, b)
        still = still + 1 if near else 0
    return t


@every
def test_time_of_what_settles(units, dtype):
    """Oracle: one pair in extended precision; the size of an input changes nothing."""
    for gain in (0.5, 0.97):
        with double(dtype):
            network = pairs(units, dtype, gain, "fixed")
            found = analysis.convergence_time(
                network, inputs(units, dtype), max_steps=3000
            )
        assert found.converged.all()
        want = times(gain, 100 * np.finfo(dtype).eps)
        # By its own roundings a state comes to rest a little sooner or later.
        np.testing.assert_allclose(found.steps[:2], want, rtol=0.03, atol=2)
        assert found.steps[2] == 2


@every
def test_what_does_not_settle_is_not_said_to(units, dtype):
    """Oracle: a rotation; a limit cycle; a decay of 0.1 % per step; a runaway."""
    whole = math.ceil(math.log(np.finfo(dtype).max) / math.log(1.5))
    cases = [
        (1.0, ctep.Identity(), 200),
        (1.3, ctep.Tanh(), 200),
        (0.999, ctep.Identity(), 200),
        (1.5, ctep.Identity(), whole + 20),
    ]
    for gain, activation, steps in cases:
        with double(dtype):
            network = pairs(units, dtype, gain, "fixed", activation)
            x = inputs(units, dtype)
            found = analysis.convergence_time(network, x, max_steps=steps)
        assert list(found.converged) == [False, False, True]


@pytest.mark.usefixtures("x64")
def test_growth_from_next_to_nothing_is_no_rest():
    """Oracle: by construction, 10 % more per step than the step before, from 1e-12."""
    network = pairs(2, np.float64, 1.1, "tied", ctep.Tanh())
    x = 1e-12 * inputs(2, np.float64)[:1]
    found = analysis.convergence_time(network, x, max_steps=100)
    assert not found.converged.any()


@pytest.mark.usefixtures("x64")
def test_the_published_definition_is_an_absolute_one():
    """Oracle: differences of states in numpy, in the 2-norm over all units."""
    units, gain = 100, 0.8
    network, x = pairs(units, np.float64, gain, "fixed"), inputs(units, np.float64)
    drive = 0.3 * np.array([1.0, 1e-3, 0.0]) * math.sqrt(units / 2)
    # The first step is of the drive's size, and each is `gain` times the one before.
    want = [max(math.ceil(math.log(1e-6 / d, gain)), 0) + 2 if d else 2 for d in drive]
    found = analysis.convergence_time(network, x, 0.0, 1e-6 / math.sqrt(units))
    assert list(found.steps) == want


def test_tolerance_of_zero_waits_for_the_last_bit():
    """Oracle: the state itself, step by step."""
    network, x = pairs(2, np.float32, 0.5, "fixed"), inputs(2, np.float32)
    found = analysis.convergence_time(network, x, 0.0)
    assert found.converged.all()
    state, problem = network.zeros(x), network.free(x)
    for _ in range(found.steps[0] - 2):
        state = problem.map(state)
    image = problem.map(state)
    assert all(np.array_equal(a[0], b[0]) for a, b in zip(state, image, strict=True))


# What each analysis says of examples that settle, or do not, with its own defaults.
ANALYSES = {
    "gradient_check": lambda *a: analysis.gradient_check(*a, [ctep.Centered(1e-3)]),
    "gradient_curve": lambda *a: analysis.gradient_curve(*a, steps=3),
    "depth_profile": lambda *a: analysis.depth_profile(*a),
    "nudge_plane": lambda *a: analysis.nudge_plane(*a, points=2, radius=1e-3),
    "recommended_beta": lambda *a: analysis.recommended_beta(*a),
    "spectral_radius": lambda network, x, y: analysis.spectral_radius(network, x),
    "energy_trace": lambda *a: analysis.energy_trace(
        *a[:2], y=a[2], beta=1e-3, steps=2
    ),
}
CELLS = [(name, n, t) for name in ANALYSES for n in SIZES[::2] for t in DTYPES]
# Which takes 80 s, and of its sizes float32 has seen the large one, too.
CELLS.remove(("recommended_beta", SIZES[-1], np.float64))
QUICK = ("gradient_curve", "depth_profile", "energy_trace")
FEW = [c for k, c in enumerate(CELLS) if k // 2 % 2 == (c[0] in QUICK) == k % 2]


FEW = [cell for cell in FEW if cell[1] == SIZES[0] or cell[2] == np.float32]


@matrix.parametrize(("name", "units", "dtype"), CELLS, FEW)
def test_every_analysis_knows_who_settles(name, units, dtype):
    """Oracle: the eigenvalues +-gain, below 1 and above."""
    with double(dtype):
        y = jnp.arange(3)
        network, x = pairs(units, dtype, 0.9, "tied"), inputs(units, dtype)
        found = ANALYSES[name](network, x, y)
        if name == "spectral_radius":
            np.testing.assert_allclose(found, 0.9, rtol=1e-3)
        if name == "gradient_check":
            assert found.cosine[0, -1] > 1 - 1e-6
        if name == "nudge_plane":
            assert found.settled.all()
        network = pairs(units, dtype, 1.01, "tied")
        with pytest.raises(RuntimeError):
            ANALYSES[name](network, x, y)


@every
def test_default_solver_is_as_near_as_the_dtype_is(units, dtype):
    r"""Oracle: the rest in closed form, $s_1 = d / (1 - g^2)$ of the drive $d$."""
    with double(dtype):
        network, x = pairs(units, dtype, 0.9, "tied"), inputs(units, dtype)
        solver = solver_or(None, network.dtype)
        rest = ctep.settle(network, x, solver=solver)
    want = 0.3 * np.asarray(x, float) / (1 - 0.9**2)
    # The residual over the smallest eigenvalue of one minus the map.
    bound = 2 * nearest(dtype) / (1 - 0.9)
    np.testing.assert_allclose(rest.state[0], want, rtol=bound, atol=bound)


@every
def test_exponents_of_pairs(units, dtype):
    """Oracle: the logarithm of the gain, whatever the number of units."""
    with double(dtype):
        network = pairs(units, dtype, 0.9, "fixed")
        found = analysis.lyapunov(network, inputs(units, dtype), 20, 2)
    np.testing.assert_allclose(found, math.log(0.9), rtol=1e-4)


@every
def test_certificate_of_pairs(units, dtype):
    """Oracle: the Lipschitz constant is the gain itself."""
    for gain in (0.999, 1.001):
        with double(dtype):
            network = pairs(units, dtype, gain, "tied")
            assert analysis.contraction(network, beta=0.0).proved == (gain < 1)


def test_directions_within_rounding_of_others_are_none():
    """Oracle: a map of rank two has two exponents, and no third one."""
    frame = np.random.default_rng(0).standard_normal((50, 2)).astype("float32")
    third = frame @ np.array([[0.3], [0.7]], "float32")
    frame = jnp.asarray(np.concatenate([frame, third], 1))
    q, sizes = _lyapunov._orthonormal(frame)
    assert list(np.asarray(sizes) > 0) == [True, True, False]
    assert not np.asarray(q)[:, 2].any()
    # Once it is gone it stays so.
    assert _lyapunov._orthonormal(q)[1][2] == 0


def test_exponents_of_a_map_of_low_rank():
    """Oracle: of six units that hear one, one direction is left after two steps."""
    network = ctep.mlp((3, 6, 1), readout=False, key=KEY, activation=ctep.Identity())
    found = np.asarray(analysis.lyapunov(network, jnp.ones((2, 3)), 5, 4))
    assert np.isfinite(found[:, :2]).all()
    assert (found[:, 2:] == -np.inf).all()


def test_norms_of_what_cannot_be_squared():
    """Oracle: the same in float64."""
    sizes = np.array([[1e-30], [1e30], [4e37], [0.0]])
    v = (np.array([[3.0, 4.0]]) * sizes).astype("float32")
    found = _norms.lengths((jnp.asarray(v), jnp.asarray(v)), [(-1,), (-1,)])
    want = math.sqrt(2) * np.linalg.norm(v.astype(float), axis=1)
    np.testing.assert_allclose(found, want, rtol=1e-6)
    direction, size = _norms.unit(jnp.asarray(v[0]))
    np.testing.assert_allclose(direction, [0.6, 0.8], rtol=1e-6)
    assert size == pytest.approx(5e-30, rel=1e-6)
    assert np.isnan(_norms.unit(jnp.array([np.nan, 1.0]))[1])


def test_signs_of_rounding_are_not_counted():
    """Oracle: by construction, an element of 1e-9 that float32 cannot know."""
    from ctep.analysis._gradient_check import _compare

    truth, ours = np.array([1.0, -1.0, 1e-9]), np.array([1.0, -1.0, -1e-9])
    row = _compare([ours], [truth], nearest(np.float32))[0]
    assert row[2] == 1.0
    assert _compare([ours], [truth], nearest(np.float64))[0][2] == pytest.approx(2 / 3)


@pytest.mark.parametrize("name", ["rtol", "atol"])
@pytest.mark.parametrize("value", [-1e-6, math.nan])
def test_tolerance_below_zero(name, value):
    network = pairs(2, np.float32, 0.5, "fixed")
    with pytest.raises(ValueError, match=f"`{name}` is {value}, but a tolerance of st"):
        analysis.convergence_time(network, inputs(2, np.float32), **{name: value})
