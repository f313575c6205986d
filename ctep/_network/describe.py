"""How a network prints: the equation that it solves, with its own numbers."""

from __future__ import annotations

import math
import re

import jax
import numpy as np
from paramax import AbstractUnwrappable, NonTrainable

from .._custom_types import Shape
from .._html import as_html
from .operator import enclosed


def parameters(network) -> int:
    """Return the number of trained parameters."""
    sizes = jax.tree_util.tree_map(
        lambda use, leaf: int(np.size(leaf)) if use else 0,
        network.trainable(),
        network,
    )
    return sum(jax.tree_util.tree_leaves(sizes))


def describe(network) -> str:
    """Return the fixed-point equations of a network, one line per layer."""
    head, rows, last = _equations(network)
    names = max(len(name) for name, _, _ in rows)
    texts = max(len(text) for _, text, _ in rows)
    lines = [f"  {a:<{names}} = {b:<{texts}}   {c}" for a, b, c in rows]
    return "\n".join([head, *lines, *(f"  {line}" for line in last)])


def describe_html(network) -> str:
    """Return the same as a table, for a notebook."""
    head, rows, last = _equations(network)
    titles = ("", "at rest", "shape")
    return as_html([head, [titles, *rows], *last], left=2)


def describe_blocks(network) -> str:
    """Return the blocks of a network without layers as a table, for a notebook."""
    head = _head(type(network).__name__, network, "block")
    shapes = enumerate(map(_shape, network.shapes), 1)
    rows = [("block", "shape"), *((f"s{n}", shape) for n, shape in shapes)]
    return as_html([head, rows])


def _head(title, network, noun):
    count = sum(network.depths)
    units = sum(math.prod(shape) for shape in network.shapes)
    return (
        f"{title}: {_shape(network.input_shape)} inputs, {count} "
        f"{noun}{'' if count == 1 else 's'} of {units:,} units in all, "
        f"{_shape(network.output_shape)} outputs, {parameters(network):,} parameters"
    )


def _equations(network):
    """Return a sentence, each block with its equation and shape, and what follows."""
    head, ends = _head("Network", network, "layer"), network.wiring.ends
    rows = [("x", "clamped input", _shape(network.input_shape))]
    for n, layer in enumerate(network.layers, 1):
        (first, last), shape = ends[n - 1], _shape(layer.face)
        name = f"s{first + 1}"
        drive = " + ".join(_terms(network, n))
        if layer.depth > 1:
            name += f"..{last + 1}"
            shape = f"{layer.depth} layers of {shape}"
        rows.append((name, _substituted(layer.activation.formula, drive), shape))
    output = f"s{ends[-1][1] + 1}"
    if network.readout is not None:
        output = network.readout.operator.formula("W_out", output)
        output += "" if network.readout.bias is None else " + b_out"
    rows.append(("output", output, _shape(network.output_shape)))
    return head, rows, [*_made(network), f"energy: {_energy(network)}"]


def _made(network) -> list[str]:
    """Return a line on the arrays that are made of something, if any are."""
    ends, parts = network.wiring.ends, []
    for c in network.couplings:
        source, target = network.numbers(c)
        parts.append((f"W{source}_{target}", c.forward))
        parts.append((f"B{source}_{target}", c.feedback))
    for layer, (first, last) in zip(network.layers, ends, strict=True):
        place = f"{first + 1}" + (f"..{last + 1}" if last > first else "")
        parts.append((f"W{place}", layer.forward if layer.depth > 1 else None))
        parts.append((f"b{place}", layer.bias))
    if network.readout is not None:
        parts.append(("W_out", network.readout.operator))
        parts.append(("b_out", network.readout.bias))
    names: dict[str, list[str]] = {}
    for name, part in parts:
        for node in _nodes([part]):
            names.setdefault(_formula(node), []).append(name)
    made = [f"{', '.join(own)}: {text}" for text, own in names.items()]
    return [f"made: {'; '.join(made)}"] if made else []


def _nodes(tree) -> list[AbstractUnwrappable]:
    def is_node(value):
        return isinstance(value, AbstractUnwrappable) and value is not tree

    return [leaf for leaf in jax.tree_util.tree_leaves(tree, is_node) if is_node(leaf)]


def _formula(node) -> str:
    # What is not trained within others is one of their constants.
    inner = [_formula(n) for n in _nodes(node) if not isinstance(n, NonTrainable)]
    return type(node).__name__ + (f"({', '.join(inner)})" if inner else "")


def _terms(network, n):
    """Return the terms of a block's drives, from below, from above, and its bias."""
    layer, terms = network.layers[n - 1], []
    for c in _leading(network, n):
        source, target = network.numbers(c)
        terms.append(c.forward.formula(f"W{source}_{target}", _state(source)))
    if layer.depth > 1:
        # What the first layer gets may be more than what it is within the stack.
        first, form = network.wiring.ends[n - 1][0], layer.forward.formula("W", "s")
        others = [
            term
            for term, c in zip(terms, _leading(network, n), strict=True)
            if network.numbers(c)[0] != first or c.forward.formula("W", "s") != form
        ]
        terms = [layer.forward.formula("W[n-1]", "s[n-1]")]
        terms += [f"({term} if n = {first + 1})" for term in others]
        if layer.feedback is not None:
            terms.append(_back(layer.scale, layer.forward, "W[n]", "s[n+1]"))
        return [*terms, *([] if layer.bias is None else ["b[n]"])]
    for c in network.couplings:
        if c.source == n and c.returning is not None:
            source, target = network.numbers(c)
            weight = f"{'W' if c.tied else 'B'}{source}_{target}"
            terms.append(_back(c.scale, c.returning, weight, f"s{target}"))
    if layer.bias is not None:
        terms.append(f"b{network.wiring.ends[n - 1][0] + 1}")
    return terms


def _leading(network, n):
    return [c for c in network.couplings if c.target == n and c.forward is not None]


def _back(scale, operator, weight, state):
    back = operator.adjoint_formula(weight, state)
    # A product may stand behind its scale as it is, a sum may not.
    back = back if " + " not in back and " - " not in back else enclosed(back)
    return ("" if scale == 1 else f"{scale:g} ") + back


def _substituted(formula, drive):
    """Return a formula with the drive for `h`, in brackets where it must be."""

    def one(found):
        before, after = formula[: found.start()], formula[found.end() :]
        opens = re.search(r"(^|[(,]\s*)$", before)
        ends = re.match(r"\s*([),]|$|[+-] )", after)
        return drive if opens and ends else enclosed(drive)

    # Whole words alone: tanh(h) holds the letter twice.
    return re.sub(r"\bh\b", one, formula)


def _state(n):
    return f"s{n}" if n else "x"


def _energy(network):
    if not network.has_energy:
        return "none, the dynamics is a vector field"
    if all(a == 1 for a in network.attenuation):
        return "yes, all feedback is symmetric"
    return "yes, its layers weighted by the inverse feedback scales"


def _shape(shape: Shape) -> str:
    return " x ".join(str(n) for n in shape) or "1"
