r"""The linear problems around a rest: $(1 - J^\top) v = g$ and $(1 - J)\,t = b$.

Both are preconditioned by a sweep in the direction of the signal. Let $J = L + U$ with
$L$ what a forward sweep sees anew. A sweep of tangents with sources $b$ is
$S(t, b) = (1 - L)^{-1} (U t + b)$, so that

$$1 - J = (1 - L)(1 - F), \qquad F = S(\cdot, 0) = (1 - L)^{-1} U.$$

One transposed sweep carries an error from the output to the input whatever the depth,
and what remains is as small as the feedback. A Krylov space of $J$ itself would need a
dimension for each layer.
"""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Int

from .._arrays import replaced
from .._custom_types import State
from .._network import AbstractProblem


class Adjoint(eqx.Module):
    r"""Solves $(1 - J^\top) v = g$ at a state, $J = \partial T/\partial s$, by GMRES.

    Args:
        tolerance: relative to the largest element of $g$; by default 1e-5, in float64
            1e-10.
        restart: dimension of a Krylov space; each holds that many states per example.
        max_steps: number of such spaces, of `restart` sweeps each, before it gives up.
    """

    tolerance: float | None = None
    restart: int = 40
    max_steps: int = 25

    def solve(
        self, problem: AbstractProblem, state: State, pull: State
    ) -> tuple[State, Int[Array, ...], Bool[Array, ...]]:
        """Return $v$, sweeps and whether it converged, example by example.

        Args:
            problem: the problem with the map $T$, free or incremental.
            state: where to linearise, `(*lead, *shape)` per block.
            pull: $g$, with the same structure and shapes.
        """

        def one(problem, state, pull):
            given, (problem, state, pull) = pull, _wide((problem, state, pull))
            back = _transposed_sweep(problem, state)
            # As 1 - J^T = (1 - F^T)(1 - L^T), w is (1 - L^T) v: one more sweep solves.
            w, steps, solved = self._gmres(lambda w: back(w)[0], pull)
            return _as(back(w)[1], given), steps, solved

        return problem.per_example(one, state, pull)

    def forward(
        self, problem: AbstractProblem, state: State, source: State
    ) -> tuple[State, Int[Array, ...], Bool[Array, ...]]:
        """Return $t = (1 - J)^{-1} b$, sweeps and whether it converged, by example.

        Args:
            problem: the problem with the map $T$, free or incremental.
            state: where to linearise, `(*lead, *shape)` per block.
            source: $b$, with the same structure and shapes.
        """

        def one(problem, state, source):
            given, (problem, state, source) = source, _wide((problem, state, source))
            none = _zeros(state)
            swept = _sweep(problem, state, none, source)
            found = self._gmres(lambda t: _sweep(problem, state, t, none), swept)
            return _as(found[0], given), *found[1:]

        return problem.per_example(one, state, source)

    def _gmres(self, contraction, right):
        r"""Solve $(1 - F)\,w = g$; `contraction` is $F$."""
        dtype = right[0].dtype
        tolerance = self.tolerance
        if tolerance is None:
            tolerance = 1e-10 if dtype == jnp.float64 else 1e-5
        # In units of its largest element, to which `tolerance` is relative.
        sizes = jnp.stack([jnp.max(jnp.abs(g)) for g in right])
        unit = jnp.where(jnp.any(sizes > 0), jnp.max(sizes), 1)
        right = tuple(g / unit for g in right)
        operator = lx.FunctionLinearOperator(
            lambda v: tuple(a - b for a, b in zip(v, contraction(v), strict=True)),
            jax.eval_shape(lambda: right),
        )
        solver = lx.GMRES(
            tolerance, tolerance, max_steps=self.max_steps, restart=self.restart
        )
        solution = lx.linear_solve(operator, right, solver, throw=False)
        steps = self.restart * jnp.asarray(solution.stats["num_steps"], jnp.int32)
        value = tuple(w * unit for w in solution.value)
        finite = jnp.stack([jnp.isfinite(w).all() for w in value]).all()
        return value, steps, finite & (solution.result == lx.RESULTS.successful)


@jax.custom_jvp
def _tangent_alone(state, value):
    return state


