"""`vgg13-le`: local errors at four layers of VGG-13."""

from ._augmented import HE, LOCAL, VGG13, local, network, recipe

RECIPE = recipe(
    "vgg13-le",
    "VGG-13, symmetric, local errors at layers 2, 4, 6 and 8",
    network(VGG13, 2, bound=HE / 2),
    dataset="cifar100",
    beta=1.0,
    phases=(140, 50),
    rates=(*(0.03,) * 2, *(0.05,) * 8, *(0.025,) * 3),
    nudge=local(0.85, (2, 4, 6, 8)),
    batch_size=128,
    source=LOCAL
    + " It names the same layers, 1, 3, 5 and 7 from 0, for VGG-11, where they end the "
    "last four blocks, and for VGG-13, where they end the first four: they are read by "
    "number, and the last block has no signal.",
    published="62.22 % (mean of 5)",
)
