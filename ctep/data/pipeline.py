"""From pixels to inputs, on the device: padding, augmentation, normalisation."""

from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Key

from .. import _checks as checks
from .randaugment import LEVELS, randaugment

# Mean of the training pixels, and their standard deviation, channel by channel. That of
# CIFAR-10 is of another kind, see `Pipeline.standard`.
_STATISTICS = {
    "mnist": ((0.1307,), (0.3081,)),
    "fashion_mnist": ((0.2860,), (0.3530,)),
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
    "cifar100": ((0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)),
}


# What `fill` is to `jnp.pad`.
_MODES = {"zero": "constant", "edge": "edge", "reflect": "reflect"}


def _numbers(value: Any) -> tuple[float, ...]:
    """Return one number or several as a tuple."""
    value = value if checks.is_listed(value) else (value,)
    return tuple(map(checks.number, value))


def _listed(value: Any) -> Any:
    """Return numbers in a list as a tuple, and anything else as it is."""
    return tuple(map(checks.number, value)) if checks.is_listed(value) else value


class Pipeline(eqx.Module):
    r"""What happens to an example on its way into the network, in this order.

    1. In training, RandAugment changes the pixels, as whole numbers from 0 to 255.
    2. Bytes are scaled to [0, 1], and `pad` zeros are put around an image.
    3. In training, it is mirrored left to right with probability `flip`, then shifted
       by up to `crop` pixels along both axes.
    4. $(x - \mathrm{mean}) / (k\, \mathrm{std})$, with $k$ = `std_factor`.
    5. In training, a square of `cutout` pixels is set to 0, which is the mean.

    All of it runs inside the compiled epoch. An example's augmentation depends on the
    run's key, the epoch and the example alone, not on its batch.

    ```python
    from ctep.data import Pipeline

    augmented = {"crop": 4, "fill": "reflect", "flip": 0.5, "cutout": 12}
    pipeline = Pipeline.standard("cifar10", randaugment=(3, 9), **augmented)
    ```

    Args:
        pad: width of the border of zeros on every side, in pixels.
        flip: probability that an image is mirrored, from 0 to 1.
        crop: largest shift along each axis, in pixels.
        fill: what moves in from outside: "zero", the nearest pixel, "edge", or the
            image mirrored at its border, "reflect".
        mean: mean of the pixels in [0, 1], one number, or one per channel.
        std: deviation that they are divided by, one number, or one per channel.
        std_factor: published code of convolutional Hopfield networks divides CIFAR-10
            by three times the deviation that `standard` has for it.
        cutout: side of the square, which lies within the image; 0 for none. (That of
            the paper has its centre within, and is cut off at the border.)
        randaugment: how many of fourteen operations follow one another, drawn anew for
            each image, and their magnitude from 0 to 30: `(3, 9)`, say, or `None`.
            Images must have one channel or three; floats are taken for [0, 1] and
            rounded to 256 levels.

    Raises:
        ValueError: if a number is out of range.
        TypeError: if one is of another kind.

    Cost: RandAugment by three operations takes 0.13 s for 1000 images of 32 x 32 pixels
    on one core of a processor; the rest next to nothing.

    References:
        RandAugment, 2019, arXiv:1909.13719, with the ranges of torchvision; Cutout,
        2017, arXiv:1708.04552.
    """

    pad: int = eqx.field(static=True, default=0, converter=checks.number)
    flip: float = eqx.field(static=True, default=0.0, converter=checks.number)
    crop: int = eqx.field(static=True, default=0, converter=checks.number)
    fill: str = eqx.field(static=True, default="zero")
    # Equinox hashes static fields, so these are tuples of numbers and no arrays.
    mean: tuple[float, ...] = eqx.field(static=True, converter=_numbers, default=(0.0,))
    std: tuple[float, ...] = eqx.field(static=True, converter=_numbers, default=(1.0,))
    std_factor: float = eqx.field(static=True, default=1.0, converter=checks.number)
    cutout: int = eqx.field(static=True, default=0, converter=checks.number)
    randaugment: tuple[int, int] | None = eqx.field(
        static=True, default=None, converter=_listed
    )

    def __check_init__(self):
        for name in ("pad", "crop", "cutout"):
            checks.count(name, getattr(self, name), "4", least=0)
        checks.real("flip", self.flip, "0.5")
        if not 0 <= self.flip <= 1:
            raise ValueError(
                f"`flip` is {self.flip}, but a probability lies in 0 to 1: pass 0.5."
            )
        checks.instance("fill", self.fill, str, "a text", "edge")
        checks.choice("fill", self.fill, tuple(_MODES))
        if self.randaugment is not None:
            _check_randaugment(self.randaugment)
        checks.positive("std_factor", self.std_factor, "1.0")
        for value in self.mean:
            checks.real("mean", value, "0.5")
        for value in self.std:
            checks.positive("std", value, "0.3")

    @staticmethod
    def standard(dataset: str, **options) -> "Pipeline":
        """Return a pipeline with the mean and deviation of a dataset by its name.

        The deviation is that of all training pixels of a channel, but for CIFAR-10:
        the numbers that published code has for it, (0.2023, 0.1994, 0.2010), are the
        mean over its images of each image's own deviation. That of all pixels is
        (0.2470, 0.2435, 0.2616): pass it as `std` to `Pipeline` for inputs of variance
        1, which these are not (1.5 to 1.7).

        Args:
            dataset: "mnist", "fashion_mnist", "cifar10" or "cifar100".
            options: other arguments of `Pipeline`.

        Raises:
            ValueError: if they are not known.
        """
        checks.instance("dataset", dataset, str, "the name of a dataset", "cifar10")
        name = dataset.split("/")[0].split(":")[0]
        if name not in _STATISTICS:
            raise ValueError(
                f"`dataset` is {dataset!r}, whose mean is not known here: pass `mean` "
                f"and `std` to `Pipeline`, or name one of {', '.join(_STATISTICS)}."
            )
        mean, std = _STATISTICS[name]
        return Pipeline(mean=mean, std=std, **options)

    def check(self, shape: Sequence[int]) -> None:
        """Raise `ValueError` if examples of this shape do not fit."""
        image = len(shape) == 3
        for name in ("pad", "flip", "crop", "cutout", "randaugment"):
            if getattr(self, name) and not image:
                raise ValueError(
                    f"`{name}` is {getattr(self, name)}, but the examples have shape "
                    f"{tuple(shape)}, and only images (height, width, channels) can "
                    "be augmented: leave it out."
                )
        if self.randaugment and shape[-1] not in (1, 3):
            raise ValueError(
                f"`randaugment` is {self.randaugment}, but the examples have shape "
                f"{tuple(shape)}, and its colours need one channel or three: leave it "
                "out."
            )
        if self.cutout and self.cutout > (side := min(self.shape(shape)[:2])):
            raise ValueError(
                f"`cutout` is {self.cutout}, but the images have sides of {side} "
                "pixels at least: pass a smaller one."
            )
        for name in ("mean", "std"):
            count = len(getattr(self, name))
            if count not in (1, shape[-1]):
                raise ValueError(
                    f"`{name}` holds {count} numbers, but the examples have shape "
                    f"{tuple(shape)}: pass one number, or one per channel."
                )

    def shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        """Return the shape of an input made from an example of `shape`."""
        if not self.pad:
            return tuple(shape)
        return (shape[0] + 2 * self.pad, shape[1] + 2 * self.pad, *shape[2:])

    def __call__(
        self, x: Array, dtype, keys: Key[Array, " batch"] | None = None
    ) -> Array:
        """Return inputs `(batch, *shape)`, augmented if there is a key per example."""
        scale = 1 / 255 if x.dtype == jnp.uint8 else 1.0
        if keys is not None and self.randaugment:
            pixels = x if x.dtype == jnp.uint8 else jnp.round(255 * x).clip(0, 255)
            # By keys of its own, and so the square below: shifts stay what they are.
            own = jax.vmap(jax.random.fold_in, (0, None))(keys, 3)
            change = jax.vmap(randaugment, (0, 0, None, None))
            x, scale = change(pixels, own, *self.randaugment), 1 / 255
        x = x.astype(dtype) * scale
        if self.pad:
            side = (self.pad, self.pad)
            x = jnp.pad(x, ((0, 0), side, side, (0, 0)))
        if keys is not None and (self.flip or self.crop):
            x = jax.vmap(self._augment)(x, keys)
        if (self.mean, self.std, self.std_factor) != ((0.0,), (1.0,), 1.0):
            deviation = self.std_factor * jnp.asarray(self.std, dtype)
            x = (x - jnp.asarray(self.mean, dtype)) / deviation
        if keys is not None and self.cutout:
            x = jax.vmap(self._cut)(x, keys)
        return x

    def _augment(self, x, key):
        # Split in any case: shifts are the same whether images are mirrored or not.
        mirror, shift = jax.random.split(key)
        if self.flip:
            turned = jax.random.bernoulli(mirror, self.flip)
            x = jnp.where(turned, x[:, ::-1], x)
        if self.crop:
            side = (self.crop, self.crop)
            wide = jnp.pad(x, (side, side, (0, 0)), mode=_MODES[self.fill])
            i, j = jax.random.randint(shift, (2,), 0, 2 * self.crop + 1)
            x = jax.lax.dynamic_slice(wide, (i, j, 0), x.shape)
        return x

    def _cut(self, x, key):
        most = jnp.asarray(x.shape[:2]) - self.cutout + 1
        first = jax.random.randint(jax.random.fold_in(key, 4), (2,), 0, most)
        i, j = (jnp.arange(n) - k for n, k in zip(x.shape, first, strict=False))
        i, j = ((0 <= n) & (n < self.cutout) for n in (i, j))
        return jnp.where(i[:, None, None] & j[:, None], 0, x)


def _check_randaugment(value):
    example = "(3, 9)"
    pair = isinstance(value, tuple) and len(value) == 2
    if not (pair and all(map(checks.is_whole, value))):
        raise TypeError(
            f"`randaugment` is {checks.shown(value)}, but must be two whole numbers, "
            f"of operations and their magnitude: pass for example `{example}`."
        )
    operations, magnitude = value
    if operations < 1 or not 0 <= magnitude < LEVELS:
        raise ValueError(
            f"`randaugment` is {value}, but at least 1 operation and a magnitude from "
            f"0 to {LEVELS - 1} are needed: pass for example `{example}`."
        )
