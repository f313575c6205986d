"""Where the weights of a network are."""

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import PyTree
from paramax import AbstractUnwrappable

from .. import _checks as checks
from .._network import AbstractNetwork, Network, Stack
from .nodes import Weight
from .resolution import numbers

Where = Callable[[Any], PyTree]


class Place(NamedTuple):
    """An array of a network, or the node in its place.

    Fields:
        path: keys of the tree that lead to it.
        held: the array or the node.
        stacked: whether it has the layers of a stack along its first axis.
    """

    path: tuple
    held: Weight
    stacked: bool

    @property
    def ndim(self) -> int:
        """Number of axes of one layer's array."""
        return jnp.ndim(numbers(self.held)) - self.stacked


def places(network: AbstractNetwork, where: Where | None, readout=True) -> list[Place]:
    """Return the arrays that a user chooses, by default the weights.

    Args:
        network: the network to look through.
        where: function of it that returns arrays or parts of it.
        readout: whether the weights of the readout are among the default ones.

    Raises:
        TypeError: if `network` or `where` is not of its kind.
        ValueError: if nothing is chosen.
    """
    kind, noun = AbstractNetwork, "a network"
    checks.instance("network", network, kind, noun, "ctep.mlp((4, 8, 3), key=key)")
    found = held(network)
    if where is None:
        chosen = [p for p in found if p.ndim > 1 and _is_weight(network, p, readout)]
    else:
        example = "lambda network: network.readout"
        checks.function("where", where, example)
        leaves = jax.tree_util.tree_leaves(where(network), _is_node)
        wanted = set(map(id, leaves))
        chosen = [p for p in found if id(p.held) in wanted]
    if not chosen:
        raise ValueError(
            "`where` chooses no array of floats: return arrays or parts of the network "
            "that it is given, such as `network.readout`."
        )
    return chosen


def held(network: AbstractNetwork) -> list[Place]:
    """Return all arrays of floats of a network, and the nodes in place of some."""
    return [
        Place(path, leaf, _is_stacked(network, path))
        for path, leaf in jax.tree_util.tree_flatten_with_path(network, _is_node)[0]
        if _is_node(leaf) or eqx.is_inexact_array(leaf)
    ]


def replaced(network: AbstractNetwork, pairs: list[tuple[Place, Any]]) -> Any:
    """Return the network with other things in some of its places."""

    def get(tree):
        return [_at(tree, place.path) for place, _ in pairs]

    return eqx.tree_at(get, network, [new for _, new in pairs])


def owner(network: AbstractNetwork, place: Place) -> Any:
    """Return the part of the network that holds an array."""
    return _at(network, place.path[:-1])


def source(network: Network, place: Place) -> int:
    """Return the block, counted from 0, that a weight comes from, -1 for the input."""
    field = place.path[0].name
    if field == "readout":
        return len(network.layers) - 1
    index = place.path[1].idx
    return network.couplings[index].source - 1 if field == "couplings" else index


def check_layered(network: Network) -> None:
    """Raise `TypeError` unless a network is made of layers."""
    example = "ctep.mlp((4, 8, 3), key=key)"
    checks.instance("network", network, Network, "a `ctep.Network`", example)


def _is_node(value):
    return isinstance(value, AbstractUnwrappable)


def _is_stacked(network, path):
    layered = isinstance(network, Network) and path[0].name == "layers"
    return layered and isinstance(network.layers[path[1].idx], Stack)


def _is_weight(network, place, readout):
    """Return whether an array of more than one axis is what a user calls a weight."""
    if not isinstance(network, Network):
        chosen = eqx.filter(network, network.trainable())
        paths = [p for p, _ in jax.tree_util.tree_flatten_with_path(chosen)[0]]
        return any(p[: len(place.path)] == place.path for p in paths)
    field, own = place.path[0].name, [getattr(k, "name", None) for k in place.path]
    if field == "readout":
        return readout and "operator" in own
    # Neither biases, which may have the axes of an image, nor fixed feedback.
    return "forward" in own


def _at(tree, path):
    for key in path:
        if isinstance(key, jax.tree_util.GetAttrKey):
            tree = getattr(tree, key.name)
        else:
            tree = tree[key.idx if hasattr(key, "idx") else key.key]
    return tree
