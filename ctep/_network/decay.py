"""Which arrays are weights: what decay is for."""

import equinox as eqx
import jax
from jaxtyping import PyTree

from .._parameter import owners
from .conv import Conv
from .coupling import Fixed
from .dense import Dense
from .layer import Layer
from .stack import Stack


def weights(tree: PyTree) -> PyTree:
    """Return a tree of booleans: the arrays that weight decay is for.

    Those of dense maps and convolutions; of operators, energies and whatever else is
    one's own those with two axes or more that are longer than 1. So not biases, gains,
    what layers and activations hold, and fixed feedback. It is a mask as optax takes
    them, for what `ctep.fit` trains as for a network in a loop of one's own:

    ```python
    import ctep, jax, optax

    network = ctep.mlp((64, 32, 10), feedback=0.1, key=jax.random.key(0))
    optimizer = optax.adamw(1e-3, weight_decay=5e-4, mask=ctep.weights)
    result = ctep.fit(network, "digits", optimizer=optimizer, epochs=1, progress=False)
    ```

    Args:
        tree: a network, or any tree that holds some, such as the pair of network and
            nudge that `ctep.fit` trains.

    Returns:
        A tree of the same structure.
    """

    def one(path, leaf):
        way = list(owners(tree, path))
        held = [node for node, _ in way]
        # Of a stack the couplings within are weights, one more along their first axis.
        layer = any(isinstance(n, Layer) and name != "forward" for n, name in way)
        if not eqx.is_inexact_array(leaf) or layer or _has(held, Fixed):
            return False
        long = [n for n in leaf.shape[_has(held, Stack) :] if n > 1]
        return _has(held[-1:], Dense | Conv) or len(long) > 1

    return jax.tree_util.tree_map_with_path(one, tree)


def _has(nodes, kinds) -> bool:
    return any(isinstance(node, kinds) for node in nodes)
