"""Convolution and its exact adjoint."""

import functools
import itertools
from collections.abc import Sequence
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero, linear_call
from jaxtyping import Array, Float, PRNGKeyArray

from .. import _checks as checks
from .._custom_types import Number, Shape
from .dense import Precision, check_precision, multiply
from .interleave import interleave
from .operator import AbstractLinear, enclosed

_DIMS = ("NHWC", "HWIO", "NHWC")


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
        flat = v.reshape((-1, *self.in_shape))
        out = multiply(self.precision, self._convolve, flat, self.weight)
        return out.reshape((*v.shape[:-3], *self.out_shape))

    def transposed(self, u):
        flat = u.reshape((-1, *self.out_shape))
        out = multiply(self.precision, self._transpose, flat, self.weight)
        return out.reshape((*u.shape[:-3], *self.in_shape))

    def formula(self, weight, state):
        return f"{weight} * {enclosed(state)}"

    def adjoint_formula(self, weight, state):
        return f"{weight}' * {enclosed(state)}"

    def _convolve(self, v, weight, precision=None):
        return _convolve(self._geometry(precision), v, weight)

    def _transpose(self, u, weight, precision=None):
        return _transpose(self._geometry(precision), u, weight)

    def _geometry(self, precision):
        return _Geometry(
            self.in_shape, self.out_shape, self.stride, self.padding, precision
        )


class _Geometry(NamedTuple):
    """What a convolution is, but for its numbers."""

    in_shape: Shape
    out_shape: Shape
    stride: tuple[int, int]
    padding: tuple[tuple[int, int], tuple[int, int]]
    precision: jax.lax.Precision | None


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _convolve(geometry: _Geometry, v, weight):
    return _plain_convolve(geometry, v, weight)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _transpose(geometry: _Geometry, u, weight):
    return _plain_transpose(geometry, u, weight)


# Where a compiled loop carries the weights, XLA's own convolution for their gradient is
# up to a hundred times slower than one matrix product per tap of the kernel. Tangents
# by the weights are therefore linear calls that are transposed into those products.
@functools.partial(_convolve.defjvp, symbolic_zeros=True)
def _convolve_tangent(geometry, primals, tangents):
    map_ = functools.partial(_plain_convolve, geometry)
    pair = functools.partial(_pairs, geometry, primals[1].shape)
    return _convolve(geometry, *primals), _tangent(map_, pair, primals, tangents)


@functools.partial(_transpose.defjvp, symbolic_zeros=True)
def _transpose_tangent(geometry, primals, tangents):
    map_ = functools.partial(_plain_transpose, geometry)
    pair = lambda u, v: _pairs(geometry, primals[1].shape, v, u)  # noqa: E731
    return _transpose(geometry, *primals), _tangent(map_, pair, primals, tangents)


def _tangent(bilinear, pair, primals, tangents):
    """Return the tangent of a bilinear map, transposed by the weights with `pair`."""
    (v, weight), (dv, dweight) = primals, tangents
    parts = []
    # Known zeros, lest the tangent of a state, as in each step of a linear solve, cost
    # a convolution with zeros too. JAX asks for no tangent if both are, so one is left.
    if not isinstance(dv, SymbolicZero):
        parts.append(bilinear(dv, weight))
    if not isinstance(dweight, SymbolicZero):
        parts.append(linear_call(bilinear, pair, v, dweight))
    return sum(parts[1:], parts[0])


def _pairs(geometry, shape, v, u):
    """Return the gradient of <u, c(v)> by the weights, tap by tap."""
    (height, width), (a, b) = geometry.out_shape[:2], geometry.stride
    v = jnp.pad(v, ((0, 0), *geometry.padding, (0, 0)))
    u = u.reshape(-1, u.shape[-1])
    taps = []
    for i, j in itertools.product(*map(range, shape[:2])):
        rows = slice(i, i + (height - 1) * a + 1, a)
        columns = slice(j, j + (width - 1) * b + 1, b)
        sources = v[:, rows, columns].reshape(-1, v.shape[-1])
        taps.append(jnp.matmul(sources.T, u, precision=geometry.precision))
    return jnp.stack(taps).reshape(shape)


def _plain_convolve(geometry, v, weight):
    return _correlate(v, weight, geometry.stride, geometry.padding, geometry.precision)


def _plain_transpose(geometry, u, weight):
    # A stride splits the source into interleaved images, each of which sees its own
    # taps of the kernel: no zeros are put between the elements and multiplied.
    (height, width, channels), (a, b) = geometry.in_shape, geometry.stride
    rows, columns = (
        [_residue(first, *side) for first in range(side[3])]
        for side in zip(
            geometry.in_shape[:2], geometry.out_shape[:2], weight.shape[:2],
            geometry.stride, geometry.padding, strict=True,
        )
    )  # fmt: skip
    tall, wide = -(-height // a), -(-width // b)
    images = []
    for (i, up, down), (j, left, right) in itertools.product(rows, columns):
        taps = weight[i::a, j::b]
        # A stride longer than the kernel leaves pixels that no tap has seen.
        if 0 in taps.shape:
            images.append(jnp.zeros((len(u), tall, wide, channels), u.dtype))
            continue
        # What a tap brought up from the left returns from the right: the adjoint is the
        # correlation with the kernel turned around.
        images.append(
            _correlate(
                u, taps[::-1, ::-1].swapaxes(2, 3), (1, 1), ((up, down), (left, right)),
                geometry.precision,
            )
        )  # fmt: skip
    # All images are as large as the largest, to be stacked; the surplus is cut off.
    return interleave(images, geometry.stride)[:, :height, :width]


def _correlate(v, weight, stride, padding, precision):
    """Return a cross-correlation, as one matrix product where images are tiny."""
    size, channels = weight.shape[:2], weight.shape[3]
    # XLA's convolution of an image smaller than its kernel is up to sixty times slower
    # on processors than the product of its patches: with it sweeps of `vgg7`, whose
    # last images have 2 x 2 pixels, take three times as long.
    if all(n >= k for n, k in zip(v.shape[1:3], size, strict=True)):
        return jax.lax.conv_general_dilated(
            v, weight, stride, padding, dimension_numbers=_DIMS, precision=precision
        )
    config = [(0, 0, 0), *((*pad, 0) for pad in padding), (0, 0, 0)]
    # Not `jnp.pad`: where a padding is wider than the taps reach, the adjoint asks for
    # a negative one, which crops.
    v = jax.lax.pad(v, jnp.zeros((), v.dtype), config)
    tall, wide = (n - k + 1 for n, k in zip(v.shape[1:3], size, strict=True))
    taps = [
        v[:, i : i + tall : stride[0], j : j + wide : stride[1]]
        for i, j in itertools.product(*map(range, size))
    ]
    patches = jnp.concatenate(taps, -1)
    flat = patches.reshape(-1, patches.shape[-1])
    out = jnp.matmul(flat, weight.reshape(-1, channels), precision=precision)
    return out.reshape((*patches.shape[:3], channels))


def _residue(first, size, out, kernel, stride, padding):
    """Return first tap and padding of the image at `first`, `first + stride`, ...

    Element h of the source sees element (h + padding - i) / stride of the target
    through tap i.
    """
    tap = (first + padding[0]) % stride
    taps = len(range(tap, kernel, stride))
    low = taps - 1 - (first + padding[0] - tap) // stride
    count = -(-size // stride)
    return tap, low, count - out - low + taps - 1


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
