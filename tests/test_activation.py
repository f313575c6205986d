import cmath
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

import ctep

# Per name: the activation, the same function in numpy, and how it prints.
CASES = {
    "identity": (ctep.Identity(), lambda h: h, "h"),
    "tanh": (ctep.Tanh(), np.tanh, "tanh(h)"),
    "sigmoid": (
        ctep.Sigmoid(),
        lambda h: 1 / (1 + np.exp(-h)),
        "sigmoid(1 (h - 0))",
    ),
    "steep sigmoid": (
        ctep.Sigmoid(4.0, 0.5),
        lambda h: 1 / (1 + np.exp(-4 * (h - 0.5))),
        "sigmoid(4 (h - 0.5))",
    ),
    "clip": (ctep.Clip(-0.5, 2.0), lambda h: np.clip(h, -0.5, 2), "clip(h, -0.5, 2)"),
    "hard sigmoid": (
        ctep.HardSigmoid(),
        lambda h: np.clip(h, 0, 1),
        "clip(h, 0, 1)",
    ),
    "relu6": (ctep.ReLU6(), lambda h: np.clip(h, 0, 6), "clip(h, 0, 6)"),
    "relu": (ctep.ReLU(), lambda h: np.maximum(h, 0), "max(h, 0)"),
    "no clip": (ctep.Clip(-math.inf, math.inf), lambda h: h, "h"),
}
ACTIVATIONS = {name: case[0] for name, case in CASES.items()}
SMOOTH = "identity", "tanh", "sigmoid", "steep sigmoid"
BOUNDED = "tanh", "sigmoid", "steep sigmoid", "clip", "hard sigmoid", "relu6"

each = pytest.mark.parametrize("name", ACTIVATIONS)


@pytest.mark.usefixtures("x64")
@each
def test_value(name):
    """Oracle: the same function in numpy."""
    activation, function, _ = CASES[name]
    h = np.linspace(-9, 9, 181)
    np.testing.assert_allclose(activation(jnp.asarray(h)), function(h), atol=1e-15)


@pytest.mark.usefixtures("x64")
@each
def test_derivative(name):
    """Oracle: central differences of the function in numpy, away from kinks."""
    activation, function, _ = CASES[name]
    h, step = np.linspace(-7, 7, 142), 1e-6
    kinks = [end for end in activation.range if math.isfinite(end)]
    if isinstance(activation, ctep.Clip):
        assert all(np.min(np.abs(h - kink)) > 1e-3 for kink in kinks)
    slope = (function(h + step) - function(h - step)) / (2 * step)
    got = activation.derivative(jnp.asarray(h))
    np.testing.assert_allclose(got, slope, atol=1e-8)


@pytest.mark.usefixtures("x64")
@each
def test_gradient_of_the_potential_inverts_the_activation(name):
    """Oracle: rho(G'(s)) = s within the range, with G' by autodiff."""
    activation, function, _ = CASES[name]
    lo, hi = (min(max(end, -3.0), 3.0) for end in activation.range)
    s = np.linspace(lo, hi, 43)[1:-1]
    drive = jax.vmap(jax.grad(activation.potential))(jnp.asarray(s))
    np.testing.assert_allclose(function(np.asarray(drive)), s, atol=1e-12)
    assert np.all(np.diff(drive) > 0)


@pytest.mark.usefixtures("x64")
@each
def test_potential_and_its_conjugate_meet_in_the_state(name):
    r"""Oracle: Fenchel's equality $G(s) + G^*(h) = s h$ at $s = \rho(h)$.

    The conjugate is a maximum over a fine grid of states; no other state does better.
    """
    activation, function, _ = CASES[name]
    lo, hi = (min(max(end, -8.0), 8.0) for end in activation.range)
    grid = jnp.linspace(lo, hi, 4001)
    potential = activation.potential(grid)
    assert np.all(np.isfinite(potential))  # at both ends as well
    for h in (-2.0, -0.3, 0.0, 0.7, 2.5):
        conjugate = float(jnp.max(h * grid - potential))
        s = jnp.asarray(float(function(np.float64(h))))
        own = float(h * s - activation.potential(s))
        assert own >= conjugate - 1e-12
        assert own == pytest.approx(conjugate, abs=1e-4)


@pytest.mark.parametrize("name", ["clip", "hard sigmoid", "relu6", "relu"])
def test_potential_is_infinite_outside_the_range(name):
    """Oracle: the conjugate of a convex function is, outside its gradient's range."""
    activation = ACTIVATIONS[name]
    lo, hi = activation.range
    assert float(activation.potential(jnp.asarray(lo - 0.1))) == math.inf
    assert math.isinf(hi) or float(activation.potential(jnp.asarray(hi + 0.1))) > 1e30


@each
@settings(max_examples=60)
@given(h=st.floats(-20, 20), step=st.floats(1e-3, 40))
def test_lipschitz_constant_is_never_exceeded(name, h, step):
    """Oracle: difference quotients of the function in numpy."""
    activation, function, _ = CASES[name]
    h, other = np.float64(h), np.float64(h + step)
    quotient = (function(other) - function(h)) / (other - h)
    assert 0 <= quotient <= activation.lipschitz * (1 + 1e-9)


