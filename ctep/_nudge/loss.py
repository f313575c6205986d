"""Losses: how far an output is from its target."""

import abc
import math

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Inexact

from .. import _checks as checks


class AbstractLoss(eqx.Module):
    """A loss of one output vector and its target, with any leading axes.

    ```python
    import ctep, jax
    import jax.numpy as jnp

    class Huber(ctep.AbstractLoss):
        def __call__(self, output, target):
            error = output - jax.nn.one_hot(target, output.shape[-1])
            return jnp.sum(jnp.sqrt(1 + error**2) - 1, -1)

    network = ctep.mlp((4, 8, 3), key=jax.random.key(0))
    x, y = jnp.ones((2, 4)), jnp.arange(2)
    loss, _ = ctep.gradient(network, x, y, nudge=ctep.OutputError(Huber()))
    ```
    """

    @property
    def holomorphic(self) -> bool | None:
        """Whether the gradient extends to complex outputs; `None` if that is open."""
        return None

    @property
    def distributions(self) -> bool:
        """Whether values that are targets must be probabilities of the outputs."""
        return False

    def curvature(self, order: int | float) -> float:
        """Return a bound on the norm of the Hessian, infinity if nothing is known.

        Args:
            order: of the norm, 2 or infinity.
        """
        del order
        return math.inf

    @abc.abstractmethod
    def __call__(
        self, output: Inexact[Array, "*lead outputs"], target: Array
    ) -> Inexact[Array, "*lead"]:
        """Return the loss of each example, complex where outputs are.

        Args:
            output: logits or values.
            target: integer labels `(*lead,)`, or values with the outputs' axis. Where
                a label names no output, the loss is not a number.
        """


class CrossEntropy(AbstractLoss):
    r"""$-\sum_k q_k \ln \mathrm{softmax}(o)_k$ of logits $o$.

    $$q_k = (1 - \epsilon)\, y_k + \epsilon / K$$

    with the target $y$, a class as a one-hot vector or a distribution, and $K$ outputs.
    The loss that is reported is this one, smoothed as well.

    ```python
    import ctep, jax

    network = ctep.mlp((4, 8, 3), key=jax.random.key(0))
    x, y = jax.numpy.ones((2, 4)), jax.numpy.arange(2)
    nudge = ctep.OutputError(ctep.CrossEntropy(label_smoothing=0.1))
    loss, gradient = ctep.gradient(network, x, y, nudge=nudge)
    ```

    Args:
        label_smoothing: $\epsilon$, the part of each target that is spread evenly over
            all outputs; from 0, none, to less than 1.

    Raises:
        ValueError: if `label_smoothing` is out of range.

    References:
        Szegedy et al., 2015, arXiv:1512.00567.
    """

    label_smoothing: float = eqx.field(
        static=True, default=0.0, converter=checks.number
    )

    def __check_init__(self):
        part = checks.real("label_smoothing", self.label_smoothing, "0.1")
        if not 0 <= part < 1:
            raise ValueError(
                f"`label_smoothing` is {part}, but a part of the target that is spread "
                "is at least 0 and less than 1: pass for example `0.1`."
            )

    @property
    def holomorphic(self):
        return True

    @property
    def distributions(self):
        return True

    def curvature(self, order):
        # Of diag(p) - p p^T, whose rows have the sums 2 p (1 - p) of sizes.
        return 0.5

    def __call__(self, output, target):
        # JAX's own refuses complex logits from some version on.
        shifted = output - jax.lax.stop_gradient(output.real.max(-1, keepdims=True))
        logs = shifted - jnp.log(jnp.sum(jnp.exp(shifted), -1, keepdims=True))
        values, spread = _values(target, output), self.label_smoothing
        if spread:
            values = (1 - spread) * values + spread / output.shape[-1]
        return -jnp.sum(values * logs, -1)


class SquaredError(AbstractLoss):
    r"""$\frac12 \sum_k (o_k - y_k)^2$, with labels as one-hot vectors."""

    @property
    def holomorphic(self):
        return True

    def curvature(self, order):
        return 1.0

    def __call__(self, output, target):
        return 0.5 * jnp.sum((output - _values(target, output)) ** 2, -1)


def _values(target, output):
    if not jnp.issubdtype(target.dtype, jnp.integer):
        return target
    classes = output.shape[-1]
    if target.dtype.itemsize < 4:  # else as many classes may be too many for it
        target = target.astype(jnp.int32)
    known = (target >= 0) & (target < classes)
    one_hot = jax.nn.one_hot(target, classes, dtype=output.dtype)
    # A target of zeros would be learnt from by one loss and by the other passed over.
    return jnp.where(known[..., None], one_hot, jnp.nan)
