"""Pipelines: padding, augmentation and normalisation, against numpy."""

import jax
import jax.numpy as jnp
import matrix
import numpy as np
import pytest

import ctep
from ctep.data import Pipeline


def images(count=6, shape=(5, 4, 3)):
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (count, *shape), dtype=np.uint8)


def keys(count=6):
    return jax.random.split(jax.random.key(0), count)


def test_normalisation():
    """Oracle: the formula in numpy, with the tripled deviation of published code."""
    x = images()
    pipeline = Pipeline.standard("cifar10", std_factor=3.0)
    mean = np.array([0.4914, 0.4822, 0.4465])
    std = 3 * np.array([0.2023, 0.1994, 0.2010])
    found = pipeline(jnp.asarray(x), jnp.float32)
    np.testing.assert_allclose(found, (x / 255 - mean) / std, rtol=1e-4, atol=1e-6)


def test_without_keys_nothing_is_augmented():
    """Oracle: the pixels; test data take this way."""
    x = images()
    found = Pipeline(flip=1.0, crop=2)(jnp.asarray(x), jnp.float32)
    np.testing.assert_allclose(found, x / np.float32(255), rtol=1e-6)


def test_padding_comes_first():
    """Oracle: numpy; the padded zeros are normalised like any pixel."""
    x = images(shape=(4, 4, 1))
    pipeline = Pipeline(pad=2, mean=(0.5,), std=(0.25,))
    assert pipeline.shape((4, 4, 1)) == (8, 8, 1)
    found = pipeline(jnp.asarray(x), jnp.float32)
    wide = np.pad(x / 255, ((0, 0), (2, 2), (2, 2), (0, 0)))
    np.testing.assert_allclose(found, (wide - 0.5) / 0.25, rtol=1e-5, atol=1e-6)


def test_flip():
    """Oracle: numpy; probability 1 mirrors all, 0.5 about half of many."""
    x = images()
    found = Pipeline(flip=1.0)(jnp.asarray(x), jnp.float32, keys())
    np.testing.assert_allclose(found, x[:, :, ::-1] / np.float32(255), rtol=1e-6)
    many = images(400)
    found = Pipeline(flip=0.5)(jnp.asarray(many), jnp.float32, keys(400))
    turned = np.isclose(found, many[:, :, ::-1] / 255, atol=1e-6).all((1, 2, 3))
    kept = np.isclose(found, many / 255, atol=1e-6).all((1, 2, 3))
    assert (turned ^ kept).all()
    assert 150 < turned.sum() < 250


@pytest.mark.parametrize(("fill", "mode"), [("zero", "constant"), ("edge", "edge")])
def test_crop(fill, mode):
    """Oracle: each result is one of the 25 windows of the padded image."""
    x = images(100)
    found = np.asarray(
        Pipeline(crop=2, fill=fill)(jnp.asarray(x), jnp.float32, keys(100))
    )
    wide = np.pad(x / 255, ((0, 0), (2, 2), (2, 2), (0, 0)), mode=mode)
    windows = np.stack(
        [wide[:, i : i + 5, j : j + 4] for i in range(5) for j in range(5)]
    )
    hits = np.isclose(found, windows, atol=1e-6).all((2, 3, 4))
    assert hits.any(0).all()
    assert hits.any(1).sum() > 20


def test_an_example_does_not_depend_on_its_batch():
    """Oracle: the same example and key in another batch."""
    x, own = jnp.asarray(images()), keys()
    pipeline = Pipeline(flip=0.5, crop=2)
    whole = pipeline(x, jnp.float32, own)
    part = pipeline(x[3:], jnp.float32, own[3:])
    np.testing.assert_array_equal(whole[3:], part)


@matrix.campaign
def test_fit_augments_training_alone():
    """Oracle: the same run from data that were mirrored beforehand."""
    x, y = images(40, (4, 4, 1)), np.arange(40) % 4
    network = ctep.mlp(((4, 4, 1), 6, 4), key=jax.random.key(0))
    options = {"epochs": 1, "probe": 8, "progress": False}
    flipped = ctep.fit(
        network, ((x, y), (x, y)), pipeline=Pipeline(flip=1.0), **options
    )
    plain = ctep.fit(network, ((x[:, :, ::-1], y), (x, y)), **options)
    for name in ("loss", "train_accuracy", "test_accuracy"):
        assert flipped.history[0][name] == pytest.approx(
            plain.history[0][name], rel=1e-5
        )


WRONG = {
    "pad": (lambda: Pipeline(pad=-1), "`pad` is -1, but must be a whole number"),
    "flip": (lambda: Pipeline(flip=2.0), "`flip` is 2.0, but a probability"),
    "fill": (lambda: Pipeline(fill="mirror"), "`fill` is 'mirror', but must be"),
    "std": (lambda: Pipeline(std=(0.0,)), "`std` is 0.0, but must be positive"),
    "name": (
        lambda: Pipeline.standard("svhn"),
        "`dataset` is 'svhn', whose mean is not known here",
    ),
    "no image": (
        lambda: Pipeline(crop=4).check((64,)),
        r"`crop` is 4, but the examples have shape \(64,\), and only images",
    ),
    "channels": (
        lambda: Pipeline.standard("cifar10").check((28, 28, 1)),
        r"`mean` holds 3 numbers, but the examples have shape \(28, 28, 1\)",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_bad_pipelines(name):
    """Oracle: the sentence."""
    call, pattern = WRONG[name]
    with pytest.raises(ValueError, match=pattern):
        call()
