"""Convolution and its exact adjoint."""

from collections.abc import Sequence

import equinox as eqx
import jax
from jaxtyping import Array, Float, PRNGKeyArray

from .. import _checks as checks
from .._custom_types import Number, Shape
from .convolution import Convolution
from .dense import check_precision
from .operator import AbstractLinear, enclosed
from .product import Precision


class Conv(AbstractLinear):
    r"""$c(v)_{hwo} = \sum_{ijc} W_{ijco}\, v_{h t + i - p,\, w t + j - p,\, c}$.

    A cross-correlation of channels-last images with stride $t$ and padding $p$, and
    no bias, which belongs to the layer.

    Args:
        in_shape: (height, width, channels) of the source.
        channels: number of channels of the target.
        kernel: size of the kernel in pixels, one number or (height, width).
        stride: pixels between two places of the kernel, one number or (height, width).
        padding: "same", "valid", a number of zeros on every side, or pairs of numbers
            (before, after) for height and width.
        key: random key that the initial weights are drawn by.
        init: `jax.nn.initializers`-style function of `(key, shape, dtype)`.
        precision: that of products: "float32", "tensorfloat32" or "bfloat16".

    Raises:
        ValueError: if `in_shape` is no image, a number is out of range, or nothing is
            left of the image.

    Cost: one convolution for `apply`, one transposed convolution for `adjoint`.
    """

    weight: Float[Array, "kernel_height kernel_width sources targets"]
    in_shape: Shape = eqx.field(static=True)
    out_shape: Shape = eqx.field(static=True)
    stride: tuple[int, int] = eqx.field(static=True)
    padding: tuple[tuple[int, int], tuple[int, int]] = eqx.field(static=True)
    precision: Precision = eqx.field(static=True)

    def __init__(
        self,
        in_shape: Shape,
        channels: Number,
        *,
        kernel: Number | Sequence[int] = 3,
        stride: Number | Sequence[int] = 1,
        padding: str | Number | Sequence[Sequence[int]] = "same",
        key: PRNGKeyArray,
        init=jax.nn.initializers.he_uniform(),
        precision: Precision = "float32",
    ):
        self.in_shape = checks.image("in_shape", in_shape)
        channels = checks.count("channels", channels, "64")
        size = checks.one_or_two("kernel", kernel, "3")
        self.stride = checks.one_or_two("stride", stride, "1")
        self.padding = _padding(padding, self.in_shape, size, self.stride)
        left = [
            (n + sum(pad) - k) // t + 1
            for n, k, t, pad in zip(
                self.in_shape, size, self.stride, self.padding, strict=False
            )
        ]
        if min(left) < 1:
            raise ValueError(
                f"`kernel` is {size} with padding {self.padding}, which leaves nothing "
                f"of an image of {self.in_shape[0]} x {self.in_shape[1]}: make it "
                "smaller or the padding wider."
            )
        self.out_shape = (*left, channels)
        shape = (*size, self.in_shape[-1], channels)
        self.weight = checks.weights(init, key, shape)
        self.precision = check_precision(precision)

    def image(self, v):
        return self._form.image(v, self.weight)

    def transposed(self, u):
        return self._form.adjoint(u, self.weight)

    def formula(self, weight, state):
        return f"{weight} * {enclosed(state)}"

    def adjoint_formula(self, weight, state):
        return f"{weight}' * {enclosed(state)}"

    @property
    def _form(self):
        return Convolution(
            self.in_shape, self.out_shape, self.weight.shape, self.precision,
            self.stride, self.padding,
        )  # fmt: skip


def _padding(value, in_shape, kernel, stride):
    text = value if isinstance(value, str) else None
    if text == "valid":
        return ((0, 0), (0, 0))
    if text == "same":
        # As many outputs as strides fit the image, odd zeros on the far side.
        out = []
        for n, k, t in zip(in_shape, kernel, stride, strict=False):
            total = max((-(-n // t) - 1) * t + k - n, 0)
            out.append((total // 2, total - total // 2))
        return tuple(out)
    try:
        (a, b), (c, d) = ((value, value),) * 2 if checks.is_whole(value) else value
        if not all(map(checks.is_whole, (a, b, c, d))):
            raise TypeError
        out = ((int(a), int(b)), (int(c), int(d)))
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"`padding` is {checks.shown(value)}, but must be 'same', 'valid', a "
            "number or two pairs of numbers: pass for example 'same'."
        ) from error
    if min(min(pair) for pair in out) < 0:
        raise ValueError(
            f"`padding` is {checks.shown(value)}, but an image cannot be padded by "
            "less than nothing: pass numbers from 0 on."
        )
    return out
