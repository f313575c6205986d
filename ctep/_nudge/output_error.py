"""The nudge of plain equilibrium propagation: the error of the output."""

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

    def blocks(self, network):
        return (len(network.shapes) - 1,)

    def cost(self, network, state, target, epoch):
        return self.loss(network.output(state), target)

    def check(self, network, target):
        shape = network.output_shape
        if len(shape) != 1:
            raise ValueError(
                f"`nudge` compares outputs of shape {shape} with a target, but a loss "
                "needs a vector: give the network a dense last layer or a readout."
            )
        if jnp.issubdtype(target.dtype, jnp.integer):
            if target.ndim != 1:
                raise ValueError(
                    f"`y` has shape {target.shape}, but labels are one integer per "
                    "example: pass shape (batch,), for one-hot vectors their argmax."
                )
        elif target.shape[1:] != shape:
            raise ValueError(
                f"`y` has shape {target.shape} and dtype {target.dtype}, but this "
                f"network needs integer labels (batch,) or values (batch, "
                f"{shape[0]}): convert it."
            )
