"""The fixed-point problems that solvers solve, and the pull of a nudge in them.

A problem is one map $T$; what becomes of it is the solver's and the order's choice:

- Hopfield dynamics in discrete time: `StatePhase` with `Sweeps(order=Synchronous())`;
- block Gauss-Seidel, block coordinate descent of an energy: `order=Forward()`;
- gradient flow of an energy in continuous time: `GradientPhase` with `ODE`.
"""

import abc
import dataclasses
from collections.abc import Callable, Iterable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Inexact, Int, PyTree

from .._arrays import along, largest, leading, replaced, within
from .._custom_types import Lead, Memory, Number, Shape, State


class AbstractProblem(eqx.Module):
    r"""A fixed-point problem $s = T(s)$ in blocks, for free and nudged phases alike.

    `data` holds every array with the examples' leading axes (all leaves have the same
    number of them, of full size or 1); all other fields are shared by the examples.
    That is what lets a solver take the problem apart into its examples.

    ```python
    import ctep, jax
    import jax.numpy as jnp

    class Cosine(ctep.AbstractProblem):
        network: ctep.AbstractNetwork  # for shapes, time constants and edges
        data: jax.Array
        incremental = False

        def recall(self, state, zero=frozenset()):
            return ()

        def update(self, n, state, memory, zero=frozenset()):
            return 0.5 * jnp.cos(self.data * state[n]), memory

    network = ctep.mlp((4, 8, 3), key=jax.random.key(0))
    problem = Cosine(network, jnp.ones((2, 8)))
    rest = ctep.Sweeps().solve(problem, network.zeros(jnp.ones((2, 4))))
    print(rest.settled)  # [True True]
    ```
    """

    # An `AbstractNetwork`; to name its class here would close a circle of imports.
    network: eqx.AbstractVar[Any]
    data: eqx.AbstractVar[PyTree]

    @property
    @abc.abstractmethod
    def incremental(self) -> bool:
        """Whether the state is an increment.

        If so the signal enters at the last block, and blocks are measured in units of
        their own largest element.
        """

    @property
    def shapes(self) -> tuple[Shape, ...]:
        """Shape of each block, for one example."""
        return self.network.shapes

    @abc.abstractmethod
    def recall(self, state: State, zero: frozenset[int] = frozenset()) -> Memory:
        """Return the memory with which `update` can start from `state`.

        Every array of a memory has the examples' leading axes, in full size.

        Args:
            state: one array per block, `(*lead, *shape)`.
            zero: the blocks known to be zero, with which no product need be taken.
        """

    def refreshed(self, state: State, memory: Memory) -> Memory:
        """Return a memory that has seen `state` in all that several blocks share.

        A group of blocks that are updated at once, from the same state, needs it: no
        block of the group is updated before the others.
        """
        del state
        return memory

    @abc.abstractmethod
    def update(
        self, n: int, state: State, memory: Memory, zero: frozenset[int] = frozenset()
    ) -> tuple[Inexact[Array, "..."], Memory]:
        """Return block `n` of $T(s)$, and the memory for the blocks that follow.

        Args:
            n: the block, counted from 0.
            state: one array per block, `(*lead, *shape)`.
            memory: what is kept of `state`: from `recall`, or from the updates of all
                blocks that came before.
            zero: the blocks known to be zero, with which no product need be taken.
        """

    def bounds(self, n: int) -> tuple[Any, Any] | None:
        """Return the least and the largest values of block `n`, `None` without any."""
        del n
        return None

    def image(self, state: State) -> tuple[State, Memory]:
        """Return $T(s)$, all blocks from the same state, and the memory of `state`."""
        memory, out = self.recall(state), []
        for n in range(len(self.shapes)):
            value, memory = self.update(n, state, memory)
            out.append(value)
        return tuple(out), memory

    def map(self, state: State) -> State:
        """Return $T(s)$ alone."""
        return self.image(state)[0]

    def turn(
        self,
        n: int,
        state: State,
        memory: Memory,
        move: Callable[[Array, Array, PyTree], tuple[Array, PyTree]],
        given: PyTree = None,
        zero: frozenset[int] = frozenset(),
        back: bool = False,
    ) -> tuple[Array, Memory, PyTree]:
        """Let each layer of a block move once, the one after the other.

        Args:
            n: the block, counted from 0.
            state: one array per block, `(*lead, *shape)`.
            memory: see `update`.
            move: function of a layer's value, of its state and of what is given for it
                that returns its new state and what is found.
            given: a tree that is given to `move`; of a stack its leaves have the layers
                along their first axis.
            zero: the blocks known to be zero, with which no product need be taken.
            back: whether the last layer of a stack is the first to move.

        Returns:
            The block, the memory for the blocks that follow, and what was found, of a
            stack with the layers along the first axis.
        """
        del back
        value, memory = self.update(n, state, memory, zero)
        new, found = move(value, state[n], given)
        return new, memory, found

    def swept(
        self,
        order: Iterable[int],
        state: State,
        zero: frozenset[int] = frozenset(),
        back: bool = False,
    ) -> State:
        """Return the state after one sweep: each layer is updated once, in turn.

        Args:
            order: the blocks in the sequence of their updates, counted from 0.
            state: one array per block, `(*lead, *shape)`.
            zero: the blocks known to be zero, with which no product need be taken.
            back: whether the last layer of a stack is the first to move.
        """
        memory = self.recall(state, zero)
        for n in order:
            value, memory, _ = self.turn(
                n, state, memory, lambda value, *_: (value, ()), None, zero, back
            )
            state = replaced(state, n, value)
            zero = zero - {n}
        return state

    def velocity(self, state: State) -> State:
        r"""Return $\dot s_n = (T_n(s) - s_n)/\tau_n$."""
        image = self.map(state)
        return tuple(
            (t - s) / tau
            for t, s, tau in zip(image, state, self.network.taus, strict=True)
        )

    def ndims(self, n: int) -> tuple[int, ...]:
        """Return the axes of block `n` that belong to one layer of one example."""
        stacked = self.network.depths[n] > 1
        return tuple(range(stacked - len(self.shapes[n]), 0))

    @property
    def step(self) -> float:
        """How far $T$ moves a state for each unit of the force on it."""
        return 1.0

    def residual(
        self, change: State, state: State, rtol: Number, atol: Number
    ) -> tuple[Lead, Lead]:
        r"""Measure a change $T(s) - s$ of the state, example by example.

        What is judged is the force $f = (T(s) - s)/\eta$ and not the move, which a
        small step $\eta$ could make as small as one likes. An element has settled if
        $|f| \le atol\,u + rtol\,|s|$, where the unit $u$ is 1, or the largest element
        of the block where it is an increment.

        Args:
            change: $T(s) - s$, one array per block.
            state: what it is measured against, one array per block.
            rtol: relative tolerance, a fraction of $|s|$.
            atol: absolute tolerance, in the unit $u$.

        Returns:
            The largest $|f|/u$ over all elements, and the largest excess
            $|f|/u - rtol\,|s|/u - atol$, which is not positive once settled.
        """
        blocks = enumerate(zip(change, state, strict=True))
        parts = [self.block_residual(n, d, s, rtol, atol) for n, (d, s) in blocks]
        lead = leading(change[0], self.shapes[0])
        worst, excess = (
            largest([within(part, lead) for part in own])
            for own in zip(*parts, strict=True)
        )
        return worst, excess

    def block_residual(
        self, n: int, change: Array, value: Array, rtol: Number, atol: Number
    ) -> tuple[Lead, Lead]:
        """Return what `residual` returns, for each layer of block `n` or one of them.

        `(*lead)`, of a whole stack `(*lead, depth)`.
        """
        axes = self.ndims(n)
        force, value = jnp.abs(change) / self.step, jnp.abs(value)
        # A user's `step` may be an array, which has no truth value while it is traced.
        if not (isinstance(self.step, float) and self.step == 1):
            # As much of a force may be lost when its step is added to the state.
            force = force + 0.5 * jnp.finfo(value.dtype).eps * value / self.step
        worst, most = jnp.max(force, axes), jnp.max(force - rtol * value, axes)
        unit, numbers = 1.0, jnp.finfo(value.dtype)
        if self.incremental:
            # A block of zeros has no size: it moves by all that it is about to be.
            size, about = jnp.max(value, axes), jnp.maximum(worst, numbers.tiny)
            unit = jnp.where(size < numbers.tiny, about, size)
        # An overflow is not to leave a finite move without its verdict.
        worst, most = (
            jnp.where(jnp.isfinite(v), jnp.minimum(v / unit, numbers.max), v)
            for v in (worst, most)
        )
        return worst, most - atol

    def sizes(self, state: State, image: State) -> State:
        """Return the sizes that `residual` measures changes against: those of `state`.

        A block of increments that $T$ maps to zeros feels nothing and has no size of
        its own. The rounding that a solver leaves in it is measured against the
        largest element of all blocks.

        Args:
            state: one array per block, `(*lead, *shape)`.
            image: $T(s)$, likewise one array per block.
        """
        if not self.incremental:
            return state
        axes = [self.ndims(n) for n in range(len(state))]
        lead = leading(state[0], self.shapes[0])
        pairs = zip(state, axes, strict=True)
        most = largest([within(jnp.max(jnp.abs(s), a), lead) for s, a in pairs])

        def size(s, t, a):
            felt = jnp.any(t != 0, a, keepdims=True)
            return jnp.where(felt, s, along(most, s.ndim))

        return tuple(map(size, state, image, axes))

    def units(self, state: State) -> State:
        """Return per block the unit in which tolerances are of order one.

        The block's largest element after one sweep in the direction of the signal
        where it is an increment, else 1.
        """
        if not self.incremental:
            return tuple(jnp.ones((), s.dtype) for s in state)
        state = self.swept(reversed(range(len(state))), state, back=True)
        sizes = [
            jnp.max(jnp.abs(s), self.ndims(n), keepdims=True)
            for n, s in enumerate(state)
        ]
        return tuple(jnp.where(size > 0, size, 1) for size in sizes)

    def take(self, index: Int[Array, " taken"], lead: Shape) -> "AbstractProblem":
        """Return the problem of some examples, with one leading axis.

        Args:
            index: numbers of the examples, counted along all leading axes together.
            lead: lengths of the leading axes.
        """
        places = jnp.unravel_index(index, lead)

        def one(leaf):
            lengths = leaf.shape[: len(lead)]
            # Shared by all examples, and so not copied for those that are taken.
            if max(lengths) == 1:
                return leaf.reshape((1, *leaf.shape[len(lead) :]))
            pairs = zip(places, lengths, strict=True)
            return leaf[tuple(i if n > 1 else jnp.zeros_like(i) for i, n in pairs)]

        data = jax.tree_util.tree_map(one, self.data)
        return dataclasses.replace(self, data=data)

    def per_example(self, function, *batched: PyTree) -> PyTree:
        """Apply `function(problem, *example)` to each example by itself.

        Args:
            function: takes a problem without leading axes, and one example of each of
                `batched`.
            batched: trees of arrays with all leading axes; the first is a state.

        Returns:
            The results, with the leading axes in front.
        """
        lead = leading(batched[0][0], self.shapes[0])
        rank = len(lead)

        def flat(leaf):
            # `vmap` wants one axis of one length in every leaf, also of what is shared.
            full = jnp.broadcast_to(leaf, lead + leaf.shape[rank:])
            return full.reshape((-1, *leaf.shape[rank:]))

        data, *examples = jax.tree_util.tree_map(flat, (self.data, *batched))

        def one(data, *example):
            return function(dataclasses.replace(self, data=data), *example)

        out = jax.vmap(one)(data, *examples)
        return jax.tree_util.tree_map(
            lambda leaf: leaf.reshape((*lead, *leaf.shape[1:])), out
        )


class AbstractPull(eqx.Module):
    """The force that a nudge exerts on a network, as the network sees it."""

    @property
    @abc.abstractmethod
    def blocks(self) -> tuple[int, ...]:
        """The blocks, counted from 0, that feel it."""

    @abc.abstractmethod
    def __call__(self, n: int, state: State, context: PyTree) -> Array:
        r"""Return $-\beta\,\partial C/\partial s_n$ at `state`.

        Args:
            n: one of `blocks`.
            state: where to evaluate the force, `(*lead, *shape)` per block.
            context: the pull's arrays with leading axes, such as the targets.
        """
