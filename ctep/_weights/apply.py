"""Networks whose weights are made of something: the functions for users."""

import math
from typing import TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Key
from paramax import NonTrainable

from .. import _checks as checks
from .._custom_types import Number
from .._network import AbstractNetwork, Network
from .._network.initial import unit_gain
from . import nodes
from .places import Where, check_layered, places, replaced, source
from .resolution import numbers

N = TypeVar("N", bound=AbstractNetwork)


def standardized(
    network: Network, *, gain: Number | None = None, where: Where | None = None
) -> Network:
    r"""Return the network with scaled weight standardisation.

    $$W_{\cdot j} = \frac{\gamma\, g_j}{\sqrt{N}}\,
    \frac{\theta_{\cdot j} - \mu_j}{\sigma_j}$$

    with mean and standard deviation over the $N$ inputs of each output channel $j$, and
    a gain $g_j$ that is trained and 1 at first. It does for signals what normalisation
    of states does, but nothing of it depends on the batch, so that the network stays
    the same dynamical system.

    ```python
    import ctep, jax

    network = ctep.vgg(
        (8, 8), classes=10, input_shape=(8, 8, 1), pooled=(1,),
        activation=ctep.ReLU6(), feedback=0.003, key=jax.random.key(0),
    )
    network = ctep.standardized(network)
    ```

    Args:
        network: a `ctep.Network`.
        gain: $\gamma$; by default that with which states have unit variance behind
            the activation that the weights come from, 1.71 for a rectifier, and 1 for
            weights from the input.
        where: function of the network that returns the weights, or parts that hold
            them; by default those of all couplings, not those of the readout.

    Raises:
        TypeError: if an argument is not of its kind.
        ValueError: if `where` chooses nothing, or no weights; or `gain` is not
            positive.

    Cost: once per batch, two passes over the weights.

    References:
        Brock et al., 2021, arXiv:2101.08692; Qiao et al., 2019, arXiv:1903.10520.
    """
    check_layered(network)
    if gain is not None:
        gain = checks.positive("gain", gain, "1.71")
    pairs = []
    for place in _weights(network, where, readout=False):
        n = source(network, place)
        scale = gain or (unit_gain(network.layers[n].activation) if n >= 0 else 1.0)
        ones = jnp.ones_like(_channels(place))
        made = nodes.Standardized(
            weight=place.held, gain=ones, scale=float(scale), stacked=place.stacked
        )
        pairs.append((place, made))
    return replaced(network, pairs)


def weight_norm(network: Network, *, where: Where | None = None) -> Network:
    r"""Return the network with direction and length of its weights apart.

    $$W_{\cdot j} = g_j\, \theta_{\cdot j} / \|\theta_{\cdot j}\|$$

    for each output channel $j$, with gains $g_j$ that are trained. They are the norms
    at first, so that the weights stay what they were.

    Args:
        network: a `ctep.Network`.
        where: function of the network that returns the weights, or parts that hold
            them; by default those of all couplings and of the readout.

    Raises:
        TypeError: if an argument is not of its kind.
        ValueError: if `where` chooses nothing, or no weights.

    Cost: once per batch, a pass over the weights.

    References:
        Salimans and Kingma, 2016, arXiv:1602.07868.
    """
    check_layered(network)
    pairs = []
    for place in _weights(network, where):
        values = numbers(place.held)
        axes = tuple(range(place.stacked, values.ndim - 1))
        norms = jnp.sqrt(jnp.sum(jnp.square(values), axes))
        pairs.append(
            (
                place,
                nodes.WeightNorm(weight=place.held, gain=norms, stacked=place.stacked),
            )
        )
    return replaced(network, pairs)


def frozen(network: N, where: Where) -> N:
    """Return the network with parts that are never trained.

    Args:
        network: any network.
        where: function of the network that returns arrays or parts, such as `lambda
            network: network.readout`.

    Raises:
        TypeError: if an argument is not of its kind.
        ValueError: if `where` chooses nothing.
    """
    chosen = places(network, where)
    return replaced(network, [(p, NonTrainable(p.held)) for p in chosen])


