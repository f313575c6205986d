"""The energy of a layered network, and what rules differentiate by its parameters."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .._arrays import added, paired, weighed
from .._custom_types import Layered, Lead, Memory, State
from .quadrature import path_integral


def energies(network: Layered, state: State, x: Array) -> Lead:
    """Return the energy of each example, see `AbstractNetwork.energies`."""
    # A layer weighs c_n = 1/attenuation, a coupling what its target does: see
    # "Attenuated feedback" in docs/equations.md.
    total, attenuation = jnp.zeros(()), network.attenuation
    units, ends = network.spread(attenuation), network.wiring.ends
    for layer, s, unit in zip(network.layers, state, units, strict=True):
        local = layer.activation.potential(s)
        if layer.bias is not None:
            local = local - layer.bias * s
        if layer.depth > 1:
            below = layer.received(s, (None, None), (1.0, layer.scale))[0]
            total = total + _sum((local - below * s) / unit, layer.shape)
        else:
            total = total + _sum(local, layer.shape) / unit
    for c in network.couplings:
        if c.forward is not None:
            first = ends[c.target - 1][0]
            product = c.forward.apply(_source(network, c, state, x))[0]
            product = product * _target(network, c, state)
            shape = network.layers[c.target - 1].face
            total = total - _sum(product, shape) / attenuation[first]
    return total


def energy_contrast(
    network: Layered, x: Array, state: State, increments: State, weights: Array
) -> Float[Array, ""]:
    """Return that of energies, see `AbstractNetwork.energy_contrast`."""
    # sum_k w_k e_k; the products of two increments are added phase by phase.
    mean = tuple(weighed(weights, e).sum(0) for e in increments)
    real = tuple(e.real for e in mean)
    total = _biases(network, real)
    moved, wiring = network.moved(state, increments), network.wiring
    units, ends = wiring.units, wiring.ends
    for c in network.couplings:
        if c.forward is None:
            continue
        i, j, source = c.source - 1, c.target - 1, _source(network, c, state, x)
        if not c.source:
            image = c.forward.apply(x)[0]
            total = total - paired(_target(network, c, real), image)
            continue
        unit = units[ends[i][1]]
        image, _, anchor = c.forward.anchor(source, unit)
        # One axis more, for the nudges: all of them start from one free state.
        anchor = jax.tree_util.tree_map(lambda leaf: leaf[None], anchor)
        own = _source(network, c, increments)
        change, _ = c.forward.apply_increment(own, anchor, unit)
        ratio = wiring.ratio(ends[i][1], ends[j][0])
        nudged = ratio * weighed(weights, _target(network, c, moved))
        total = total - paired(_target(network, c, real), image)
        total = total - _plain(nudged, change)
    for n, layer in _stacks(network):
        up = layer.factors(wiring, ends[n][0])[0]
        later = layer.at(moved[n], slice(1, None))
        nudged = up * weighed(weights, later)
        image = layer.images(state[n])
        total = total - paired(layer.at(real[n], slice(1, None)), image)
        total = total - _plain(nudged, layer.images(increments[n]))
    return total


def field_contrast(
    network: Layered, x: Array, state: State, tangent: State
) -> Float[Array, ""]:
    """Return that of drives, see `AbstractNetwork.field_contrast`."""
    # A tied weight is part of two drives. Without the one of its feedback an error
    # of the order of its scale would stay, however small the nudge.
    total = _biases(network, tangent)
    for c in network.couplings:
        tape = None
        if c.forward is not None:
            image, tape = c.forward.apply(_source(network, c, state, x))
            total = total - paired(_target(network, c, tangent), image)
        # Fixed weights are never trained: their share of the drive has no gradient.
        if c.returning is not None and c.tied:
            target = _target(network, c, state)
            back = c.scale * c.returning.adjoint(target, tape)
            total = total - paired(_source(network, c, tangent), back)
    for n, layer in _stacks(network):
        parts = layer.received(state[n], (None, None), (1.0, layer.scale))
        total = total - paired(tangent[n], added(*parts))
    return total


def drive_contrast(
    network: Layered, memory: Memory, moved: Memory, weights: Array, rescale: bool
) -> Float[Array, ""]:
    """Return what activations add, see `AbstractNetwork.drive_contrast`."""
    total, units = jnp.zeros(()), network.spread(network.attenuation)
    for n, (layer, a) in enumerate(zip(network.layers, units, strict=True)):
        if not layer.learns:
            continue
        h, u = memory[1][n], moved[1][n]
        # By the activation alone, for its class need not define `potential`; and at
        # once, while `h` and `u` are this layer's.
        mean = path_integral(lambda t: layer.activation(h + t * a * u) * u)  # noqa: B023
        scale = 1 if rescale else a
        total = total - scale * jnp.sum(weighed(weights, mean).real)
    return total


def _source(network, coupling, state, x=None) -> Any:
    """Return what a coupling comes from: a block's last layer, or the input."""
    i = coupling.source - 1
    return x if i < 0 else network.layers[i].at(state[i], -1)


def _target(network, coupling, state):
    """Return what a coupling leads to: a block's first layer."""
    j = coupling.target - 1
    return network.layers[j].at(state[j], 0)


def _stacks(network):
    """Return the blocks of several layers, with their numbers."""
    return [(n, layer) for n, layer in enumerate(network.layers) if layer.depth > 1]


def _biases(network, tangent):
    total = jnp.zeros((), tangent[0].dtype)
    for layer, v in zip(network.layers, tangent, strict=True):
        if layer.bias is not None:
            total = total - jnp.sum(layer.bias * v)
    return total


def _plain(a, b):
    """Return the real part of a sum of plain products, without conjugates."""
    total = paired(a.real, b.real)
    if jnp.iscomplexobj(a):
        total = total - paired(a.imag, b.imag)
    return total


def _sum(values, shape):
    return jnp.sum(values, tuple(range(-len(shape), 0)))
