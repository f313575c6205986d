"""Nudges: what pulls a network towards a target, and how they add up."""

from __future__ import annotations

import abc
import dataclasses
import inspect
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Inexact, PRNGKeyArray, PyTree

from .. import _checks as checks
from .._custom_types import Number, State
from .._network import AbstractNetwork, AbstractOperator, AbstractPull
from .._network.norms import states
from .._parameter import declared
from .loss import AbstractLoss


@dataclasses.dataclass(frozen=True)
class Head:
    r"""A part of a cost that is the loss of a map of one block.

    $$w\,\mathrm{loss}(A s_n / \tau, y)$$

    Fields:
        block: $n$, counted from 0; `None` for all blocks at once, and then the loss
            stands for any cost whose curvature it bounds in the 2-norm.
        loss: with a bound on its curvature.
        operator: $A$, `None` for the identity.
        temperature: $\tau$.
        weight: $w$.
    """

    block: int | None
    loss: AbstractLoss
    operator: AbstractOperator | None = None
    temperature: Number = 1.0
    weight: Number = 1.0

    def __post_init__(self):
        checks.plain(self)


class AbstractNudge(eqx.Module):
    r"""A cost $C(s, y)$ whose negative gradient pulls at the state.

    Nudges add up and scale: `a + 0.65 * b`. A weight may be a function of the epoch.
    Arrays in fields that are declared by `ctep.parameter` are its own, and are trained
    along. All others, those of a loss too, are constants.

    ```python
    import ctep, jax
    import equinox as eqx
    import jax.numpy as jnp

    class Quiet(ctep.AbstractNudge):
        layer: int = eqx.field(static=True)

        def blocks(self, network):
            return (self.layer - 1,)

        def cost(self, network, state, target):
            return 0.5 * jnp.sum(state[self.layer - 1] ** 2, -1)

    network = ctep.mlp((4, 8, 8, 3), key=jax.random.key(0))
    nudge = ctep.OutputError() + 0.01 * Quiet(1)
    x, y = jnp.ones((2, 4)), jnp.arange(2)
    loss, gradient = ctep.gradient(network, x, y, nudge=nudge)
    ```
    """

    @property
    def holomorphic(self) -> bool | None:
        """Whether the force extends to complex states; `None` if that must be tried."""
        return None

    def parts(self) -> tuple[tuple[float, AbstractNudge], ...]:
        """Return nudges with their weights that this one is the sum of.

        Those whose force does not depend on the state are left out.
        """
        return ((1.0, self),)

    def heads(self, network: AbstractNetwork) -> tuple[Head, ...] | None:
        """Return the heads that the cost is the sum of, `None` if nothing is known.

        `ctep.analysis.contraction` proves with them what it proves of a nudge. Since a
        subclass may cost something else, it asks the class itself and not its parents.
        """
        del network
        return None

    @abc.abstractmethod
    def blocks(self, network: AbstractNetwork) -> tuple[int, ...]:
        """Return the blocks, counted from 0, that feel the nudge."""

    @abc.abstractmethod
    def cost(
        self, network: AbstractNetwork, state: State, target: PyTree
    ) -> Inexact[Array, ...]:
        """Return the cost of each example, complex where the state is.

        Args:
            network: whose state it is.
            state: `(*lead, *shape)` per block.
            target: what `targets` returned, with leading axes that broadcast to `lead`.
        """

    def at(self, epoch: int | Array) -> AbstractNudge:
        """Return the nudge of an epoch, whose weights are numbers, once per batch."""
        del epoch
        return self

    def targets(self, x: Array, y: Array) -> PyTree:
        """Return what the cost compares the state with, once per batch.

        Args:
            x: inputs, `(batch, *input_shape)`.
            y: labels or values, `(batch, ...)`.
        """
        del x
        return y

    def drawn(self, network: AbstractNetwork, key: PRNGKeyArray) -> AbstractNudge:
        """Return the nudge with the initial parameters that it still lacks."""
        del network, key
        return self

    def owned(self) -> PyTree:
        """Return a tree of booleans: the arrays that are trained."""
        return declared(self)

    def context(self, network: AbstractNetwork, state: State, target: PyTree) -> PyTree:
        """Return the arrays that `force` needs, `(batch, ...)`, at the free state."""
        del network, state
        return target

    def force(
        self, n: int, network: AbstractNetwork, state: State, context: PyTree
    ) -> Array | None:
        r"""Return $-\partial C/\partial s_n$, `None` where the nudge is not felt."""
        if n not in self.blocks(network):
            return None

        # Summed over examples, each of which sees its own state alone: one gradient has
        # the forces of all. Of complex states it is the plain derivative, no conjugate.
        def total(s):
            moved = (*state[:n], s, *state[n + 1 :])
            return jnp.sum(self.cost(network, moved, context))

        return -jax.grad(total, holomorphic=jnp.iscomplexobj(state[n]))(state[n])

    def check(self, network: AbstractNetwork, y: Array) -> None:
        """Raise `ValueError` if the nudge does not fit the network or the targets."""

    # Else numpy would multiply a nudge by each element of an array.
    __array_ufunc__ = None

    def __add__(self, other: AbstractNudge) -> AbstractNudge:
        if not isinstance(other, AbstractNudge):
            return NotImplemented
        return Sum((self, other))

    def __mul__(self, weight: Number | Callable[[Array], Array]) -> AbstractNudge:
        return Scaled(weight=weight, nudge=self)

    __rmul__ = __mul__


