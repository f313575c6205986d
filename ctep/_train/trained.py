"""What a run trains, said before it starts."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from .._network import AbstractNetwork, EnergyNetwork, Network
from .._network.names import parameter_names, paths
from .._nudge import AbstractNudge
from .._rule import AbstractRule
from .._warning import warn
from .._weights import resolve


def trained(network: AbstractNetwork, nudge: AbstractNudge, rule: AbstractRule) -> str:
    """Return a sentence that names the arrays that are trained, and the constants.

    Arrays that can never receive a gradient are named in a warning.

    Raises:
        ValueError: if there is nothing to train.
    """
    which = network.trainable()
    chosen, own = paths(network, which), _count(nudge, nudge.owned())
    known = list(zip(parameter_names(network), paths(network), strict=True))
    pairs = [(name, path) for name, path in known if path in chosen]
    names = [name for name, _ in pairs]
    if not (names or own):
        raise ValueError(
            f"`network` is a {type(network).__name__} that declares no array as "
            "trained: write its fields as `weight: jax.Array = ctep.parameter()`."
        )
    if never := _never(network, nudge, rule, pairs):
        warn(
            f"No gradient ever reaches {_listed(never)}: no way leads from there to "
            "what the nudge pulls at. Add feedback or couplings, or take another rule.",
        )
    text = f"Trains {_count(network, which):,} numbers in {_listed(names)}"
    if own:
        text += f", and {own:,} of the nudge"
    constants = [name for name, path in known if path not in chosen]
    if constants:
        text += f"; constant: {_listed(constants)}"
    return f"{text}."


def _never(network, nudge, rule, pairs):
    """Return the names of trained arrays that no gradient can reach, of all `pairs`."""
    if isinstance(network, EnergyNetwork):
        read = _read(network)
        return [name for name, path in pairs if path not in read]
    if not isinstance(network, Network):
        return []
    reached, both = rule.reached(network, nudge), rule.subject(network) is network

    def is_reached(path):
        if path[0].name == "layers":
            return path[1].idx in reached
        # It has the cost's own derivative, which no feedback has to bring.
        if path[0].name == "readout":
            return True
        c = network.couplings[path[1].idx]
        # A tied weight drives its source as well, but not in a feed-forward twin.
        back = both and c.tied and c.source - 1 in reached
        return c.target - 1 in reached or back

    return [name for name, path in pairs if not is_reached(path)]


@eqx.filter_jit
def _slopes(network):
    """Return the derivative of forces and outputs at a few random states."""
    # Not at zeros, where products vanish, and with them the slopes of what is read.
    keys = iter(jax.random.split(jax.random.key(0), 2 * len(network.shapes) + 1))

    def draw(shape):
        return jax.random.normal(next(keys), (8, *shape), network.dtype)

    state, x = tuple(map(draw, network.shapes)), draw(network.input_shape)
    ways = tuple(map(draw, network.shapes))

    def total(network):
        network = resolve(network)
        forces = [network.force(n, state, x) for n in range(len(state))]
        # Weighted at random, for in a plain sum slopes may cancel.
        read = sum(jnp.vdot(way, f) for way, f in zip(ways, forces, strict=True))
        return read + jnp.sum(network.output(state) ** 2)

    return eqx.filter_grad(total)(network)


def _read(network):
    """Return the places of the arrays that the forces of an energy depend on."""
    found = jax.tree_util.tree_flatten_with_path(_slopes(network))[0]
    return [path for path, leaf in found if not np.all(np.asarray(leaf) == 0)]


def _count(tree, which):
    return sum(
        np.size(leaf) for leaf in jax.tree_util.tree_leaves(eqx.filter(tree, which))
    )


def _listed(names):
    few = ", ".join(names[:8])
    return few if len(names) <= 8 else f"{few} and {len(names) - 8} more"
