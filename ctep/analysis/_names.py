"""Trained arrays by the names that the network prints, and tables of them."""

from collections.abc import Sequence

import equinox as eqx
import jax

from .._network import AbstractNetwork, Coupling, Network


def parameter_names(network: AbstractNetwork) -> tuple[str, ...]:
    """Return a name for each trained array, in the order of the tree's leaves.

    Those of a layered network are those that it prints: "W0_1" and "b1", "W_out" and
    "b_out". Other arrays are named by their place in the tree.
    """
    paths = _paths(network)
    places = [_place(network, path) for path in paths]
    heads = [place[0] for place in places]
    return tuple(
        head if heads.count(head) == 1 else head + rest for head, rest in places
    )


def owners(network: Network) -> tuple[int, ...]:
    """Return the layer, counted from 0, that each trained array drives.

    The readout counts as one layer more.
    """
    found = []
    for path in _paths(network):
        field = path[0].name
        if field == "layers":
            found.append(path[1].idx)
        elif field == "couplings":
            found.append(network.couplings[path[1].idx].target - 1)
        else:
            found.append(len(network.layers))
    return tuple(found)


def weight_name(coupling: Coupling, letter: str = "W") -> str:
    """Return the printed name of a coupling's weights, "B" those of its feedback."""
    return f"{letter}{coupling.source}_{coupling.target}"


def _paths(network):
    trained = eqx.filter(network, network.trainable())
    return [path for path, _ in jax.tree_util.tree_flatten_with_path(trained)[0]]


def _place(network, path):
    """Return the printed name of a part of a network, and the array's place in it."""
    text = jax.tree_util.keystr
    if not isinstance(network, Network):
        return text(path).lstrip("."), ""
    field = path[0].name
    if field == "couplings":
        c = network.couplings[path[1].idx]
        return weight_name(c), text(path[3:])
    if field == "layers":
        letter = "b" if path[2].name == "bias" else "layer"
        return f"{letter}{path[1].idx + 1}", text(path[2:])
    return ("b_out" if path[1].name == "bias" else "W_out"), text(path[2:])


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return rows as lines: the first column to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for first, *rest in rows:
        cells = [first.ljust(widths[0])]
        cells += [v.rjust(w) for v, w in zip(rest, widths[1:], strict=True)]
        lines.append("  " + "  ".join(cells).rstrip())
    return lines