# The state is not replaced: all blocks are linearised at the same one.
@_tangent_alone.defjvp
def _(primals, tangents):
    return primals[0], tangents[1]


def _sweep(problem, state, tangent, source):
    """Return $S(t, b)$: a forward sweep of tangents around a state that stays."""

    def move(value, old, own):
        return _tangent_alone(old, value + own), ()

    def swept(state, source):
        # The adjoint of a smooth pool depends on its tape, so it moves as well.
        memory = problem.recall(state)
        for n, b in enumerate(source):
            block, memory, _ = problem.turn(n, state, memory, move, b)
            state = replaced(state, n, block)
        return state

    # Of a single example, so that a stack has its layers along the first axis.
    zero = _zeros(source)
    return jax.jvp(swept, (state, zero), (tangent, source))[1]


def _transposed_sweep(problem, state):
    r"""Return the function $w \mapsto (F^\top w, (1 - L^\top)^{-1} w)$."""
    none = _zeros(state)
    # The sweep is linear, so that it may be transposed anywhere.
    return jax.vjp(lambda t, b: _sweep(problem, state, t, b), none, none)[1]


def _wide(tree):
    """Return arrays in float32 where they are narrower, as no solver takes them."""

    def one(leaf):
        narrow = eqx.is_inexact_array(leaf) and jnp.finfo(leaf.dtype).bits < 32
        return leaf.astype(jnp.float32) if narrow else leaf

    return jax.tree_util.tree_map(one, tree)


def _as(state, given):
    return tuple(s.astype(g.dtype) for s, g in zip(state, given, strict=True))


def _zeros(state):
    return tuple(map(jnp.zeros_like, state))


def differentiable(
    network: eqx.Module, problem, x: Array, state: State, adjoint: Adjoint = Adjoint()
) -> State:
    r"""Return `state`, with the derivative of the rest by network and inputs.

    $$\dot s = (1 - J)^{-1} \Big(\frac{\partial T}{\partial\theta} \dot\theta
    + \frac{\partial T}{\partial x} \dot x\Big)$$

    Args:
        network: the network that rests, by whose arrays to differentiate.
        problem: function of a network and inputs that returns the free problem.
        x: inputs, `(batch, *input_shape)`.
        state: the rest, `(batch, *shape)` per block.
        adjoint: solves the linear problems.

    Raises:
        RuntimeError: when the derivative is taken and its linear solve fails.

    Cost: nothing, unless it is differentiated; then one application of $T$ and one
    linear solve. Works forwards and backwards, once.
    """
    arrays, static = eqx.partition(network, eqx.is_array)

    def image(arrays, x, state):
        return problem(eqx.combine(arrays, static), x).map(state)

    @jax.custom_jvp
    def rest(arrays, x, state):
        return state

    # Closed over it would have no value by the time this is called.
    @rest.defjvp
    def tangent(primals, tangents):
        arrays, x, state = primals
        still = tuple(map(jnp.zeros_like, state))
        _, source = jax.jvp(image, primals, (*tangents[:2], still))
        at = problem(eqx.combine(arrays, static), x)
        # As one vector: all of it depends on the tangents, or none.
        right, unravel = ravel_pytree(source)

        def matrix(t):
            moved = jax.jvp(at.map, (state,), (unravel(t),))[1]
            return t - ravel_pytree(moved)[0]

        def solve(how, b):
            value, _, solved = how(at, state, unravel(b))
            return ravel_pytree(_checked(value, solved))[0]

        # Reverse mode transposes this rule, which it could not do with GMRES's loop.
        moved = unravel(
            jax.lax.custom_linear_solve(
                matrix,
                right,
                lambda _, b: solve(adjoint.forward, b),
                lambda _, g: solve(adjoint.solve, g),
            )
        )
        return state, moved

    # The rule is all of the derivative: none is to come through the solver's loop.
    return rest(arrays, x, jax.lax.stop_gradient(state))


def _checked(value, solved):
    return eqx.error_if(
        value,
        ~jnp.all(solved),
        "The derivative of a rest is the solution of a linear problem, which was not "
        "found. Weaken the feedback, check that every example is at rest, or loosen "
        "the tolerance.",
    )
