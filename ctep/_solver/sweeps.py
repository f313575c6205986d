"""Sweeps: block updates in the direction of the signal, the fast path."""

import jax
import jax.numpy as jnp
from jaxtyping import Array

from .. import _checks as checks
from .base import AbstractSolver
from .equilibrium import judge
from .order import AbstractOrder, Backward, Forward


class Sweeps(AbstractSolver):
    r"""Update the blocks one group after the other until none of them moves.

    One sweep moves each block by $s_n \leftarrow s_n + \omega (T_n(s) - s_n)$ at the
    newest state of the others, but not out of its activation's range. An example stops
    by itself once no element moves in a sweep by more than `atol` + `rtol` $|s|$
    (increments: `atol` in units of their block's largest element), and is not touched
    again, so that no example depends on the others in its batch.

    Args:
        max_sweeps: when to give up.
        rtol: relative tolerance, element by element.
        atol: absolute tolerance. With both 0 an example stops early only where not
            one bit changes any more.
        order: `Forward()`, `Backward()`, `Alternating()` or `Synchronous()`; by
            default the direction of the signal, forward in free phases and backward
            in nudged ones.
        relaxation: $\omega$. Deep chains settle in half the sweeps with 1.1 to 1.2
            (successive over-relaxation); below 1 it damps an oscillation. The
            residual is that of the full update.

    Raises:
        ValueError: if `max_sweeps` is not positive, a tolerance is negative, or
            `relaxation` is outside (0, 2).

    Cost: one `apply` and one `adjoint` per coupling and sweep.
    """

    max_sweeps: int = 100
    rtol: float = 1e-3
    atol: float = 1e-3
    order: AbstractOrder | None = None
    relaxation: float = 1.0

    def __check_init__(self):
        checks.integer("max_sweeps", self.max_sweeps, "100")
        checks.real("relaxation", self.relaxation, "1.0")
        kinds, example = (AbstractOrder, type(None)), "ctep.Forward()"
        checks.instance("order", self.order, kinds, "an order or None", example)
        if not self.max_sweeps >= 1:
            raise ValueError(
                f"`max_sweeps` is {self.max_sweeps}, but a phase needs at least one "
                "sweep: pass a positive integer."
            )
        if not 0 < self.relaxation < 2:
            raise ValueError(
                f"`relaxation` is {self.relaxation}, but sweeps can only converge "
                "within (0, 2): pass 1.0, or 1.1 for a deep chain."
            )

    def solve(self, problem, state, *, zeros=False, throw=True):
        order = self.order or (Backward() if problem.incremental else Forward())
        groups = order.groups(len(problem.shapes), problem.network.edges)
        lead = state[0].shape[: state[0].ndim - len(problem.shapes[0])]

        def sweep(carry, zero):
            first = bool(zero)
            state, memory, active, steps, residual, excess, count = carry
            change: list[Array] = list(state)
            for group in groups:
                for n in group:
                    value, memory = problem.update(n, state, memory, zero)
                    change[n] = value - state[n]
                state = tuple(
                    self._moved(problem, n, active, s, change[n]) if n in group else s
                    for n, s in enumerate(state)
                )
                zero = zero.difference(group)
            if first:
                # Blocks that nothing reaches yet are constants, which XLA would spend
                # minutes on folding.
                change, state = jax.lax.optimization_barrier((change, state))
            # An example that has settled is frozen and must not be judged again.
            measured = problem.residual(tuple(change), state, self.rtol, self.atol)
            residual = jnp.where(active, measured[0], residual)
            excess = jnp.where(active, measured[1], excess)
            steps = steps + active
            active = active & (excess > 0)
            return state, memory, active, steps, residual, excess, count + 1

        def unfinished(carry):
            return jnp.any(carry[2]) & (carry[6] < self.max_sweeps)

        blocks = frozenset(range(len(state)))
        dtype = jnp.finfo(state[0].dtype).dtype
        infinite = jnp.full(lead, jnp.inf, dtype)
        carry = (
            state,
            problem.recall(state, blocks if zeros else frozenset()),
            jnp.ones(lead, bool),
            jnp.zeros(lead, jnp.int32),
            infinite,
            infinite,
            jnp.zeros((), jnp.int32),
        )
        if zeros:
            carry = sweep(carry, blocks)
        carry = jax.lax.while_loop(
            unfinished, lambda carry: sweep(carry, frozenset()), carry
        )
        state, memory, _, steps, residual, excess, _ = carry
        return judge(state, residual, excess, steps, memory, throw)

    def _moved(self, problem, n, active, state, change):
        moved, bounds = state + self.relaxation * change, problem.bounds(n)
        if self.relaxation > 1 and bounds and not jnp.iscomplexobj(moved):
            moved = jnp.clip(moved, *bounds)
        mask = active.reshape(active.shape + (1,) * (state.ndim - active.ndim))
        return jnp.where(mask, moved, state)
