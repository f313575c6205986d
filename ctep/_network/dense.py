"""The dense operator, and the precision in which operators take their products."""

import copy
import math

import equinox as eqx
import jax
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from .. import _checks as checks
from .._arrays import leading
from .._custom_types import Shape
from .operator import AbstractLinear, AbstractOperator, enclosed
from .product import OUTPUT, SOURCE, WEIGHT, AbstractForm, Precision

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
        flat = v.reshape((*leading(v, self.in_shape), self.weight.shape[0]))
        out = self._form.image(flat, self.weight)
        return out.reshape((*out.shape[:-1], *self.out_shape))

    def transposed(self, u):
        flat = u.reshape((*leading(u, self.out_shape), self.weight.shape[1]))
        out = self._form.adjoint(flat, self.weight)
        return out.reshape((*out.shape[:-1], *self.in_shape))

    def formula(self, weight, state):
        return f"{weight} {enclosed(state)}"

    def adjoint_formula(self, weight, state):
        return f"{weight}' {enclosed(state)}"

    @property
    def _form(self):
        shape = self.weight.shape
        return _Matrix(shape[:1], shape[1:], shape, self.precision)


class _Matrix(AbstractForm):
    """What a matrix product is, but for its numbers."""

    def elsewhere(self, place, a, b, options):
        # The axes that are summed over: channels, or all examples.
        lead = tuple(range(a.ndim - 1))
        last = (a.ndim - 1,)
        axes = {OUTPUT: (last, (0,)), SOURCE: (last, (1,)), WEIGHT: (lead, lead)}
        if place == WEIGHT:
            a, b = b, a
        return jax.lax.dot_general(a, b, (axes[place], ((), ())), **options)


def with_precision(tree: PyTree, precision: Precision) -> PyTree:
    """Return a network whose couplings take their products in another precision.

    States, increments and parameters keep their dtype; only the two factors of each
    product are rounded, also of its adjoint and of every derivative.

    Args:
        tree: a network, an operator, or any tree of them.
        precision: "float32" (24 bits on every device), "tensorfloat32" (11 bits
            where the device has such units, else float32) or "bfloat16" (factors of
            that type, 8 bits, whose products are summed in float32).

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
