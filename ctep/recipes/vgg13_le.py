"""`vgg13-le`: local errors at four layers of VGG-13."""

from ._augmented import HE, VGG13, local, network, recipe

RECIPE = recipe(
    "vgg13-le",
    "VGG-13, symmetric, local errors at layers 2, 4, 6 and 8",
    network(VGG13, 2, bound=HE / 2),
    dataset="cifar100",
    beta=1.0,
    free=140,
    rates=(*(0.03,) * 2, *(0.05,) * 8, *(0.025,) * 3),
    nudge=local(0.85, (2, 4, 6, 8)),
    batch_size=128,
    published="62.22 % (mean of 5)",
)
