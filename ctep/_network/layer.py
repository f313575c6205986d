"""Layers: the blocks of the state, and what is read out of the last one."""

from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Inexact, PyTree
from paramax import AbstractUnwrappable

from .. import _checks as checks
from .._custom_types import Scale, Shape
from .activation import AbstractActivation
from .operator import AbstractOperator


class Layer(eqx.Module):
    r"""One block of the state: $\tau\,\dot s = -s + \rho(h)$.

    Args:
        shape: shape of the layer's state, for one example.
        activation: $\rho$, what the layer does with its drive.
        bias: $b$, broadcast over `shape` (one number per channel in an image), or
            `None`.
        tau: time constant $\tau$, the unit of time in continuous dynamics.

    Raises:
        ValueError: if `shape` has an axis without units, `bias` does not broadcast to
            it, or `tau` is not positive.
        TypeError: if `activation` is not an activation object.
    """

    shape: Shape = eqx.field(
        static=True, converter=lambda value: checks.shape("shape", value)
    )
    activation: AbstractActivation
    bias: Float[Array, "..."] | AbstractUnwrappable | None = None
    tau: float = eqx.field(static=True, default=1.0, converter=checks.number)

    def __check_init__(self):
        if any(n < 1 for n in self.shape):
            raise ValueError(
                f"`shape` is {self.shape}, but a layer needs at least one unit along "
                "each axis: pass positive integers."
            )
        kind, noun = AbstractActivation, "an activation object"
        checks.instance("activation", self.activation, kind, noun, "ctep.Tanh()")
        checks.real("tau", self.tau, "1.0")
        if not self.tau > 0:
            raise ValueError(
                f"`tau` is {self.tau}, but a time constant must be positive: "
                "pass `tau=1.0`."
            )
        checks.numbers_or_none("bias", self.bias)
        shape = getattr(self.bias, "shape", None)
        if shape is not None and not _broadcasts(shape, self.shape):
            raise ValueError(
                f"`bias` has shape {shape}, which does not broadcast to the layer's "
                f"shape {self.shape}: give it that shape, or one number per channel."
            )

    @property
    def depth(self) -> int:
        """Number of layers that it stands for, 1 unless it is a stack."""
        return 1

    @property
    def scale(self) -> float:
        """The feedback scale within, 0 without feedback there."""
        return 0.0

    @property
    def tied(self) -> bool:
        """Whether all that couples the layers within comes back."""
        return True

    @property
    def links(self) -> Sequence[tuple[AbstractOperator, Any]]:
        """The operator and the feedback from each layer within to the next."""
        return ()

    @property
    def face(self) -> Shape:
        """Shape of one layer, which is what couplings see."""
        return self.shape

    def at(self, s: Array, place: int) -> Array:
        """Return the first (0) or the last (-1) layer of a state of the block."""
        del place
        return s

    def single(self) -> "Sequence[Layer]":
        """Return the layers that it stands for, one by one."""
        return (self,)

    def without_feedback(self) -> "Layer":
        """Return the layer with nothing that comes back within."""
        return self

    def means(self, values: Array) -> Array:
        """Return the mean of each layer, one number per layer."""
        return jnp.mean(values)[None]

    def along(self, values: Sequence[float], dtype) -> Any:
        """Return a number per layer as what multiplies a state of the block."""
        del dtype
        return values[0]

    def anchor(self, h: Array, unit: Scale) -> PyTree:
        """Return what increments need to know of the drive of the free phase."""
        return self.activation.anchor(h, unit)

    @property
    def learns(self) -> bool:
        """Whether the activation holds arrays of its own."""
        arrays = eqx.filter(self.activation, eqx.is_inexact_array)
        return bool(jax.tree_util.tree_leaves(arrays))


def _broadcasts(shape, target):
    # Not `jnp.broadcast_shapes`, by which a bias could widen the layer as well.
    if len(shape) > len(target):
        return False
    pairs = zip(reversed(shape), reversed(target), strict=False)
    return all(a in (1, b) for a, b in pairs)


class Readout(eqx.Module):
    """A linear map of the last layer to the outputs, outside the dynamics.

    Args:
        operator: the map from the last layer to the outputs.
        bias: one number per output, or `None`.
    """

    operator: AbstractOperator
    bias: Float[Array, " outputs"] | AbstractUnwrappable | None = None

    def __check_init__(self):
        example = "ctep.Dense((512,), (10,), key=key)"
        checks.instance(
            "operator", self.operator, AbstractOperator, "an operator", example
        )
        checks.same_shape("bias", self.bias, self.operator.out_shape)

    def __call__(self, s: Array) -> Inexact[Array, "*lead outputs"]:
        """Return the outputs at the state `s` of the last layer."""
        out, _ = self.operator.apply(s)
        return out if self.bias is None else out + self.bias  # pyright: ignore[reportOperatorIssue]
