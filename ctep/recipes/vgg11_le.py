"""`vgg11-le`: local errors at four layers of VGG-11."""

from ._augmented import HE, LOCAL, VGG11, local, network, recipe

RECIPE = recipe(
    "vgg11-le",
    "VGG-11, symmetric, local errors at layers 2, 4, 6 and 8",
    network(VGG11, 2, bound=HE / 2),
    dataset="cifar100",
    beta=1.0,
    phases=(400, 40),
    rates=(0.03, *(0.05,) * 7, *(0.025,) * 3),
    nudge=local(0.85, (2, 4, 6, 8)),
    batch_size=128,
    source=LOCAL,
    published="62.01 % (mean of 5)",
)
