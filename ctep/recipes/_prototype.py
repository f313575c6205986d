"""Prototype equilibrium propagation: symmetric feedback, outputs that are states."""

import math

import optax

from .._network import HardSigmoid, mlp
from .._nudge import OutputError, SquaredError
from .._rule import OneSided
from .._solver import FixedSweeps
from .base import Recipe, widths


def _network(shape, classes, key, scale, *, feedback=1.0):
    sizes = (math.prod(shape), *widths((512, 512), scale), classes)
    return mlp(
        sizes, activation=HardSigmoid(), feedback=feedback, readout=False, key=key
    )


RECIPES = (
    Recipe(
        name="p-ep-2x512",
        summary="2 hard-sigmoid layers of 512 and an output layer, symmetric",
        dataset="mnist",
        network=_network,
        nudge=lambda epochs, teacher: OutputError(SquaredError()),
        rule=OneSided(0.5),
        # At the initial weights 100 sweeps are not enough for every example: what still
        # moves takes part as published.
        solver=FixedSweeps(free=100, nudged=20, rtol=1e-3, atol=1e-3),
        # The layer near the input learns slower at symmetric feedback; Adam evens that.
        optimizer=lambda epochs, steps: optax.adam(1e-3),
        rate=1e-3,
        batch_size=500,
        epochs=50,
        published="98.05 % (as quoted by arXiv:2508.11659; another sigmoid, "
        "T/K 100/20)",
        source="Scellier and Bengio, 2017, arXiv:1602.05179, in the discrete time of "
        "arXiv:1905.13633: the published number is of another sigmoid. Here Adam and "
        "batches of 500 stand for its learning rates per layer, sweeps in the "
        "direction of the signal for its synchronous steps, of which an example at "
        "rest takes fewer; the sign of the nudge is positive, phases start from zeros, "
        "and the nudged one is solved for increments.",
    ),
)
