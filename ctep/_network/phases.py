"""The free, nudged and incremental fixed-point problems of a layered network."""

from __future__ import annotations

import abc
import functools
import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from .._arrays import added, leading, times
from .._custom_types import Layered, Scale, State
from .paths import Wiring
from .problem import AbstractProblem, AbstractPull
from .stack import Ends, Factors


class _Phase(AbstractProblem):
    """What the free, the nudged and the incremental problem have in common."""

    wiring: eqx.AbstractVar[Wiring]

    @abc.abstractmethod
    def arriving(self, n, state, memory, zero) -> tuple[list[tuple[int, Any]], tuple]:
        """Return what block `n` gets from other blocks and the input, and the tapes.

        It is `(place, array)` with 0 for its first layer and -1 for its last one.
        """

    @abc.abstractmethod
    def force(self, n, state) -> Array | None:
        """Return what the pull adds to the drives of block `n`, if anything."""

    @abc.abstractmethod
    def own(self, n, axis) -> PyTree:
        """Return what `respond` needs to know of block `n`, besides the force.

        Of a stack, whose layers lie along `axis`, with the layers along the first axis.
        """

    @abc.abstractmethod
    def respond(self, n, drives, own) -> tuple[Array, Array]:
        """Return the value and the drive of a layer, of what it gets (or `None`)."""

    # The hooks are called by their class: a bound method of a module is a module too,
    # at the cost of a look at all arrays, which for a hundred layers took 8 of 13 s.
    def update(self, n, state, memory, zero=frozenset()):
        kind = type(self)
        parts, tape = kind.arriving(self, n, state, memory, zero)
        layer, force = self.network.layers[n], kind.force(self, n, state)
        axis, shape = state[n].ndim - len(layer.shape), state[n].shape
        if layer.depth > 1:
            drives = layer.received(state[n], _ends(parts), _factors(self, n))
            drives = _front((*drives, force), axis)
            one = functools.partial(kind.respond, self, n)
            value, h = jax.vmap(one, 0, axis)(drives, kind.own(self, n, axis))
        else:
            drives = (*(part for _, part in parts), force)
            if all(drive is None for drive in drives):
                return jnp.zeros_like(state[n]), (tape, memory[1])
            value, h = kind.respond(self, n, drives, kind.own(self, n, axis))
        # A drive of the bias alone has axes of length 1, but a loop carries it in the
        # memory, where shapes must stay.
        value, h = (jnp.broadcast_to(v, shape) for v in (value, h))
        return value, (tape, _kept(n, memory[1], h))

    def turn(self, n, state, memory, move, given=None, zero=frozenset(), back=False):
        kind, layer = type(self), self.network.layers[n]
        if layer.depth == 1:
            value, memory = kind.update(self, n, state, memory, zero)
            new, found = move(value, state[n], given)
            return new, memory, found
        parts, tape = kind.arriving(self, n, state, memory, zero)
        axis = state[n].ndim - len(layer.shape)

        def respond(below, above, own):
            return kind.respond(self, n, (below, above, own[1]), own[0])

        own = kind.own(self, n, axis), _front(kind.force(self, n, state), axis)
        block, h, found = layer.swept(
            state[n], _ends(parts), _factors(self, n), respond, move, (own, given), back
        )
        return block, (tape, _kept(n, memory[1], h)), found

    def refreshed(self, state, memory):
        # A tape is shared by two blocks, but a drive is renewed by its own block.
        return self.recall(state)[0], memory[1]


