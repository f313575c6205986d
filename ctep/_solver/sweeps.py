"""Sweeps: block updates in the direction of the signal, the fast path."""

import itertools
import math
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int

from .. import _checks as checks
from .._arrays import along, largest, leading
from .._custom_types import Lead, Memory, Number, State
from .._network import AbstractProblem
from .base import AbstractSolver
from .equilibrium import judge
from .order import AbstractOrder, Backward, Forward
from .visits import Turn, visits


def shares(value) -> tuple[float, ...]:
    """Return the shares of `gather` as plain numbers, or raise `TypeError`."""
    shares = checks.members("gather", value)
    return tuple(float(checks.real("gather", s, "(0.25, 0.05)")) for s in shares)


class Sweeps(AbstractSolver):
    r"""Update the blocks one group after the other until none of them moves.

    One sweep moves each block by $s_n \leftarrow s_n + \omega (T_n(s) - s_n)$ at the
    newest state of the others, but not out of its activation's range. A block of which
    no element is to move by more than `atol` + `rtol` $|s|$ (increments: `atol` in
    units of their block's largest element) stays where it is, and an example stops by
    itself after a sweep in which none has moved. So the residual is $|T(s) - s|$ of
    the very state that is returned, and no example depends on the others in its batch.

    ```python
    import ctep, jax

    network = ctep.mlp((4, 8, 8, 3), feedback=0.3, key=jax.random.key(0))
    solver = ctep.Sweeps(200, rtol=1e-5, atol=1e-5, order=ctep.Alternating())
    rest = ctep.settle(network, jax.numpy.ones((2, 4)), solver=solver)
    print(rest.steps, rest.residual)  # of each example
    ```

    Args:
        max_sweeps: sweeps after which to give up.
        rtol: relative tolerance, element by element.
        atol: absolute tolerance. With both 0 an example stops early only where not
            one bit changes any more.
        order: `Forward()`, `Backward()`, `Alternating()` or `Synchronous()`; by
            default the direction of the signal, forward in free phases and backward
            in nudged ones.
        relaxation: $\omega$. Deep chains settle in half the sweeps with 1.1 to 1.2
            (successive over-relaxation); below 1 it damps an oscillation. The
            residual is that of the full update.
        gather: falling shares of the batch, none by default. Once no more examples
            than that share still move, they go on in a batch of their own: with
            `(0.25, 0.05)` the slowest one of a hundred is swept with four others in
            the end and not with all of them. It pays where the slowest example takes
            many times the sweeps of most, and compiles one more loop per share.

    Raises:
        ValueError: if `max_sweeps` is not positive, a tolerance is negative,
            `relaxation` is outside (0, 2), or `gather` does not fall within (0, 1).
        TypeError: if an argument is of the wrong kind.

    Cost: one `apply` and one `adjoint` per coupling and sweep.
    """

    max_sweeps: int = eqx.field(default=100, converter=checks.number)
    rtol: Number = eqx.field(default=1e-3, converter=checks.number)
    atol: Number = eqx.field(default=1e-3, converter=checks.number)
    order: AbstractOrder | None = None
    relaxation: float = eqx.field(default=1.0, converter=checks.number)
    gather: tuple[float, ...] = eqx.field(default=(), converter=shares)

    def __check_init__(self):
        checks.count("max_sweeps", self.max_sweeps, "100")
        checks.real("relaxation", self.relaxation, "1.0")
        kinds, example = (AbstractOrder, type(None)), "ctep.Forward()"
        checks.instance("order", self.order, kinds, "an order or None", example)
        if not 0 < self.relaxation < 2:
            raise ValueError(
                f"`relaxation` is {self.relaxation}, but sweeps can only converge "
                "within (0, 2): pass 1.0, or 1.1 for a deep chain."
            )
        bounds = (1.0, *self.gather, 0.0)
        if not all(a > b for a, b in itertools.pairwise(bounds)):
            raise ValueError(
                f"`gather` is {self.gather}, but holds shares of a batch that fall "
                "within (0, 1): pass for example `(0.25, 0.05)`."
            )

    def solve(self, problem, state, *, zeros=False, throw=True):
        state, memory, _, steps, residual, excess = self.sweep(problem, state, zeros)
        return judge(state, residual, excess, steps, memory, throw)

    def sweep(
        self, problem: AbstractProblem, state: State, zeros: bool = False
    ) -> "Examples":
        """Return where sweeps from `state` end, before any verdict.

        Args:
            problem: a free, nudged or incremental problem.
            state: where to start, `(*lead, *shape)` per block.
            zeros: whether `state` is known to be zero.
        """
        order = self.order or (Backward() if problem.incremental else Forward())
        groups = visits(order, problem.network)
        lead = leading(state[0], problem.shapes[0])
        blocks = frozenset(range(len(state)))
        # Real also where states are complex; infinite, as nothing has been judged yet.
        infinite = jnp.full(lead, jnp.inf, jnp.finfo(state[0].dtype).dtype)
        memory = problem.recall(state, blocks if zeros else frozenset())
        steps, count = jnp.zeros(lead, jnp.int32), jnp.zeros((), jnp.int32)
        active = jnp.ones(lead, bool)
        carry = Examples(state, memory, active, steps, infinite, infinite), count
        if zeros:
            # Apart from the loop, since half of its products would be with zeros.
            carry = self._sweep(problem, groups, carry, blocks)
        return self._settle(problem, groups, carry, self._widths(active.size))[0]

    def _widths(self, count):
        # Shares of a small batch may round to one width; each width compiles a loop.
        widths = {max(1, math.floor(share * count)) for share in self.gather}
        return sorted(widths - {count}, reverse=True)

    def _settle(self, problem, groups, carry, widths):
        """Sweep until nothing moves, the last examples in ever narrower batches."""
        # Batched by hand and not by `vmap`, whose loop masks the tapes of pools too. On
        # a VGG for 32 x 32 pixels, batch 64 on 2 cores: 628 ms against 771. A chain of
        # 10 x 64 and three small convolutions lose a tenth by it.
        # In `vgg7` the median example takes some 20 sweeps, the slowest up to 250.
        most = widths[0] if widths else 0

        def unfinished(carry):
            examples, count = carry
            return (jnp.sum(examples.active) > most) & (count < self.max_sweeps)

        examples, count = jax.lax.while_loop(
            unfinished, lambda carry: self._sweep(problem, groups, carry), carry
        )
        if not widths:
            return examples, count
        lead = examples.active.shape
        size = examples.active.size
        (index,) = jnp.nonzero(examples.active.ravel(), size=most, fill_value=size)
        # An index of `size` fills a place that is left over: nobody is there, nothing
        # moves and nothing is put back.
        few = jax.tree_util.tree_map(
            lambda leaf: _flat(leaf, lead).at[index].get(mode="clip"), examples
        )
        few = few._replace(active=few.active & (index < size))
        part = problem.take(jnp.minimum(index, size - 1), lead)
        # The count goes on, so that no example gets more than `max_sweeps` in all.
        few, count = self._settle(part, groups, (few, count), widths[1:])
        examples = jax.tree_util.tree_map(
            lambda leaf, own: (
                _flat(leaf, lead).at[index].set(own, mode="drop").reshape(leaf.shape)
            ),
            examples,
            few,
        )
        return examples, count

    def _sweep(self, problem, groups, carry, zero=frozenset()):
        """Return examples and count after one sweep; blocks `zero` are zeros."""
        (state, memory, active, steps, residual, excess), count = carry
        first, found = bool(zero), []
        for group in groups:
            # A first sweep asks for no tapes but those of blocks that are still zero.
            if len(group) > 1 and not first:
                memory = problem.refreshed(state, memory)
            moved = list(state)
            for n, how in group:
                moved[n], memory, part = self._visit(
                    problem, n, how, state, memory, active, zero
                )
                found.append(part)
            state, zero = tuple(moved), zero.difference(n for n, _ in group)
        measured = tuple(map(largest, zip(*found, strict=True)))
        if first:
            # Blocks that nothing reaches yet are constants, which XLA would spend
            # minutes on folding.
            measured, state = jax.lax.optimization_barrier((measured, state))
        # An example that has settled is frozen and must not be judged again.
        residual = jnp.where(active, measured[0], residual)
        excess = jnp.where(active, measured[1], excess)
        steps = steps + active
        active = active & (excess > 0)
        return Examples(state, memory, active, steps, residual, excess), count + 1

    def _visit(self, problem, n, how, state, memory, active, zero):
        """Return block `n`, the memory and the residuals after its visit."""

        def move(value, old, bounds, chosen=True):
            change = value - old
            found = problem.block_residual(n, change, old, self.rtol, self.atol)
            # The deadband: nothing moves that is at rest within the tolerance. So
            # nothing has moved in the last sweep of an example: its residuals are
            # all those of one state, the one returned, and so is its memory. What
            # the others in its batch do cannot change it.
            moving = along(active, found[1].ndim) & (found[1] > 0) & chosen
            moved = old + self.relaxation * change
            # Up to 1 a move stays between two states of the range.
            if bounds is not None:
                moved = jnp.clip(moved, *bounds)
            return jnp.where(along(moving, old.ndim), moved, old), found

        bounds = problem.bounds(n)
        if self.relaxation <= 1 or jnp.iscomplexobj(state[n]):  # which have no range
            bounds = None
        depth = problem.network.depths[n]
        if isinstance(how, Turn):
            if depth > 1 and bounds is not None:
                axis = state[n].ndim - len(problem.shapes[n])
                full = (jnp.broadcast_to(b, state[n].shape) for b in bounds)
                bounds = tuple(jnp.moveaxis(b, axis, 0) for b in full)
            back = how is Turn.back
            new, memory, found = problem.turn(
                n, state, memory, move, bounds, zero, back
            )
            return (
                new,
                memory,
                tuple(jnp.max(f, 0) for f in found) if depth > 1 else found,
            )
        # Some layers of a stack at once, all from the same state.
        value, memory = problem.update(n, state, memory, zero)
        new, (worst, excess) = move(value, state[n], bounds, how)
        worst, excess = jnp.where(how, worst, 0), jnp.where(how, excess, -jnp.inf)
        return new, memory, (jnp.max(worst, -1), jnp.max(excess, -1))


class Examples(NamedTuple):
    """What a sweep carries to the next: `active` examples are those that still move."""

    state: State
    memory: Memory
    active: Bool[Array, "..."]
    steps: Int[Array, "..."]
    residual: Lead
    excess: Lead


def _flat(leaf, lead):
    """Return an array with its leading axes made one."""
    return leaf.reshape((-1, *leaf.shape[len(lead) :]))
