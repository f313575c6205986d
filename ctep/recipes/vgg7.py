"""`vgg7`: plain symmetric equilibrium propagation, to compare with."""

from .._nudge import OutputError
from ._augmented import VGG7, network, recipe

RECIPE = recipe(
    "vgg7",
    "5 pooled convolutions, 1 dense layer, symmetric, no intermediate signals",
    network(VGG7, 1),
    dataset="cifar10",
    beta=0.25,
    phases=(250, 50),
    rates=0.03,
    nudge=lambda epochs, teacher: OutputError(),
    batch_size=128,
    published="none",
)
