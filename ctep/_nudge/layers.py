"""What nudges of hidden layers have in common."""

from .. import _checks as checks
from .._network import AbstractNetwork, Conv, Dense
from .base import AbstractNudge


def check_layers(name: str, layers, network: AbstractNetwork) -> None:
    """Raise `ValueError` unless `layers` are different layers of the network."""
    count = len(network.shapes)
    if max(network.depths) > 1:
        raise ValueError(
            f"`{name}` is {tuple(layers)}, but this network has stacks, whose layers a "
            "nudge cannot name: build it with `stack=False`, or pass "
            "`network.unstacked()`."
        )
    for n in layers:
        if not 1 <= n <= count:
            raise ValueError(
                f"`{name}` holds {n}, but this network has the layers 1 to {count}: "
                "name one of them."
            )
    if len(set(layers)) < len(layers):
        raise ValueError(
            f"`{name}` is {tuple(layers)}, which names a layer twice: leave one out."
        )


def check_maps(name: str, maps, count: int) -> None:
    """Raise unless `maps` is `None` or holds `count` operators."""
    if maps is None:
        return
    example = "(ctep.Dense((512,), (10,), key=key),)"
    for operator in checks.members(name, maps):
        checks.instance(name, operator, (Conv, Dense), "operators alone", example)
    if len(maps) != count:
        raise ValueError(
            f"`{name}` holds {len(maps)} operators, but {count} are needed: pass one "
            "for each layer, or leave them out."
        )


def held(nudge: AbstractNudge, name: str) -> tuple:
    """Return the maps in a field of a nudge, or raise if they are not drawn yet."""
    maps = getattr(nudge, name)
    if maps is None:
        raise ValueError(
            f"`{name}` of `{type(nudge).__name__}` is None, but its cost needs them: "
            "call `nudge.drawn(network, key)`, which `ctep.fit` does by itself."
        )
    return maps
