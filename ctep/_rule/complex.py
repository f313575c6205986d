"""Whether a network and a nudge extend to complex states: known, or tried."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from .. import _checks as checks
from .._custom_types import Shape, State
from .._network import AbstractNetwork
from .._nudge import AbstractNudge

# Centres, radius and points of the circles on which functions are tried.
_CENTRES, _RADIUS, _POINTS = 32, 0.1, 16


def check_holomorphic(
    network: AbstractNetwork,
    nudge: AbstractNudge,
    example: tuple[Array, Array] | None = None,
) -> None:
    """Raise `ValueError` unless both extend to complex states.

    Args:
        network: a network that knows whether it does, or a user's own, to be tried.
        nudge: a nudge that knows whether it does, or a user's own, to be tried.
        example: `(x, y)`, one example with its batch axis. Without one, what is not
            known to extend is taken not to.
    """
    known = network.holomorphic
    if known is None:
        if example is None:
            raise ValueError(
                f"`network` is a {type(network).__name__}, whose functions cannot be "
                "tried inside `jit` on complex states: let its property `holomorphic` "
                "return True, or call `ctep.gradient` outside."
            )
        known = _try_network(network, example[0])
    if not known:
        reason = network.obstacle or f"is a {type(network).__name__}"
        raise ValueError(
            f"`network` {reason}, which does not extend to complex states: use smooth "
            "functions such as `ctep.Sigmoid(4, 0.5)` and `ctep.SoftmaxPool`, or a "
            "rule with real nudges, `ctep.Centered()`."
        )
    known = nudge.holomorphic
    if known is None and example is not None:
        known = _try_nudge(network, nudge, *example)
    if not known:
        raise ValueError(
            f"`nudge` is {checks.shown(nudge)}, whose force is not known to extend to "
            "complex states: use `ctep.OutputError()`, or a rule with real nudges, "
            "`ctep.Centered()`."
        )


def extends(function: Callable[[State], PyTree], shapes: tuple[Shape, ...]) -> bool:
    r"""Say whether a function of a state extends to complex states, by trying it.

    On a circle $z + r e^{i\phi}$ a holomorphic function has no negative frequencies
    (Cauchy). A modulus, a conjugate, a kink within the circle or a pole has some. A
    kink that none of the circles meets is not found.

    Args:
        function: takes a state with one leading axis and returns a tree of arrays.
        shapes: shape of each block, for one example.

    Cost: the function at 512 states, uncompiled.
    """
    # Always the same circles: what passes once must not be refused the next time.
    rng = np.random.default_rng(0)
    turn = np.exp(2j * np.pi * np.arange(_POINTS) / _POINTS)

    def circles(shape):
        # All elements turn at once, so that products of different ones are tried too.
        centre, way = rng.standard_normal((2, _CENTRES, 1, *shape))
        turns = turn.reshape((-1,) + (1,) * len(shape))
        return jnp.asarray((centre + _RADIUS * way * turns).reshape(-1, *shape))

    state = tuple(circles(shape) for shape in shapes)
    try:
        values = function(state)
    except (TypeError, ValueError):  # such as `jnp.clip` of a complex number
        return False
    for leaf in jax.tree_util.tree_leaves(values):
        value = np.asarray(leaf).reshape(_CENTRES, _POINTS, -1)
        waves = np.abs(np.fft.fft(value, axis=1))
        # The second half holds the negative frequencies. Of a Taylor series it gets the
        # eighth power and higher ones alone, which a small radius has made tiny.
        backward, moving = waves[:, _POINTS // 2 :].max(), waves[:, 1:].max()
        # Where hardly anything moves, all waves are the rounding of the mean.
        rounding = 100 * np.finfo(value.dtype).eps * waves[:, 0].max()
        if not np.isfinite(waves).all() or backward > 1e-3 * moving + rounding:
            return False
    return True


def _try_network(network, x):
    return extends(lambda state: network.free(x[:1]).map(state), network.shapes)


def _try_nudge(network, nudge, x, y):
    # A weight that is zero in one epoch would pass anything.
    return all(_try_at(network, nudge.at(n), x, y) for n in (0, 1, 100))


def _try_at(network, nudge, x, y):
    target = nudge.targets(x[:1], y[:1])
    own = nudge.context(network, network.zeros(x[:1]), target)

    def forces(state):
        return [nudge.force(n, network, state, own) for n in nudge.blocks(network)]

    return extends(forces, network.shapes)
