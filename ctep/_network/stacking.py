"""Runs of equal layers as stacks, and stacks as layers."""

from __future__ import annotations

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp

from .._custom_types import Layered, State
from .coupling import Coupling
from .layer import Layer
from .operator import AbstractLinear
from .stack import Stack


def stacked(network: Layered, least: int) -> Layered:
    """Return the network with a stack for each run of `least` equal layers or more."""
    inner = [_link(network, n) for n in range(len(network.layers))]
    layers, blocks, within, n = [], {0: 0}, set(), 0
    while n < len(network.layers):
        stop, links = n + 1, []
        while inner[stop - 1] is not None and (
            not links or _alike(links[0], inner[stop - 1])
        ):
            links.append(inner[stop - 1])
            stop += 1
        if stop - n < max(2, least):
            stop, links = n + 1, []
        layers.append(_joined(network.layers[n:stop], links) if links
                      else network.layers[n])  # fmt: skip
        blocks |= dict.fromkeys(range(n + 1, stop + 1), len(layers))
        within |= {id(c) for c in links}
        n = stop
    outer = [c for c in network.couplings if id(c) not in within]
    couplings = _moved(outer, blocks, blocks)
    return dataclasses.replace(network, layers=layers, couplings=couplings)


def unstacked(network: Layered) -> Layered:
    """Return the network with single layers for each stack."""
    layers, couplings = [], []
    first, last = {0: 0}, {0: 0}
    for n, layer in enumerate(network.layers, 1):
        first[n] = len(layers) + 1
        layers += layer.single()
        last[n] = len(layers)
        couplings += [
            Coupling(source, source + 1, *link)
            for source, link in enumerate(layer.links, first[n])
        ]
    couplings += _moved(network.couplings, last, first)
    couplings.sort(key=lambda c: c.target)
    return dataclasses.replace(network, layers=layers, couplings=couplings)


def unstacked_state(network: Layered, state: State) -> State:
    """Return a state of the network as one of its layers, one array each."""
    out = []
    for layer, s in zip(network.layers, state, strict=True):
        out += [layer.at(s, d) for d in range(layer.depth)]
    return tuple(out)


def _moved(couplings, sources, targets):
    """Return couplings of the same layers, which have other numbers now."""
    return [
        dataclasses.replace(c, source=sources[c.source], target=targets[c.target])
        for c in couplings
    ]


def _link(network, n):
    """Return the coupling that may lie within a stack, from layer `n` to the next."""
    leaving = [c for c in network.couplings if c.source == n + 1]
    arriving = [c for c in network.couplings if c.target == n + 2]
    if len(leaving) != 1 or len(arriving) != 1 or leaving[0] is not arriving[0]:
        return None
    (c,), pair = leaving, network.layers[n : n + 2]
    plain = all(type(layer) is Layer and not layer.learns for layer in pair)
    known = isinstance(c.forward, AbstractLinear) and (c.feedback is None or c.tied)
    arrays = jax.tree_util.tree_leaves(eqx.filter(c.forward, eqx.is_array))
    return c if plain and known and arrays and _alike(*pair) else None


def _alike(a, b):
    """Return whether two parts differ by nothing but the numbers in their arrays."""
    if isinstance(a, Coupling):
        return a.feedback == b.feedback and _alike(a.forward, b.forward)
    leaves = [jax.tree_util.tree_leaves(part) for part in (a, b)]
    if jax.tree_util.tree_structure(a) != jax.tree_util.tree_structure(b):
        return False

    def same(one, other):
        if eqx.is_array(one) and eqx.is_array(other):
            return (one.shape, one.dtype) == (other.shape, other.dtype)
        return type(one) is type(other) and one == other

    return all(same(*pair) for pair in zip(*leaves, strict=True))


def _joined(layers, links):
    one = layers[0]

    def bias(layer):
        full = (1,) * (len(layer.shape) - layer.bias.ndim) + layer.bias.shape
        return layer.bias.reshape(full)

    def leaf(first, *others):
        return jnp.stack([first, *others]) if eqx.is_array(first) else first

    return Stack(
        (len(layers), *one.shape),
        one.activation,
        None if one.bias is None else jnp.stack([bias(layer) for layer in layers]),
        one.tau,
        jax.tree_util.tree_map(leaf, *(c.forward for c in links)),
        links[0].feedback,
    )
