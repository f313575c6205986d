"""Residual networks: builder, initial weights, whitening, their gradient."""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import matrix
import numpy as np
import oracles
import pytest

import ctep

KEY = jax.random.key(0)


def images(count=50, shape=(6, 6, 2), seed=0):
    """Return images whose pixels go with their neighbours."""
    rng = np.random.default_rng(seed)
    smooth = rng.normal(size=(count, 1, 1, 1)) + 0.5 * rng.normal(size=(count, *shape))
    return smooth + np.roll(smooth, 1, 2)


def network(**kwargs):
    options = {"input_shape": (6, 6, 2), "feedback": 0.2, "key": KEY} | kwargs
    return ctep.residual((3, 4), 3, **options)


# ------------------------------------------------------------ whitening


@pytest.mark.parametrize("kernel", [2, 3])
def test_whitened_patches_are_uncorrelated(kernel):
    """Oracle: NumPy's second moments of all outputs; halves are each other's negatives.

    With an epsilon that no eigenvalue feels, they are the identity.
    """
    x = images()
    with jax.enable_x64(True):
        conv = ctep.whitening(x, kernel=kernel, epsilon=1e-9)
        out = np.asarray(conv.image(jnp.asarray(x)))
    half = kernel**2 * 2
    assert out.shape[1:] == (7 - kernel, 7 - kernel, 2 * half)
    flat = out.reshape(-1, 2 * half)
    np.testing.assert_array_equal(flat[:, :half], -flat[:, half:])
    moments = flat[:, :half].T @ flat[:, :half] / len(flat)
    np.testing.assert_allclose(moments, np.eye(half), atol=1e-6)


def test_whitening_of_a_flat_direction():
    """Oracle: by hand; a direction without variance is divided by sqrt(epsilon)."""
    weight = np.asarray(ctep.whitening(np.ones((3, 4, 4, 1)), epsilon=0.01).weight)
    sizes = np.linalg.norm(weight.reshape(4, 8), axis=0)
    want = np.sort([1 / math.sqrt(4.01)] * 2 + [10] * 6)
    np.testing.assert_allclose(np.sort(sizes), want, rtol=1e-5)


@pytest.mark.parametrize("wrong", [np.ones((4, 4, 1)), np.ones((0, 4, 4, 1))])
def test_whitening_needs_images(wrong):
    """One sentence with the shape."""
    with pytest.raises(ValueError, match=r"`images` has shape .*: pass"):
        ctep.whitening(wrong)


# ------------------------------------------------------------ initial weights


def test_the_first_filters_pass_on_what_they_get():
    """Oracle: the image itself; the other filters are the initialiser's own."""
    init = jax.nn.initializers.he_uniform()
    conv = ctep.Conv((5, 4, 3), 5, init=ctep.dirac(init), key=KEY)
    v = jnp.asarray(images(2, (5, 4, 3)), jnp.float32)
    np.testing.assert_array_equal(conv.image(v)[..., :3], v)
    plain = ctep.Conv((5, 4, 3), 5, init=init, key=KEY)
    np.testing.assert_array_equal(conv.weight[..., 3:], plain.weight[..., 3:])
    fewer = ctep.Conv((5, 4, 3), 2, init=ctep.dirac(init), key=KEY)
    np.testing.assert_array_equal(fewer.image(v), v[..., :2])


def test_initial_weights_are_those_of_fixup():
    """Oracle: the variances of the paper; branches of zeros leave the groups alone."""
    found = ctep.residual((64, 64, 64), input_shape=(16, 16, 3), key=KEY)
    weights = {
        (c.source, c.target): [np.asarray(leaf) for leaf in jax.tree.leaves(c.forward)]
        for c in found.couplings
    }
    for first in (1, 4, 7):
        (weight,) = weights[first, first + 1]
        want = math.sqrt(2 / (9 * 64) / 3)
        assert weight.std() == pytest.approx(want, rel=0.02)
        last, one = weights[first + 1, first + 2]
        assert not last.any()
        assert one == 1
        assert weights[first, first + 2] == []
    assert not jax.tree.leaves(found.readout.operator)[0].any()


