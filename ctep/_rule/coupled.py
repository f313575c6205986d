"""Rules that hold the output near its target instead of pulling at it."""

from __future__ import annotations

import dataclasses

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from .. import _checks as checks
from .._arrays import along
from .._custom_types import Number
from .._network import (
    AbstractNetwork,
    AbstractProblem,
    AbstractPull,
    EnergyNetwork,
    Network,
)
from .._nudge import OutputError, SquaredError
from .stencil import AbstractStencil


class Coupled(AbstractStencil):
    r"""Coupled learning: the output is held a step nearer to the target.

    $$s_L(\eta) = s_L(0) + \eta\,(y - s_L(0)), \qquad
    \Delta = \frac{1}{\eta} \Big[\frac{\partial E}{\partial\theta}(s(\eta))
    - \frac{\partial E}{\partial\theta}(s(0))\Big]$$

    All other layers follow the output that is held. With $\eta = 1$ it is held at the
    target: contrastive learning. $\Delta$ is the gradient of the work
    $[\min E(\,\cdot\,| s_L \text{ held}) - \min E]/\eta$ at a fixed value to hold, and
    not that of the loss, even for small $\eta$: the output's own stiffness weighs each
    error. Both vanish where the output meets its target. Without an energy, the
    contrast of vector fields takes the place of the bracket, as in `OneSided`.

    Args:
        eta: $\eta$, from just above 0 to 1.
        rescale: whether increments are divided by the attenuation of the feedback.

    Raises:
        ValueError: if `eta` is outside (0, 1]; with a network, if the output is not
            its last layer or the nudge is not the squared error of the output.

    Cost: one free and one held phase; memory does not depend on their length.

    References:
        Stern et al., 2021, arXiv:2011.03861; contrastive learning: Movellan, 1991.
    """

    eta: Number = eqx.field(default=0.1, converter=checks.number)
    rescale: bool = eqx.field(default=True, converter=checks.number)

    def __check_init__(self):
        checks.nudge("eta", self.eta)
        if not checks.traced_number(self.eta) and self.eta > 1:
            raise ValueError(
                f"`eta` is {self.eta}, but 1 already holds the output at its target: "
                "pass at most 1."
            )

    def check(self, network, nudge, example=None):
        super().check(network, nudge, example)
        # A readout is no block, and an `output` of a user's own may read any of them.
        own = isinstance(network, Network)
        kind = Network if own else EnergyNetwork
        # A subclass may read its output elsewhere.
        plain = isinstance(network, kind) and type(network).output is kind.output
        if not plain or (own and network.readout is not None):
            raise ValueError(
                "`network` reads its output out of the last layer, but only a layer "
                "can be held: build it with `readout=False`."
            )
        if own and network.layers[-1].learns:
            raise ValueError(
                "`network` has an activation with arrays of its own in its last layer, "
                "which is held and not driven: make them static fields, or use "
                "`ctep.Centered()`."
            )
        if network.depths[-1] > 1:
            raise ValueError(
                "`network` has its outputs within a stack, which cannot be held alone: "
                "pass `network.unstacked()`."
            )
        squared = isinstance(nudge, OutputError) and isinstance(
            nudge.loss, SquaredError
        )
        if not squared:
            raise ValueError(
                f"`nudge` is {checks.shown(nudge)}, but the output is held between "
                "its state and a target value: use "
                "`ctep.OutputError(ctep.SquaredError())`."
            )

    def exact(self, network, nudge):
        return False

    def stencil(self):
        return self.eta * np.ones(1), np.ones(1) / self.eta

    def problem(self, network, task, free, betas):
        # Without any force: what moves the other blocks is the one that is held.
        inner = network.increments(task.x, free.state, free.memory, _NoPull(), ())
        n = len(network.shapes) - 1
        # Of the squared error the force is the way to the target, and that of a label
        # to its one-hot vector.
        error = task.nudge.force(n, network, free.state, task.target)
        assert error is not None
        last = along(betas, error.ndim + 1) * error[None]
        # What has examples' axes may stand in `data` alone, by which solvers take a
        # problem apart.
        bare = dataclasses.replace(inner, data=())
        return _Held(network=network, problem=bare, data=(inner.data, last))


class _NoPull(AbstractPull):
    @property
    def blocks(self):
        return ()

    def __call__(self, n, state, context):
        raise NotImplementedError


class _Held(AbstractProblem):
    """Increments whose last block is held.

    `problem` comes without its data; `data` is `(the problem's own, the last block)`.
    """

    network: AbstractNetwork
    problem: AbstractProblem
    data: PyTree

    @property
    def incremental(self):
        return True

    @property
    def step(self):
        return self.problem.step

    def bounds(self, n):
        # The held block goes where it is put.
        return None if n == len(self.shapes) - 1 else self._inner.bounds(n)

    def recall(self, state, zero=frozenset()):
        return self._inner.recall(state, zero)

    def refreshed(self, state, memory):
        return self._inner.refreshed(state, memory)

    def turn(self, n, state, memory, move, given=None, zero=frozenset(), back=False):
        if n < len(self.shapes) - 1:
            return self._inner.turn(n, state, memory, move, given, zero, back)
        return super().turn(n, state, memory, move, given, zero, back)

    def update(self, n, state, memory, zero=frozenset()):
        # Updated even where it is held: blocks below read the memory of that update.
        value, memory = self._inner.update(n, state, memory, zero)
        if n == len(self.shapes) - 1:
            value = jnp.broadcast_to(self.data[1], value.shape)
        return value, memory

    @property
    def _inner(self):
        return dataclasses.replace(self.problem, data=self.data[0])
