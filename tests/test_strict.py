"""Callers with narrow numbers, strict promotion of dtypes, or a guard of transfers."""

import equinox as eqx
import jax
import jax.numpy as jnp
import matrix
import numpy as np
import oracles
import pytest

import ctep
from ctep import _checks as checks

KEY = jax.random.key(0)
CALLS = {
    "gradient": lambda n, x, y: ctep.gradient(n, x, y)[1],
    "holomorphic": lambda n, x, y: ctep.gradient(n, x, y, rule=ctep.Holomorphic())[1],
    "implicit": lambda n, x, y: ctep.gradient(n, x, y, rule=ctep.Implicit())[1],
    "ode": lambda n, x, y: ctep.settle(n, x, solver=ctep.ODE()).state,
    "fixed point": lambda n, x, y: ctep.settle(n, x, solver=ctep.FixedPoint()).state,
    "predict": lambda n, x, y: ctep.predict(n, x),
    "radius": lambda n, x, y: ctep.analysis.spectral_radius(n, x),
    "fit": lambda n, x, y: ctep.fit(n, (x, y), epochs=1, progress=False).network,
}
STRICT = {
    "promotion": lambda: jax.numpy_dtype_promotion("strict"),
    "transfers": lambda: jax.transfer_guard("disallow"),
}


def given():
    network = ctep.mlp((6, 5, 5, 3), feedback=0.1, key=KEY)
    return network, jax.random.normal(KEY, (4, 6)), jnp.arange(4) % 3


CELLS = [(call, strict) for call in CALLS for strict in STRICT]


@matrix.parametrize(
    ("call", "strict"),
    CELLS,
    [("gradient", "transfers"), ("holomorphic", "promotion")],
)
def test_a_strict_caller_gets_the_same(call, strict):
    """Oracle: the same call without, bit for bit."""
    parts = given()
    want = CALLS[call](*parts)
    with STRICT[strict]():
        found = CALLS[call](*parts)
    for a, b in zip(*map(jax.tree.leaves, (found, want)), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_exact_gradients_of_narrow_networks(dtype):
    """Oracle: float32; a linear solve in it, and the digits that the dtype has."""
    network, x, y = given()
    narrow = jax.tree.map(
        lambda v: v.astype(dtype) if eqx.is_inexact_array(v) else v, network
    )
    loose = ctep.Sweeps(rtol=0.02, atol=0.02)
    rule = ctep.Implicit()
    _, found = ctep.gradient(narrow, x, y, rule=rule, solver=loose)
    _, want = ctep.gradient(network, x, y, rule=rule)
    for a, b in zip(*map(jax.tree.leaves, (found, want)), strict=True):
        assert a.dtype == dtype
        assert oracles.cosine(np.float64(a), np.float64(b)) > 0.99


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_narrow_networks_are_not_trained(dtype, tmp_path):
    """A sentence that says what to do instead, before a folder is made."""
    network, x, y = given()
    narrow = jax.tree.map(
        lambda v: v.astype(dtype) if eqx.is_inexact_array(v) else v, network
    )
    with pytest.raises(ValueError, match=f"`network` is {dtype}, in which a step"):
        ctep.fit(narrow, (x, y), out=tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("dtype", [">f4", ">f8", "g", ">c8"])
def test_weights_that_jax_does_not_have(dtype):
    """One sentence, from what is made of a network and from a layer at once."""
    own = ctep.mlp((4, 3, 2), key=jax.random.key(0))
    weight = np.ones((3, 4), dtype)
    odd = eqx.tree_at(lambda n: n.couplings[0].forward.weight, own, weight)
    x, y = np.ones((2, 4), np.float32), np.arange(2)
    calls = (
        lambda: ctep.gradient(odd, x, y),
        lambda: ctep.settle(odd, x),
        lambda: ctep.predict(odd, x),
        lambda: ctep.evaluate(odd, (x, y)),
        lambda: ctep.fit(odd, (x, y), epochs=1, progress=False),
        lambda: ctep.analysis.spectral_radius(odd, x),
    )
    for call in calls:
        with pytest.raises(TypeError, match=r"^`network` holds an array of dtype"):
            call()
    if np.issubdtype(weight.dtype, np.floating):
        with pytest.raises(TypeError, match=r"^`bias` holds an array of dtype"):
            checks.numbers_or_none("bias", weight[0])