class StatePhase(_Phase):
    r"""$s_n = \rho_n(h_n + f_n)$: a free phase, or a nudged one with a pull.

    `data` is `(inputs, context)`: per layer what the clamped input and the bias
    contribute to the drive, computed once, and the pull's arrays.
    """

    network: Layered
    data: PyTree
    wiring: Wiring = eqx.field(static=True)
    pull: AbstractPull | None = None

    @staticmethod
    def of(network: Layered, x: Array, pull=None, context=()) -> StatePhase:
        data = (_input_drives(network, x), context)
        return StatePhase(network=network, data=data, wiring=network.wiring, pull=pull)

    @property
    def incremental(self):
        return False

    def bounds(self, n):
        return self.network.layers[n].activation.range

    def recall(self, state, zero=frozenset()):
        # Zeros of the right shape, which the updates replace: a compiled loop carries
        # arrays whose shapes stay, and each update knows the newest drive of its block.
        drives = tuple(jnp.zeros_like(s) for s in state)
        tape = []
        for c in self.network.couplings:
            i = c.source - 1
            if i < 0 or c.forward is None:
                tape.append(None)
            elif i in zero:
                lead = leading(state[i], self.shapes[i])
                tape.append(c.forward.tape_at_zero(lead, state[i].dtype))
            else:
                source = self.network.layers[i].at(state[i], -1)
                tape.append(c.forward.apply(source)[1])
        return tuple(tape), drives

    def arriving(self, n, state, memory, zero):
        tape, layers = list(memory[0]), self.network.layers
        parts = [(0, self.data[0][n])]
        for c in self.wiring.joined[n]:
            coupling = self.network.couplings[c]
            i, j = coupling.source - 1, coupling.target - 1
            if j == n and coupling.forward and i >= 0 and i not in zero:
                out, tape[c] = coupling.forward.apply(layers[i].at(state[i], -1))
                parts.append((0, out))
            # The tape spares the adjoint what it shares with the forward map.
            # It is of the source's present state: since that last moved, the target has
            # had its turn, or `refreshed` has taken the tape anew.
            if i == n and coupling.returning and j not in zero:
                target = layers[j].at(state[j], 0)
                back = coupling.returning.adjoint(target, tape[c])
                parts.append((-1, coupling.scale * back))
        return parts, tuple(tape)

    def force(self, n, state):
        if self.pull is None or n not in self.pull.blocks:
            return None
        # f = -(beta / c_n) dC/ds, see docs/equations.md: c_n = 1/attenuation.
        weight = _share(self, tuple(map(math.exp, self.wiring.grades)), n)
        return weight * self.pull(n, state, self.data[1])

    def own(self, n, axis):
        layer = self.network.layers[n]
        # That of a layer is part of its constant drive, see `_input_drives`.
        return layer.bias if layer.depth > 1 else None

    def respond(self, n, drives, own):
        h = added(own, *drives)
        return self.network.layers[n].activation(h), h


class IncrementPhase(_Phase):
    r"""The nudged phase, solved for its increments $e_n = (s_n(\beta) - s_n)/a_n$.

    $$e_n = [\rho_n(h_n + a_n u_n) - \rho_n(h_n)] / a_n, \qquad u_n = f_n
    + \sum_{c: i \to n} \frac{a_i}{a_n} \hat c(e_i; a_i)
    + \sum_{c: n \to j} \gamma_c \frac{a_j}{a_n} \hat c^*(e_j; a_j)$$

    with $a_n$ the attenuation, in units of which every number is of the order of the
    nudge at any depth, and $\hat c(e; a) = [c(s + a e) - c(s)]/a$.

    `data` is `(anchors, sources, targets, state, image, context)`: what activations and
    couplings (by the state at either end) need to know of the free phase, its state
    $s$ and $\rho(h)$, and the pull's arrays.
    """

    network: Layered
    data: PyTree
    pull: AbstractPull
    wiring: Wiring = eqx.field(static=True)

    @staticmethod
    def of(network: Layered, state: State, memory, pull, context) -> IncrementPhase:
        wiring = network.wiring
        units, ends, spread = wiring.units, wiring.ends, network.spread(wiring.units)
        layers = list(zip(network.layers, memory[1], spread, strict=True))
        anchors = tuple(layer.anchor(h, a) for layer, h, a in layers)
        image = tuple(layer.activation(h) for layer, h, _ in layers)
        sources, targets = [], []
        for c in network.couplings:
            source = target = tape = None
            if c.source:
                i, j = c.source - 1, c.target - 1
                unit = units[ends[i][1]]
                if c.forward is not None:
                    own = network.layers[i].at(state[i], -1)
                    _, tape, source = c.forward.anchor(own, unit)
                # An adjoint is linear in its argument, so that the scale may be there.
                if c.returning is not None:
                    back = c.scale * network.layers[j].at(state[j], 0)
                    target = c.returning.adjoint_anchor(back, tape, unit)
            sources.append(source)
            targets.append(target)
        free = (anchors, tuple(sources), tuple(targets), state, image)
        free = jax.tree_util.tree_map(lambda leaf: leaf[None], free)
        data = (*free, context)
        return IncrementPhase(network=network, data=data, pull=pull, wiring=wiring)

    @property
    def incremental(self):
        return True

    def bounds(self, n):
        least, largest = self.network.layers[n].activation.range
        # Not the free state, which is at rest up to a tolerance that is far larger than
        # increments may be: they could not settle where it lies outside these bounds.
        unit, image = _share(self, self.wiring.units, n), self.data[4][n]
        return (least - image) / unit, (largest - image) / unit

    def recall(self, state, zero=frozenset()):
        moves, units, ends = [], self.wiring.units, self.wiring.ends
        for c, anchor in zip(self.network.couplings, self.data[1], strict=True):
            i = c.source - 1
            if i < 0 or c.forward is None:
                moves.append(None)
            elif i in zero:
                lead = leading(state[i], self.shapes[i])
                own = lead, state[i].dtype, anchor, units[ends[i][1]]
                moves.append(c.forward.move_at_zero(*own))
            else:
                source = self.network.layers[i].at(state[i], -1)
                own = source, anchor, units[ends[i][1]]
                moves.append(c.forward.apply_increment(*own)[1])
        # Zeros as in `StatePhase`, but only for layers whose activation has arrays of
        # its own: `drive_contrast` alone reads the increments of drives.
        pairs = zip(state, self.network.layers, strict=True)
        drives = [jnp.zeros_like(s) if layer.learns else None for s, layer in pairs]
        return tuple(moves), tuple(drives)

    def arriving(self, n, state, memory, zero):
        _, sources, targets, *_ = self.data
        network, moves, parts = self.network, list(memory[0]), []
        wiring, layers = self.wiring, network.layers
        units, ends = wiring.units, wiring.ends
        for c in wiring.joined[n]:
            coupling = network.couplings[c]
            i, j = coupling.source - 1, coupling.target - 1
            if i < 0:
                continue
            last, first = ends[i][1], ends[j][0]
            if j == n and coupling.forward and i not in zero:
                out, moves[c] = coupling.forward.apply_increment(
                    layers[i].at(state[i], -1), sources[c], units[last]
                )
                parts.append((0, times(wiring.ratio(last, first), out)))
            # The adjoint itself moves with its own side, where it is not linear.
            if i == n and coupling.returning and not {i, j} <= zero:
                # In a chain the share is 1, whatever the scale.
                share = wiring.ratio(first, last, coupling.scale)
                target = times(share, layers[j].at(state[j], 0))
                back = coupling.returning.adjoint_increment(
                    target, moves[c], sources[c], targets[c], units[last]
                )
                parts.append((-1, back))
        return parts, tuple(moves)

    def force(self, n, state):
        if n not in self.pull.blocks:
            return None
        # A force is no difference: the rounded sum of state and increment will do.
        return self.pull(n, self.network.moved(self.data[3], state), self.data[5])

    def own(self, n, axis):
        anchor, unit = self.data[0][n], _share(self, self.wiring.units, n)
        if self.network.layers[n].depth > 1:
            anchor, unit = _front(anchor, axis), jnp.ravel(unit)
        return anchor, unit

    def respond(self, n, drives, own):
        (anchor, unit), u = own, added(*drives)
        return self.network.layers[n].activation.increment(anchor, u, unit), u


