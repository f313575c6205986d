"""`vgg12-kd`: knowledge distillation at five layers of VGG-12."""

from .._nudge import linear
from ._augmented import HE, TAUGHT, VGG13, distilled, network, recipe

RECIPE = recipe(
    "vgg12-kd",
    "VGG-12, symmetric, distilled from VGG-15 at all pooled layers",
    # The paper has ReLU in the convolutions here, and leaves the dense layer open.
    network(VGG13, 1, bound=HE / 2, relu=True),
    dataset="cifar100",
    beta=1.0,
    phases=(100, 15),
    rates=(*(0.03,) * 2, *(0.05,) * 8, *(0.025,) * 2),
    nudge=distilled(0.65, ((2, 2), (4, 4), (6, 7), (8, 10), (10, 13)), fade=linear),
    batch_size=256,
    source=TAUGHT,
    published="64.75 % (mean of 5)",
    teacher="vgg15-teacher",
)
