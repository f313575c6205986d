"""What a solver returns: a state, and the evidence that it is at rest."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import optimistix as optx
from jaxtyping import Array, Bool, Int

from .._custom_types import Lead, Memory, State


class RESULTS(optx.RESULTS):  # pyright: ignore[reportGeneralTypeIssues]
    """How a solve ended; each message says what to try."""

    not_settled = (
        "The state was still moving when the solver's limit was reached. Raise "
        "`max_sweeps`, `t1` or `max_steps`, loosen `rtol` and `atol`, weaken the "
        "feedback, or check that the dynamics has a stable equilibrium."
    )
    as_published = (
        "The phase ran the number of sweeps that its protocol asks for and was not at "
        "rest. It takes part in the update as it is: judge it by the cosine with the "
        "exact gradient, or use `ctep.Sweeps`."
    )
    not_closed = (
        "The orbit of an oscillating nudge did not close: its last period did not end "
        "where it began. Raise `periods` or `period`, lower `dt` or `radius`, loosen "
        "`rtol` and `atol`, or weaken the feedback."
    )
    diverged = (
        "The state grew without bound. Weaken the feedback or the initial weights, "
        "or use an activation with a bounded range."
    )
    not_finite = (
        "The state holds NaN or infinity. Check the inputs and the parameters for "
        "them, lower the learning rate, or weaken the feedback."
    )


# Inherited members are typed as their parent's.
SUCCESSFUL: RESULTS = RESULTS.successful  # pyright: ignore[reportAssignmentType]

# From the worst to the mildest.
# The first one found speaks for the batch; `as_published` is no failure.
_FAILURES = (
    RESULTS.not_finite,
    RESULTS.diverged,
    RESULTS.not_settled,
    RESULTS.not_closed,
)

# States and increments this large are taken for runaway growth.
_RUNAWAY = 1e6


class Equilibrium(eqx.Module):
    r"""The end of a solve, example by example.

    Fields:
        state: one array per block, `(*lead, *shape)`.
        residual: largest force $|T(s) - s|/\eta$ on an element, see
            `AbstractProblem.residual`; in units of the block's largest element for
            increments.
        steps: sweeps, time steps or iterations that each example took.
        result: the `RESULTS` member of each example, as one batched member.
        memory: what the problem recalls of `state`.
    """

    state: State
    residual: Lead
    steps: Int[Array, "..."]
    result: RESULTS
    memory: Memory

    @property
    def settled(self) -> Bool[Array, "..."]:
        """Which examples are at rest."""
        return self.result == RESULTS.successful  # pyright: ignore[reportReturnType]


def judge(
    state: State,
    residual: Lead,
    excess: Lead,
    steps: Int[Array, "..."],
    memory: Memory,
    throw: bool,
    otherwise: RESULTS = RESULTS.not_settled,
) -> Equilibrium:
    """Return the equilibrium with the verdict on each of its examples.

    Args:
        state: where the solver stopped, `(*lead, *shape)` per block.
        residual: how far it still moves, one number per example.
        excess: how far that is above the tolerance; not positive once settled.
        steps: how many steps each example took.
        memory: what the problem recalls of `state`.
        throw: whether to raise if any example has not settled.
        otherwise: the verdict on what has not settled, but is finite and bounded.

    Raises:
        RuntimeError: if `throw` and some example has not settled, with the message of
            the worst one.
    """
    lead = residual.shape
    finite = jnp.isfinite(residual)
    size = jnp.zeros(lead)
    for s in state:
        axes = tuple(range(len(lead), s.ndim))
        finite = finite & jnp.all(jnp.isfinite(s), axes)
        size = jnp.maximum(size, jnp.max(jnp.abs(s), axes))

    def verdict(settled, finite, size):
        out = RESULTS.where(settled, SUCCESSFUL, otherwise)
        # A state may rest far out; only one that still moves there has run away.
        runaway = ~settled & (size > _RUNAWAY)
        out = RESULTS.where(runaway, RESULTS.diverged, out)
        # Last, for NaN compares false and has passed for a state that merely moves.
        return RESULTS.where(finite, out, RESULTS.not_finite)

    # `RESULTS.where` takes a single truth value, hence one `vmap` for each axis.
    for _ in lead:
        verdict = jax.vmap(verdict)
    result = verdict(excess <= 0, finite, size)
    found = Equilibrium(state, residual, steps, result, memory)
    return raised(found) if throw else found


def first_failure(free: RESULTS, nudged: RESULTS) -> RESULTS:
    """Return per example the result of the first phase that failed.

    Where none did it is that of the first phase that was taken as published, if any.

    Args:
        free: results of the free phase, `(batch,)`.
        nudged: results of the nudged phases, `(phases, batch)`.
    """

    def either(a, b):
        milder = (a == RESULTS.as_published) & ~usable(b)
        return RESULTS.where((a == RESULTS.successful) | milder, b, a)

    def one(free, nudged):
        out, _ = jax.lax.scan(lambda a, b: (either(a, b), None), free, nudged)
        return out

    return jax.vmap(one, in_axes=(0, 1))(free, nudged)


def usable(result: RESULTS) -> Bool[Array, "..."]:
    """Return which examples a gradient may be taken of: at rest, or as published."""
    return (result == RESULTS.successful) | (result == RESULTS.as_published)


def explain(result: RESULTS) -> str | None:
    """Return the message of the worst member of a batched result, if any failed."""
    for member in _FAILURES:
        if bool(jnp.any(result == member)):
            return RESULTS[member]
    return None


def raised(found: Equilibrium) -> Equilibrium:
    """Return an equilibrium, or raise `RuntimeError` when it is not one."""
    state = found.state
    for member in _FAILURES:
        # Hung upon the state, which is used: XLA drops a check that nobody asks for.
        state = member.error_if(state, jnp.any(found.result == member))
    return dataclasses.replace(found, state=state)
