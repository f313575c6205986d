"""The three products of a convolution, as one operation each or as a processor likes.

A convolution is one operation of XLA, and so are its adjoint and its gradient by the
kernel: that is right for every accelerator. XLA's processor backend is slow at some.
"""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
from jaxtyping import Array

from .._arrays import leading
from .interleave import interleave
from .product import OUTPUT, SOURCE, AbstractForm

_IMAGE = ("NHWC", "HWIO", "NHWC")
# Of the adjoint and of the gradient by the kernel: which axis of the arrays is what.
_ADJOINT = ("NHWC", "HWOI", "NHWC")
_PAIRS = ("CHWN", "IHWO", "HWNC")


@dataclasses.dataclass(frozen=True)
class Convolution(AbstractForm):
    """What a convolution is, but for its numbers.

    Args:
        stride: pixels between two places of the kernel, (height, width).
        padding: pairs of zeros (before, after) for height and width.
    """

    stride: tuple[int, int]
    padding: tuple[tuple[int, int], tuple[int, int]]

    def elsewhere(self, place, a, b, options):
        return self._flat(self._plain, place, a, b, options)

    def processor(self, place, a, b, options):
        return self._flat(self._tuned, place, a, b, options)

    def _flat(self, way, place, a, b, options):
        """Return a product of images with one leading axis, which XLA asks for."""
        if place == OUTPUT:
            given, wanted = self.in_shape, self.out_shape
        else:
            given, wanted = self.out_shape, self.in_shape
        lead, a = leading(a, given), a.reshape((-1, *given))
        if place in (OUTPUT, SOURCE):
            return way(place, a, b, options).reshape((*lead, *wanted))
        return way(place, a, b.reshape((-1, *wanted)), options)

    def _plain(self, place, a, b, options):
        if place == OUTPUT:
            return jax.lax.conv_general_dilated(
                a, b, self.stride, self.padding, dimension_numbers=_IMAGE, **options
            )
        sides = list(
            zip(
                self.in_shape[:2], self.out_shape[:2], self.weight_shape[:2],
                self.stride, self.padding, strict=True,
            )
        )  # fmt: skip
        if place == SOURCE:
            # Zeros between the elements of `u`, and the kernel turned around.
            padding = [
                (k - 1 - low, n + low - (out - 1) * stride - 1)
                for n, out, k, stride, (low, _) in sides
            ]
            return jax.lax.conv_general_dilated(
                a, jax.lax.rev(b, (0, 1)), (1, 1), padding, self.stride,
                dimension_numbers=_ADJOINT, **options,
            )  # fmt: skip
        # Examples are summed over as channels else are, and `u` is a wide kernel.
        padding = [
            (low, (out - 1) * stride + k - n - low)
            for n, out, k, stride, (low, _) in sides
        ]
        return jax.lax.conv_general_dilated(
            b, a, (1, 1), padding, None, self.stride,
            dimension_numbers=_PAIRS, **options,
        )  # fmt: skip

    def _tuned(self, place, a, b, options):
        if place == OUTPUT:
            return _correlate(a, b, self.stride, self.padding, options)
        if place == SOURCE:
            return self._interleaved(a, b, options)
        return self._taps(a, b, options)

    def _taps(self, u, v, options):
        """Return the gradient by the kernel, tap by tap.

        Where a compiled loop carries the weights, XLA's own convolution for it is up to
        a hundred times slower than one matrix product per tap.
        """
        (height, width), (a, b) = self.out_shape[:2], self.stride
        v = jnp.pad(v, ((0, 0), *self.padding, (0, 0)))
        u = u.reshape(-1, u.shape[-1])
        taps = []
        for i, j in itertools.product(*map(range, self.weight_shape[:2])):
            rows = slice(i, i + (height - 1) * a + 1, a)
            columns = slice(j, j + (width - 1) * b + 1, b)
            sources = v[:, rows, columns].reshape(-1, v.shape[-1])
            taps.append(jnp.matmul(sources.T, u, **options))
        return jnp.stack(taps).reshape(self.weight_shape)

    def _interleaved(self, u, weight, options):
        """Return the adjoint without zeros between the elements, that are multiplied.

        A stride splits the source into interleaved images, each of which sees its own
        taps of the kernel.
        """
        (height, width, channels), (a, b) = self.in_shape, self.stride
        rows, columns = (
            [_residue(first, *side) for first in range(side[3])]
            for side in zip(
                self.in_shape[:2], self.out_shape[:2], weight.shape[:2],
                self.stride, self.padding, strict=True,
            )
        )  # fmt: skip
        tall, wide = -(-height // a), -(-width // b)
        images = []
        for (i, up, down), (j, left, right) in itertools.product(rows, columns):
            taps, padding = weight[i::a, j::b], ((up, down), (left, right))
            # A stride longer than the kernel leaves pixels that no tap has seen.
            if 0 in taps.shape:
                dtype = options.get("preferred_element_type", u.dtype)
                images.append(jnp.zeros((len(u), tall, wide, channels), dtype))
                continue
            # What a tap brought up from the left returns from the right: the adjoint is
            # the correlation with the kernel turned around.
            turned = taps[::-1, ::-1].swapaxes(2, 3)
            images.append(_correlate(u, turned, (1, 1), padding, options))
        # All images are as large as the largest, to be stacked; the surplus is cut off.
        return interleave(images, self.stride)[:, :height, :width]


def _correlate(v: Array, weight: Array, stride, padding, options: dict) -> Array:
    """Return a cross-correlation, as one matrix product where images are tiny."""
    size, channels = weight.shape[:2], weight.shape[3]
    # XLA's convolution of an image smaller than its kernel is up to sixty times slower
    # on processors than the product of its patches: with it sweeps of `vgg7`, whose
    # last images have 2 x 2 pixels, take three times as long.
    if all(n >= k for n, k in zip(v.shape[1:3], size, strict=True)):
        return jax.lax.conv_general_dilated(
            v, weight, stride, padding, dimension_numbers=_IMAGE, **options
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
    out = jnp.matmul(flat, weight.reshape(-1, channels), **options)
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