def nonnegative(network: N, *, where: Where | None = None) -> N:
    r"""Return the network with weights that are nowhere below 0.

    $$W = |\theta|$$

    For signs by unit see `dale`.

    Args:
        network: any network.
        where: function of the network that returns the weights, or parts that hold
            them; by default those of all couplings and of the readout.

    Raises:
        TypeError: if an argument is not of its kind.
        ValueError: if `where` chooses nothing.
    """
    pairs = []
    for place in places(network, where):
        length = numbers(place.held).shape[: int(place.stacked)]
        sign = jnp.ones(length, network.dtype)
        pairs.append(
            (place, nodes.Signed(weight=place.held, sign=sign, stacked=place.stacked))
        )
    return replaced(network, pairs)


def dale(network: Network, *, inhibitory: Number = 0.2, key: Key[Array, ""]) -> Network:
    r"""Return the network with units that excite, or inhibit, all that they drive.

    $$W_{ij} = \sigma_i\, |\theta_{ij}|$$

    The sign $\sigma_i$ of a unit, in an image of a channel, is drawn once and is that
    of all weights that leave it, also to the readout. Those from the input keep theirs.

    Args:
        network: a `ctep.Network`.
        inhibitory: probability that a unit inhibits.
        key: random key that the signs are drawn by.

    Raises:
        TypeError: if `network` is not a network.
        ValueError: if `inhibitory` is not between 0 and 1.

    References:
        Cornford et al., 2021, ICLR, "Learning to live with Dale's principle".
    """
    check_layered(network)
    checks.key(key)
    inhibitory = checks.real("inhibitory", inhibitory, "0.2")
    if not 0 <= inhibitory <= 1:
        raise ValueError(
            f"`inhibitory` is {inhibitory}, but is a probability: pass for example 0.2."
        )
    pairs = []
    for place in _weights(network, None):
        n = source(network, place)
        if n < 0:
            continue
        values = numbers(place.held)
        # One key per layer, so that all couplings that leave it draw the same signs.
        own = jax.random.fold_in(key, n)
        lead = values.shape[: int(place.stacked)]
        units = lead + (1,) * (place.ndim - 2) + (values.shape[-2], 1)
        signs = jnp.where(jax.random.bernoulli(own, inhibitory, units), -1.0, 1.0)
        sign = NonTrainable(signs.astype(values.dtype))
        pairs.append(
            (place, nodes.Signed(weight=place.held, sign=sign, stacked=place.stacked))
        )
    return replaced(network, pairs)


def quantized(network: N, bits: int = 4, *, where: Where | None = None) -> N:
    r"""Return the network with weights on an even grid, trained straight through.

    $$W = \Delta\, \mathrm{round}(\theta / \Delta), \qquad
    \Delta = \max|\theta| / (2^{\text{bits} - 1} - 1), \qquad
    \frac{dL}{d\theta} := \frac{dL}{dW}$$

    Levels are symmetric around 0, $2^\text{bits} - 1$ of them in each array, in a stack
    in that of each layer.

    Args:
        network: any network.
        bits: 2 or more.
        where: function of the network that returns the weights, or parts that hold
            them; by default those of all couplings and of the readout.

    Raises:
        TypeError: if an argument is not of its kind.
        ValueError: if `bits` is less than 2, or `where` chooses nothing.

    References:
        Bengio et al., 2013, arXiv:1308.3432, for the gradient.
    """
    bits = checks.count("bits", bits, "4", least=2)
    return _each(network, where, nodes.Quantized, bits=bits)


def noisy(network: N, std: Number, *, where: Where | None = None) -> N:
    r"""Return the network with weights that are read with noise, fresh in each batch.

    $$W = \theta + \text{std}\, \max|\theta|\, \varepsilon, \qquad
    \varepsilon \sim \mathcal{N}(0, 1)$$

    All phases of a batch see the same weights, so every rule stays exact for what it
    has seen. Drawn by the batch's key: runs can be repeated and resumed. Outside of
    training the noise is left out, but for `ctep.resolve(network, key=key)`.

    Args:
        network: any network.
        std: standard deviation, as a share of the largest weight of each array.
        where: function of the network that returns the weights, or parts that hold
            them; by default those of all couplings and of the readout.

    Raises:
        TypeError: if an argument is not of its kind.
        ValueError: if `std` is negative, or `where` chooses nothing.

    References:
        Joshi et al., 2020, doi:10.1038/s41467-020-16108-9.
    """
    return _each(network, where, nodes.Noisy, std=_std(std))


