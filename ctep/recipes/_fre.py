"""What the feedback-regulated networks have in common."""

import itertools
import math

import jax
import numpy as np
import optax

from .._network import Fixed, HardSigmoid, Tanh, graph, mlp, vgg
from .._nudge import Frozen, OutputError
from .._rule import OneSided, Ramped
from .._solver import FixedSweeps, Sweeps
from ..data import Pipeline
from .base import Recipe, cosine_decay, widths

_PAPER = "FRE-RNN, 2025, arXiv:2508.11659."
_DIFFERENCES = (
    "phases run in sweeps in the direction of the signal, over-relaxed in deep chains, "
    "until each example is at rest, where published steps are synchronous and of a "
    "fixed number; the nudged one is solved for increments; gradients are divided by "
    "the nudge and by each layer's attenuation, and hold the share of tied feedback; "
    "batches are drawn anew in each epoch."
)
SOURCE = (
    f"{_PAPER} Same network, initialisation, data, nudge and optimiser. Here "
    f"{_DIFFERENCES}"
)
_READOUT = (
    " The published readout feeds back through random weights of its own, which stay; "
    "here the error returns through the readout's."
)
_CLAMPED = (
    " The published readout learns from the error after the clamped phase, here from "
    "that of the free one."
)
_SCALING = jax.nn.initializers.variance_scaling
# Within 1 / sqrt(fan-in), biases too.
_TORCH = _SCALING(1 / 3, "fan_in", "uniform")


def _layered(name, summary, network, relaxation, published, ours, **options):
    dataset = options.pop("dataset", "mnist")
    rate = 2e-4 if dataset.startswith("cifar") else 1e-3
    defaults = {
        "nudge": lambda epochs, teacher: Frozen(OutputError()),
        "rule": OneSided(0.1),
        "solver": Sweeps(relaxation=relaxation),
        "optimizer": lambda epochs, steps: optax.adam(rate),
        "source": SOURCE,
    }
    return Recipe(
        name=name,
        summary=summary,
        dataset=dataset,
        network=network,
        batch_size=500,
        epochs=50,
        published=published,
        ours=ours,
        **(defaults | options),
    )


def _sizes(shape, layers, width, classes, scale):
    return (math.prod(shape), *widths((width,) * layers, scale), classes)


def chain(
    layers: int,
    width: int,
    feedback: float,
    relaxation: float,
    published: str,
    ours: str,
    fixed: bool = False,
    **options,
) -> Recipe:
    """Return the recipe of `layers` tanh layers with weak feedback, tied or fixed."""

    def network(shape, classes, key, scale):
        sizes = _sizes(shape, layers, width, classes, scale)
        back = Fixed(feedback) if fixed else feedback
        return mlp(sizes, activation=Tanh(), feedback=back, bias=False, key=key)

    if fixed:
        options = {"source": SOURCE + _READOUT} | options
    what = "fixed feedback" if fixed else "feedback"
    return _layered(
        f"fre-{layers}x{width}{'-asymmetric' if fixed else ''}",
        f"{layers} tanh layers of {width}, {what} {feedback:g}, no residual",
        network,
        relaxation,
        published,
        ours,
        **options,
    )


def residual(
    layers: int, relaxation: float, published: str, ours: str, **options
) -> Recipe:
    """Return a chain of 64-wide layers with trained skips of span 3, both ways.

    The feedback of a skip is that of the three edges it bypasses, so that the network
    has an energy and its gradient is exact. Published is 0.1 for every edge, which
    hides the chain behind the skips: a cosine of 0.2 with the exact gradient.
    """
    skips = [(n, n + 3) for n in range(1, layers - 2, 3)]

    def network(shape, classes, key, scale):
        sizes = _sizes(shape, layers, 64, classes, scale)
        edges = [(n, n + 1) for n in range(layers)] + skips
        return graph(
            sizes,
            edges,
            activation=Tanh(),
            feedback=lambda i, j: 0.1 ** (j - i),
            bias=False,
            key=key,
        )

    return _layered(
        f"fre-{layers}x64-residual",
        f"{layers} tanh layers of 64, feedback 0.1, in skips of span 3 its cube",
        network,
        relaxation,
        published,
        ours,
        source=(
            f"{SOURCE} The published code adds the nudge again at every clamped step, "
            "and ends far from rest (`ctep.Ramped`); here it is constant, and the "
            "phase settles. Skips have the cube of the published feedback."
            f"{_CLAMPED}"
        ),
        **options,
    )


