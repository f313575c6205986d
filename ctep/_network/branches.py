"""Residual networks that need no normalisation: builder, initial weights, whitening."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray

from .. import _checks as checks
from .._custom_types import Number
from .activation import AbstractActivation, ReLU
from .builders import feedback_of
from .conv import Conv
from .coupling import Coupling, Fixed, Tied, drawn
from .dense import Dense
from .layer import Layer, Readout
from .network import Network
from .operator import AbstractOperator, Chain
from .pool import AbstractPool, MaxPool
from .skip import Multiplier, Skip

_INITS = jax.nn.initializers


def dirac(init: Any = _INITS.he_uniform()) -> Callable[..., Array]:
    r"""Return an initialiser of convolutions that pass on what they get.

    $W_{ijco} = 1$ at the kernel's middle where $o = c$, else 0, for as many filters as
    there are sources; those beyond are drawn by `init`.

    ```python
    import ctep, jax

    conv = ctep.Conv((8, 8, 3), 16, init=ctep.dirac(), key=jax.random.key(0))
    v = jax.numpy.ones((8, 8, 3))
    print(bool((conv.image(v)[..., :3] == v).all()))  # True
    ```

    Args:
        init: initialiser of the other filters.

    Raises:
        TypeError: if `init` is no function.

    References:
        Zagoruyko and Komodakis, 2017, arXiv:1706.00388.
    """
    checks.function("init", init, "jax.nn.initializers.he_uniform()")

    def initialiser(key, shape, dtype=jnp.float32):
        weight = init(key, shape, dtype)
        *kernel, sources, targets = shape
        count = min(sources, targets)
        middle = tuple((n - 1) // 2 for n in kernel)
        weight = weight.at[..., :count].set(0)
        return weight.at[*middle, jnp.arange(count), jnp.arange(count)].set(1)

    return initialiser


def whitening(
    images: Array | np.ndarray,
    *,
    kernel: Number = 2,
    epsilon: Number = 5e-4,
) -> Conv:
    r"""Return a convolution whose outputs are uncorrelated on the patches of images.

    Its filters are the eigenvectors $v_k$ of $\mathbb{E}[p p^\top]$ over all patches
    $p$, divided by $\sqrt{\lambda_k + \epsilon}$, and the negatives of these, so that
    a rectifier behind them loses nothing. It is fixed: see `ctep.residual`.

    ```python
    import ctep, jax

    images = jax.random.normal(jax.random.key(0), (100, 32, 32, 3))
    print(ctep.whitening(images).out_shape)  # (31, 31, 24)
    ```

    Args:
        images: as the network gets them; a few thousand are enough.
        kernel: height and width of a patch.
        epsilon: variance below which a direction counts for less.

    Raises:
        ValueError: if `images` are no images with at least one example, or smaller than
            the kernel.

    Cost: one pass over the patches, in float64.
    """
    kernel = checks.count("kernel", kernel, "2")
    epsilon = checks.positive("epsilon", epsilon, "5e-4")
    images = np.asarray(images, np.float64)
    if images.ndim != 4 or not images.size:
        raise ValueError(
            f"`images` has shape {images.shape}, but patches are cut out of arrays "
            "(examples, height, width, channels): pass a few thousand examples."
        )
    shape = checks.image("images", images.shape[1:])
    build = lambda init: Conv(  # noqa: E731
        shape, 2 * kernel**2 * shape[-1], kernel=kernel, padding="valid",
        init=init, key=jax.random.key(0),
    )  # fmt: skip
    tall, wide, _ = build(_INITS.zeros).out_shape
    taps = [
        images[:, i : i + tall, j : j + wide]
        for i in range(kernel)
        for j in range(kernel)
    ]
    patches = np.stack(taps, -2).reshape(-1, kernel**2 * shape[-1])
    values, vectors = np.linalg.eigh(patches.T @ patches / len(patches))
    # Rounding makes the variance of a direction that no patch has negative.
    filters = vectors / np.sqrt(np.maximum(values, 0) + epsilon)
    weight = np.concatenate([filters, -filters], 1)
    return build(lambda key, size, dtype=None: jnp.asarray(weight.reshape(size), dtype))


def residual(
    channels: Sequence[int] = (128, 384, 512),
    classes: Number = 10,
    *,
    input_shape: Sequence[int] = (32, 32, 3),
    stem: AbstractOperator | None = None,
    pool: Callable[..., AbstractPool] = MaxPool,
    activation: AbstractActivation = ReLU(),
    feedback: Number | Tied | Fixed | None = 1.0,
    bias: bool = True,
    init: Any = dirac(),
    branch_init: Sequence[Any] | None = None,
    multiplier: Number | None = 1.0,
    readout_init: Any = _INITS.zeros,
    readout_multiplier: Number | None = None,
    key: PRNGKeyArray,
) -> Network:
    r"""Return groups of a pooled convolution and a residual branch of two.

    Three layers per group, with a skip around the last two convolutions:

    $$s_a = \rho(P(W_a * s) + b_a), \qquad s_b = \rho(W_b * s_a + b_b), \qquad
    s_c = \rho(s_a + m\, W_c * s_b + b_c)$$

    The outputs read the largest state of each channel of the last layer. Tied feedback
    of a skip is the square of that of the two couplings around which it leads, so that
    there is an energy.

    Nothing is normalised. By default the initial weights are those of Fixup: the first
    convolution of each of $L$ branches has variance $2 / (k^2 c_{out} L)$, the last one
    is zero, so is the readout, and $m = 1$; biases are those of the layers, one per
    channel, where Fixup has one number before and after each convolution. SkipInit is
    `multiplier=0.0` with `branch_init` of two He initialisers.

    ```python
    import ctep, jax

    images = jax.random.normal(jax.random.key(1), (100, 32, 32, 3))
    network = ctep.residual(
        (8, 16), 10, stem=ctep.whitening(images), feedback=0.003,
        key=jax.random.key(0),
    )
    print(len(network.layers), network.has_energy)  # 7 True
    ```

    Args:
        channels: number of channels of each group, from the input on.
        classes: number of outputs.
        input_shape: (height, width, channels) of an image.
        stem: operator between the image and a layer in front of the groups, such as
            `ctep.whitening(images)`; `None` for groups alone.
        pool: builds the pool of a shape and a size.
        activation: what every layer does with its drive.
        feedback: $\gamma$ of tied feedback, `Fixed(scale)`, or `None` for no feedback.
            Skips have no weights to be drawn: theirs is tied in any case.
        bias: whether layers and readout have one, zero at first.
        init: initialiser of the convolutions in front of the branches.
        branch_init: those of the first and the last convolution of a branch; by
            default Fixup's.
        multiplier: $m$ at first, one number per branch that is trained; `None` for
            none.
        readout_init: initialiser of the readout.
        readout_multiplier: what outputs are multiplied by at first, likewise.
        key: random key that the initial weights are drawn by.

    Raises:
        ValueError: if there is no group, a size is out of range, `stem` takes another
            shape than the input's, or pooling leaves nothing of the image.

    References:
        Fixup: Zhang et al., 2019, arXiv:1901.09321. SkipInit: De and Smith, 2020,
        arXiv:2002.10444.
    """
    shape = inputs = checks.image("input_shape", input_shape)
    channels = checks.counts("channels", channels)
    classes = checks.count("classes", classes, "10")
    checks.function("pool", pool, "ctep.MaxPool")
    checks.flag("bias", bias)
    checks.key(key)
    back = feedback_of(feedback)
    first, last = _branch(branch_init, len(channels))
    layers, couplings = [], []

    def add(build):
        """Add a layer that an operator, built of a key, drives from the last one."""
        n = len(layers)
        own = jax.random.fold_in(key, n)
        operator = build(jax.random.fold_in(own, 0))
        returning = drawn(back, build, jax.random.fold_in(own, 1)) if n else None
        couplings.append(Coupling(n, n + 1, operator, returning))
        shape = operator.out_shape
        layers.append(Layer(shape, activation, _zeros(bias, shape[-1:])))
        return shape

    if stem is not None:
        _check_stem(stem, shape)
        shape = add(lambda _: stem)
    for width in channels:
        shape = add(_conv(shape, width, init, pool))
        source = len(layers)
        add(_conv(shape, width, first))
        add(_conv(shape, width, last, multiplier=multiplier))
        # As weak as the path around which it leads, for an energy to exist.
        own = None if back is None else Tied(back.scale**2)
        couplings.append(Coupling(source, source + 2, Skip(shape), own))
    top = pool(shape, shape[:2])
    own = jax.random.fold_in(key, len(layers))
    parts = [top, Dense(top.out_shape, (classes,), init=readout_init, key=own)]
    if readout_multiplier is not None:
        parts.append(Multiplier((classes,), readout_multiplier))
    readout = Readout(Chain(parts), _zeros(bias, (classes,)))  # pyright: ignore[reportCallIssue]
    # Pyright takes the abstract field `shapes`, a property here, for an argument.
    return Network(inputs, layers, couplings, readout)  # pyright: ignore[reportArgumentType, reportCallIssue]


def _conv(shape, width, init, pool=None, multiplier=None):
    """Return the builder of a convolution, pooled or multiplied."""

    def build(key):
        conv = Conv(shape, width, key=key, init=init)
        parts: list[AbstractOperator] = [conv]
        if pool is not None:
            parts.append(pool(conv.out_shape))
        if multiplier is not None:
            parts.append(Multiplier(conv.out_shape, multiplier))
        return parts[0] if len(parts) == 1 else Chain(parts)  # pyright: ignore[reportCallIssue]

    return build


def _branch(value, count):
    """Return the initialisers of a branch's first and last convolution."""
    if value is None:
        # For branches of two convolutions: L to the power of -1/2.
        fixup = _INITS.variance_scaling(2 / count, "fan_out", "normal")
        return fixup, _INITS.zeros
    value = checks.members("branch_init", value)
    if len(value) != 2:
        raise ValueError(
            f"`branch_init` holds {len(value)} initialisers, but a branch has two "
            "convolutions: pass one for the first and one for the last."
        )
    return value


def _check_stem(stem, shape):
    example = "ctep.whitening(images)"
    checks.instance("stem", stem, AbstractOperator, "an operator or None", example)
    if stem.in_shape != shape:
        raise ValueError(
            f"`stem` takes shape {stem.in_shape}, but `input_shape` is {shape}: make "
            "them agree."
        )


def _zeros(bias, shape):
    return jnp.zeros(shape) if bias else None
