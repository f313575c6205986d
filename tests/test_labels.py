"""Labels that name no class spoil the loss; they do not vanish from it."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import ctep

KEY = jax.random.key(0)
LOSSES = ctep.CrossEntropy(), ctep.SquaredError()


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: type(loss).__name__)
@pytest.mark.parametrize("kind", ["int32", "uint8", "int8", "uint32"])
def test_only_labels_of_a_class_have_a_loss(loss, kind):
    """Oracle: one-hot vectors by hand; not a number for any other label.

    There are more classes than an 8-bit label can name, which must not wrap.
    """
    outputs = jax.random.normal(KEY, (5, 300))
    labels = np.array([0, 3, 44, 100, 299]).astype(kind)
    vectors = (labels[:, None] == np.arange(300)).astype(np.float32)
    got, slope = jax.jit(jax.vmap(jax.value_and_grad(loss)))(outputs, labels)
    wanted, its_slope = jax.vmap(jax.value_and_grad(loss))(outputs, vectors)
    np.testing.assert_allclose(got, wanted, rtol=1e-5)
    np.testing.assert_allclose(slope, its_slope, rtol=1e-5, atol=1e-7)
    others = {"int32": -1, "uint8": 200, "int8": -100, "uint32": 2**31 + 7}
    few, other = outputs[:, :150], labels.copy()
    other[2] = others[kind]
    got, slope = jax.jit(jax.vmap(jax.value_and_grad(loss)))(few, other)
    assert np.isnan(got[2])
    assert np.isnan(slope[2]).all()
    assert np.isfinite(got[jnp.array([0, 1, 3])]).all()


def test_labels_beyond_32_bits_have_no_loss(x64):
    """Oracle: not a number, where the last 32 bits name a class."""
    labels = jnp.array([1, 2**32 + 1])
    for loss in LOSSES:
        got = jax.jit(loss)(jnp.zeros((2, 3)), labels)
        assert np.isnan(got).tolist() == [False, True]


@pytest.mark.parametrize("target", [[0, 3], [0, -1], [[0.0, 1, 0], [np.nan, 0, 0]]])
def test_what_cannot_be_checked_in_a_jit_spoils_the_gradient(target):
    """Oracle: outside of `jit` the label is refused, so inside nothing is finite."""
    network = ctep.mlp((4, 3, 3), key=KEY)

    def run(x, y):
        return ctep.gradient(network, x, y, throw=False)

    with pytest.raises(ValueError, match=r"^`y` holds"):
        run(np.ones((2, 4)), np.array(target))
    loss, gradient = jax.jit(run)(jnp.ones((2, 4)), jnp.array(target))
    assert np.isnan(loss)
    assert np.isnan(gradient.readout.bias).all()


def test_rows_that_fill_a_batch_up_spoil_nothing():
    """Oracle: the mean over a last batch of one example, taken by hand."""
    x = np.random.default_rng(0).uniform(-1, 1, (5, 4)).astype(np.float32)
    y = np.array([0, 1, 2, 2, 1])
    network = ctep.mlp((4, 3, 3), key=KEY)
    options = {"epochs": 1, "batch_size": 4, "probe": 0, "progress": False}
    loss, _ = ctep.gradient(network, x, y, throw=False)
    for workers in (None, 0):
        result = ctep.fit(
            network, (x, y), optimizer=optax.sgd(0.0), workers=workers, **options
        )
        assert result.status == "completed"
        np.testing.assert_allclose(result.history[0]["loss"], loss, rtol=1e-3)


def test_labels_that_count_from_one_are_told_so():
    """Oracle: by hand; ten classes of which none is 0."""
    network = ctep.mlp((4, 8, 10), key=jax.random.key(0))
    x, y = np.ones((20, 4), np.float32), np.arange(20) % 10 + 1
    with pytest.raises(ValueError, match=r"Labels count from 0: if these .* `y - 1`"):
        ctep.fit(network, (x, y), progress=False)
    with pytest.raises(ValueError, match="labels count from 0, so pass `y - 1`"):
        ctep.gradient(network, x, y)
    with pytest.raises(ValueError, match="fix the labels or build it with more"):
        ctep.gradient(network, x[:1], y[-1:])


def test_a_chain_is_told_its_sizes_and_images_their_shape():
    """Oracle: the arguments of the builders that made them."""
    x, y = np.ones((20, 5), np.float32), np.arange(20) % 3
    chain = ctep.mlp((4, 8, 3), key=jax.random.key(0))
    with pytest.raises(ValueError, match=r"as `ctep\.mlp\(\(5, \.\.\.\)\)`\.$"):
        ctep.fit(chain, (x, y), progress=False)
    images = ctep.vgg((2,), (3,), 3, input_shape=(8, 8, 1), key=jax.random.key(0))
    with pytest.raises(ValueError, match=r"`input_shape=\(6, 6, 1\)`, or pad images"):
        ctep.fit(images, (np.ones((20, 6, 6, 1), np.float32), y), progress=False)
