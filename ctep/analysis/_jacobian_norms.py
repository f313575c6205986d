"""Norms of the Jacobians of a nudged network where it passes, estimated from below."""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .._custom_types import State
from ._certificate import Parts, slopes
from ._norms import lengths


@eqx.filter_jit
def estimated(
    network,
    x: Array,
    y: Array,
    parts: tuple[Parts, Parts],
    scale: Float[Array, " blocks"],
    steps: int,
    iterations: int,
) -> list[Float[Array, ""]]:
    """Return the largest norms of the Jacobians of map and forces on the way to rest.

    They are 2-norms in which the blocks have the weights `scale`, found from below.
    """
    problem, known = network.free(x), slopes(network)
    assert known is not None

    def force(parts, slopes):
        def function(state):
            total = [jnp.zeros_like(s) for s in state]
            for weight, part in parts:
                target = jax.lax.stop_gradient(part.targets(x, y))
                own = part.context(network, state, target)
                for n in part.blocks(network):
                    pull = part.force(n, network, state, own)
                    gain = weight * slopes[n] * network.attenuation[n]
                    total[n] = total[n] + gain * pull
            return tuple(total)

        return function

    def met(n, state):
        """Return the slope of an activation, the largest here if none is known."""
        if math.isfinite(known[n]):
            return known[n]
        # The second part of a memory has the drive of each block.
        drive = problem.image(state)[1][1][n]
        activation = network.layers[n].activation
        slope = jax.jvp(activation, (drive,), (jnp.ones_like(drive),))[1]
        return jnp.max(jnp.abs(slope))

    def step(carry, _):
        state, largest = carry
        here = [met(n, state) for n in range(len(known))]
        forces = [force(own, here) if own else None for own in parts]
        functions = [problem.map, *forces]
        largest = [
            old if f is None else jnp.maximum(old, _norm(f, state, scale, iterations))
            for f, old in zip(functions, largest, strict=True)
        ]
        return (problem.map(state), largest), None

    carry = (network.zeros(x), [jnp.zeros((), x.dtype)] * 3)
    return jax.lax.scan(step, carry, None, length=steps)[0][1]


def _norm(function, state: State, scale, iterations):
    """Return the largest weighted 2-norm of any example's Jacobian, from below."""
    multiply = lambda v: tuple(a * b for a, b in zip(v, scale, strict=True))  # noqa: E731
    divide = lambda v: tuple(a / b for a, b in zip(v, scale, strict=True))  # noqa: E731
    scaled = lambda v: divide(function(multiply(v)))  # noqa: E731
    _, forward = jax.linearize(scaled, divide(state))
    _, backward = jax.vjp(scaled, divide(state))

    def size(v):
        return lengths(v, [tuple(range(1, a.ndim)) for a in v])

    def turn(v, _):
        length = size(v)
        # Of a Jacobian of zeros the length is 0, and NaN would be the largest of all.
        unit = jnp.where(length > 0, length, 1)
        v = tuple(a / unit.reshape((-1,) + (1,) * (a.ndim - 1)) for a in v)
        image = forward(v)
        return backward(image)[0], size(image)

    keys = jax.random.split(jax.random.key(0), len(state))
    start = tuple(
        jax.random.normal(key, s.shape, s.dtype)
        for key, s in zip(keys, state, strict=True)
    )
    return jnp.max(jax.lax.scan(turn, start, None, length=iterations)[1][-1])
