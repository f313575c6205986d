"""Operators: the maps that couplings apply, their adjoints and their increments."""

import abc
import copy
import math
from collections.abc import Callable
from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from .. import _checks as checks
from .._custom_types import Shape

Precision = Literal["float32", "tensorfloat32", "bfloat16"]
_PRECISIONS = ("float32", "tensorfloat32", "bfloat16")


class AbstractOperator(eqx.Module):
    r"""A map $c$ between the states of two layers, with its exact adjoint.

    `apply` hands a *tape* to `adjoint`: what the adjoint of a map that is not linear
    needs to know of the state it is taken at (where a pooling window had its
    maximum). Nothing is ever computed twice. Increments start from *anchors*, which
    are computed once at the free state. Linear operators leave all of these `None`.
    Every operator maps 0 to 0, and all methods accept any number of leading axes.
    """

    in_shape: eqx.AbstractVar[Shape]
    out_shape: eqx.AbstractVar[Shape]

    @property
    @abc.abstractmethod
    def linear(self) -> bool:
        """Whether the adjoint needs no tape."""

    @property
    @abc.abstractmethod
    def holomorphic(self) -> bool:
        """Whether the map extends to complex states."""

    @abc.abstractmethod
    def apply(self, v: Array) -> tuple[Array, PyTree]:
        """Return the image of `v`, `(*lead, *out_shape)`, and its tape."""

    @abc.abstractmethod
    def adjoint(self, u: Array, tape: PyTree) -> Array:
        r"""Return $\partial \langle u, c(v) \rangle / \partial v$ at the taped $v$."""

    @abc.abstractmethod
    def anchor(self, v: Array) -> tuple[Array, PyTree, PyTree]:
        """Return image and tape of `v`, and what its increments need to know of it."""

    @abc.abstractmethod
    def apply_increment(self, dv: Array, anchor: PyTree) -> tuple[Array, PyTree]:
        """Return $c(v + dv) - c(v)$ without subtracting, and the move of the tape."""

    @abc.abstractmethod
    def adjoint_anchor(self, u: Array, tape: PyTree) -> PyTree:
        """Return what `adjoint_increment` needs to know of `u` at the taped state."""

    @abc.abstractmethod
    def adjoint_increment(
        self, du: Array, move: PyTree, anchor: PyTree, adjoint_anchor: PyTree
    ) -> Array:
        """Return the adjoint of `u + du` at `v + dv` less that of `u` at `v`.

        Args:
            du: increment of `u`.
            move: of the tape, from `apply_increment`.
            anchor: of `v`.
            adjoint_anchor: of `u`.
        """

    def tape_at_zero(self, lead: Shape, dtype) -> PyTree:
        """Return the tape of `apply` at zeros, `(*lead, *in_shape)`."""
        return self.apply(jnp.zeros((*lead, *self.in_shape), dtype))[1]

    def move_at_zero(self, lead: Shape, dtype, anchor: PyTree) -> PyTree:
        """Return the move of the tape for an increment of zeros."""
        zeros = jnp.zeros((*lead, *self.in_shape), dtype)
        return self.apply_increment(zeros, anchor)[1]

    @abc.abstractmethod
    def formula(self, weight: str, state: str) -> str:
        """Return how the map is printed."""

    @abc.abstractmethod
    def adjoint_formula(self, weight: str, state: str) -> str:
        """Return how the adjoint is printed."""


class AbstractLinear(AbstractOperator):
    """An operator whose adjoint is the same everywhere: no tapes and no anchors.

    Subclasses map real states; a complex one is mapped part by part, so that what comes
    back is the plain transpose and never the conjugate one.
    """

    @abc.abstractmethod
    def product(self, v: Array) -> Array:
        """Return the image of a real `v`."""

    @abc.abstractmethod
    def transposed(self, u: Array) -> Array:
        """Return the adjoint's image of a real `u`."""

    @property
    def linear(self):
        return True

    @property
    def holomorphic(self):
        return True

    def apply(self, v):
        return _by_parts(self.product, v), None

    def adjoint(self, u, tape):
        return _by_parts(self.transposed, u)

    def anchor(self, v):
        return _by_parts(self.product, v), None, None

    def apply_increment(self, dv, anchor):
        return _by_parts(self.product, dv), None

    def adjoint_anchor(self, u, tape):
        return None

    def adjoint_increment(self, du, move, anchor, adjoint_anchor):
        return _by_parts(self.transposed, du)


def _by_parts(function, v):
    if not jnp.iscomplexobj(v):
        return function(v)
    return jax.lax.complex(function(v.real), function(v.imag))


