"""What analyses of a network at some inputs share: the inputs, and the rests there."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike

from .. import _checks as checks
from .._network import AbstractNetwork, Network
from .._nudge import AbstractNudge, OutputError
from .._rule import check_batch, check_inputs, check_kinds
from .._solver import RESULTS, AbstractSolver, Equilibrium, Sweeps, explain, usable
from .._train import settle


def inputs(network: AbstractNetwork, x: ArrayLike) -> Array:
    """Return inputs in the network's dtype, or raise if they do not fit it.

    Args:
        network: any network.
        x: `(batch, *input_shape)`.
    """
    check_kinds(network=network)
    x = checks.array("x", x)
    check_inputs(network, x)
    return x.astype(network.dtype)


def layered(network: AbstractNetwork) -> Network:
    """Return a network of single layers, or raise if it has none."""
    check_kinds(network=network)
    if not isinstance(network, Network):
        raise ValueError(
            f"`network` is a {type(network).__name__}, which has no layers to look at: "
            "pass a `ctep.Network`, for example of `ctep.mlp`."
        )
    return network.unstacked()


def nearest(dtype: Any, roundings: int = 100) -> float:
    """Return how near to rest all that is in a dtype can be asked to come.

    By its roundings a unit moves for good, and the worst of ten thousand by more of
    them than most.
    """
    return roundings * float(jnp.finfo(dtype).eps)


def tolerance(name: str, value: float) -> None:
    """Raise unless `value` is a number of at least 0, perhaps infinite."""
    checks.real(name, value, "1e-6")
    if not value >= 0:
        raise ValueError(
            f"`{name}` is {value}, but a tolerance of steps must be 0 or more: pass "
            "for example 1e-6."
        )


def solver_or(solver: AbstractSolver | None, dtype: Any) -> AbstractSolver:
    """Return `solver`, by default `Sweeps` to 100 roundings, 200 for each digit."""
    if solver is None:
        tol = nearest(dtype)
        # Every digit takes as many sweeps as the one before it.
        solver = Sweeps(max_sweeps=round(-200 * math.log10(tol)), rtol=tol, atol=tol)
    check_kinds(solver=solver)
    return solver


def rest(
    network: AbstractNetwork, x: Array, solver: AbstractSolver, throw: bool
) -> Equilibrium:
    """Return the free equilibrium.

    Raises:
        RuntimeError: if `throw` and an example has not settled.
    """
    return settle(network, x, solver=solver, throw=throw)


def with_settled(
    run: Callable[[Array, Array], tuple[Any, Sequence[RESULTS]]],
    x: Array,
    y: Array,
    throw: bool,
) -> tuple[Any, int]:
    """Return what `run` makes of the examples that settle, and how many do not.

    Args:
        run: function of inputs and targets that returns anything, and results,
            `(..., batch)` each.
        x: inputs.
        y: targets.
        throw: whether to raise if an example has not settled.

    Raises:
        RuntimeError: if `throw` and an example has not settled, or if none has.
    """
    checks.flag("throw", throw)
    out, results = run(x, y)
    # What was taken as published stays, or `FixedSweeps` would leave nobody.
    settled = np.concatenate([np.reshape(usable(r), (-1, len(x))) for r in results])
    settled = settled.all(0)
    if settled.all():
        return out, 0
    if throw or not settled.any():
        messages = [message for r in results if (message := explain(r))]
        raise RuntimeError(messages[0])
    return run(x[settled], y[settled])[0], int(np.sum(~settled))


def batch(network, x, y, nudge, solver, epoch):
    """Return inputs, targets, nudge and solver, checked and with their defaults."""
    nudge = nudge_at(nudge, epoch)
    check_kinds(network=network)
    solver = solver_or(solver, network.dtype)
    x, y = checks.array("x", x), checks.array("y", y)
    check_batch(network, nudge, x, y)
    return x.astype(network.dtype), y, nudge, solver


def nudge_at(nudge: AbstractNudge | None, epoch: int) -> AbstractNudge:
    """Return the nudge of an epoch, by default that of `OutputError()`."""
    nudge = OutputError() if nudge is None else nudge
    check_kinds(nudge=nudge)
    checks.epoch(epoch)
    return nudge.at(epoch)


def counted(examples: int, unsettled: int) -> str:
    """Return over how many examples means are taken."""
    left_out = f", {unsettled} more left out that did not settle" if unsettled else ""
    return f"{examples} examples{left_out}"
