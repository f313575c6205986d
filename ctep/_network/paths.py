"""What can be reached along couplings, and how much weaker it arrives there."""

import functools
import math
from collections.abc import Iterable, Sequence


def closure(blocks: Iterable[int], pairs: Iterable[tuple[int, int]]) -> frozenset[int]:
    """Return all that can be reached from some blocks along pairs (from, to)."""
    found, todo, pairs = set(blocks), list(blocks), list(pairs)
    while todo:
        here = todo.pop()
        new = {b for a, b in pairs if a == here} - found
        found |= new
        todo += new
    return frozenset(found)


def touching(pairs: Sequence[tuple[int, int]], node: int) -> tuple[int, ...]:
    """Return the numbers of the pairs that a node is one of."""
    return _touching(tuple(pairs)).get(node, ())


@functools.lru_cache
def _touching(pairs):
    found: dict[int, tuple[int, ...]] = {}
    for k, ends in enumerate(pairs):
        for node in set(ends):
            found[node] = (*found.get(node, ()), k)
    return found


# Asked for at every update that is traced, once per layer and coupling.
@functools.lru_cache
def graded(count: int, joins: tuple[tuple[int, int, float], ...]) -> tuple[float, ...]:
    r"""Return $\ln(1/c_n)$ of each node, where $c_i \gamma = c_j$ along the joins.

    Args:
        count: number of nodes; the last one is the output, with $c = 1$.
        joins: (i, j, $\ln \gamma$) of each edge along which feedback goes from j to i.
            Where they contradict each other, the largest product of scales counts.
    """
    found: dict[int, float] = {}
    for root in reversed(range(count)):
        # Nodes that no feedback joins to the output have an energy of their own.
        found.setdefault(root, 0.0)
        # So often at most: no path without a cycle is longer, and around one whose
        # scales multiply to more than 1 the product would grow for ever.
        for _ in range(count):
            before = dict(found)
            for i, j, log in joins:
                # The output's own attenuation is 1 by definition.
                if j in found and i != count - 1:
                    found[i] = max(found.get(i, -math.inf), found[j] + log)
            if found == before:
                # What is left is joined from below alone, a branch without an output:
                # it is graded by the node that it feeds back to.
                ahead = [(j, found[i] - log) for i, j, log in joins if i in found]
                found = dict(reversed(ahead)) | found
            if found == before:
                break
    return tuple(found[n] for n in range(count))
