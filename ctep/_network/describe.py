"""How a network prints: the equation that it solves, with its own numbers."""

from __future__ import annotations

import math
import re

import jax
import numpy as np

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
    head, rows, energy = _equations(network)
    names = max(len(name) for name, _, _ in rows)
    texts = max(len(text) for _, text, _ in rows)
    lines = [f"  {a:<{names}} = {b:<{texts}}   {c}" for a, b, c in rows]
    return "\n".join([head, *lines, f"  {energy}"])


def describe_html(network) -> str:
    """Return the same as a table, for a notebook."""
    head, rows, energy = _equations(network)
    titles = ("", "at rest", "shape")
    return as_html([head, [titles, *rows], energy], left=2)


def describe_blocks(network) -> str:
    """Return the blocks of a network without layers as a table, for a notebook."""
    head = _head(type(network).__name__, network, "block")
    shapes = enumerate(map(_shape, network.shapes), 1)
    rows = [("block", "shape"), *((f"s{n}", shape) for n, shape in shapes)]
    return as_html([head, rows])


def _head(title, network, noun):
    count = len(network.shapes)
    units = sum(math.prod(shape) for shape in network.shapes)
    return (
        f"{title}: {_shape(network.input_shape)} inputs, {count} "
        f"{noun}{'' if count == 1 else 's'} of {units:,} units in all, "
        f"{_shape(network.output_shape)} outputs, {parameters(network):,} parameters"
    )


def _equations(network):
    """Return a sentence, each block with its equation and shape, and the energy."""
    head, count = _head("Network", network, "layer"), len(network.layers)
    rows = [("x", "clamped input", network.input_shape)]
    for n, layer in enumerate(network.layers, 1):
        drive = " + ".join(_terms(network, n))
        rows.append(
            (f"s{n}", _substituted(layer.activation.formula, drive), layer.shape)
        )
    output = f"s{count}"
    if network.readout is not None:
        output = network.readout.operator.formula("W_out", output)
        output += "" if network.readout.bias is None else " + b_out"
    rows.append(("output", output, network.output_shape))
    rows = [(name, text, _shape(shape)) for name, text, shape in rows]
    return head, rows, f"energy: {_energy(network)}"


def _terms(network, n):
    """Return the terms of layer n's drive, from below, from above, and its bias."""
    terms = []
    for c in network.couplings:
        if c.target == n and c.forward is not None:
            weight = f"W{c.source}_{c.target}"
            terms.append(c.forward.formula(weight, _state(c.source)))
    for c in network.couplings:
        if c.source == n and c.returning is not None:
            scale = "" if c.scale == 1 else f"{c.scale:g} "
            letter = "W" if c.tied else "B"
            weight = f"{letter}{c.source}_{c.target}"
            back = c.returning.adjoint_formula(weight, f"s{c.target}")
            # A product may stand behind its scale as it is, a sum may not.
            back = back if " + " not in back and " - " not in back else enclosed(back)
            terms.append(scale + back)
    if network.layers[n - 1].bias is not None:
        terms.append(f"b{n}")
    return terms


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