def test_every_block_is_the_identity_with_skipinit():
    """Oracle: the state in front of a branch; He's weights behind a multiplier of 0."""
    he = jax.nn.initializers.he_normal()
    found = network(multiplier=0.0, branch_init=(he, he), feedback=None)
    x = jnp.asarray(images(2), jnp.float32)
    state = ctep.settle(found, x).state
    for first in (0, 3):
        assert np.any(state[first])
        np.testing.assert_array_equal(state[first + 2], state[first])


# ------------------------------------------------------------ the network


def test_skips_are_as_weak_as_what_they_bypass():
    """Oracle: the definition of graded feedback, and the layers' shapes by hand."""
    stem = ctep.whitening(images())
    found = network(stem=stem, readout_multiplier=1 / 9)
    assert found.shapes == (
        (5, 5, 16), *[(2, 2, 3)] * 3, *[(1, 1, 4)] * 3,
    )  # fmt: skip
    assert found.has_energy
    for c in found.couplings:
        want = 0.2 ** (c.target - c.source) if c.source else 0.0
        assert c.scale == pytest.approx(want)
    kinds = {type(c.forward) for c in found.couplings if c.target - c.source == 2}
    assert kinds == {ctep.Skip}
    assert "s4     = max(m3_4 (W3_4 * s3) + s2" in str(found)


@pytest.fixture(scope="module")
def trained():
    """Return a network with numbers in every array, in float64, and a batch."""
    with jax.enable_x64(True):
        found = network(stem=ctep.whitening(images()), activation=ctep.Tanh(),
                        pool=ctep.AveragePool, readout_multiplier=0.5)  # fmt: skip
        found = oracles.randomised(oracles.as_double(found), scale=0.3)
        x, y = jnp.asarray(images(2, seed=1)), jnp.array([0, 2])
        yield found, x, y


@matrix.parametrize("rule", ["centered", "implicit"], ["centered"])
def test_gradient(trained, rule):
    """Oracle: finite differences of the settled loss, in float64, along two lines."""
    found, x, y = trained
    rules = {"centered": ctep.Centered(1e-3), "implicit": ctep.Implicit()}
    with jax.enable_x64(True):
        solver = ctep.Sweeps(500, rtol=1e-12, atol=1e-12)

        @oracles.FAST
        def gradient(network):
            given = {"rule": rules[rule], "solver": solver, "throw": False}
            return ctep.gradient(network, x, y, **given)

        _, grad = gradient(found)
        arrays = eqx.filter(found, eqx.is_inexact_array)
        for seed in (0, 1):
            line = oracles.randomised(arrays, seed=seed, scale=1.0)
            there = jax.tree.map(lambda leaf: 1e-5 * leaf, line)
            ends = [
                gradient(jax.tree.map(move, found, there))[0]
                for move in (jnp.subtract, jnp.add)
            ]
            slope = (ends[1] - ends[0]) / 2e-5
            pairs = zip(jax.tree.leaves(grad), jax.tree.leaves(line), strict=True)
            own = sum(jnp.vdot(a, b) for a, b in pairs)
            assert float(own) == pytest.approx(float(slope), rel=1e-5)


@pytest.mark.parametrize(
    ("wrong", "match"),
    [
        ({"stem": ctep.Skip((4, 4, 2))}, "`stem` takes shape .*make them agree"),
        ({"branch_init": (jax.nn.initializers.zeros,)}, "`branch_init` holds 1 init"),
        ({"input_shape": (2, 2, 1)}, "`size` is .*pool less"),
        ({"multiplier": math.inf}, "`value` is inf"),
    ],
)
def test_wrong_arguments_are_named(wrong, match):
    """One sentence: the argument, its value and the remedy."""
    with pytest.raises(ValueError, match=match):
        network(**wrong)
