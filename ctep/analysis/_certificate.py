"""Certificates: Lipschitz constants of a nudged network, proved from its norms."""

import dataclasses
import functools
import math

import numpy as np

from .._network import AbstractNetwork, EnergyNetwork, Network, operator_norm
from .._network.norms import lipschitz, product, states
from .._nudge import AbstractNudge, Head, OutputError
from .._nudge.base import parts_of

Parts = tuple[tuple[float, AbstractNudge], ...]


@dataclasses.dataclass(frozen=True)
class Bound:
    r"""Lipschitz constants of a nudged map in one norm.

    Fields:
        norm: "2" or "infinity": of each block, and between the weighted blocks.
        kind: "proved" for every state, or "estimated" from sampled ones.
        k1: $K_1$, of the free map.
        k2: $K_2$, of the force of the output's error at $\beta = 1$.
        k3: $\kappa K_3$, of all other forces, with their weights.
        weights: $v_n$ of each block in the norm.
    """

    norm: str
    kind: str
    k1: float
    k2: float
    k3: float
    weights: tuple[float, ...]

    def factor(self, beta: float) -> float:
        r"""Return $K_1 + |\beta| (K_2 + \kappa K_3)$."""
        # Without a nudge its force costs nothing, bounded or not: 0 * inf is NaN.
        return self.k1 + (abs(beta) * (self.k2 + self.k3) if beta else 0.0)

    @property
    def largest_beta(self) -> float:
        r"""The $|\beta|$ below which the factor is below 1; 0 if it never is."""
        # Asked this way round, NaN proves nothing either.
        if not self.k1 < 1:
            return 0.0
        force = self.k2 + self.k3
        return (1 - self.k1) / force if force > 0 else math.inf


def split(nudge: AbstractNudge) -> tuple[Parts, Parts]:
    """Return the parts that are the output's error, and all others, but for zeros."""
    own, others = [], []
    for weight, part in parts_of(nudge):
        if weight:
            (own if isinstance(part, OutputError) else others).append((weight, part))
    return tuple(own), tuple(others)


@functools.singledispatch
def slopes(network: AbstractNetwork) -> list[float] | None:
    """Return how much of a force each block passes on at most, `None` if unknown."""
    del network
    return None


@slopes.register
def _(network: EnergyNetwork):
    return [float(network.step)] * len(network.shapes)


@slopes.register
def _(network: Network):
    return [lipschitz(layer.activation) for layer in network.layers]


def certificate(
    network: AbstractNetwork, parts: tuple[Parts, Parts]
) -> tuple[list[Bound], str | None]:
    """Return bounds that hold in every state, and why none is finite, if none is."""
    if type(network) is not Network:  # a subclass may compute anything
        return [], f"Nothing bounds the curvature of a {type(network).__name__}."
    bounds = [_bound(network, parts, order) for order in (2, math.inf)]
    return bounds, _obstacle(network, bounds)


def _bound(network, parts, order):
    passed = [lipschitz(layer.activation) for layer in network.layers]
    matrix = np.zeros((len(passed),) * 2)
    for c in network.couplings:
        i, j = c.source - 1, c.target - 1
        if i >= 0 and c.forward is not None:
            matrix[j, i] += product(passed[j], operator_norm(c.forward, order))
        if c.returning is not None:
            back = operator_norm(c.returning, _dual(order))
            matrix[i, j] += product(passed[i], c.scale, back)
            if not c.returning.linear:
                # Back through a pool it feels its own state, without a bound.
                matrix[i, i] = math.inf
    weights, k1 = _perron(matrix, order)
    pairs = zip(passed, network.attenuation, strict=True)
    # A force is attenuated like the feedback before it meets the activation.
    gains = [product(slope, share) for slope, share in pairs]
    k2, k3 = (force_bound(network, own, gains, order, weights) for own in parts)
    name = "2" if order == 2 else "infinity"
    return Bound(name, "proved", k1, k2, k3, tuple(weights))


