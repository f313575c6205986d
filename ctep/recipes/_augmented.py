"""What the networks with intermediate error signals have in common."""

import re
from collections.abc import Hashable
from typing import Any

import jax
import optax

from .._network import HardSigmoid, ReLU, vgg
from .._nudge import Distillation, LocalError, OutputError, cosine
from .._rule import Backprop, Centered
from .._solver import FixedSweeps, Sweeps
from ..data import Pipeline
from .base import Recipe, cosine_decay, padded, widths, within

_PAPER = (
    "Scalable equilibrium propagation via intermediate error signals, 2025, "
    "arXiv:2508.15989."
)
_SOURCE = (
    f"{_PAPER} Same layers, nudges, beta, kappa, learning rates, momentum and weight "
    "decay. Here phases start from zeros (published with a teacher: from noise) and "
    "run in sweeps in the direction of the signal, over-relaxed by 1.3, where "
    "published steps are synchronous; an example at rest stops before their published "
    "number. The nudged phases are solved for increments. The gradient of all "
    "parameters is clipped to a norm of 1, without which VGG-7 at a quarter of its "
    "widths saturates within eighty steps. What a nudge owns follows its own cost at "
    "the free state. What the paper leaves open: Kaiming-uniform weights are within 1 "
    "/ sqrt(fan-in), because within sqrt(6 / fan-in) half of all units begin saturated "
    "and the loss stays where it is; half of that second bound where the paper halves "
    "them. Layers have biases, zero at first. Rates fall along their cosine step by "
    "step. Inputs are normalised as `Pipeline.standard` does it. The soft-target loss "
    "is the cross-entropy at temperature 4 without a factor of its square, "
    "distributions run over all elements of a layer."
)
LOCAL = (
    " The paper divides the targets of local errors by the temperature too; here they "
    "are the labels."
)
TAUGHT = (
    " A teacher's signal is the state of the last layer of a block, rectified and "
    "pooled, where the paper speaks of logits at the block's end."
)
HE = 6**0.5  # He-uniform weights are within this / sqrt(fan-in).
# Convolutions of each architecture, and which of them are pooled.
VGG5 = ((128, 256, 512, 512), (1, 2, 3, 4))
VGG7 = ((64, 128, 256, 512, 512), (1, 2, 3, 4, 5))
VGG11 = ((64, 128, 256, 256, 512, 512, 512, 512), (1, 2, 4, 6, 8))
VGG13 = (
    (64, 64, 128, 128, 256, 256, 512, 512, 512, 512),
    (2, 4, 6, 8, 10),
)
VGG16 = (
    (64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512),
    (2, 4, 7, 10, 13),
)
VGG19 = (
    (64, 64, 128, 128, *(256,) * 4, *(512,) * 8),
    (2, 4, 8, 12, 16),
)


def network(architecture, dense: int, bound: float = 1.0, relu=False, **options):
    """Return the builder of an architecture with `dense` layers of 512.

    Args:
        architecture: channels, and which convolutions are pooled.
        dense: number of dense layers before the outputs.
        bound: weights are within `bound` / sqrt(fan-in).
        relu: whether layers rectify; by default they are hard sigmoids.
        options: of `ctep.vgg`.
    """
    channels, pooled = architecture
    init = within(bound)

    def build(shape, classes, key, scale):
        return vgg(
            widths(channels, scale),
            widths((512,) * dense, scale),
            classes,
            input_shape=shape,
            pooled=pooled,
            activation=ReLU() if relu else HardSigmoid(),
            init=init,
            key=key,
            **options,
        )

    return build


def augmented(dataset: str) -> Pipeline:
    """Return random crops, mirror images and normalisation."""
    return padded(dataset, crop=4, flip=0.5)


