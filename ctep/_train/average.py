"""The average of the weights over the steps of a run."""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int, PyTree


class Average(eqx.Module):
    r"""The exponential moving average of what is trained.

    $$\bar w_t = \sum_{k=1}^t d^{t-k} w_k \Big/ \sum_{k=1}^t d^{t-k}$$

    Fields:
        weights: the average; before the first step the initial weights.
        count: number of steps $t$ so far.
    """

    weights: PyTree
    count: Int[Array, ""]

    @staticmethod
    def zero(trained: PyTree) -> "Average":
        """Return the average before the first step."""
        return Average(trained, jnp.zeros((), jnp.int32))

    def after(self, trained: PyTree, decay: float) -> "Average":
        """Return the average with one step more, by $d$ = `decay`."""
        count = self.count + 1
        # Of the first step it is 1, so that no initial weights are left in it.
        share = (1 - decay) / -jnp.expm1(count * math.log(decay))

        def one(new, old):
            return optax.incremental_update(new, old, share.astype(old.dtype))

        return Average(jax.tree.map(one, trained, self.weights), count)