def _obstacle(network, bounds):
    for c in network.couplings:
        if c.returning is not None and not c.returning.linear:
            return (
                f"The feedback from layer {c.target} to {c.source} returns through a "
                "pool that is not linear, which has no Lipschitz constant."
            )
    if all(math.isinf(b.k1) for b in bounds):
        for n, layer in enumerate(network.layers, 1):
            if math.isinf(lipschitz(layer.activation)):
                return (
                    f"The activation of layer {n}, {type(layer.activation).__name__}, "
                    "has no known Lipschitz constant: give its class a `lipschitz` of "
                    "its own."
                )
        return (
            "Some coupling has no known Lipschitz constant: register one for its "
            "operator's class with `ctep.operator_norm`."
        )
    if all(math.isinf(b.k2 + b.k3) for b in bounds):
        return (
            "The nudge's force has no known Lipschitz constant: give its class `heads` "
            "of its own, and its loss a `curvature`."
        )
    return None


def force_bound(network, parts: Parts, gains, order, weights) -> float:
    """Return the bound of a sum of forces, of which each block passes on its gain."""
    # What reads all blocks may carry what one of them does to any other one.
    mixed = max(weights) / min(weights)
    if order != 2:
        # $|v|_2 \le \sqrt n\,|v|_\infty$, over the units of all blocks.
        mixed *= math.sqrt(sum(math.prod(shape) for shape in network.shapes))
    own, anywhere = [0.0] * len(gains), 0.0
    for weight, nudge in parts:
        heads = nudge.heads(network) if states(nudge, "heads") else None
        if heads is None:
            anywhere += product(max(gains), math.inf)
            continue
        for head in heads:
            size = abs(weight * head.weight)
            if head.block is None:
                bound = _curvature(head, 2)
                anywhere += product(size, max(gains), mixed, bound)
            else:
                # Each layer's force depends on that layer alone.
                bound = _curvature(head, order)
                own[head.block] += product(size, gains[head.block], bound)
    return max(own) + anywhere


def _curvature(head: Head, order):
    if not states(head.loss, "curvature"):
        return math.inf
    # The temperature divides the logits, and the gradient on its way back.
    bound = float(head.loss.curvature(order)) / head.temperature**2
    if head.operator is None:
        return bound
    if not head.operator.linear:
        return math.inf  # the gradient goes back through a maximum
    norms = (operator_norm(head.operator, p) for p in (order, _dual(order)))
    return product(bound, *norms)


def _dual(order):
    """Return the order in which an operator has the norm of its adjoint in `order`."""
    return 2 if order == 2 else 1


def _perron(matrix, order) -> tuple[list[float], float]:
    """Return weights of the blocks, and the norm of a non-negative matrix in them."""
    # Weights are given even where nothing is proved: the estimate is measured in them.
    finite = np.where(np.isfinite(matrix), matrix, 0.0)
    # Without a way back some weights would vanish.
    linked = finite + 1e-12 * (finite.max() or 1.0)
    linked = linked / np.abs(np.linalg.eigvals(linked)).max()
    # Sums of positive numbers alone: each weight has its full relative precision.
    # A chain has eigenvalues of either sign in pairs, between which powers would swing;
    # the identity tells them apart.
    power = linked + np.eye(len(matrix))
    for _ in range(20):
        power = power @ power
        power = power / power.max()
    right, left = power.sum(1), power.sum(0)
    # With these either norm is the spectral radius (Stoer and Witzgall).
    weights = np.sqrt(right / left) if order == 2 else right
    weights = weights / weights[-1]
    if not np.isfinite(matrix).all():
        return weights.tolist(), math.inf
    # A norm of the matrix itself: weights that are rounded make it larger, not wrong.
    scaled = matrix * weights / weights[:, None]
    return weights.tolist(), float(np.linalg.norm(scaled, order))
