"""The dense operator, and the precision in which operators take their products."""

import copy
import math
from collections.abc import Callable
from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from .. import _checks as checks
from .._arrays import leading
from .._custom_types import Shape
from .operator import AbstractLinear, AbstractOperator, enclosed

Precision = Literal["float32", "tensorfloat32", "bfloat16"]
_PRECISIONS = ("float32", "tensorfloat32", "bfloat16")


class Dense(AbstractLinear):
    r"""$c(v) = v W$ on flattened states.

    Args:
        in_shape: shape of the source layer.
        out_shape: shape of the target layer.
        key: random key that the initial weights are drawn by.
        init: `jax.nn.initializers`-style function of `(key, shape, dtype)`.
        precision: that of products: "float32", "tensorfloat32" or "bfloat16".

    Cost: one matrix product for `apply`, one for `adjoint`; no tape.
    """

    weight: Float[Array, "sources targets"]
    in_shape: Shape = eqx.field(static=True)
    out_shape: Shape = eqx.field(static=True)
    precision: Precision = eqx.field(static=True)

    def __init__(
        self,
        in_shape: Shape,
        out_shape: Shape,
        *,
        key: PRNGKeyArray,
        init=jax.nn.initializers.glorot_uniform(),
        precision: Precision = "float32",
    ):
        self.in_shape = checks.positive_shape("in_shape", in_shape)
        self.out_shape = checks.positive_shape("out_shape", out_shape)
        size = (math.prod(self.in_shape), math.prod(self.out_shape))
        self.weight = checks.weights(init, key, size)
        self.precision = check_precision(precision)

    def image(self, v):
        return self._times(v, self.weight, self.in_shape, self.out_shape)

    def transposed(self, u):
        return self._times(u, self.weight.T, self.out_shape, self.in_shape)

    def formula(self, weight, state):
        return f"{weight} {enclosed(state)}"

    def adjoint_formula(self, weight, state):
        return f"{weight}' {enclosed(state)}"

    def _times(self, v, matrix, in_shape, out_shape):
        lead = leading(v, in_shape)
        flat = v.reshape((*lead, matrix.shape[0]))
        product = multiply(self.precision, jnp.matmul, flat, matrix)
        return product.reshape((*lead, *out_shape))


def multiply(precision: Precision, product: Callable, v: Array, weight: Array) -> Array:
    """Return `product(v, weight)` with operands of the precision, in the dtype of `v`.

    Increments are read to their last bit, so nothing is reduced unless asked for.
    """
    if precision == "bfloat16":
        # Not a cast, after which the sum would be rounded to 8 bits as well.
        v, weight = (_rounded(array) for array in (v, weight))
    # JAX's own default rounds the factors on a GPU. In a network of five layers the
    # gradient of the first one has a cosine above 0.9999 with that in float64 where
    # factors have 24 bits, and above 0.99 where they have 8.
    levels = {
        "float32": jax.lax.Precision.HIGHEST,
        "tensorfloat32": jax.lax.Precision.HIGH,
    }
    # bfloat16 has no level: rounded factors lose nothing by the default, the fastest.
    return product(v, weight, precision=levels.get(precision))


def _rounded(array: Array) -> Array:
    """Round to the 8 bits of bfloat16, which every fast unit multiplies exactly."""
    return jax.lax.reduce_precision(array, exponent_bits=8, mantissa_bits=7)


def with_precision(tree: PyTree, precision: Precision) -> PyTree:
    """Return a network whose couplings take their products in another precision.

    States, increments and parameters keep their dtype; only the two factors of each
    product are rounded, and its sum is taken in float32.

    Args:
        tree: a network, an operator, or any tree of them.
        precision: "float32" (24 bits on every device), "tensorfloat32" (11 bits
            where the device has such units, else float32) or "bfloat16" (8 bits).

    Raises:
        ValueError: if `precision` is none of these.
    """
    check_precision(precision)

    def leaf(value):
        return hasattr(value, "precision") and isinstance(value, AbstractOperator)

    def change(value):
        if not leaf(value):
            return value
        # Not `dataclasses.replace`: it calls `__init__`, which would draw the weights
        # anew. The copy is nobody else's yet, so a frozen field of it may be set.
        out = copy.copy(value)
        object.__setattr__(out, "precision", precision)
        return out

    return jax.tree_util.tree_map(change, tree, is_leaf=leaf)


def check_precision(value: Precision) -> Precision:
    """Return a precision, or raise `ValueError`."""
    if not isinstance(value, str) or value not in _PRECISIONS:
        raise ValueError(
            f"`precision` is {checks.shown(value)}, but the products of couplings are "
            f"taken in one of {', '.join(map(repr, _PRECISIONS))}: pass one of them."
        )
    return value
