"""Deep convolutional networks with weak feedback and no other help."""

import jax
import optax

from .._network import ReLU6, hopfield_resnet, vgg
from .._rule import OneSided
from .._solver import Sweeps
from ._augmented import augmented
from .base import Recipe, cosine_decay, widths

FEEDBACK = 0.003
_HE = jax.nn.initializers.he_uniform()


def deep_vgg(architecture):
    """Return the builder of a VGG with two dense layers of 512."""
    channels, pooled = architecture

    def build(shape, classes, key, scale):
        return vgg(
            widths(channels, scale),
            widths((512, 512), scale),
            classes,
            input_shape=shape,
            pooled=pooled,
            activation=ReLU6(),
            feedback=FEEDBACK,
            init=_HE,
            key=key,
        )

    return build


def deep_resnet(shape, classes, key, scale):
    """Return the layers of Hopfield-ResNet13 with a readout outside the dynamics."""
    return hopfield_resnet(
        widths((128, 256, 512, 512), scale),
        classes,
        input_shape=shape,
        activation=ReLU6(),
        feedback=FEEDBACK,
        readout=True,
        init=_HE,
        key=key,
    )


def recipe(
    name: str,
    summary: str,
    network,
    ours: str = "not run",
    **options,
) -> Recipe:
    """Return the recipe of one of the networks."""
    return Recipe(
        name=name,
        summary=summary,
        dataset="cifar10",
        network=network,
        rule=OneSided(0.01),
        solver=Sweeps(rtol=5e-2, atol=5e-2),
        # At 1e-3 the full widths saturate in the first epoch, and fre-vgg11's twin too.
        optimizer=lambda epochs, steps: optax.adam(cosine_decay(3e-4, epochs, steps)),
        batch_size=128,
        epochs=50,
        published="none",
        ours=ours,
        source="ctep: no local errors, no teacher, no normalisation layers.",
        pipeline=augmented,
        probe=8,
        **options,
    )
