"""From pixels to inputs, on the device: padding, augmentation, normalisation."""

from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Key

from .. import _checks as checks

# Mean of the training pixels, and their standard deviation, channel by channel. That of
# CIFAR-10 is of another kind, see `Pipeline.standard`.
_STATISTICS = {
    "mnist": ((0.1307,), (0.3081,)),
    "fashion_mnist": ((0.2860,), (0.3530,)),
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
    "cifar100": ((0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)),
}


def _numbers(value: Any) -> tuple[float, ...]:
    """Return one number or several as a tuple."""
    value = value if checks.is_listed(value) else (value,)
    return tuple(map(checks.number, value))


class Pipeline(eqx.Module):
    r"""What happens to an example on its way into the network, in this order.

    1. Bytes are scaled to [0, 1], and `pad` zeros are put around an image.
    2. In training, it is mirrored left to right with probability `flip`, then shifted
       by up to `crop` pixels along both axes.
    3. $(x - \mathrm{mean}) / (k\, \mathrm{std})$, with $k$ = `std_factor`.

    All of it runs inside the compiled epoch. An example's augmentation depends on the
    run's key, the epoch and the example alone, not on its batch.

    Args:
        pad: width of the border of zeros on every side, in pixels.
        flip: probability that an image is mirrored, from 0 to 1.
        crop: largest shift along each axis, in pixels.
        fill: what moves in from outside, "zero" or the nearest pixel, "edge".
        mean: mean of the pixels in [0, 1], one number, or one per channel.
        std: deviation that they are divided by, one number, or one per channel.
        std_factor: published code of convolutional Hopfield networks divides CIFAR-10
            by three times the deviation that `standard` has for it.

    Raises:
        ValueError: if a number is out of range.
    """

    pad: int = eqx.field(static=True, default=0, converter=checks.number)
    flip: float = eqx.field(static=True, default=0.0, converter=checks.number)
    crop: int = eqx.field(static=True, default=0, converter=checks.number)
    fill: str = eqx.field(static=True, default="zero")
    # Equinox hashes static fields, so these are tuples of numbers and no arrays.
    mean: tuple[float, ...] = eqx.field(static=True, converter=_numbers, default=(0.0,))
    std: tuple[float, ...] = eqx.field(static=True, converter=_numbers, default=(1.0,))
    std_factor: float = eqx.field(static=True, default=1.0, converter=checks.number)

    def __check_init__(self):
        for name in ("pad", "crop"):
            checks.count(name, getattr(self, name), "4", least=0)
        checks.real("flip", self.flip, "0.5")
        if not 0 <= self.flip <= 1:
            raise ValueError(
                f"`flip` is {self.flip}, but a probability lies in 0 to 1: pass 0.5."
            )
        checks.instance("fill", self.fill, str, "'zero' or 'edge'", "zero")
        if self.fill not in ("zero", "edge"):
            raise ValueError(
                f"`fill` is {self.fill!r}, but must be 'zero' or 'edge': pass one."
            )
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
        for name in ("pad", "flip", "crop"):
            if getattr(self, name) and not image:
                raise ValueError(
                    f"`{name}` is {getattr(self, name)}, but the examples have shape "
                    f"{tuple(shape)}, and only images (height, width, channels) can "
                    "be augmented: leave it out."
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
        x = x.astype(dtype) * scale
        if self.pad:
            side = (self.pad, self.pad)
            x = jnp.pad(x, ((0, 0), side, side, (0, 0)))
        if keys is not None and (self.flip or self.crop):
            x = jax.vmap(self._augment)(x, keys)
        if self.mean == (0.0,) and self.std == (1.0,) and self.std_factor == 1.0:
            return x
        deviation = self.std_factor * jnp.asarray(self.std, dtype)
        return (x - jnp.asarray(self.mean, dtype)) / deviation

    def _augment(self, x, key):
        # Split in any case: shifts are the same whether images are mirrored or not.
        mirror, shift = jax.random.split(key)
        if self.flip:
            turned = jax.random.bernoulli(mirror, self.flip)
            x = jnp.where(turned, x[:, ::-1], x)
        if self.crop:
            side = (self.crop, self.crop)
            mode = "edge" if self.fill == "edge" else "constant"
            wide = jnp.pad(x, (side, side, (0, 0)), mode=mode)
            i, j = jax.random.randint(shift, (2,), 0, 2 * self.crop + 1)
            x = jax.lax.dynamic_slice(wide, (i, j, 0), x.shape)
        return x
