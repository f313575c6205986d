"""`vgg7-kdw`: knowledge distillation through trained linear maps."""

from ._augmented import TAUGHT, VGG7, distilled, network, recipe

RECIPE = recipe(
    "vgg7-kdw",
    "VGG-7, symmetric, distilled from VGG-19 through linear maps",
    network(VGG7, 1),
    dataset="cifar10",
    beta=0.5,
    phases=(100, 50),
    rates=0.03,
    nudge=distilled(0.15, ((3, 8), (5, 16)), mapping="linear"),
    batch_size=128,
    source=TAUGHT,
    published="87.93 % (mean of 5)",
    teacher="vgg19-teacher",
)
