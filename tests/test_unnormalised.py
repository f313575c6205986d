"""Recipes without normalisation layers: their weights and how these learn."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ctep
from ctep.recipes import RECIPES


@pytest.fixture(scope="module")
def data():
    """Return a few random images, each brighter or darker as a whole."""
    rng = np.random.default_rng(0)
    x = rng.integers(0, 128, (20, 32, 32, 3)) + 127 * rng.integers(0, 2, (20, 1, 1, 1))
    records = ctep.data.ArrayRecords(x.astype(np.uint8), np.arange(20) % 10, 10)
    return ctep.data.Dataset("cifar10", records, None, "random")


@pytest.fixture(scope="module")
def air(data):
    """Return the network of `fre-air` for them, and what `fit` needs with it."""
    return RECIPES["fre-air"].setup(data, scale=0.03, epochs=2)


def first(network):
    """Return the weights of the first convolution."""
    return jax.tree.leaves(network.couplings[0].forward)[0]


def test_images_are_whitened_as_the_network_gets_them(data, air):
    """Oracle: the first convolution's outputs on the normalised training images."""
    network, options = air
    mean, deviation = (np.asarray(options["pipeline"].mean), options["pipeline"].std)
    x = (data.x_train / 255 - mean) / np.asarray(deviation)
    conv = ctep.Conv(
        (32, 32, 3), 24, kernel=2, padding="valid", key=jax.random.key(0),
        init=lambda *_: jnp.asarray(first(network)),
    )  # fmt: skip
    out = np.asarray(conv.image(jnp.asarray(x, jnp.float32)), float).reshape(-1, 24)
    moments = out[:, :12].T @ out[:, :12] / len(out)
    np.testing.assert_allclose(moments, np.eye(12), atol=0.02)


def test_scalars_are_slow_and_do_not_decay(air):
    """Oracle: by hand; one step of gradients of 0 and of 1."""
    network, options = air
    arrays, _ = ctep._rule.partition(network, options["nudge"])
    optimizer = options["optimizer"]
    state = optimizer.init(arrays)
    still, _ = optimizer.update(jax.tree.map(jnp.zeros_like, arrays), state, arrays)
    moved, _ = optimizer.update(jax.tree.map(jnp.ones_like, arrays), state, arrays)
    leaves = zip(*map(jax.tree.leaves, (arrays, still, moved)), strict=True)
    seen = set()
    for leaf, rest, move in leaves:
        weights = leaf.ndim > 1
        seen.add(leaf.ndim)
        # Nesterov's first step is 1.9 times the gradient.
        decay, rate = (5e-4, 0.1) if weights else (0.0, 0.01)
        np.testing.assert_allclose(rest, -1.9 * rate * decay * leaf, rtol=1e-4)
        want = -1.9 * rate * (1 + decay * leaf)
        np.testing.assert_allclose(move, want, rtol=1e-4)
    assert seen == {0, 1, 2, 4}