def agt(
    layers: int, probability: float, published: str, ours: str, **options
) -> Recipe:
    """Return a chain with random skips, forward and back independently, fixed back."""

    def network(shape, classes, key, scale):
        sizes = _sizes(shape, layers, 64, classes, scale)
        square = (layers + 1, layers + 1)
        with jax.ensure_compile_time_eval():  # edges are structure, not numbers
            weights, draw = jax.random.split(key)
            drawn = np.asarray(jax.random.bernoulli(draw, probability, square))
        pairs = list(itertools.combinations(range(1, layers + 1), 2))
        edges = [(0, 1)] + [p for p in pairs if p[1] == p[0] + 1 or drawn[p]]
        back = [(p[1], p[0]) for p in pairs if p[1] == p[0] + 1 or drawn[p[::-1]]]
        return graph(
            sizes,
            edges,
            feedback_edges=back,
            activation=Tanh(),
            feedback=Fixed(0.1),
            bias=False,
            key=weights,
        )

    return _layered(
        f"fre-{layers}x64-agt",
        f"{layers} tanh layers of 64, fixed feedback 0.1, random skips (P = "
        f"{probability:g}) of either way",
        network,
        1.0,
        published,
        ours,
        rule=Ramped(0.1, 50),
        source=(
            f"{_PAPER} Same network, initialisation, data, nudge, ramp over 50 steps "
            "and optimiser. Here the free phase takes sweeps from input to output "
            "until each example is at rest, where 100 synchronous steps are published, "
            "the nudged one is computed as increments, gradients are divided by the "
            "nudge and by each layer's attenuation, and batches are drawn anew in each "
            f"epoch.{_READOUT}{_CLAMPED}"
        ),
        **options,
    )


def conv(
    dataset: str,
    channels: tuple[int, ...],
    kernel: int,
    padding: str,
    optimizer,
    epochs: int,
    pipeline,
    steps: str,
    published: str,
    ours: str,
    cost: str = "not measured",
) -> Recipe:
    """Return convolutions that pass on pooled activity, with feedback 0.01.

    Args:
        dataset: by name.
        channels: of the convolutions.
        kernel: their size.
        padding: "same" or "valid".
        optimizer: of the recipe.
        epochs: of the recipe.
        pipeline: of the recipe.
        steps: published ones of the free and of the clamped phase.
        published: accuracy.
        ours: accuracy.
        cost: of the recipe.
    """

    def network(shape, classes, key, scale):
        return vgg(
            widths(channels, scale),
            classes=classes,
            input_shape=shape,
            kernel=kernel,
            padding=padding,
            pool_first=True,
            activation=HardSigmoid(),
            feedback=0.01,
            bias_gain=1.0,
            init=_TORCH,
            key=key,
        )

    return Recipe(
        name=f"fre-conv-{dataset}",
        summary=f"{len(channels)} convolutions, pooled activity, feedback 0.01",
        dataset=dataset,
        network=network,
        rule=OneSided(0.25),
        # A pool that is pushed back from above chatters between two elements, by
        # about the feedback scale, and never settles: three sweeps reach that size.
        solver=FixedSweeps(free=3, nudged=3, follow=False),
        probe=16,
        optimizer=optimizer,
        batch_size=128,
        epochs=epochs,
        published=published,
        ours=ours,
        cost=cost,
        pipeline=pipeline,
        source=(
            f"{_PAPER} Same network, initialisation, nudge, optimiser and data. Here "
            "phases take 3 sweeps in the direction of the signal (published: "
            f"{steps} synchronous steps) and start from zeros (published: "
            "from the states of an empty image), the nudged one is solved for "
            "increments, and gradients are divided by the nudge and by each layer's "
            "attenuation (published: by neither), before any clip of their norm. Pools "
            "see the newest state; published on MNIST, that of the step before. "
            "CIFAR-10's kept run was made with a rate that fell step by step."
        ),
    )


def adamw(rate: float, decay: float, cosine: bool = False, clip: float | None = None):
    """Return the optimiser of the convolutional networks, of epochs and steps."""

    def build(epochs, steps):
        fall = cosine_decay(rate, epochs, steps, 1e-6, per_epoch=True)
        schedule = fall if cosine else rate
        adam = optax.adamw(schedule, weight_decay=decay)
        return adam if clip is None else optax.chain(
            optax.clip_by_global_norm(clip), adam
        )  # fmt: skip

    return build


def tripled(dataset: str) -> Pipeline:
    """Return CIFAR-10's normalisation as published.

    Pixels are divided by three times the mean over images of each one's deviation.
    """
    return Pipeline.standard(dataset, std_factor=3.0)