@each
def test_lipschitz_constant_is_attained(name):
    """Oracle: the steepest difference quotient of the function in numpy."""
    activation, function, _ = CASES[name]
    h = np.linspace(-3, 3, 6001)
    steepest = np.max(np.diff(function(h)) / np.diff(h))
    assert steepest == pytest.approx(activation.lipschitz, rel=1e-5)
    slopes = activation.derivative(jnp.asarray(h))
    assert float(jnp.max(slopes)) == pytest.approx(activation.lipschitz, rel=1e-5)


@each
@settings(max_examples=60)
@given(h=st.floats(-1e4, 1e4, width=32))
def test_states_stay_in_the_range(name, h):
    """Oracle: the range itself, in float32."""
    lo, hi = ACTIVATIONS[name].range
    assert lo <= float(ACTIVATIONS[name](jnp.float32(h))) <= hi


@pytest.mark.parametrize("name", BOUNDED)
def test_range_is_tight(name):
    """Oracle: the states that large drives ask for."""
    activation = ACTIVATIONS[name]
    ends = [float(activation(jnp.asarray(h))) for h in (-50.0, 50.0)]
    assert ends == pytest.approx(activation.range, abs=1e-6)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", ["tanh", "sigmoid", "steep sigmoid"])
def test_pole_is_a_pole(name):
    r"""Oracle: the residue at it, $\oint \rho\,dz / 2 \pi i$ on small circles.

    At the pole of a sigmoid of slope $k$ it is $1/k$, at that of tanh 1; nearer to the
    real axis, and beside the pole, it is 0.
    """
    activation = ACTIVATIONS[name]
    pole = activation.pole
    residue = 1 / getattr(activation, "slope", 1.0)
    near = activation(jnp.asarray(pole + 1e-6))
    assert abs(complex(near)) == pytest.approx(residue / 1e-6, rel=1e-3)
    assert _residue(activation, pole, 0.3 * pole.imag) == pytest.approx(residue)
    for z in (pole.real + 0.5j * pole.imag, pole + 0.9 * pole.imag, pole.real - 0.4):
        assert abs(_residue(activation, z, 0.3 * pole.imag)) < 1e-9


def _residue(activation, centre, radius, count=256):
    turn = np.exp(2j * np.pi * np.arange(count) / count)
    values = np.asarray(activation(jnp.asarray(centre + radius * turn)))
    return complex(np.mean(values * radius * turn))


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", SMOOTH)
def test_activation_is_holomorphic_below_its_pole(name):
    """Oracle: Cauchy and Riemann; the slope is the same along both axes."""
    activation = ACTIVATIONS[name]
    pole, step = activation.pole, 1e-5
    height = 0.9 * pole.imag if cmath.isfinite(pole) else 10.0
    shift = pole.real if cmath.isfinite(pole) else 0.0
    real, imaginary = np.meshgrid(
        shift + np.linspace(-2, 2, 9), np.linspace(-height, height, 9)
    )
    z = jnp.asarray(real + 1j * imaginary)
    across = (activation(z + step) - activation(z - step)) / (2 * step)
    up = (activation(z + 1j * step) - activation(z - 1j * step)) / (2j * step)
    np.testing.assert_allclose(across, up, rtol=1e-5, atol=1e-8)
    assert np.all(np.isfinite(activation(z)))


def test_entire_and_not_holomorphic():
    """Oracle: a linear function is entire, a function with a kink is not analytic."""
    assert cmath.isinf(ctep.Identity().pole)
    assert all(
        ACTIVATIONS[name].pole is None
        for name in ("clip", "hard sigmoid", "relu6", "relu")
    )


@each
def test_formula(name):
    """Oracle: the text, with the activation's own numbers."""
    activation, _, formula = CASES[name]
    assert activation.formula == formula


def test_shorthands_are_clips():
    """Oracle: their definitions."""
    assert ctep.HardSigmoid() == ctep.Clip(0.0, 1.0)
    assert ctep.ReLU6() == ctep.Clip(0.0, 6.0)
    assert ctep.ReLU() == ctep.Clip(0.0, math.inf)


@pytest.mark.parametrize(
    ("activation", "outside"),
    [(ctep.Tanh(), (-1.1, 1.1)), (ctep.Sigmoid(), (-0.1, 1.1))],
)
def test_potentials_end_with_the_range(activation, outside):
    """Oracle: the convex conjugate, sup (h s - integral of rho), which has no bound."""
    assert np.isinf(activation.potential(jnp.array(outside))).all()
    ends = jnp.array(activation.range)
    assert np.isfinite(activation.potential(ends)).all()
    h = np.linspace(-60, 60, 1201)
    area = np.cumsum(np.asarray(activation(jnp.asarray(h)))) * 0.1
    grows = outside[1] * h - area
    assert grows[-1] - grows[-200] > 1  # and so on without end
