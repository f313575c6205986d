"""`hopfield-resnet13`: a residual Hopfield network on CIFAR-10."""

from .._network import hopfield_resnet
from ._hopfield import recipe
from .base import widths, within


def _network(shape, classes, key, scale, **options):
    return hopfield_resnet(
        widths((128, 256, 512, 512), scale),
        classes,
        input_shape=shape,
        init=[within(0.6)] * 8 + [within(0.8)],
        skip_init=within(0.7),
        key=key,
        **options,
    )


RECIPE = recipe(
    "hopfield-resnet13",
    "4 residual blocks of 2 convolutions, symmetric, ReLU6, squared error",
    _network,
    published="93.92 % (CIFAR-100 71.05 %, Fashion-MNIST 94.15 %; probably best epoch)",
    ours="not run",
)