class Sum(AbstractNudge):
    """Several nudges at once."""

    nudges: tuple[AbstractNudge, ...]

    @property
    def holomorphic(self):
        parts = [nudge.holomorphic for nudge in self.nudges]
        # One part known not to extend decides; else an unknown one asks for a trial.
        return None if None in parts and False not in parts else all(parts)

    def parts(self):
        return tuple(part for nudge in self.nudges for part in parts_of(nudge))

    def at(self, epoch):
        return dataclasses.replace(self, nudges=tuple(n.at(epoch) for n in self.nudges))

    def targets(self, x, y):
        return tuple(nudge.targets(x, y) for nudge in self.nudges)

    def drawn(self, network, key):
        # A key for each, so that no draw depends on what other parts lack.
        keys = jax.random.split(key, len(self.nudges))
        pairs = zip(self.nudges, keys, strict=True)
        drawn = tuple(nudge.drawn(network, own) for nudge, own in pairs)
        return dataclasses.replace(self, nudges=drawn)

    def owned(self):
        return dataclasses.replace(self, nudges=tuple(n.owned() for n in self.nudges))

    def blocks(self, network):
        felt = {n for nudge in self.nudges for n in nudge.blocks(network)}
        return tuple(sorted(felt))

    def cost(self, network, state, target):
        pairs = zip(self.nudges, target, strict=True)
        costs = [nudge.cost(network, state, own) for nudge, own in pairs]
        return sum(costs[1:], costs[0])

    def context(self, network, state, target):
        pairs = zip(self.nudges, target, strict=True)
        return tuple(nudge.context(network, state, own) for nudge, own in pairs)

    def force(self, n, network, state, context):
        pairs = zip(self.nudges, context, strict=True)
        forces = [nudge.force(n, network, state, own) for nudge, own in pairs]
        felt = [force for force in forces if force is not None]
        return sum(felt[1:], felt[0]) if felt else None

    def check(self, network, y):
        for nudge in self.nudges:
            nudge.check(network, y)


def parts_of(nudge: AbstractNudge) -> tuple[tuple[float, AbstractNudge], ...]:
    """Return the parts of a nudge: itself, unless its own class says otherwise."""
    return nudge.parts() if states(nudge, "parts") else AbstractNudge.parts(nudge)


