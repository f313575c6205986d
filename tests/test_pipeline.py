"""Pipelines: padding, augmentation and normalisation, against numpy and Pillow."""

import jax
import jax.numpy as jnp
import matrix
import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps

import ctep
from ctep._train.store.identity import description
from ctep.data import Pipeline
from ctep.data.randaugment import OPERATIONS, operation, randaugment


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


MODES = {"zero": "constant", "edge": "edge", "reflect": "reflect"}


@pytest.mark.parametrize(("fill", "mode"), MODES.items())
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
    pipeline = Pipeline(flip=0.5, crop=2, cutout=2, randaugment=(2, 9))
    whole = pipeline(x, jnp.float32, own)
    part = pipeline(x[3:], jnp.float32, own[3:])
    np.testing.assert_array_equal(whole[3:], part)
    same = pipeline(jnp.repeat(x[:1], 6, 0), jnp.float32, own)
    assert len(np.unique(np.asarray(same), axis=0)) > 3


# ------------------------------------------------------------ cutout


def test_cutout():
    """Oracle: numpy; one square of the mean within the image, at any place."""
    x, own = images(200), keys(200)
    options = {"mean": (0.1, 0.2, 0.3), "std": 0.5, "flip": 0.5, "crop": 1}
    whole = np.array(Pipeline(**options)(jnp.asarray(x), jnp.float32, own))
    found = np.asarray(Pipeline(cutout=2, **options)(jnp.asarray(x), jnp.float32, own))
    seen = set()
    for before, after in zip(whole, found, strict=True):
        (i, j) = np.argwhere((after == 0).all(-1) & (before != 0).any(-1)).min(0)
        seen.add((i, j))
        before[i : i + 2, j : j + 2] = 0
        np.testing.assert_array_equal(before, after)
    assert seen == {(i, j) for i in range(4) for j in range(3)}


# ------------------------------------------------------------ RandAugment


def by_pillow(image, name, positive, magnitude):
    """Return what torchvision does, which hands these numbers to Pillow."""
    picture = Image.fromarray(image.squeeze())
    width, height = picture.size
    part, sign = magnitude / 30, 1 if positive else -1

    def moved(*rows):
        return picture.transform(
            picture.size, Image.Transform.AFFINE, rows, Image.Resampling.NEAREST
        )

    def blended(kind):
        return kind(picture).enhance(1 + sign * 0.9 * part)

    ways = {
        "identity": lambda: picture,
        "shear x": lambda: moved(1, sign * 0.3 * part, 0, 0, 1, 0),
        "shear y": lambda: moved(1, 0, 0, sign * 0.3 * part, 1, 0),
        "translate x": lambda: moved(
            1, 0, -sign * int(150 / 331 * width * part), 0, 1, 0
        ),
        "translate y": lambda: moved(
            1, 0, 0, 0, 1, -sign * int(150 / 331 * height * part)
        ),
        "rotate": lambda: picture.rotate(sign * 30 * part),
        "brightness": lambda: blended(ImageEnhance.Brightness),
        "colour": lambda: blended(ImageEnhance.Color),
        "contrast": lambda: blended(ImageEnhance.Contrast),
        "sharpness": lambda: blended(ImageEnhance.Sharpness),
        "posterize": lambda: ImageOps.posterize(picture, 8 - round(4 * part)),
        "solarize": lambda: ImageOps.solarize(picture, 255 * (1 - part)),
        "autocontrast": lambda: ImageOps.autocontrast(picture),
        "equalize": lambda: ImageOps.equalize(picture),
    }
    return np.asarray(ways[name](), float).reshape(image.shape)


