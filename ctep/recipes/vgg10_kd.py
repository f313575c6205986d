"""`vgg10-kd`: knowledge distillation at five layers of VGG-10."""

from ._augmented import TAUGHT, VGG11, distilled, network, recipe

RECIPE = recipe(
    "vgg10-kd",
    "VGG-10, symmetric, distilled from VGG-16 at all pooled layers",
    network(VGG11, 1),
    dataset="cifar100",
    beta=0.5,
    phases=(130, 50),
    rates=(*(0.03,) * 2, *(0.05,) * 6, *(0.025,) * 2),
    nudge=distilled(0.85, ((1, 2), (2, 4), (4, 7), (6, 10), (8, 13))),
    batch_size=128,
    source=TAUGHT,
    published="63.68 % (mean of 5)",
    teacher="vgg16-teacher",
)
