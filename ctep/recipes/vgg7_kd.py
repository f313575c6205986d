"""`vgg7-kd`: knowledge distillation at two layers."""

from ._augmented import TAUGHT, VGG7, distilled, network, recipe

RECIPE = recipe(
    "vgg7-kd",
    "VGG-7, symmetric, distilled from VGG-19 at layers 3 and 5",
    network(VGG7, 1),
    dataset="cifar10",
    beta=0.15,
    phases=(250, 60),
    rates=0.03,
    nudge=distilled(0.65, ((3, 8), (5, 16))),
    batch_size=64,
    source=TAUGHT,
    published="89.67 % (mean of 5)",
    teacher="vgg19-teacher",
)
