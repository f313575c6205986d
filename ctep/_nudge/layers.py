"""What nudges of hidden layers have in common."""

from .._network import AbstractNetwork


def check_layers(name: str, layers, network: AbstractNetwork) -> None:
    """Raise `ValueError` unless `layers` are different layers of the network."""
    count = len(network.shapes)
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
