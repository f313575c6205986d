"""What the deep convolutional Hopfield networks have in common."""

import optax

from .._network import Identity, ReLU6
from .._nudge import OutputError, SquaredError
from .._rule import Centered
from .._solver import Alternating, FixedSweeps
from .base import Recipe, cosine_decay, padded

_SOURCE = (
    "Hopfield-ResNet13, 2025, arXiv:2509.26003, and its public code. Same layers, "
    "initialisation, update order, loss, beta, clipping, optimiser, rates that fall "
    "once per epoch, and inputs, which are CIFAR-10's divided by three times the mean "
    "over its images of each image's deviation. Here an example that is at rest stops "
    "before the published 120 and 50 sweeps, the nudged phases are solved for "
    "increments, output biases are drawn by the fan-in of their own weights, and "
    "RandAugment is left out: no maintained library does it on the device, and on the "
    "host it takes another framework. States are carried over as published, but for "
    "the partial batch and the one after it: published as reset to zero, here each "
    "keeps as many as it has examples, and only what is missing starts from zero. "
    "CIFAR-10's beta and decay serve for every dataset (published for CIFAR-100 and "
    "Fashion-MNIST: 0.15 and 3.5e-4). The kept run of vgg5 was made with rates that "
    "fell step by step, and up to 120 sweeps in nudged phases too."
)


def _optimizer(epochs, steps):
    rate = cosine_decay(3e-2, epochs, steps, 2e-6, per_epoch=True)
    return optax.chain(
        optax.clip_by_global_norm(1.0),
        optax.add_decayed_weights(2.5e-4),
        optax.sgd(rate, momentum=0.9, nesterov=True),
    )


def _pipeline(dataset):
    crop = 2 if dataset.startswith("fashion_mnist") else 4
    factor = 3.0 if dataset == "cifar10" else 1.0
    return padded(dataset, crop=crop, fill="edge", flip=0.5, std_factor=factor)


def recipe(
    name: str,
    summary: str,
    network,
    published: str,
    ours: str,
    **options,
) -> Recipe:
    """Return the recipe of one of the networks; `network` is its builder."""

    def build(shape, classes, key, scale):
        return network(
            shape,
            classes,
            key,
            scale,
            activation=ReLU6(),
            readout=False,
            output_activation=Identity(),
            bias_gain=0.5,
        )

    return Recipe(
        name=name,
        summary=summary,
        dataset="cifar10",
        network=build,
        nudge=lambda epochs, teacher: OutputError(SquaredError()),
        rule=Centered(0.1),
        solver=FixedSweeps(
            free=120, nudged=50, rtol=1e-3, atol=1e-3, order=Alternating()
        ),
        optimizer=_optimizer,
        batch_size=128,
        epochs=300,
        published=published,
        ours=ours,
        source=_SOURCE,
        pipeline=_pipeline,
        probe=8,
        carry_state=True,
        **options,
    )
