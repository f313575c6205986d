"""`vgg7-le`: local errors at two layers."""

from ._augmented import LOCAL, VGG7, local, network, recipe

RECIPE = recipe(
    "vgg7-le",
    "VGG-7, symmetric, local errors at layers 3 and 5",
    network(VGG7, 1),
    dataset="cifar10",
    beta=0.25,
    phases=(250, 50),
    rates=0.03,
    nudge=local(0.65, (3, 5)),
    batch_size=128,
    source=LOCAL,
    published="88.99 % (mean of 5)",
)