class _Wrapper(AbstractNudge):
    """A nudge that changes how another one pulls."""

    nudge: eqx.AbstractVar[AbstractNudge]

    @property
    def holomorphic(self):
        return self.nudge.holomorphic

    def at(self, epoch):
        return eqx.tree_at(lambda n: n.nudge, self, self.nudge.at(epoch))

    def targets(self, x, y):
        return self.nudge.targets(x, y)

    def drawn(self, network, key):
        return eqx.tree_at(lambda n: n.nudge, self, self.nudge.drawn(network, key))

    def owned(self):
        # `replace` would have `Scaled` check its weight, which in a mask is a flag.
        return eqx.tree_at(lambda n: n.nudge, declared(self), self.nudge.owned())

    def blocks(self, network):
        return self.nudge.blocks(network)

    def check(self, network, y):
        self.nudge.check(network, y)


class Scaled(_Wrapper):
    """A nudge times a weight.

    Args:
        weight: a number, or a function of the epoch: `ctep.linear`,
            `ctep.exponential`, `ctep.cosine`, or an optax schedule.
        nudge: what it scales.
    """

    weight: int | float | Callable[[Array], Array] | Array = eqx.field(
        converter=lambda value: _weight(value)
    )
    nudge: AbstractNudge

    def parts(self):
        weight = float(self._number)
        return tuple((weight * inner, part) for inner, part in parts_of(self.nudge))

    def at(self, epoch):
        weight = self.weight
        weight = weight(jnp.asarray(epoch)) if callable(weight) else weight
        parts = weight, self.nudge.at(epoch)
        # Without the converter, which a weight that is traced would not pass.
        return eqx.tree_at(lambda n: (n.weight, n.nudge), self, parts)

    def cost(self, network, state, target):
        return self._number * self.nudge.cost(network, state, target)

    def context(self, network, state, target):
        return self.nudge.context(network, state, target)

    def force(self, n, network, state, context):
        force = self.nudge.force(n, network, state, context)
        return None if force is None else self._number * force

    @property
    def _number(self) -> Any:
        if callable(self.weight):
            raise ValueError(
                f"`weight` is {checks.shown(self.weight)}, a function of the epoch, "
                "but a cost needs its value: call `nudge.at(epoch)`, which "
                "`ctep.gradient` and `ctep.fit` do by themselves."
            )
        return self.weight


def _weight(value: Any) -> Any:
    """Return a weight, or raise."""
    value = checks.number(value)
    # A class can be called too, but not with an epoch.
    kinds = int | float if inspect.isclass(value) else int | float | Callable
    noun = "a number or a function of the epoch"
    checks.instance("weight", value, kinds, noun, "0.65")
    if not callable(value):
        checks.real("weight", value, "0.65")
    return value


class Frozen(_Wrapper):
    """A nudge whose force stays what it is at the free state.

    The published code of layered feedback-regulated networks does this.
    """

    nudge: AbstractNudge

    def __check_init__(self):
        example = "ctep.OutputError()"
        checks.instance("nudge", self.nudge, AbstractNudge, "a nudge", example)

    def parts(self):
        return ()

    def cost(self, network, state, target):
        # The loss goes on to follow the state: only the pull is frozen.
        return self.nudge.cost(network, state, target)

    def context(self, network, state, target):
        own, blocks = self.nudge.context(network, state, target), self.blocks(network)
        return {n: self.nudge.force(n, network, state, own) for n in blocks}

    def force(self, n, network, state, context):
        return context.get(n)


class Pull(AbstractPull):
    r"""The force of a nudge as the network sees it, $-\beta\,\partial C/\partial s$.

    Its context is `(beta, the nudge's own context)`.
    """

    nudge: AbstractNudge
    network: AbstractNetwork

    @property
    def blocks(self):
        return self.nudge.blocks(self.network)

    def __call__(self, n, state, context):
        beta, own = context
        force = self.nudge.force(n, self.network, state, own)
        # beta has the leading axes alone.
        axes = (1,) * len(self.network.shapes[n])
        return beta.reshape(beta.shape + axes) * force
