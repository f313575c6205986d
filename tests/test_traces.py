"""What is called inside somebody's `jit`: by values there are, or not at all."""

import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import matrix
import numpy as np
import pytest

import ctep
from ctep import analysis

KEY = jax.random.key(0)
FUNCTIONS = matrix.ANALYSES | {
    "recommended_beta": lambda n, x, y: analysis.recommended_beta(n, x, y).bias,
    "evaluate": lambda n, x, y: ctep.evaluate(n, (x, y)).loss,
    "fit": lambda n, x, y: ctep.fit(
        n, (x, y), epochs=1, progress=False
    ).network.layers[0].bias,
}  # fmt: skip
TRACES = {
    "jit": lambda f: jax.jit(f)(),
    "scan": lambda f: jax.lax.scan(lambda c, _: (f(), None), f(), None, length=2)[0],
    "checkpoint": lambda f: jax.jit(jax.checkpoint(f))(),
}


@pytest.fixture(scope="module")
def given():
    network = ctep.mlp((6, 5, 5, 3), feedback=0.1, key=KEY)
    return network, jax.random.normal(KEY, (4, 6)), jnp.arange(4) % 3


# Where values come from is one piece of code: each function in turn, each trace often.
CELLS = list(zip(FUNCTIONS, itertools.cycle(TRACES), strict=False))


@matrix.parametrize(("name", "trace"), CELLS, [("spectral_radius", "jit")])
def test_values_that_are_there_are_used(given, name, trace):
    """Oracle: the same call outside; what is closed over has values."""
    want = np.asarray(FUNCTIONS[name](*given))
    found = TRACES[trace](lambda: jnp.asarray(FUNCTIONS[name](*given)))
    np.testing.assert_allclose(found, want, rtol=1e-5)


@matrix.parametrize("name", FUNCTIONS, ["spectral_radius", "gradient_check", "fit"])
def test_values_that_are_not_there_are_asked_for(given, name):
    """One sentence that names the argument and the function."""
    what = "spectral_radius" if name == "weights" else name
    match = f"`(network|dataset)` is traced, but `{what}` needs its values .* outside"
    with pytest.raises(TypeError, match=match):
        eqx.filter_jit(FUNCTIONS[name])(*given)


def test_what_returns_arrays_is_traced(given):
    """Oracle: the same outside."""
    functions = (
        lambda n, x: ctep.predict(n, x),
        lambda n, x: analysis.energy_trace(n, x)[0],
        lambda n, x: ctep.settle(n, x).residual,
    )
    for function in functions:
        want = function(*given[:2])
        np.testing.assert_allclose(eqx.filter_jit(function)(*given[:2]), want, 1e-4)


NUMBERS = {
    "OneSided": lambda v: {"rule": ctep.OneSided(v)},
    "Centered": lambda v: {"rule": ctep.Centered(v)},
    "RandomSign": lambda v: {"rule": ctep.RandomSign(v), "key": KEY},
    "Holomorphic": lambda v: {"rule": ctep.Holomorphic(v)},
    "Sweeps": lambda v: {"solver": ctep.Sweeps(rtol=v, atol=v)},
    "ODE": lambda v: {"solver": ctep.ODE(rtol=v, atol=v)},
    "FixedPoint": lambda v: {"solver": ctep.FixedPoint(rtol=v, atol=v)},
}


@matrix.parametrize("name", NUMBERS, ["OneSided", "Sweeps"])
def test_nudges_and_tolerances_may_be_traced(given, name):
    """Oracle: one call per number; all of them at once by `vmap`."""
    network, x, y = given
    values = jnp.array([1e-3, 0.1])

    def weight(value):
        how = {"throw": False, **NUMBERS[name](value)}
        return ctep.gradient(network, x, y, **how)[1].couplings[0].forward.weight

    found = jax.jit(jax.vmap(weight))(values)
    want = [weight(float(value)) for value in values]
    np.testing.assert_allclose(found, jnp.stack(want), rtol=1e-4, atol=1e-6)
