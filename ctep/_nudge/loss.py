"""Losses: how far an output is from its target."""

import abc
import math

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Inexact


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
    r"""$-\sum_k y_k \ln \mathrm{softmax}(o)_k$ of logits $o$."""

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
        return -jnp.sum(_values(target, output) * logs, -1)


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
