"""Networks whose weights are made of something, and the networks that they make."""

import functools
import inspect
import itertools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray, PyTree
from paramax import AbstractUnwrappable, contains_unwrappables

from .. import _checks as checks
from .._network import AbstractNetwork
from .nodes import AbstractDrawn

N = TypeVar("N", bound=PyTree)
P = ParamSpec("P")
R = TypeVar("R")


def resolve(network: N, *, key: PRNGKeyArray | None = None) -> N:
    r"""Return the network that the dynamics sees, with plain arrays for weights.

    $$W = W(\theta)$$

    Any array of a network may be a node of `paramax` instead, which makes the weights
    of its own arrays $\theta$: one of `ctep.standardized` and the like, or one of your
    own. Training resolves a network once per batch, `ctep.gradient`, `ctep.predict`
    and the analyses once per call, and no solver ever sees $\theta$.

    ```python
    import ctep, jax

    network = ctep.mlp((4, 8, 8, 3), feedback=0.3, key=jax.random.key(0))
    network = ctep.quantized(network, bits=4)
    plain = ctep.resolve(network)
    print(plain.couplings[1].forward.weight.shape)  # (8, 8)
    ```

    Args:
        network: any network, or another tree.
        key: random key of what draws at random, such as `ctep.noisy`; without one that
            is left at its mean.

    Cost: that of the nodes; a network without any is returned as it is.
    """
    if key is not None:
        checks.key(key)
    return _resolved(network, key) if contains_unwrappables(network) else network


@eqx.filter_jit
def _resolved(network, key):
    return _made(network, key, itertools.count())


def _made(tree, key, numbers):
    """Return a tree without nodes, of which the innermost are resolved first."""

    def is_node(value):
        return isinstance(value, AbstractUnwrappable) and value is not tree

    def one(value):
        if not is_node(value):
            return value
        node = _made(value, key, numbers)
        if isinstance(node, AbstractDrawn) and key is not None:
            # By its number in the tree, so that no two of them draw alike.
            return node.drawn(jax.random.fold_in(key, next(numbers)))
        return node.unwrap()

    return jax.tree_util.tree_map(one, tree, is_leaf=is_node)


def resolving(
    network: AbstractNetwork, key: PRNGKeyArray | None = None
) -> tuple[AbstractNetwork, Callable[[PyTree], PyTree]]:
    """Return the network that the dynamics sees, and what takes its gradient back.

    Args:
        network: any network.
        key: random key of what draws at random.

    Returns:
        The plain network, and a function of a gradient by its arrays (`None` where
        there is none) that returns the one by the arrays of `network`: $dL/dW$ times
        the derivative of $W$, of which no solver is a part.
    """
    if not contains_unwrappables(network):
        return network, lambda gradient: gradient
    arrays, rest = eqx.partition(network, eqx.is_inexact_array)
    statics = []

    def made(arrays):
        plain = _made(eqx.combine(arrays, rest), key, itertools.count())
        own, static = eqx.partition(plain, eqx.is_inexact_array)
        statics.append(static)
        return own

    own, pull = jax.vjp(made, arrays)

    def back(gradient):
        full = jax.tree_util.tree_map(
            lambda leaf, g: jnp.zeros_like(leaf) if g is None else g,
            own,
            eqx.filter(gradient, eqx.is_inexact_array),
        )
        return pull(full)[0]

    return eqx.combine(own, statics[0]), back


def draws(network: AbstractNetwork) -> bool:
    """Say whether anything in a network draws at random."""
    leaves = jax.tree_util.tree_leaves(
        network, is_leaf=lambda node: isinstance(node, AbstractDrawn)
    )
    return any(isinstance(leaf, AbstractDrawn) for leaf in leaves)


def effective(function: Callable[P, R]) -> Callable[P, R]:
    """Let a function look at the network that the dynamics sees."""
    signature = inspect.signature(function)

    @functools.wraps(function)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            bound = signature.bind(*args, **kwargs)
        except TypeError:
            return function(*args, **kwargs)  # whose own error has its name
        network = bound.arguments.get("network")
        if isinstance(network, AbstractNetwork) and contains_unwrappables(network):
            bound.arguments["network"] = resolve(network)
        return function(*bound.args, **bound.kwargs)

    return wrapped


def numbers(node: Array | AbstractUnwrappable) -> Array:
    """Return the array that a place of a network holds or makes."""
    return _made([node], None, itertools.count())[0]
