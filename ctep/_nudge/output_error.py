"""The nudge of plain equilibrium propagation: the error of the output."""

import math

import jax.numpy as jnp

from .. import _checks as checks
from .base import AbstractNudge
from .loss import AbstractLoss, CrossEntropy


class OutputError(AbstractNudge):
    r"""$C(s, y) = \mathrm{loss}(\mathrm{output}(s), y)$, felt by the last layer.

    The output is the network's readout, whose parameters get their direct gradient,
    or the last layer itself.

    Args:
        loss: `CrossEntropy()` or `SquaredError()`.
    """

    loss: AbstractLoss = CrossEntropy()

    def __check_init__(self):
        example = "ctep.SquaredError()"
        checks.instance("loss", self.loss, AbstractLoss, "a loss", example)

    @property
    def holomorphic(self):
        return self.loss.holomorphic

    def lipschitz(self, network):
        readout = getattr(network, "readout", None)
        if readout is None:
            return self.loss.lipschitz
        if not readout.operator.linear:
            return math.inf  # the gradient goes back through a maximum
        return float(readout.operator.lipschitz()) ** 2 * self.loss.lipschitz

    def blocks(self, network):
        return (len(network.shapes) - 1,)

    def cost(self, network, state, target):
        return self.loss(network.output(state), target)

    def check(self, network, y):
        shape = network.output_shape
        if len(shape) != 1:
            raise ValueError(
                f"`nudge` compares outputs of shape {shape} with a target, but a loss "
                "needs a vector: give the network a dense last layer or a readout."
            )
        if jnp.issubdtype(y.dtype, jnp.integer):
            if y.ndim != 1:
                raise ValueError(
                    f"`y` has shape {y.shape}, but labels are one integer per "
                    "example: pass shape (batch,), for one-hot vectors their argmax."
                )
        elif y.shape[1:] != shape:
            raise ValueError(
                f"`y` has shape {y.shape} and dtype {y.dtype}, but this "
                f"network needs integer labels (batch,) or values (batch, "
                f"{shape[0]}): convert it."
            )