def pictures(channels):
    """Return smooth images, noise in a few levels, and one that is flat."""
    i, j = np.mgrid[:31, :29]
    waves = [np.sin(i / (3 + c)) + np.cos(j / (4 + c)) for c in range(channels)]
    smooth = np.stack(waves, -1)
    rng = np.random.default_rng(0)
    found = [40 + 35 * smooth, rng.normal(120, 20, smooth.shape), 0 * smooth + 7]
    return np.clip(found, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("channels", [3, pytest.param(1, marks=matrix.campaign)])
@pytest.mark.parametrize("magnitude", [9, 30])
def test_every_operation(channels, magnitude):
    """Oracle: Pillow, to the pixel but for the rounding of products in it."""
    x = pictures(channels)
    several = jax.vmap(operation, (0, None, None, None))
    call = jax.jit(jax.vmap(several, (None, 0, 0, None)), static_argnums=3)
    pairs = [(name, positive) for name in OPERATIONS for positive in (True, False)]
    kinds = jnp.asarray([OPERATIONS.index(name) for name, _ in pairs])
    positive = jnp.asarray([positive for _, positive in pairs])
    every = call(jnp.asarray(x, jnp.float32), kinds, positive, magnitude)
    for found, pair in zip(np.asarray(every), pairs, strict=True):
        wanted = np.stack([by_pillow(one, *pair, magnitude) for one in x])
        off = np.abs(found - wanted)
        few = {"autocontrast": 0.05, "rotate": 0.01}.get(pair[0], 1e-3)
        assert (off > 0).mean() < few, pair
        # Turned by 30 degrees some sources are on the edge of a pixel.
        assert off.max() <= 1 or pair[0] == "rotate", pair


def test_operations_follow_one_another():
    """Oracle: Pillow, one operation after another, as the key draws them.

    Each is drawn as often as any other, and so is its sign.
    """
    x, own = jnp.asarray(pictures(3)[0]), keys(400)
    found = jax.jit(jax.vmap(lambda key: randaugment(x, key, 3, 9)))(own)

    def draws(key, n):
        which, sign = jax.random.split(jax.random.fold_in(key, n))
        return jax.random.randint(which, (), 0, 14), jax.random.bernoulli(sign)

    kinds, signs = jax.vmap(
        lambda key: jax.vmap(lambda n: draws(key, n))(jnp.arange(3))
    )(own)
    counts = np.bincount(np.asarray(kinds).ravel())
    assert len(counts) == len(OPERATIONS)
    assert 50 < counts.min() < counts.max() < 125  # 86 expected
    assert 0.45 < np.mean(signs) < 0.55
    for got, kind, sign in list(zip(np.asarray(found), kinds, signs, strict=True))[:20]:
        image = np.asarray(x)
        for k, positive in zip(kind, sign, strict=True):
            name = OPERATIONS[int(k)]
            image = by_pillow(image, name, bool(positive), 9).astype(np.uint8)
        assert np.mean(np.abs(got - image) > 3) < 0.01


def test_randaugment_comes_first():
    """Oracle: its own images of bytes, normalised after; floats are bytes of 1/255."""
    x, own = pictures(3), keys(3)
    drawn = jax.vmap(
        lambda image, key: randaugment(image, jax.random.fold_in(key, 3), 2, 20)
    )(jnp.asarray(x), own)
    pipeline = Pipeline(randaugment=[2, np.int64(20)], mean=0.3, std=0.2, pad=1)
    wanted = np.pad(np.asarray(drawn) / 255, ((0, 0), (1, 1), (1, 1), (0, 0)))
    for given in (jnp.asarray(x), jnp.asarray(x / np.float32(255))):
        found = pipeline(given, jnp.float32, own)
        np.testing.assert_allclose(found, (wanted - 0.3) / 0.2, rtol=1e-4, atol=1e-5)
    assert found.dtype == jnp.float32
    plain = pipeline(jnp.asarray(x), jnp.float32)
    np.testing.assert_allclose(plain[:, 1:-1, 1:-1], (x / 255 - 0.3) / 0.2, atol=1e-5)


def test_another_pipeline_is_another_run():
    """Oracle: what a folder keeps of it, which resume compares, and what is printed."""
    given = [
        Pipeline(),
        Pipeline(cutout=3),
        Pipeline(randaugment=(3, 9)),
        Pipeline(randaugment=(3, 8)),
        Pipeline(fill="reflect"),
    ]
    assert len({str(description(pipeline)) for pipeline in given}) == len(given)
    assert "cutout=3)" in str(given[1])
    assert "randaugment=(3, 9))" in str(given[2])
    assert "cutout" not in str(given[2])


@matrix.campaign
def test_fit_draws_anew_in_each_epoch():
    """Oracle: a run of two halves, bit for bit; one without it differs."""
    x, y = images(40, (8, 8, 3)), np.arange(40) % 4
    network = ctep.mlp(((8, 8, 3), 6, 4), key=jax.random.key(0))
    options = {"epochs": 2, "probe": 0, "progress": False, "batch_size": 8}
    pipeline = Pipeline(randaugment=(2, 9), cutout=2, crop=1, fill="reflect")
    runs = [
        ctep.fit(network, (x, y), pipeline=given, **options)
        for given in (pipeline, Pipeline(), pipeline)
    ]
    losses = [[record["loss"] for record in run.history] for run in runs]
    assert losses[0] == losses[2] != losses[1]


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
    "cutout": (lambda: Pipeline(cutout=-1), "`cutout` is -1, but must be a whole"),
    "no operation": (
        lambda: Pipeline(randaugment=(0, 9)),
        r"`randaugment` is \(0, 9\), but at least 1 operation and a magnitude from 0",
    ),
    "magnitude": (
        lambda: Pipeline(randaugment=(3, 31)),
        r"`randaugment` is \(3, 31\), but at .* from 0 to 30 are needed: pass for",
    ),
    "large cutout": (
        lambda: Pipeline(cutout=9).check((8, 12, 3)),
        "`cutout` is 9, but the images have sides of 8 pixels at least: pass a small",
    ),
    "cutout of a vector": (
        lambda: Pipeline(cutout=9).check((64,)),
        r"`cutout` is 9, but the examples have shape \(64,\), and only images",
    ),
    "colours": (
        lambda: Pipeline(randaugment=(3, 9)).check((8, 8, 2)),
        r"`randaugment` is \(3, 9\), but the .* need one channel or three: leave",
    ),
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


@pytest.mark.parametrize("value", [3, (3,), (3, 9.0), "39", (True, 9), (3, 9, 1)])
def test_randaugment_of_another_kind(value):
    """Oracle: the sentence."""
    match = "`randaugment` is .*, but must be two whole numbers, .*: pass for example"
    with pytest.raises(TypeError, match=match):
        Pipeline(randaugment=value)
