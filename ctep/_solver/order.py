"""Orders: which blocks a sweep updates together, and in which sequence."""

import abc
from collections.abc import Sequence

import equinox as eqx

Groups = tuple[tuple[int, ...], ...]


class AbstractOrder(eqx.Module):
    """The order in which a sweep visits the blocks.

    ```python
    import ctep, jax

    class OutsideIn(ctep.AbstractOrder):
        def groups(self, count, edges):
            pairs = [(n, count - 1 - n) for n in range((count + 1) // 2)]
            return tuple(tuple(sorted(set(pair))) for pair in pairs)

    network = ctep.mlp((4, 8, 8, 8, 3), feedback=0.3, key=jax.random.key(0))
    x = jax.numpy.ones((2, 4))
    rest = ctep.settle(network, x, solver=ctep.Sweeps(order=OutsideIn()))
    print(OutsideIn().groups(3, ()))  # ((0, 2), (1,))
    ```
    """

    @abc.abstractmethod
    def groups(self, count: int, edges: Sequence[tuple[int, int]]) -> Groups:
        """Return groups of blocks, each updated at once from the newest state.

        Args:
            count: number of blocks.
            edges: pairs of blocks, counted from 0, that drive each other.
        """


class Forward(AbstractOrder):
    """One block after the other from input to output: block Gauss-Seidel."""

    def groups(self, count, edges):
        return tuple((n,) for n in range(count))


class Backward(AbstractOrder):
    """One block after the other from output to input."""

    def groups(self, count, edges):
        return tuple((n,) for n in reversed(range(count)))


class Synchronous(AbstractOrder):
    """All blocks at once: Jacobi, the published scheme of most papers."""

    def groups(self, count, edges):
        return (tuple(range(count)),)


class Alternating(AbstractOrder):
    """Every other block, then the rest.

    Where the graph is bipartite (a chain, a tree) no two blocks of a group drive each
    other, each update is exact, and n sweeps reproduce 2 n synchronous steps at half
    their cost. Elsewhere the blocks alternate by their number, as published code does.
    """

    def groups(self, count, edges):
        color = _two_colors(count, edges)
        if color is None:
            color = [n % 2 for n in range(count)]
        both = [tuple(n for n in range(count) if color[n] == c) for c in (0, 1)]
        return tuple(group for group in both if group)


def _two_colors(count, edges):
    """Return a proper coloring by 0 and 1, or `None` if there is none."""
    color: dict[int, int] = {}
    for start in range(count):
        if start in color:
            continue
        color[start], todo = 0, [start]
        while todo:
            i = todo.pop()
            for j in [a + b - i for a, b in edges if i in (a, b)]:
                if j not in color:
                    color[j] = 1 - color[i]
                    todo.append(j)
                elif color[j] == color[i]:
                    return None
    return [color[n] for n in range(count)]
