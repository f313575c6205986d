"""Sweeps: block updates in the direction of the signal, the fast path."""

import jax
import jax.numpy as jnp

from .base import AbstractSolver
from .equilibrium import judge
from .order import AbstractOrder, Backward, Forward


class Sweeps(AbstractSolver):
    r"""Update the blocks one group after the other until none of them moves.

    One sweep replaces each block by $s_n \leftarrow T_n(s)$ at the newest state of the
    others. An example stops by itself once no element changes in a sweep by more than
    `atol` + `rtol` $|s|$ (increments: `atol` in units of their block's largest
    element), and is not touched again, so that no example depends on the others in
    its batch.

    Args:
        max_sweeps: when to give up.
        rtol: relative tolerance, element by element.
        atol: absolute tolerance. With both 0 every example does `max_sweeps`.
        order: `Forward()`, `Backward()`, `Alternating()` or `Synchronous()`; by
            default the direction of the signal, forward in free phases and backward
            in nudged ones.

    Raises:
        ValueError: if `max_sweeps` is not positive or a tolerance is negative.

    Cost: one `apply` and one `adjoint` per coupling and sweep.
    """

    max_sweeps: int = 100
    rtol: float = 1e-3
    atol: float = 1e-3
    order: AbstractOrder | None = None

    def __check_init__(self):
        if not self.max_sweeps >= 1:
            raise ValueError(
                f"`max_sweeps` is {self.max_sweeps}, but a phase needs at least one "
                "sweep: pass a positive integer."
            )

    def solve(self, problem, state, *, throw=True):
        order = self.order or (Backward() if problem.backward else Forward())
        groups = order.groups(len(problem.shapes), problem.edges)
        lead = state[0].shape[: state[0].ndim - len(problem.shapes[0])]

        def body(carry):
            state, memory, active, steps, _, _, count = carry
            old = state
            for group in groups:
                fresh = {}
                for n in group:
                    fresh[n], memory = problem.update(n, state, memory)
                state = tuple(
                    _where(active, fresh[n], s) if n in fresh else s
                    for n, s in enumerate(state)
                )
            change = tuple(s - o for s, o in zip(state, old, strict=True))
            # A frozen example does not change, so it must not be measured again.
            fresh = problem.residual(change, state, self.rtol, self.atol)
            residual = jnp.where(active, fresh[0], carry[4])
            excess = jnp.where(active, fresh[1], carry[5])
            steps = steps + active
            active = active & (excess > 0)
            return state, memory, active, steps, residual, excess, count + 1

        def unfinished(carry):
            return jnp.any(carry[2]) & (carry[6] < self.max_sweeps)

        dtype = jnp.finfo(state[0].dtype).dtype
        infinite = jnp.full(lead, jnp.inf, dtype)
        carry = (
            state,
            problem.recall(state),
            jnp.ones(lead, bool),
            jnp.zeros(lead, jnp.int32),
            infinite,
            infinite,
            jnp.zeros((), jnp.int32),
        )
        carry = jax.lax.while_loop(unfinished, body, carry)
        state, memory, _, steps, residual, excess, _ = carry
        return judge(state, residual, excess, steps, memory, throw)


def _where(active, new, old):
    mask = active.reshape(active.shape + (1,) * (new.ndim - active.ndim))
    return jnp.where(mask, new, old)