def mismatched(
    network: N, std: Number, *, key: Key[Array, ""], where: Where | None = None
) -> N:
    r"""Return the network on a device whose elements differ, each from what was meant.

    $$W = \theta\,(1 + \text{std}\, \varepsilon), \qquad
    \varepsilon \sim \mathcal{N}(0, 1)$$

    drawn once: another `key` is another device.

    Args:
        network: any network.
        std: standard deviation, as a share of each weight.
        key: random key that the device is drawn by.
        where: function of the network that returns the weights, or parts that hold
            them; by default those of all couplings and of the readout.

    Raises:
        TypeError: if an argument is not of its kind.
        ValueError: if `std` is negative, or `where` chooses nothing.
    """
    checks.key(key)
    std, pairs = _std(std), []
    for n, place in enumerate(places(network, where)):
        values = numbers(place.held)
        own = jax.random.fold_in(key, n)
        factor = 1 + std * jax.random.normal(own, values.shape, values.dtype)
        made = _multiplied(place, factor)
        pairs.append((place, made))
    return replaced(network, pairs)


def masked(network: N, pattern, *, where: Where | None = None) -> N:
    r"""Return the network with weights that are multiplied by a constant pattern.

    $$W = \theta\, M$$

    Args:
        network: any network.
        pattern: $M$, zeros and ones or any numbers: an array that broadcasts to the
            weights, or a function of their shape.
        where: function of the network that returns the weights, or parts that hold
            them; by default those of all couplings and of the readout.

    Raises:
        TypeError: if an argument is not of its kind.
        ValueError: if the pattern does not fit, or `where` chooses nothing.
    """
    pairs = []
    for place in places(network, where):
        values = numbers(place.held)
        given = pattern(values.shape) if callable(pattern) else pattern
        factor = checks.array("pattern", given)
        try:
            factor = jnp.broadcast_to(factor, values.shape).astype(values.dtype)
        except ValueError as error:
            raise ValueError(
                f"`pattern` has shape {factor.shape}, which does not broadcast to "
                f"weights of shape {values.shape}: choose those that it is for by "
                "`where`, or pass a function of the shape."
            ) from error
        made = _multiplied(place, factor)
        pairs.append((place, made))
    return replaced(network, pairs)


def _each(network, where, kind, **fields):
    """Return the network with a node of one kind for each of the places."""
    chosen = places(network, where)
    return replaced(
        network,
        [(p, kind(weight=p.held, stacked=p.stacked, **fields)) for p in chosen],
    )


def _signed(place, sign):
    sign = NonTrainable(sign)
    return nodes.Signed(weight=place.held, sign=sign, stacked=place.stacked)


def _multiplied(place, factor):
    factor = NonTrainable(factor)
    return nodes.Multiplied(weight=place.held, factor=factor, stacked=place.stacked)


def _weights(network, where, readout=True):
    """Return places of weights, which have an axis of outputs and one of inputs."""
    chosen = places(network, where, readout)
    for place in chosen:
        if place.ndim < 2:
            raise ValueError(
                f"`where` chooses an array of shape {numbers(place.held).shape}, but "
                "weights have an axis of inputs and one of outputs: leave biases out."
            )
    return chosen


def _channels(place):
    """Return one number per output channel of weights, of a stack per layer."""
    values = numbers(place.held)
    lead = (0,) * (values.ndim - 1)
    return values[:, *lead[1:]] if place.stacked else values[lead]


def _std(std):
    std = checks.real("std", std, "0.05")
    if not 0 <= std < math.inf:
        raise ValueError(
            f"`std` is {std}, but a standard deviation is finite and 0 or more: pass "
            "for example 0.05."
        )
    return float(std)
