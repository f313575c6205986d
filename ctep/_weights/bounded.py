"""Weights that are bounded so that the network contracts."""

import math

import numpy as np

from .. import _checks as checks
from .._custom_types import Number
from .._network import Chain, Conv, Dense, Network, Stack, operator_norm
from .._network.norms import lipschitz, product
from .nodes import Bounded
from .places import check_layered, owner, places, replaced
from .resolution import resolve


def contractive(network: Network, bound: Number = 0.9) -> Network:
    r"""Return the network as a contraction, whatever its parameters become.

    $$W = \theta\, \min(1, c / \|\theta\|), \qquad
    c\, \varrho(M) = \text{bound}, \quad
    M_{ji} = L_j, \quad M_{ij} = \gamma L_i$$

    for each coupling $i \to j$ of two layers with feedback $\gamma$ and Lipschitz
    constants $L$ of activations. $\varrho$ is the spectral radius, which no entry that
    becomes smaller raises, and $\|\theta\|$ is bounded from above by Gram iteration. So
    `ctep.analysis.contraction` proves a factor $K_1$ of at most `bound` before, during
    and after training: the free state exists, is unique, and is reached from anywhere.

    Apply it last, for what is made of weights that are bounded may be larger. Those
    from the input and of the readout are free.

    Args:
        network: a `ctep.Network` whose feedback returns through linear operators.
        bound: below 1.

    Raises:
        TypeError: if `network` is not a network.
        ValueError: if `bound` is not between 0 and 1, or something in the network has
            no known Lipschitz constant.

    Cost: once per batch, six products of square matrices per dense coupling, and six
    per frequency of a convolution.

    References:
        Delattre et al., 2023, arXiv:2305.16173, for the bound of a norm.
    """
    check_layered(network)
    bound = checks.positive("bound", bound, "0.9")
    if not bound < 1:
        raise ValueError(
            f"`bound` is {bound}, but a contraction has a factor below 1: pass for "
            "example 0.9."
        )
    fixed, free = _matrices(resolve(network).unstacked())
    largest = _largest(fixed, free, bound)
    pairs = []
    for operator in _operators(network) if math.isfinite(largest) else ():
        weighted, others = _parts(operator)
        for place in places(network, lambda _, parts=weighted: parts):
            own, image = owner(network, place), None
            if isinstance(own, Conv):
                sizes = zip(own.in_shape, own.padding, strict=False)
                image = tuple(n + sum(pad) for n, pad in sizes)
            share = float((largest / others) ** (1 / len(weighted)))
            made = Bounded(
                weight=place.held, largest=share, image=image, stacked=place.stacked
            )
            pairs.append((place, made))
    return replaced(network, pairs) if pairs else network


def _operators(network):
    """Return the operators between layers, other than the input's."""
    found = [c.forward for c in network.couplings if c.source and c.forward is not None]
    found += [c.returning for c in network.couplings if c.returning and not c.tied]
    return found + [s.forward for s in network.layers if isinstance(s, Stack)]


def _parts(operator):
    """Return the parts of an operator that have weights, and the norm of the others."""
    parts = operator.operators if isinstance(operator, Chain) else (operator,)
    weighted = [p for p in parts if type(p) in (Dense, Conv)]
    rest = [p for p in parts if type(p) not in (Dense, Conv)]
    others = product(1.0, *map(operator_norm, rest))
    exact = all(getattr(p, "precision", "") == "float32" for p in weighted)
    if not (operator.linear and exact and 0 < others < math.inf):
        raise ValueError(
            f"`network` has the operator {checks.shown(operator)}, for which no norm "
            "is known: take linear ones of `ctep.Dense`, `ctep.Conv` and average "
            "pools, in float32, or register a norm with `ctep.operator_norm`."
        )
    return weighted, others


def _matrices(network):
    """Return the norms that are given, and the places of those that will be bounded."""
    passed = [lipschitz(layer.activation) for layer in network.layers]
    if not all(map(math.isfinite, passed)):
        n = next(n for n, slope in enumerate(passed, 1) if math.isinf(slope))
        raise ValueError(
            f"`network` has the activation {network.layers[n - 1].activation.formula} "
            f"in layer {n}, whose Lipschitz constant is not known: give its class a "
            "`lipschitz` of its own."
        )
    fixed, free = np.zeros((2, len(passed), len(passed)))
    for c in network.couplings:
        i, j = c.source - 1, c.target - 1
        ways = [] if i < 0 or c.forward is None else [(j, i, 1.0, c.forward)]
        ways += [] if c.returning is None else [(i, j, c.scale, c.returning)]
        for to, of, scale, operator in ways:
            weighted, others = _parts(operator)
            matrix, norm = (free, 1.0) if weighted else (fixed, others)
            matrix[to, of] += passed[to] * scale * norm
    return fixed, free


def _largest(fixed, free, bound):
    """Return the largest norm of couplings with which the radius is at most `bound`."""

    def radius(norm):
        # A root that is rounded down would prove nothing.
        return np.abs(np.linalg.eigvals(fixed + norm * free)).max() * (1 + 1e-9)

    if radius(0.0) > bound:
        raise ValueError(
            f"`network` has couplings without weights that stretch by {radius(0.0):g} "
            f"alone, but `bound` is {bound:g}: pass a smaller feedback scale."
        )
    if not fixed.any():
        alone = radius(1.0)  # 0 where nothing ever comes back
        return bound / alone if alone else math.inf
    low, high = 0.0, 1.0
    while radius(high) <= bound and high < 1e6:
        high *= 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if radius(middle) <= bound else (low, middle)
    return low
