"""What no paper has: a first example, and deep networks with weak feedback alone."""

import math

import jax
import optax

from .._network import ReLU6, Tanh, hopfield_resnet, mlp
from .._network.initial import unit_gain
from .._rule import OneSided
from .._solver import Sweeps
from .._weights import standardized
from ._augmented import VGG11, VGG13, augmented, network
from .base import Recipe, cosine_decay, widths


def _mlp(shape, classes, key, scale, *, feedback=0.1):
    sizes = (math.prod(shape), *widths((128, 128), scale), classes)
    return mlp(sizes, activation=Tanh(), feedback=feedback, key=key)


DIGITS = Recipe(
    name="digits",
    summary="2 tanh layers of 128, feedback 0.1, on the embedded 8 x 8 digits",
    dataset="digits",
    network=_mlp,
    rule=OneSided(0.01),
    solver=Sweeps(),
    # At a constant rate the last epochs lose what was won before. Over twice as many
    # epochs the test accuracy goes up and down by a percent on the way.
    optimizer=lambda epochs, steps: optax.adam(cosine_decay(2e-3, epochs, steps)),
    rate=2e-3,
    batch_size=50,
    epochs=10,
    published="none",
    source="A first example, not a published system.",
)

# With feedback of 0.003 VGG-11 of He's weights ends three epochs at 1.001 times the
# loss of its twin, with 0.03 at 1.037. Standardised weights are larger, so that what
# returns by them is too.
_HE_FEEDBACK, _FEEDBACK = 0.003, 0.0005
_HE = {"activation": ReLU6(), "init": jax.nn.initializers.he_uniform()}


def _small_readout(layers):
    """Return He's initialisers, with weights a tenth as large for the readout."""
    small = jax.nn.initializers.variance_scaling(0.02, "fan_in", "uniform")
    return {**_HE, "init": [_HE["init"]] * layers + [small]}


def _vgg(architecture):
    """Return the builder of a VGG with standardised weights."""
    options = _small_readout(len(architecture[0]) + 2)
    plain = network(architecture, 2, feedback=_FEEDBACK, **options)
    return lambda *args, **changes: standardized(plain(*args, **changes))


def _resnet13(shape, classes, key, scale, *, feedback=_HE_FEEDBACK, **options):
    """Return the layers of Hopfield-ResNet13 with a readout outside the dynamics."""
    return hopfield_resnet(
        widths((128, 256, 512, 512), scale),
        classes,
        input_shape=shape,
        readout=True,
        feedback=feedback,
        key=key,
        **(_HE | options),
    )


def _standardized_resnet13(shape, classes, key, scale, *, feedback=_FEEDBACK):
    """Return the same with standardised weights."""
    options = _small_readout(8) | {"skip_init": _HE["init"], "feedback": feedback}
    plain = _resnet13(shape, classes, key, scale, **options)
    # Two drives meet at the end of each block, the sum of which is to be as large as
    # one of them: else states grow from block to block, up to where ReLU6 clips them.
    gain = unit_gain(ReLU6()) / math.sqrt(2)
    sums = [n for n, c in enumerate(plain.couplings) if c.target % 2 == 0]
    rest = [n for n, c in enumerate(plain.couplings) if c.target % 2 == 1]
    found = standardized(
        plain, where=lambda network: [network.couplings[n].forward for n in rest]
    )
    return standardized(
        found,
        gain=gain,
        where=lambda network: [network.couplings[n].forward for n in sums],
    )


def _recipe(name, summary, network, rate, **fields) -> Recipe:
    """Return the recipe of one of the deep networks; `network` is its builder."""
    return Recipe(
        name=name,
        summary=summary,
        dataset="cifar10",
        network=network,
        rule=OneSided(0.01),
        # Loose and enough: with one sweep each He's VGG-11 ends at 1.002 times its
        # twin's loss; with these the cosine with the exact gradient was 0.9998 or more.
        solver=Sweeps(rtol=5e-2, atol=5e-2),
        optimizer=lambda epochs, steps: optax.adam(cosine_decay(rate, epochs, steps)),
        rate=rate,
        batch_size=128,
        epochs=50,
        published="none",
        pipeline=augmented,
        probe=8,
        **fields,
    )


def _standardized(name, summary, network, **fields) -> Recipe:
    """Return one with standardised weights and a readout that is small at first."""
    return _recipe(
        name,
        f"{summary}, standardised weights, ReLU6, feedback {_FEEDBACK:g}",
        network,
        1e-3,
        source="ctep: no local errors, no teacher, no normalisation of states. Weights "
        "are standardised as in arXiv:2101.08692, those of the readout are drawn a "
        "tenth as large as He's. Recipes with -he are what these were before.",
        **fields,
    )


def _he(name, summary, network, **fields) -> Recipe:
    """Return one with the weights of He."""
    return _recipe(
        f"{name}-he",
        f"{summary}, He's weights, ReLU6, feedback {_HE_FEEDBACK:g}",
        network,
        # At 1e-3 the full widths saturate in the first epoch, and the twin's too.
        3e-4,
        source="ctep: no local errors, no teacher, no normalisation layers. Kept runs "
        "are older than the names, and were made under those without -he.",
        **fields,
    )


_RESNET = "4 residual blocks of 2 convolutions"
DEEP = (
    _standardized("fre-vgg11", "VGG-11", _vgg(VGG11)),
    _standardized("fre-vgg13", "VGG-13", _vgg(VGG13)),
    _standardized("fre-resnet13", _RESNET, _standardized_resnet13),
    _he(
        "fre-vgg11",
        "VGG-11",
        network(VGG11, 2, feedback=_HE_FEEDBACK, **_HE),
        cost="9.2 s on a shared H100",
    ),
    _he("fre-vgg13", "VGG-13", network(VGG13, 2, feedback=_HE_FEEDBACK, **_HE)),
    _he("fre-resnet13", _RESNET, _resnet13, cost="10 s on a shared H100"),
)
