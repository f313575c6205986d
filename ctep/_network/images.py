"""Builders of convolutional networks."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
from jaxtyping import PRNGKeyArray

from .. import _checks as checks
from .._keywords import suggests_keywords
from .activation import AbstractActivation, HardSigmoid, Identity, ReLU6
from .builders import feedback_of
from .conv import Conv
from .coupling import Coupling, Fixed, Tied, drawn
from .layer import Layer
from .network import Network, Readout
from .operator import AbstractOperator, Chain, Dense
from .pool import AbstractPool, MaxPool

_HE = jax.nn.initializers.he_uniform()


@suggests_keywords
def vgg(
    channels: Sequence[int],
    dense: Sequence[int] = (),
    classes: int = 10,
    *,
    input_shape: Sequence[int] = (32, 32, 3),
    pooled: Iterable[int] | None = None,
    pool: Callable[[tuple[int, ...]], AbstractPool] = MaxPool,
    pool_first: bool = False,
    kernel: int = 3,
    padding: str | int = "same",
    activation: AbstractActivation = HardSigmoid(),
    feedback: float | Tied | Fixed | None = 1.0,
    bias: bool = True,
    bias_gain: float = 0.0,
    readout: bool = True,
    output_activation: AbstractActivation = Identity(),
    init: Any = _HE,
    key: PRNGKeyArray,
) -> Network:
    r"""Return convolutions, each perhaps pooled, then dense layers.

    With `pool_first=False` a layer holds what is left after pooling, and a coupling is
    $P(W * s_{n-1})$, as in convolutional Hopfield networks. With `pool_first=True` a
    layer holds all of its image and passes on pooled activity, $W * P(s_{n-1})$, as in
    convolutional feedback-regulated networks, whose published state is the drive $h_n$
    of a layer here.

    Args:
        channels: of each convolution.
        dense: sizes of the dense layers before the outputs.
        classes: number of outputs.
        input_shape: (height, width, channels) of an image.
        pooled: which convolutions are followed by a pool, counted from 1; all of them
            by default.
        pool: builds the pool of a shape: `ctep.MaxPool`, `ctep.AveragePool`, or
            `functools.partial(ctep.SoftmaxPool, temperature=0.5)`.
        pool_first: where the pool acts, see above.
        kernel: size of the kernels.
        padding: as in `ctep.Conv`.
        activation: of every layer but an output layer.
        feedback: as in `ctep.mlp`.
        bias: whether layers and readout have one, one number per channel.
        bias_gain: biases are drawn within $\pm$ `bias_gain` / sqrt(fan-in).
        readout: whether the outputs are a linear readout outside the dynamics;
            otherwise they are a layer of their own.
        output_activation: of that layer.
        init: initialiser of all weights, or one per coupling, readout included.
        key: for the initial weights.

    Raises:
        ValueError: if there is no convolution, a size is out of range, `pooled` names
            a convolution that does not exist, or pooling leaves nothing of the image.
    """
    shape = checks.image("input_shape", input_shape)
    channels = checks.counts("channels", channels)
    dense = checks.counts("dense", dense, least=0)
    checks.integer("classes", classes, "10")
    checks.positive("classes", classes, "10")
    where = _pooled(pooled, len(channels))
    count = len(channels) + len(dense) + 1
    plan = _Plan(shape, feedback, bias, bias_gain, _inits(init, count), key)
    waiting = None
    for n, width in enumerate(channels, 1):
        before = [] if waiting is None else [waiting]
        source = shape if waiting is None else waiting.out_shape
        conv = _convolution(source, width, kernel, padding)
        shape = conv(plan.key).out_shape
        after = pool(shape) if n in where else None
        waiting = after if pool_first else None
        if after is not None and not pool_first:
            shape = after.out_shape
        after = None if pool_first else after
        plan.layer(shape, activation, _chained(before, conv, after), (shape[-1],))
    for width in dense:
        before = [] if waiting is None else [waiting]
        source = shape if waiting is None else waiting.out_shape
        plan.layer(
            (width,), activation, _chained(before, _dense(source, (width,))), (width,)
        )
        shape, waiting = (width,), None
    before = [] if waiting is None else [waiting]
    source = shape if waiting is None else waiting.out_shape
    last = _chained(before, _dense(source, (int(classes),)))
    return plan.network(last, int(classes), output_activation, readout)


@suggests_keywords
def hopfield_resnet(
    channels: Sequence[int] = (128, 256, 512, 512),
    classes: int = 10,
    *,
    input_shape: Sequence[int] = (32, 32, 3),
    activation: AbstractActivation = ReLU6(),
    feedback: float | Tied | Fixed | None = 1.0,
    bias: bool = True,
    bias_gain: float = 0.0,
    readout: bool = False,
    output_activation: AbstractActivation = Identity(),
    init: Any = _HE,
    skip_init: Any = None,
    key: PRNGKeyArray,
) -> Network:
    r"""Return residual blocks of two convolutions, without pooling.

    Block k holds a 3 x 3 convolution of stride 1 and one of stride 2, to whose layer a
    learned 1 x 1 convolution of stride 2 skips from the block's source, the image in
    the first block. The outputs see all of the last layer. With four blocks and the
    default channels this is Hopfield-ResNet13.

    Args:
        channels: of each block.
        classes: number of outputs.
        input_shape: as in `vgg`.
        activation: as in `vgg`.
        feedback: as in `vgg`.
        bias: as in `vgg`.
        bias_gain: as in `vgg`.
        readout: as in `vgg`.
        output_activation: as in `vgg`.
        init: initialiser of all weights, or one per convolution of a kernel of 3 and
            one for the outputs.
        skip_init: initialiser of the skips, `init` by default.
        key: for the initial weights.

    Raises:
        ValueError: if there is no block, or a size is out of range.

    References:
        Hopfield-ResNet13, 2025, arXiv:2509.26003.
    """
    source = shape = checks.image("input_shape", input_shape)
    channels = checks.counts("channels", channels)
    checks.integer("classes", classes, "10")
    checks.positive("classes", classes, "10")
    inits = _inits(init, 2 * len(channels) + 1)
    plan = _Plan(shape, feedback, bias, bias_gain, inits, key)
    for width in channels:
        conv = _convolution(shape, width, 3, 1)
        shape = conv(plan.key).out_shape
        plan.layer(shape, activation, conv, (width,))
        conv = _convolution(shape, width, 3, 1, stride=2)
        shape = conv(plan.key).out_shape
        plan.layer(shape, activation, conv, (width,))
        skip = _convolution(source, width, 1, 0, stride=2)
        plan.couple(max(len(plan.layers) - 2, 0), skip, skip_init or inits[0])
        source = shape
    last = _dense(shape, (int(classes),))
    return plan.network(last, int(classes), output_activation, readout)


class _Plan:
    """A network as it grows layer by layer."""

    def __init__(self, input_shape, feedback, bias, bias_gain, inits, key):
        checks.key(key)
        checks.real("bias_gain", bias_gain, "0.5")
        self.input_shape, self.key = input_shape, key
        self.layers, self.couplings = [], []
        self._feedback = feedback_of(feedback)
        self._bias, self._gain, self._inits = bias, bias_gain, inits

    def layer(self, shape, activation, operator, bias_shape):
        """Add a layer that is driven by the last one."""
        n = len(self.layers)
        init = self._inits[n]
        bias = self._drawn_bias(bias_shape, operator(self.key, init))
        self.layers.append(Layer(shape, activation, bias))
        self.couple(n, operator, init)

    def couple(self, source, operator, init):
        """Couple layer `source` to the newest layer."""
        target = len(self.layers)
        key = jax.random.fold_in(jax.random.fold_in(self.key, source), target)
        feedback = None
        if source:
            build = lambda k: operator(k, init)  # noqa: E731
            feedback = drawn(self._feedback, build, jax.random.fold_in(key, 1))
        forward = operator(jax.random.fold_in(key, 0), init)
        self.couplings.append(Coupling(source, target, forward, feedback))

    def network(self, operator, classes, activation, readout):
        """Return the network with its outputs."""
        out = None
        if readout:
            key = jax.random.fold_in(self.key, len(self.layers))
            last = operator(key, self._inits[-1])
            out = Readout(last, self._drawn_bias((classes,), last))
        else:
            self.layer((classes,), activation, operator, (classes,))
        # Pyright takes the abstract field `shapes`, a property here, for an argument.
        return Network(self.input_shape, self.layers, self.couplings, out)  # pyright: ignore[reportArgumentType, reportCallIssue]

    def _drawn_bias(self, shape, operator: AbstractOperator):
        if not self._bias:
            return None
        weights = jax.tree_util.tree_leaves(operator)
        fan_in = weights[0].size / weights[0].shape[-1]
        bound = self._gain / fan_in**0.5
        key = jax.random.fold_in(jax.random.fold_in(self.key, len(self.layers)), 2**20)
        return jax.random.uniform(key, shape, minval=-bound, maxval=bound)


def _convolution(shape, width, kernel, padding, stride=1):
    def build(key, init=_HE):
        return Conv(
            shape, width, kernel=kernel, stride=stride, padding=padding,
            key=key, init=init,
        )  # fmt: skip

    return build


def _dense(source, target):
    return lambda key, init=_HE: Dense(source, target, key=key, init=init)


def _chained(before, operator, after=None):
    def build(key, init=_HE):
        parts = [*before, operator(key, init)]
        parts += [] if after is None else [after]
        return parts[0] if len(parts) == 1 else Chain(parts)  # pyright: ignore[reportCallIssue]

    return build


def _pooled(value, count):
    if value is None:
        return frozenset(range(1, count + 1))
    where = frozenset(checks.counts("pooled", value, least=0))
    wrong = sorted(n for n in where if n > count)
    if wrong:
        raise ValueError(
            f"`pooled` holds {wrong[0]}, but there are {count} convolutions, counted "
            "from 1: name one of them."
        )
    return where


def _inits(value, count):
    if callable(value):
        return [value] * count
    value = list(value)
    if len(value) != count:
        raise ValueError(
            f"`init` holds {len(value)} initialisers, but there are {count} couplings, "
            "that of the outputs included: pass as many, or one for all."
        )
    return value
