"""Knowledge distillation: hidden layers that imitate those of a teacher."""

from __future__ import annotations

import dataclasses
import math
from typing import Literal

import equinox as eqx
import jax

from .. import _checks as checks
from .._network import AbstractNetwork, Conv, Dense
from .._parameter import declared, parameter
from .base import AbstractNudge, Head
from .layers import check_layers, check_maps, held
from .loss import CrossEntropy


class Distillation(AbstractNudge):
    r"""$C = \sum_i H(\mathrm{softmax}(t_i / \tau), \mathrm{softmax}(M_i s_i / \tau))$.

    $H$ is the cross-entropy over all elements of a layer and $t_i$ the state of the
    teacher's layer, from one feed-forward pass over each batch before its phases. With
    `mapping="linear"` the maps $M_i$ are owned by the nudge and trained by the direct
    gradient of their own loss: a 1 x 1 convolution between images of the same height
    and width, else a dense map. Without it $M_i$ is the identity, so shapes must agree.

    ```python
    import ctep, jax

    one, two = jax.random.split(jax.random.key(0))
    teacher = ctep.mlp((64, 48, 32, 10), feedback=None, key=one)
    nudge = ctep.OutputError() + ctep.Distillation(teacher, [(1, 2)])
    student = ctep.mlp((64, 32, 10), key=two)
    run = ctep.fit(student, "digits", nudge=nudge, epochs=1, progress=False)
    ```

    Args:
        teacher: a network, or any feed-forward module wrapped as `ctep.Module`. It is
            never trained here.
        pairs: (layer of the student, layer of the teacher), both counted from 1.
        temperature: $\tau$.
        mapping: `None` or "linear".
        maps: $M_i$; drawn by `ctep.fit`, or by `drawn`, if `None`.

    Raises:
        ValueError: if there are no pairs, a layer does not exist, shapes differ and
            `mapping` is `None`, or `temperature` is not positive.

    References:
        Hinton, Vinyals and Dean, 2015, arXiv:1503.02531; in equilibrium propagation:
        2025, arXiv:2508.15989.
    """

    teacher: AbstractNetwork
    pairs: tuple[tuple[int, int], ...] = eqx.field(
        static=True, converter=lambda value: tuple(checks.pairs("pairs", value))
    )
    temperature: float = eqx.field(static=True, default=4.0, converter=checks.number)
    mapping: Literal["linear"] | None = eqx.field(static=True, default=None)
    maps: tuple[Conv | Dense, ...] | None = parameter(default=None)

    def __check_init__(self):
        checks.instance(
            "teacher", self.teacher, AbstractNetwork, "a network or a `ctep.Module`",
            "ctep.vgg((64, 128), key=key)",
        )  # fmt: skip
        if not self.pairs:
            raise ValueError(
                "`pairs` is empty, but a teacher teaches at least one layer: pass for "
                "example `((3, 3), (5, 5))`."
            )
        # One layer may teach several: of the student alone each must be named once.
        check_layers("pairs", dict.fromkeys(t for _, t in self.pairs), self.teacher)
        checks.positive("temperature", self.temperature, "4.0")
        checks.choice("mapping", self.mapping, (None, "linear"))
        check_maps("maps", self.maps, len(self.pairs))

    @property
    def holomorphic(self):
        return True

    def heads(self, network):
        check_layers("pairs", [s for s, _ in self.pairs], network)
        maps = (None,) * len(self.pairs) if self.mapping is None else held(self, "maps")
        return tuple(
            Head(s - 1, CrossEntropy(), own, self.temperature)
            for (s, _), own in zip(self.pairs, maps, strict=True)
        )

    def targets(self, x, y):
        states = self.teacher.feedforward(x)
        return tuple(
            _distribution(states[t - 1], self.teacher.shapes[t - 1], self.temperature)
            for _, t in self.pairs
        )

    def owned(self):
        mask = declared(self)
        # The teacher's classes may declare parameters of their own, not ours to train.
        nothing = jax.tree_util.tree_map(lambda _: False, mask.teacher)
        return eqx.tree_at(lambda m: m.teacher, mask, nothing)

    def blocks(self, network):
        return tuple(sorted(s - 1 for s, _ in self.pairs))

    def cost(self, network, state, target):
        total = 0.0
        for n, (s, _) in enumerate(self.pairs):
            value = state[s - 1]
            if self.mapping is not None:
                value = held(self, "maps")[n].image(value)
            # Of a block that is not mapped: a map's image may have another rank.
            lead = state[0].ndim - len(network.shapes[0])
            logits = value.reshape((*value.shape[:lead], -1)) / self.temperature
            total = total + CrossEntropy()(logits, target[n])
        return total

    def drawn(self, network, key):
        if self.mapping is None or self.maps is not None:
            return self
        check_layers("pairs", [s for s, _ in self.pairs], network)
        keys = jax.random.split(key, len(self.pairs))
        maps = tuple(
            _linear(network.shapes[s - 1], self.teacher.shapes[t - 1], own)
            for (s, t), own in zip(self.pairs, keys, strict=True)
        )
        return dataclasses.replace(self, maps=maps)

    def check(self, network, y):
        check_layers("pairs", [s for s, _ in self.pairs], network)
        if self.teacher.input_shape != network.input_shape:
            raise ValueError(
                f"`teacher` takes inputs of shape {self.teacher.input_shape}, but the "
                f"student takes {network.input_shape}: choose a teacher of the same "
                "data."
            )
        for n, (s, t) in enumerate(self.pairs):
            ours, theirs = network.shapes[s - 1], self.teacher.shapes[t - 1]
            if self.mapping is None and ours != theirs:
                raise ValueError(
                    f"`pairs` joins layer {s} of shape {ours} to the teacher's layer "
                    f"{t} of shape {theirs}: pass `mapping='linear'`, or join layers "
                    "of one shape."
                )
            if self.mapping is not None:
                ends = (held(self, "maps")[n].in_shape, held(self, "maps")[n].out_shape)
                if ends != (ours, theirs):
                    raise ValueError(
                        f"`maps` leads from {ends[0]} to {ends[1]} at the pair "
                        f"{(s, t)}, but their shapes are {ours} and {theirs}: draw "
                        "them anew."
                    )


def _linear(source, target, key):
    if len(source) == len(target) == 3 and source[:2] == target[:2]:
        return Conv(source, target[-1], kernel=1, key=key)
    return Dense(source, target, key=key)


def _distribution(state, shape, temperature):
    flat = state.reshape((*state.shape[: state.ndim - len(shape)], math.prod(shape)))
    return jax.nn.softmax(flat / temperature)