def _input_drives(network, x):
    # Once per phase and not per sweep: of `fre-2x512` it is the largest product.
    drives = []
    for n, layer in enumerate(network.layers):
        ones = (1,) * len(layer.face)
        h = jnp.zeros(leading(x, network.input_shape) + ones, x.dtype)
        for c in network.couplings:
            if c.source == 0 and c.target == n + 1 and c.forward is not None:
                h = h + c.forward.apply(x)[0]
        # The bias of a stack is that of all layers; this drives the first one alone.
        own = None if layer.depth > 1 else layer.bias
        drives.append(added(h, own))
    return tuple(drives)


def _front(tree: PyTree, axis: int) -> PyTree:
    """Return arrays with the layers of a stack along their first axis."""
    return jax.tree_util.tree_map(lambda leaf: jnp.moveaxis(leaf, axis, 0), tree)


def _ends(parts: list[tuple[int, Array]]) -> Ends:
    """Return what arrives at the first and the last layer of a stack."""
    first, last = (added(*(v for at, v in parts if at == end)) for end in (0, -1))
    return first, last


def _factors(phase: _Phase, n: int) -> Factors:
    """Return what multiplies what the layers of a stack get, see `Stack.received`."""
    layer = phase.network.layers[n]
    if phase.incremental:
        return layer.factors(phase.wiring, phase.wiring.ends[n][0])
    return 1.0, layer.scale


def _share(phase: _Phase, values: tuple[float, ...], n: int) -> Scale:
    """Return what multiplies block `n`, of a number for each layer."""
    first, last = phase.wiring.ends[n]
    layer, own = phase.network.layers[n], values[first : last + 1]
    return layer.along(own, phase.network.dtype if last > first else None)


def _kept(n, drives, h):
    """Return the drives that are remembered, with the newest one of block `n`."""
    if drives[n] is None:
        return drives
    return tuple(h if k == n else own for k, own in enumerate(drives))
