"""Networks without normalisation layers, with weak feedback, for high accuracy."""

from collections.abc import Hashable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from .._network import ReLU, residual, vgg, whitening
from .._nudge import OutputError, SquaredError
from .._rule import OneSided
from .._solver import Sweeps
from .._weights import frozen
from ._augmented import augmented
from .base import Recipe, cosine_decay, widths, within

_FEEDBACK = 0.003


def _air(shape, classes, key, scale, *, feedback=_FEEDBACK, images=None):
    """Return whitened images, then three groups with a residual branch each."""
    if images is None:  # for a network alone, those of noise
        images = np.random.default_rng(0).normal(size=(64, *shape))
    network = residual(
        widths((128, 384, 512), scale),
        classes,
        input_shape=shape,
        stem=whitening(images),
        feedback=feedback,
        readout_multiplier=1 / 9,
        key=key,
    )
    # The whitening and the factor of the logits stay.
    return frozen(
        network,
        lambda network: (
            network.couplings[0].forward,
            network.readout.operator.operators[-1],
        ),
    )


def _vgg5(shape, classes, key, scale, *, feedback=_FEEDBACK):
    """Return the published layers; weights and biases are within 1 / sqrt(fan-in)."""
    return vgg(
        widths((128, 256, 512, 512, 512), scale),
        classes=classes,
        input_shape=shape,
        pooled=(2, 3, 4, 5),
        activation=ReLU(),
        feedback=feedback,
        bias_gain=1.0,
        init=within(1.0),
        key=key,
    )


def _nesterov(rate: float, decay: float, least: float = 0.0, slow: float = 1.0):
    """Return SGD with momentum and a rate that falls along a cosine.

    Args:
        rate: learning rate of weights at first.
        decay: weight decay, of weights alone where the others are slow.
        least: learning rate at the end.
        slow: factor of the rate of biases and multipliers.
    """

    def build(epochs, steps):
        def one(factor, decay):
            fall = cosine_decay(factor * rate, epochs, steps, factor * least)
            sgd = optax.sgd(fall, momentum=0.9, nesterov=True)
            return optax.chain(optax.add_decayed_weights(decay), sgd)

        if slow == 1:
            return one(1.0, decay)
        parts: dict[Hashable, Any] = {
            "weights": one(1.0, decay),
            "scalars": one(slow, 0.0),
        }
        return optax.multi_transform(
            parts, lambda tree: jax.tree_util.tree_map(_kind, tree)
        )

    return build


def _kind(leaf):
    """Name a weight, and what is a scalar or a bias."""
    return "weights" if jnp.ndim(leaf) > 1 else "scalars"


def _recipe(name, summary, network, **fields) -> Recipe:
    """Return the recipe of one of the networks; `network` is its builder."""
    return Recipe(
        name=name,
        summary=summary,
        dataset="cifar10",
        network=network,
        rule=OneSided(0.01),
        solver=Sweeps(rtol=5e-2, atol=5e-2),
        probe=8,
        pipeline=augmented,
        **fields,
    )


RECIPES = (
    _recipe(
        "fre-vgg5",
        "5 convolutions, 4 of them pooled, ReLU, feedback 0.003, squared error",
        _vgg5,
        nudge=lambda epochs, teacher: OutputError(SquaredError()),
        optimizer=_nesterov(0.04, 3e-4, 1e-6),
        rate=0.04,
        batch_size=16,
        epochs=100,
        published="92.2±.1 % as a predictive-coding network (backprop 92.0 %)",
        source="VGG5 of arXiv:2606.03584, 2026: same layers, initial weights, loss, "
        "batches, rates and weight decay, of a network whose free state is a forward "
        "pass. Here it is one of weak feedback, nudged once and solved for increments; "
        "rates fall step by step; and squared errors are halves of sums over classes, "
        "which the paper leaves open.",
    ),
    _recipe(
        "fre-air",
        "whitened images, 9 convolutions with 3 skips, ReLU, feedback 0.003",
        _air,
        optimizer=_nesterov(0.1, 5e-4, slow=0.1),
        rate=0.1,
        batch_size=128,
        epochs=60,
        published="none",
        source="ctep: the layers of a speed record on CIFAR-10 (arXiv:2404.00498) "
        "without its batch normalisation, with the initial weights of Fixup "
        "(arXiv:1901.09321) and a bias per channel, which like the multipliers of "
        "branches learns at a tenth of the rate. The whitening is made of the first "
        "5,000 training images.",
        sample=5000,
    ),
)
