"""What a sweep does, group by group: an order of layers as visits of blocks."""

import enum
from typing import Any

import numpy as np

from .._network import AbstractNetwork
from .order import AbstractOrder


class Turn(enum.Enum):
    """The layers of a block one after the other: from the first on, or the last."""

    forth = enum.auto()
    back = enum.auto()


def visits(order: AbstractOrder, network: AbstractNetwork) -> list[list[tuple]]:
    """Return groups of `(block, how)`, each visited at once from the newest state.

    An order knows layers alone. Where it visits those of a stack in their sequence
    this is one turn, a loop; else `how` is an array of truth values by layer, those of
    the stack that move at once.
    """
    depths = network.depths
    nodes = [(n, d) for n, depth in enumerate(depths) for d in range(depth)]
    starts = np.cumsum((0, *depths))
    edges = [(int(starts[i + 1]) - 1, int(starts[j])) for i, j in network.edges]
    edges += [
        (int(starts[n]) + d, int(starts[n]) + d + 1)
        for n, depth in enumerate(depths)
        for d in range(depth - 1)
    ]
    groups = [tuple(group) for group in order.groups(len(nodes), edges)]
    out = []
    while groups:
        n, _ = nodes[groups[0][0]]
        own = [(k,) for k in range(int(starts[n]), int(starts[n + 1]))]
        turns = {Turn.forth: own, Turn.back: own[::-1]}
        found = [turn for turn, run in turns.items() if groups[: len(own)] == run]
        if found:
            out.append([(n, found[0])])
            del groups[: len(own)]
        else:
            out.append(_together(groups.pop(0), nodes, depths))
    return out


def _together(group, nodes, depths):
    blocks: dict[int, Any] = {}
    for n, d in (nodes[k] for k in group):
        mask = blocks.setdefault(n, np.zeros(depths[n], bool))
        mask[d] = True
    return [(n, mask if len(mask) > 1 else Turn.forth) for n, mask in blocks.items()]
