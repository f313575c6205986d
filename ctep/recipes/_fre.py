"""What the layered feedback-regulated networks have in common."""

import math

import optax

from .._network import Tanh, mlp
from .._nudge import Frozen, OutputError
from .._rule import OneSided
from .._solver import Sweeps
from .base import Recipe

_SOURCE = (
    "FRE-RNN, 2025, arXiv:2508.11659. Same network, initialisation, data, nudge and "
    "optimiser. Here the nudged phase is solved for increments, layers are rescaled by "
    "their attenuation, phases stop on a residual, and batches are drawn anew in each "
    "epoch."
)


def chain(
    layers: int,
    width: int,
    feedback: float,
    relaxation: float,
    published: str,
    ours: str,
) -> Recipe:
    """Return the recipe of `layers` tanh layers with tied, weak feedback."""

    def network(shape, classes, key):
        sizes = (math.prod(shape), *(width,) * layers, classes)
        return mlp(sizes, activation=Tanh(), feedback=feedback, bias=False, key=key)

    return Recipe(
        name=f"fre-{layers}x{width}",
        summary=f"{layers} tanh layers of {width}, feedback {feedback:g}, no residual",
        dataset="mnist",
        network=network,
        nudge=Frozen(OutputError()),
        rule=OneSided(0.1),
        solver=Sweeps(relaxation=relaxation),
        optimizer=optax.adam(1e-3),
        batch_size=500,
        epochs=50,
        published=published,
        ours=ours,
        source=_SOURCE,
    )
