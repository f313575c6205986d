"""Builders of convolutional networks."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
from jaxtyping import PRNGKeyArray

from .. import _checks as checks
from .._custom_types import Number
from .activation import AbstractActivation, HardSigmoid, Identity, ReLU6
from .builders import feedback_of
from .conv import Conv
from .coupling import Coupling, Fixed, Tied, drawn
from .dense import Dense
from .layer import Layer, Readout
from .network import Network
from .operator import AbstractOperator, Chain
from .pool import AbstractPool, MaxPool

_HE = jax.nn.initializers.he_uniform()


def vgg(
    channels: Sequence[int],
    dense: Sequence[int] = (),
    classes: Number = 10,
    *,
    input_shape: Sequence[int] = (32, 32, 3),
    pooled: Iterable[int] | None = None,
    pool: Callable[[tuple[int, ...]], AbstractPool] = MaxPool,
    pool_first: bool = False,
    kernel: Number = 3,
    padding: str | Number = "same",
    activation: AbstractActivation = HardSigmoid(),
    feedback: Number | Tied | Fixed | None = 1.0,
    bias: bool = True,
    bias_gain: Number = 0.0,
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

    ```python
    import ctep, jax

    network = ctep.vgg(
        (8, 16), (32,), 10, input_shape=(28, 28, 1), activation=ctep.ReLU6(),
        feedback=0.03, key=jax.random.key(0),
    )
    ```

    Args:
        channels: number of channels of each convolution, from the input on.
        dense: sizes of the dense layers before the outputs.
        classes: number of outputs.
        input_shape: (height, width, channels) of an image.
        pooled: the convolutions that a pool follows, counted from 1; all by default.
        pool: builds the pool of a shape: `ctep.MaxPool`, `ctep.AveragePool`, or
            `functools.partial(ctep.SoftmaxPool, temperature=0.5)`.
        pool_first: where the pool acts, see above.
        kernel: height and width of the kernels, in pixels.
        padding: "same", "valid", or a number of zeros on every side.
        activation: what every layer but an output layer does with its drive.
        feedback: $\gamma$ of tied feedback, `Fixed(scale)`, or `None` for no feedback.
        bias: whether layers and readout have one, one number per channel.
        bias_gain: biases are drawn within $\pm$ `bias_gain` / sqrt(fan-in).
        readout: whether the outputs are a linear readout outside the dynamics;
            otherwise they are a layer of their own.
        output_activation: what an output layer does with its drive.
        init: initialiser of all weights, or one per coupling, readout included.
        key: random key that the initial weights are drawn by.

    Raises:
        ValueError: if there is no convolution, a size is out of range, `pooled` names
            a convolution that does not exist, or pooling leaves nothing of the image.
    """
    shape = checks.image("input_shape", input_shape)
    channels = checks.counts("channels", channels)
    dense = checks.counts("dense", dense, least=0)
    classes = checks.count("classes", classes, "10")
    where = _pooled(pooled, len(channels))
    checks.function("pool", pool, "ctep.MaxPool")
    checks.flag("pool_first", pool_first)
    count = len(channels) + len(dense) + 1
    plan = _Plan(shape, feedback, bias, bias_gain, _inits(init, count), key)
    # What still acts on the last layer's image on its way up.
    before: list[AbstractOperator] = []
    for n, width in enumerate(channels, 1):
        make = pool if n in where else None
        conv = _convolution(_source(shape, before), width, kernel, padding)
        operator = _chained(before, conv, None if pool_first else make)
        shape = plan.layer(activation, operator)
        before = [make(shape)] if pool_first and make else []
    for width in dense:
        operator = _chained(before, _dense(_source(shape, before), (width,)))
        shape, before = plan.layer(activation, operator), []
    last = _chained(before, _dense(_source(shape, before), (classes,)))
    return plan.network(last, output_activation, readout)


