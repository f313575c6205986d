"""Lyapunov exponents: how fast neighbouring trajectories part or meet."""

import math

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, ArrayLike, Float, PRNGKeyArray

from .. import _checks as checks
from .._concrete import concrete
from .._network import AbstractNetwork
from .._weights.resolution import effective
from ._inputs import inputs, nearest
from ._norms import norm, unit


@concrete
@effective
def lyapunov(
    network: AbstractNetwork,
    x: ArrayLike,
    steps: int,
    count: int = 1,
    *,
    dt: float | None = None,
    key: PRNGKeyArray | None = None,
    throw: bool = True,
) -> Float[Array, "batch {count}"]:
    r"""Return finite-time Lyapunov exponents of the free trajectory from zeros.

    Of synchronous steps $s^{t+1} = T(s^t)$ by default, with the transient included:

    $$\lambda_i = \frac{1}{T} \sum_{t=1}^{T} \ln R^t_{ii}, \qquad
    Q^t R^t = \frac{\partial T}{\partial s}(s^{t-1})\, Q^{t-1}$$

    so that the first one is the mean logarithmic growth of one tangent vector. The
    first directions have independent elements uniform in [0, 1) and are made
    orthonormal. In the long run exponents fall with their index, and the first one
    tends to $\ln \varrho$ of the equilibrium that is reached: negative, if small
    disturbances die out. An exponent is $-\infty$ where a direction is mapped to zero,
    as in a feed-forward network after as many steps as layers, or to within ten
    roundings of those before it.

    With `dt`, of the dynamics in continuous time, $\tau_n \dot s_n = -s_n + T_n(s)$ and
    its variational equation, per unit of time: `steps` steps of Tsitouras' method of
    order 5, orthonormalised after each.

    Args:
        network: any network.
        x: inputs, `(batch, *input_shape)`.
        steps: $T$.
        count: how many exponents, the leading ones; one per unit is all of them.
        dt: length of a step in the unit of the layers' `tau`, `None` for the map.
        key: for the first directions, which differ between examples; by default
            `jax.random.key(0)`.
        throw: whether to raise if a trajectory is not finite; otherwise its exponents
            are NaN.

    Returns:
        Natural logarithms per step, or per unit of time.

    Raises:
        TypeError: if an argument is not of its kind.
        ValueError: if `steps`, `count` or `dt` is out of range, or `x` does not fit.
        RuntimeError: if `throw` and a trajectory is not finite.

    Cost: $T$ applications of $T$ with `count` Jacobian-vector products each,
    seven times as many with `dt`. Memory: `count` states per example.

    References:
        Benettin et al., 1980, doi:10.1007/BF02128236; the maximum in feedback-regulated
        networks: arXiv:2508.11659.
    """
    key = jax.random.key(0) if key is None else key
    x = inputs(network, x)
    checks.count("steps", steps, "30")
    checks.count("count", count, "1")
    if dt is not None:
        checks.positive("dt", dt, "0.1")
    checks.key(key)
    checks.flag("throw", throw)
    units = sum(math.prod(shape) for shape in network.shapes)
    if count > units:
        raise ValueError(
            f"`count` is {count}, but this network has {units} units and no more "
            "exponents than that: lower it."
        )
    exponents, finite = _exponents(network, x, jnp.asarray(steps), count, dt, key)
    if throw and not finite.all():
        raise RuntimeError(
            f"The trajectories of {int((~finite).sum())} of {len(x)} examples are not "
            "finite: weaken the feedback or the weights, use an activation with a "
            "bounded range, or lower `dt`."
        )
    return exponents


@eqx.filter_jit
def _exponents(network, x, steps, count, dt, key):
    problem, state = network.free(x), network.zeros(x)

    def one(problem, state, key):
        flat, unravel = ravel_pytree(state)
        frame = jax.random.uniform(key, (len(flat), count), flat.dtype)
        frame, _ = _orthonormal(frame)

        def along(function, flat, frame):
            """Return `function` at a flat state, and its derivative along `frame`."""
            whole = lambda flat: ravel_pytree(function(unravel(flat)))[0]  # noqa: E731
            value, tangent = jax.linearize(whole, flat)
            return value, jax.vmap(tangent, 1, 1)(frame)

        def step(_, carry):
            flat, frame, total = carry
            if dt is None:
                flat, frame = along(problem.map, flat, frame)
            else:
                flat, frame = _integrated(
                    lambda y: along(problem.velocity, *y), (flat, frame), dt
                )
            frame, sizes = _orthonormal(frame)
            return flat, frame, total + jnp.log(sizes)

        carry = flat, frame, jnp.zeros(count, flat.dtype)
        flat, _, total = jax.lax.fori_loop(0, steps, step, carry)
        # Minus infinity is an exponent, of a direction that is mapped to zero.
        finite = jnp.isfinite(flat).all() & ~jnp.isnan(total).any()
        time = steps * (1.0 if dt is None else dt)
        return jnp.where(finite, total / time, jnp.nan), finite

    return problem.per_example(one, state, jax.random.split(key, len(x)))


def _integrated(field, start, dt):
    """Return where one step of length `dt` leads."""
    # Step by step, for in between the columns must be made orthonormal.
    term, solver = dfx.ODETerm(lambda t, y, args: field(y)), dfx.Tsit5()
    # In the state's dtype: with 64 bits enabled a time would widen float32 states.
    dt = jnp.asarray(dt, start[0].dtype)
    now = jnp.zeros_like(dt), dt, start, None
    memory = solver.init(term, *now)
    end, *_ = solver.step(term, *now, memory, made_jump=False)
    return end


def _orthonormal(frame):
    """Return orthonormal columns with the same leading spans, and what was cut off."""
    if frame.shape[1] == 1:
        column, size = unit(frame)
        return column, size[None]
    q, r = jnp.linalg.qr(frame)
    # QR leaves the signs open; growth is a size.
    sizes, whole = jnp.abs(jnp.diagonal(r)), jax.vmap(norm, 1)(frame)
    # What is left within the rounding of a column is no direction.
    kept = ~(sizes <= nearest(frame.dtype, 10) * whole)
    return jnp.where(kept, q, 0), jnp.where(kept, sizes, 0)