class Dense(AbstractLinear):
    r"""$c(v) = v W$ on flattened states.

    Args:
        in_shape: shape of the source layer.
        out_shape: shape of the target layer.
        key: for the initial weights.
        init: `jax.nn.initializers`-style function of `(key, shape, dtype)`.
        precision: of the products, see `ctep.with_precision`.

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
        self.in_shape = checks.filled("in_shape", in_shape)
        self.out_shape = checks.filled("out_shape", out_shape)
        size = (math.prod(self.in_shape), math.prod(self.out_shape))
        self.weight = checks.weights(init, key, size)
        self.precision = check_precision(precision)

    def product(self, v):
        return self._times(v, self.weight, self.in_shape, self.out_shape)

    def transposed(self, u):
        return self._times(u, self.weight.T, self.out_shape, self.in_shape)

    def formula(self, weight, state):
        return f"{weight} {state}"

    def adjoint_formula(self, weight, state):
        return f"{weight}' {state}"

    def _times(self, v, matrix, in_shape, out_shape):
        lead = v.shape[: v.ndim - len(in_shape)]
        flat = v.reshape((*lead, matrix.shape[0]))
        product = multiply(self.precision, jnp.matmul, flat, matrix)
        return product.reshape((*lead, *out_shape))


class Chain(AbstractOperator):
    r"""Operators one after the other, $c = c_k \circ \dots \circ c_1$.

    `Chain((conv, MaxPool(conv.out_shape)))` is the coupling of most convolutional
    Hopfield networks; with the pooling first it is that of a network which passes on
    pooled activity.

    Args:
        operators: from the source to the target.

    Raises:
        ValueError: if there is none, or the shapes of two neighbours differ.
    """

    operators: tuple[AbstractOperator, ...] = eqx.field(
        converter=lambda value: checks.members("operators", value)
    )

    def __check_init__(self):
        if not self.operators:
            raise ValueError(
                "`operators` is empty, but a chain needs at least one operator: pass "
                "for example `(conv, ctep.MaxPool(conv.out_shape))`."
            )
        example = "(conv, ctep.MaxPool(conv.out_shape))"
        for operator in self.operators:
            checks.instance(
                "operators", operator, AbstractOperator, "operators alone", example
            )
        pairs = zip(self.operators, self.operators[1:], strict=False)
        for first, second in pairs:
            if first.out_shape != second.in_shape:
                raise ValueError(
                    f"`operators` holds one that returns shape {first.out_shape} "
                    f"before one that takes {second.in_shape}: make them agree."
                )

    @property
    def in_shape(self):
        return self.operators[0].in_shape

    @property
    def out_shape(self):
        return self.operators[-1].out_shape

    @property
    def linear(self):
        return all(o.linear for o in self.operators)

    @property
    def holomorphic(self):
        return all(o.holomorphic for o in self.operators)

    def apply(self, v):
        tapes = []
        for operator in self.operators:
            v, tape = operator.apply(v)
            tapes.append(tape)
        return v, tuple(tapes)

    def adjoint(self, u, tape):
        for operator, own in self._backwards(tape):
            u = operator.adjoint(u, own)
        return u

    def anchor(self, v):
        tapes, anchors = [], []
        for operator in self.operators:
            v, tape, anchor = operator.anchor(v)
            tapes.append(tape)
            anchors.append(anchor)
        return v, tuple(tapes), tuple(anchors)

    def apply_increment(self, dv, anchor):
        moves = []
        for operator, own in zip(self.operators, anchor, strict=True):
            dv, move = operator.apply_increment(dv, own)
            moves.append(move)
        return dv, tuple(moves)

    def adjoint_anchor(self, u, tape):
        out = []
        for n in reversed(range(len(self.operators))):
            out.append(self.operators[n].adjoint_anchor(u, tape[n]))
            # Only operators nearer to the source ask what reaches them.
            if not all(operator.linear for operator in self.operators[:n]):
                u = self.operators[n].adjoint(u, tape[n])
        return tuple(reversed(out))

    def adjoint_increment(self, du, move, anchor, adjoint_anchor):
        for operator, *own in self._backwards(move, anchor, adjoint_anchor):
            du = operator.adjoint_increment(du, *own)
        return du

    def tape_at_zero(self, lead, dtype):
        return tuple(o.tape_at_zero(lead, dtype) for o in self.operators)

    def move_at_zero(self, lead, dtype, anchor):
        pairs = zip(self.operators, anchor, strict=True)
        return tuple(o.move_at_zero(lead, dtype, own) for o, own in pairs)

    def formula(self, weight, state):
        for operator in self.operators:
            state = operator.formula(weight, state)
        return state

    def adjoint_formula(self, weight, state):
        for operator in reversed(self.operators):
            state = operator.adjoint_formula(weight, state)
        return state

    def _backwards(self, *trees):
        return list(zip(self.operators, *trees, strict=True))[::-1]


def multiply(precision: Precision, product: Callable, v: Array, weight: Array) -> Array:
    """Return `product(v, weight)` with operands of the precision, in the dtype of `v`.

    Increments are read to their last bit, so nothing is reduced unless asked for.
    """
    if precision == "bfloat16":
        v, weight = (_rounded(array) for array in (v, weight))
    levels = {
        "float32": jax.lax.Precision.HIGHEST,
        "tensorfloat32": jax.lax.Precision.HIGH,
    }
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
