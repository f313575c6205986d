"""How far operators stretch, proved from their weights and told by their types."""

import functools
import inspect
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .. import _checks as checks
from .activation import AbstractActivation
from .conv import Conv
from .dense import Dense, with_precision
from .operator import AbstractOperator, Chain
from .pool import AveragePool, MaxPool

# Singular values of larger matrices take minutes.
WIDEST = 4096


class _ByType:
    """A norm of operators as a `functools.singledispatch` function.

    No method, so that what is proved of a map stays apart from what computes it, and
    can be said of other people's classes too. Unlike `singledispatch` it goes by the
    type itself: a subclass may compute something else than the class that it is made
    of, so it inherits no bound.
    """

    register: Callable[..., Any]

    def __init__(self, function: Callable[..., float]):
        functools.update_wrapper(self, function)
        self._known = functools.singledispatch(function)
        self.register = self._known.register

    def __call__(self, operator: AbstractOperator, order: int | float = 2) -> float:
        example = "ctep.Dense((512,), (10,), key=key)"
        checks.instance("operator", operator, AbstractOperator, "an operator", example)
        order = checks.real("order", order, "2")
        if order not in (1, 2, math.inf):
            raise ValueError(
                f"`order` is {checks.shown(order)}, but a norm is that of order 1, 2 "
                "or infinity: pass 1, 2 or `math.inf`."
            )
        registry = self._known.registry
        norm = registry.get(type(operator), registry[object])
        found = float(norm(operator, order))
        if math.isinf(found) and order != 2:
            # |v|_inf <= |v|_2 <= sqrt(n) |v|_inf, and |v|_2 <= |v|_1 <= sqrt(n) |v|_2.
            shape = operator.out_shape if order == 1 else operator.in_shape
            found = math.sqrt(math.prod(shape)) * float(norm(operator, 2))
        return found


@_ByType
def operator_norm(operator: AbstractOperator, order: int | float = 2) -> float:
    r"""Return a proved bound on how far an operator stretches, infinity without one.

    $$\|c(v) - c(v')\|_p \le \|c\|_p\, \|v - v'\|_p$$

    The adjoint's bound in an order is the operator's in the dual one,
    $\|c^*\|_\infty \le \|c\|_1$. The norm of a matrix up to 4096 wide is its largest
    singular value; that of a wider one is bounded by $\sqrt{\|W\|_1 \|W\|_\infty}$ or
    Frobenius' norm, that of a convolution by its circular one on the padded image, of
    which it is a part. All are rounded upwards.

    Products in less than the precision of their dtype have none, since rounding is no
    Lipschitz map. An operator of your own has none until a function is registered for
    its class; its subclasses have none of theirs. A bound in the 2-norm bounds the
    others too.

    ```python
    import ctep, math

    class Mirror(ctep.AbstractLinear):
        in_shape: tuple
        out_shape: tuple

        def image(self, v):
            return v[..., ::-1]

        transposed = image

    @ctep.operator_norm.register(Mirror)
    def _(operator, order):
        return 1.0 if order == 2 else math.inf

    print(ctep.operator_norm(Mirror((9,), (9,)), math.inf))  # 3.0, by the 2-norm
    ```

    Args:
        operator: any operator; those of unknown classes have no bound.
        order: $p$: 1, 2 or infinity.

    Raises:
        TypeError: if `operator` is not an operator.
        ValueError: if `order` is not 1, 2 or infinity.

    Cost: one eigenvalue problem for each matrix in the 2-norm, or one per frequency of
    a padded image; else one product.
    """
    del operator, order
    return math.inf


def product(*factors: Any) -> float:
    """Return a product of bounds: 0 of a constant, whatever else is unknown."""
    # Plainly multiplied, 0 times infinity is NaN.
    return math.prod(factors) if all(factors) else 0.0


def states(part: Any, name: str) -> bool:
    """Say whether the class of a part itself gives a bound: it inherits none."""
    kind = type(part)
    return name in {*vars(kind), *inspect.get_annotations(kind)}


def lipschitz(activation: AbstractActivation) -> float:
    """Return the bound that an activation's class itself gives, else infinity."""
    return float(activation.lipschitz) if states(activation, "lipschitz") else math.inf


@operator_norm.register
def _(operator: Chain, order):
    return product(*(operator_norm(o, order) for o in operator.operators))


@operator_norm.register
def _(operator: MaxPool, order):
    return 1.0  # a maximum is one of the elements


@operator_norm.register
def _(operator: AveragePool, order):
    if order != 2:
        return _largest_sum(operator, order)
    return math.nextafter(math.prod(operator.window.size) ** -0.5, math.inf)


@operator_norm.register
def _(operator: Dense, order):
    if operator.precision != "float32":
        return math.inf
    if order != 2:
        return _largest_sum(operator, order)
    return _matrix_norm(np.asarray(operator.weight, np.float64))


@operator_norm.register
def _(operator: Conv, order):
    """Return the norm of the circular convolution on the padded image.

    A convolution with zeros around the image, at some of its places, is a part of the
    circular one on a torus that holds the image and the zeros.
    """
    if operator.precision != "float32":
        return math.inf
    if order != 2:
        return _largest_sum(operator, order)
    # By NumPy, for JAX has 64 bits only where a user has enabled them.
    weight = np.asarray(operator.weight, np.float64)
    down, across = (
        _fourier(n + sum(pad), k)
        for n, pad, k in zip(
            operator.in_shape, operator.padding, weight.shape, strict=False
        )
    )
    largest = 0.0
    # A real kernel has the same norms at opposite frequencies.
    for row in down[: len(down) // 2 + 1]:
        part = np.tensordot(row, weight, 1)
        for column in across:
            largest = max(largest, _matrix_norm(np.tensordot(column, part, 1)))
    return largest


def _largest_sum(operator, order):
    """Return the largest sum of sizes in a row of the matrix, of order 1 in a column.

    Rounded upwards, by more than the sums can have lost.
    """
    # The sums are what the map of absolute weights makes of ones, so no matrix of a
    # convolution is needed. With factors rounded down they would be no bound.
    size = with_precision(jax.tree_util.tree_map(jnp.abs, operator), "float32")
    shape, image = (
        (operator.out_shape, size.transposed)
        if order == 1
        else (operator.in_shape, size.image)
    )
    sums = image(jnp.ones(shape))
    lost = math.prod(shape) * float(jnp.finfo(sums.dtype).eps)
    return float(jnp.max(sums)) * (1 + 2 * lost)


def _matrix_norm(matrix):
    """Return the largest singular value or a bound on it, rounded upwards."""
    absolute, eps = np.abs(matrix), np.finfo(np.float64).eps
    size = float(np.linalg.norm(matrix))
    rough = math.sqrt(absolute.sum(0).max() * absolute.sum(1).max())
    rough = min(rough, size) * (1 + matrix.size * eps)
    if min(matrix.shape) > WIDEST:
        return rough
    # Squared from the narrow side. It is the small singular values that lose digits by
    # squaring, and only the largest one is asked for.
    tall = matrix if matrix.shape[0] >= matrix.shape[1] else matrix.T
    largest = max(float(np.linalg.eigvalsh(tall.conj().T @ tall)[-1]), 0.0)
    # The product and its eigenvalue are off by less than this.
    largest += 4 * sum(matrix.shape) * eps * size**2
    return min(rough, math.sqrt(largest))


def _fourier(size, taps):
    """Return the discrete Fourier transform of the places of a kernel's taps."""
    return np.exp(-2j * np.pi * np.outer(np.arange(size), np.arange(taps)) / size)
