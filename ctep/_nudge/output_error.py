"""The nudge of plain equilibrium propagation: the error of the output."""

import jax.numpy as jnp

from .. import _checks as checks
from .._network import Network, Readout
from .base import AbstractNudge, Head
from .loss import AbstractLoss, CrossEntropy


class OutputError(AbstractNudge):
    r"""$C(s, y) = \mathrm{loss}(\mathrm{output}(s), y)$, felt by the last layer.

    The output is the network's readout, whose parameters get their direct gradient,
    or the last layer itself.

    ```python
    import ctep, jax

    network = ctep.mlp((4, 8, 3), key=jax.random.key(0))
    x, y = jax.numpy.ones((2, 4)), jax.numpy.zeros((2, 3))  # values, not classes
    nudge = ctep.OutputError(ctep.SquaredError())
    loss, gradient = ctep.gradient(network, x, y, nudge=nudge)
    ```

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

    def heads(self, network):
        # Subclasses of these two, and other networks, may return another output.
        readout = network.readout if type(network) is Network else network
        if readout is not None and type(readout) is not Readout:
            return None
        operator = None if readout is None else readout.operator
        return (Head(len(network.shapes) - 1, self.loss, operator),)

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
