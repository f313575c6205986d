"""`fre-vgg13`: VGG-13 with weak feedback and no help from the middle."""

from ._augmented import VGG13
from ._deep import deep_vgg, recipe

RECIPE = recipe(
    "fre-vgg13",
    "VGG-13, ReLU6, feedback 0.003, no intermediate signals",
    deep_vgg(VGG13),
)