def hopfield_resnet(
    channels: Sequence[int] = (128, 256, 512, 512),
    classes: Number = 10,
    *,
    input_shape: Sequence[int] = (32, 32, 3),
    activation: AbstractActivation = ReLU6(),
    feedback: Number | Tied | Fixed | None = 1.0,
    bias: bool = True,
    bias_gain: Number = 0.0,
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
    default channels this is Hopfield-ResNet13. Tied feedback of a skip is the square of
    that of the two couplings it bypasses, so that there is an energy.

    ```python
    import ctep, jax

    network = ctep.hopfield_resnet(
        (8, 16), 10, input_shape=(16, 16, 3), key=jax.random.key(0)
    )
    ```

    Args:
        channels: number of channels of each block, from the input on.
        classes: number of outputs.
        input_shape: (height, width, channels) of an image.
        activation: what every layer but an output layer does with its drive.
        feedback: $\gamma$ of tied feedback, `Fixed(scale)`, or `None` for no feedback.
        bias: whether layers and readout have one, one number per channel.
        bias_gain: biases are drawn within $\pm$ `bias_gain` / sqrt(fan-in).
        readout: whether the outputs are a linear readout outside the dynamics;
            otherwise they are a layer of their own.
        output_activation: what an output layer does with its drive.
        init: initialiser of all weights, or one per convolution of a kernel of 3 and
            one for the outputs.
        skip_init: initialiser of the skips, `init` by default.
        key: random key that the initial weights are drawn by.

    Raises:
        ValueError: if there is no block, or a size is out of range.

    References:
        Hopfield-ResNet13, 2025, arXiv:2509.26003.
    """
    source = shape = checks.image("input_shape", input_shape)
    channels = checks.counts("channels", channels)
    classes = checks.count("classes", classes, "10")
    inits = _inits(init, 2 * len(channels) + 1)
    if skip_init is not None:
        checks.function("skip_init", skip_init, "jax.nn.initializers.zeros")
    plan = _Plan(shape, feedback, bias, bias_gain, inits, key)
    for width in channels:
        shape = plan.layer(activation, _convolution(shape, width, 3, 1))
        shape = plan.layer(activation, _convolution(shape, width, 3, 1, stride=2))
        skip = _convolution(source, width, 1, 0, stride=2)
        target = len(plan.layers)
        plan.couple(target - 2, target, skip, skip_init or inits[0])
        source = shape
    last = _dense(shape, (classes,))
    return plan.network(last, output_activation, readout)


class _Plan:
    """A network as it grows layer by layer."""

    def __init__(self, input_shape, feedback, bias, bias_gain, inits, key):
        checks.key(key)
        checks.flag("bias", bias)
        bias_gain = checks.real("bias_gain", bias_gain, "0.5")
        self.input_shape, self.key = input_shape, key
        self.layers, self.couplings = [], []
        self._feedback = feedback_of(feedback)
        self._bias, self._gain, self._inits = bias, bias_gain, inits

    def layer(self, activation, operator):
        """Add a layer that `operator` drives from the last one; return its shape."""
        n = len(self.layers)
        forward = self.couple(n, n + 1, operator, self._inits[n])
        bias = self._drawn_bias(forward)
        self.layers.append(Layer(forward.out_shape, activation, bias))
        return forward.out_shape

    def couple(self, source, target, operator, init):
        """Couple two layers, and return the forward operator."""
        key = jax.random.fold_in(jax.random.fold_in(self.key, source), target)
        build = lambda k: operator(k, init)  # noqa: E731
        feedback = None
        if source:
            feedback = self._feedback
            if isinstance(feedback, Tied):
                # As weak as the path that a skip bypasses, for an energy to exist.
                feedback = Tied(feedback.scale ** (target - source))
            feedback = drawn(feedback, build, jax.random.fold_in(key, 1))
        forward = build(jax.random.fold_in(key, 0))
        self.couplings.append(Coupling(source, target, forward, feedback))
        return forward

    def network(self, operator, activation, readout):
        """Return the network with its outputs."""
        checks.flag("readout", readout)
        out = None
        if readout:
            key = jax.random.fold_in(self.key, len(self.layers))
            last = operator(key, self._inits[-1])
            out = Readout(last, self._drawn_bias(last))
        else:
            self.layer(activation, operator)
        # Pyright takes the abstract field `shapes`, a property here, for an argument.
        return Network(self.input_shape, self.layers, self.couplings, out)  # pyright: ignore[reportArgumentType, reportCallIssue]

    def _drawn_bias(self, operator: AbstractOperator):
        if not self._bias:
            return None
        # A convolution's or a dense map's, whose last axis is that of the targets: the
        # pools beside it have no arrays.
        weights = jax.tree_util.tree_leaves(operator)
        fan_in = weights[0].size / weights[0].shape[-1]
        bound = self._gain / fan_in**0.5
        # Beyond the number of any layer, which `couple` folds in at this place.
        key = jax.random.fold_in(jax.random.fold_in(self.key, len(self.layers)), 2**20)
        shape = operator.out_shape[-1:]
        return jax.random.uniform(key, shape, minval=-bound, maxval=bound)


def _convolution(shape, width, kernel, padding, stride=1):
    def build(key, init):
        return Conv(
            shape, width, kernel=kernel, stride=stride, padding=padding,
            key=key, init=init,
        )  # fmt: skip

    return build


def _dense(source, target):
    return lambda key, init: Dense(source, target, key=key, init=init)


def _source(shape, before):
    return before[-1].out_shape if before else shape


def _chained(before, operator, pool=None):
    """Return the builder of `operator` after `before`, and then `pool` of its image."""

    def build(key, init):
        parts = [*before, operator(key, init)]
        parts += [] if pool is None else [pool(parts[-1].out_shape)]
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
    value = checks.members("init", value)
    if len(value) != count:
        raise ValueError(
            f"`init` holds {len(value)} initialisers, but there are {count} couplings, "
            "that of the outputs included: pass as many, or one for all."
        )
    return value