def sgd(rates, decay: float = 3e-4):
    """Return SGD with momentum, weight decay and cosine rates, layer by layer.

    The gradient of all parameters together is clipped to a norm of 1 first.

    Args:
        rates: one learning rate for all, or one per layer from input to output; what
            a nudge owns learns at the first one.
        decay: of all weights.
    """
    rates = (rates,) if isinstance(rates, float) else tuple(rates)

    def build(epochs, steps):
        def one(rate):
            return optax.chain(
                optax.add_decayed_weights(decay),
                optax.sgd(cosine_decay(rate, epochs, steps), momentum=0.9),
            )

        kinds: dict[Hashable, Any] = {str(rate): one(rate) for rate in set(rates)}
        momentum = one(rates[0])
        if len(kinds) > 1:
            momentum = optax.multi_transform(kinds, lambda tree: _labels(tree, rates))
        return optax.chain(optax.clip_by_global_norm(1.0), momentum)

    return build


def _labels(tree, rates):
    """Name the rate of each array by the layer that it drives."""

    def label(path, leaf):
        text = jax.tree_util.keystr(path)
        found = re.match(r"\[0\]\.(?:couplings|layers)\[(\d+)\]", text)
        if found:
            return str(rates[int(found[1])])
        return str(rates[-1] if text.startswith("[0].readout") else rates[0])

    return jax.tree_util.tree_map_with_path(label, tree)


def recipe(
    name: str,
    summary: str,
    build,
    *,
    dataset: str,
    beta: float,
    phases: tuple[int, int],
    rates,
    nudge,
    batch_size: int,
    published: str,
    ours: str = "not run",
    source: str = "",
    teacher: str | None = None,
) -> Recipe:
    """Return the recipe of one of the published systems.

    Args:
        name: of the recipe.
        summary: of the recipe.
        build: builder of the network.
        dataset: by name.
        beta: the nudge.
        phases: steps of a free and of a nudged phase.
        rates: as in `sgd`.
        nudge: of the recipe.
        batch_size: of the recipe.
        published: accuracy.
        ours: accuracy.
        source: what is to be said of this system alone.
        teacher: of the recipe.
    """
    free, nudged = phases
    # The slowest of a batch takes ten times the sweeps of most, or never settles.
    how = FixedSweeps(
        free=free,
        nudged=nudged,
        rtol=1e-3,
        atol=1e-3,
        relaxation=1.3,
        gather=(0.25, 0.06),
    )
    return Recipe(
        name=name,
        summary=summary,
        dataset=dataset,
        network=build,
        nudge=nudge,
        rule=Centered(beta),
        solver=how,
        optimizer=sgd(rates),
        batch_size=batch_size,
        epochs=250,
        published=published,
        ours=ours,
        source=_SOURCE + source,
        pipeline=augmented,
        probe=8,
        teacher=teacher,
    )


def local(kappa: float, layers: tuple[int, ...]):
    """Return the nudge of local errors at `layers`, fading along a cosine."""

    def build(epochs, teacher):
        return OutputError() + cosine(kappa, epochs) * LocalError(layers)

    return build


def distilled(kappa: float, pairs, mapping=None, fade=cosine):
    """Return the nudge of distillation, fading along a cosine by default."""

    def build(epochs, teacher):
        return OutputError() + fade(kappa, epochs) * Distillation(
            teacher, pairs, mapping=mapping
        )

    return build


def teacher(name, architecture, dense, dataset, published) -> Recipe:
    """Return the recipe of a feed-forward network that teaches."""
    return Recipe(
        name=name,
        summary=f"a feed-forward VGG with {len(architecture[0])} convolutions",
        dataset=dataset,
        network=network(architecture, dense, HE, relu=True, feedback=None),
        rule=Backprop(),
        solver=Sweeps(),
        optimizer=lambda epochs, steps: optax.adam(cosine_decay(1e-3, epochs, steps)),
        batch_size=128,
        epochs=100,
        published=published,
        ours="not run",
        source=f"{_PAPER} The teacher's training is not described there.",
        pipeline=augmented,
        probe=8,
    )
