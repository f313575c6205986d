"""Arrays by the names that the network prints."""

import equinox as eqx
import jax
from jaxtyping import PyTree

from .base import AbstractNetwork
from .coupling import Coupling
from .network import Network


def parameter_names(network: AbstractNetwork) -> tuple[str, ...]:
    """Return a name for each array that rules differentiate by, in the tree's order.

    Those of a layered network are those that it prints: "W0_1" and "b1", "W_out" and
    "b_out", of a stack "W1..100" and "b1..100". Other arrays are named by their place
    in the tree.
    """
    places = [_place(network, path) for path in paths(network)]
    heads = [head for head, _ in places]
    # The last word is enough for most of what a weight is made of.
    short = [f"{head}.{rest.rpartition('.')[2]}" for head, rest in places]
    names = []
    for (head, rest), brief in zip(places, short, strict=True):
        if heads.count(head) > 1:
            head = brief if short.count(brief) == 1 else head + rest
        names.append(head)
    return tuple(names)


def owners(network: Network) -> tuple[int, ...]:
    """Return the block, counted from 0, that each of these arrays drives.

    The readout counts as one block more.
    """
    found = []
    for path in paths(network):
        field = path[0].name
        if field == "layers":
            found.append(path[1].idx)
        elif field == "couplings":
            found.append(network.couplings[path[1].idx].target - 1)
        else:
            found.append(len(network.layers))
    return tuple(found)


def weight_name(network: Network, coupling: Coupling, letter: str = "W") -> str:
    """Return the printed name of a coupling's weights, "B" those of its feedback."""
    source, target = network.numbers(coupling)
    return f"{letter}{source}_{target}"


def layer_name(network: Network, n: int, letter: str) -> str:
    """Return the printed name of what block `n`, counted from 0, has of a kind."""
    first, last = network.wiring.ends[n]
    return f"{letter}{first + 1}" + (f"..{last + 1}" if last > first else "")


def paths(network: AbstractNetwork, which: PyTree | None = None) -> list[tuple]:
    """Return the place of each array in the tree.

    Args:
        network: the network to look through.
        which: a tree of booleans; by default the arrays that rules differentiate by.
    """
    which = network.differentiable() if which is None else which
    trained = eqx.filter(network, which)
    return [path for path, _ in jax.tree_util.tree_flatten_with_path(trained)[0]]


def _place(network, path):
    """Return the printed name of a part of a network, and the array's place in it."""
    text = jax.tree_util.keystr
    if not isinstance(network, Network):
        return text(path).lstrip("."), ""
    field = path[0].name
    if field == "couplings":
        c = network.couplings[path[1].idx]
        return weight_name(network, c), text(path[3:])
    if field == "layers":
        letter = {"bias": "b", "forward": "W"}.get(path[2].name, "layer")
        rest = path[3:] if letter == "W" else path[2:]
        return layer_name(network, path[1].idx, letter), text(rest)
    return ("b_out" if path[1].name == "bias" else "W_out"), text(path[2:])
