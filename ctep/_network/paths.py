"""What can be reached along couplings, and how much weaker it arrives there."""

import dataclasses
import functools
import itertools
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


@dataclasses.dataclass(frozen=True)
class Wiring:
    """How the layers of a network hang together, in plain numbers.

    Read once for each problem: at every update that is traced the modules themselves
    would cost more than what is done with them.

    Fields:
        joined: per block, counted from 0, the numbers of its couplings.
        ends: per block its first and last layer, counted from 0 through all stacks.
        grades: per layer the logarithm of the attenuation, which may leave every dtype.
        least: the least normal number of the network's dtype.
    """

    joined: tuple[tuple[int, ...], ...]
    ends: tuple[tuple[int, int], ...]
    grades: tuple[float, ...]
    least: float

    @property
    def units(self) -> tuple[float, ...]:
        """The attenuation, or the least normal number where it is below.

        So far down increments are linear to the last digit, and no unit is zero.
        """
        return tuple(max(math.exp(grade), self.least) for grade in self.grades)

    def ratio(self, i: int, n: int, scale: float = 1.0) -> float:
        """Return a scale times the attenuation of layer `i` over that of `n`."""
        # By logarithms, whose difference is known where both are zero; and 1 where the
        # scales say so, up to the rounding of the logarithms.
        log = math.log(scale) + self.grades[i] - self.grades[n]
        return 1.0 if abs(log) < 1e-9 else math.exp(log)


def wired(
    depths: Sequence[int],
    pairs: Sequence[tuple[int, int]],
    scales: Sequence[float],
    within: Sequence[float],
    least: float,
) -> Wiring:
    r"""Return the wiring of blocks.

    Args:
        depths: number of layers of each block.
        pairs: (source, target) of each coupling, blocks counted from 0.
        scales: $\gamma$ of each coupling, 0 without feedback to a layer.
        within: $\gamma$ within each block, 0 without any.
        least: see `Wiring`.
    """
    stops = itertools.accumulate(depths)
    ends = tuple((b - n, b - 1) for b, n in zip(stops, depths, strict=True))
    joined: list[list[int]] = [[] for _ in depths]
    for k, pair in enumerate(pairs):
        for n in set(pair) - {-1}:
            joined[n].append(k)
    joins = [
        (ends[i][1], ends[j][0], math.log(scale))
        for (i, j), scale in reversed(list(zip(pairs, scales, strict=True)))
        if scale
    ]
    for (first, last), scale in zip(ends, within, strict=True):
        if scale:
            log = math.log(scale)
            joins += [(n, n + 1, log) for n in range(first, last)]
            # From the output down one pass finds all of a chain.
            joins.sort(key=lambda join: -join[1])
    grades = graded(sum(depths), tuple(joins))
    return Wiring(tuple(map(tuple, joined)), ends, grades, least)


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
