"""Local errors: hidden layers that predict the target on their own."""

from __future__ import annotations

import dataclasses

import equinox as eqx
import jax

from .. import _checks as checks
from .._network import Dense
from .._parameter import parameter
from .base import AbstractNudge, Head
from .layers import check_layers, check_maps, held
from .loss import AbstractLoss, CrossEntropy


class LocalError(AbstractNudge):
    r"""$C = \sum_{i \in U} \mathrm{loss}(B_i s_i / \tau, y)$, felt by the layers $U$.

    The projections $B_i$ to the outputs are owned by the nudge and trained by the
    direct gradient of their own loss.

    It is for symmetric networks. Behind weak feedback a layer feels every force on it
    scaled by its attenuation, which keeps the energy, and a local error adds next to
    nothing to the output's.

    ```python
    import ctep, jax

    network = ctep.mlp((64, 32, 32, 10), key=jax.random.key(0))
    nudge = ctep.OutputError() + 0.5 * ctep.LocalError((1, 2))
    run = ctep.fit(network, "digits", nudge=nudge, epochs=1, progress=False)
    ```

    Args:
        layers: $U$, counted from 1.
        loss: `CrossEntropy()` or `SquaredError()`.
        temperature: $\tau$.
        projections: $B_i$; drawn by `ctep.fit`, or by `drawn`, if `None`.

    Raises:
        ValueError: if `layers` is empty, names one twice or one that does not exist,
            or `temperature` is not positive.

    References:
        Scalable equilibrium propagation via intermediate error signals, 2025,
        arXiv:2508.15989.
    """

    layers: tuple[int, ...] = eqx.field(
        static=True, converter=lambda value: checks.counts("layers", value)
    )
    loss: AbstractLoss = CrossEntropy()
    temperature: float = eqx.field(static=True, default=4.0, converter=checks.number)
    projections: tuple[Dense, ...] | None = parameter(default=None)

    def __check_init__(self):
        example = "ctep.CrossEntropy()"
        checks.instance("loss", self.loss, AbstractLoss, "a loss", example)
        checks.positive("temperature", self.temperature, "4.0")
        check_maps("projections", self.projections, len(self.layers))

    @property
    def holomorphic(self):
        return self.loss.holomorphic

    def heads(self, network):
        check_layers("layers", self.layers, network)
        pairs = zip(self.layers, held(self, "projections"), strict=True)
        return tuple(Head(n - 1, self.loss, p, self.temperature) for n, p in pairs)

    def blocks(self, network):
        return tuple(n - 1 for n in self.layers)

    def cost(self, network, state, target):
        losses = [
            self.loss(p.image(state[n - 1]) / self.temperature, target)
            for n, p in zip(self.layers, held(self, "projections"), strict=True)
        ]
        return sum(losses[1:], losses[0])

    def drawn(self, network, key):
        if self.projections is not None:
            return self
        check_layers("layers", self.layers, network)
        keys = jax.random.split(key, len(self.layers))
        projections = tuple(
            Dense(network.shapes[n - 1], network.output_shape, key=own)
            for n, own in zip(self.layers, keys, strict=True)
        )
        return dataclasses.replace(self, projections=projections)

    def check(self, network, y):
        check_layers("layers", self.layers, network)
        for n, projection in zip(self.layers, held(self, "projections"), strict=True):
            ends = (network.shapes[n - 1], network.output_shape)
            if (projection.in_shape, projection.out_shape) != ends:
                raise ValueError(
                    f"`projections` maps {projection.in_shape} to "
                    f"{projection.out_shape} at layer {n}, but this network needs "
                    f"{ends[0]} to {ends[1]}: draw them anew for it."
                )
