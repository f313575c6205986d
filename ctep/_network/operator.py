"""Operators: the maps that couplings apply, their adjoints and their increments."""

import abc
import math

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from .._custom_types import Shape


class AbstractOperator(eqx.Module):
    r"""A map between the states of two layers, with its exact adjoint.

    `apply` hands a *tape* to `adjoint`: what the adjoint of a map that is not linear
    needs to know of the state it is taken at (where a pooling window had its
    maximum). Linear operators leave it `None`, and nothing is ever computed twice.
    All methods accept any number of leading axes.
    """

    in_shape: eqx.AbstractVar[Shape]
    out_shape: eqx.AbstractVar[Shape]

    @abc.abstractmethod
    def apply(self, v: Array) -> tuple[Array, PyTree]:
        """Return the image of `v`, `(*lead, *out_shape)`, and its tape."""

    @abc.abstractmethod
    def adjoint(self, u: Array, tape: PyTree) -> Array:
        r"""Return $\partial \langle u, c(v) \rangle / \partial v$ at the taped $v$."""

    @abc.abstractmethod
    def tape(self, v: Array) -> PyTree:
        """Return the tape of `apply(v)` alone; free of cost if it is `None`."""

    @abc.abstractmethod
    def apply_increment(self, dv: Array, tape: PyTree) -> tuple[Array, PyTree]:
        """Return $c(v + dv) - c(v)$ without subtracting, and the tape at `v + dv`."""

    @abc.abstractmethod
    def adjoint_increment(
        self, u: Array, du: Array, tape: PyTree, new_tape: PyTree
    ) -> Array:
        """Return the adjoint of `u + du` at `new_tape` less that of `u` at `tape`."""


class Dense(AbstractOperator):
    r"""$c(v) = v W$ on flattened states.

    Args:
        in_shape: shape of the source layer.
        out_shape: shape of the target layer.
        key: for the initial weights.
        init: `jax.nn.initializers`-style function of `(key, shape, dtype)`.

    Cost: one matrix product for `apply`, one for `adjoint`; no tape.
    """

    weight: Float[Array, "sources targets"]
    in_shape: Shape = eqx.field(static=True)
    out_shape: Shape = eqx.field(static=True)

    def __init__(
        self,
        in_shape: Shape,
        out_shape: Shape,
        *,
        key: PRNGKeyArray,
        init=jax.nn.initializers.glorot_uniform(),
    ):
        self.in_shape, self.out_shape = tuple(in_shape), tuple(out_shape)
        size = (math.prod(self.in_shape), math.prod(self.out_shape))
        self.weight = init(key, size, jnp.result_type(float))

    def apply(self, v):
        return _product(v, self.weight, self.in_shape, self.out_shape), None

    def adjoint(self, u, tape):
        return _product(u, self.weight.T, self.out_shape, self.in_shape)

    def tape(self, v):
        return None

    def apply_increment(self, dv, tape):
        return self.apply(dv)

    def adjoint_increment(self, u, du, tape, new_tape):
        return self.adjoint(du, None)


def _product(v, matrix, in_shape, out_shape):
    lead = v.shape[: v.ndim - len(in_shape)]
    flat = v.reshape((*lead, matrix.shape[0]))
    # Increments are read to their last bit: no reduced precision on accelerators.
    product = jnp.matmul(flat, matrix, precision=jax.lax.Precision.HIGHEST)
    return product.reshape((*lead, *out_shape))
