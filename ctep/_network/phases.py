"""The free, nudged and incremental fixed-point problems of a layered network."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from .._arrays import leading
from .._custom_types import State
from .problem import AbstractProblem, AbstractPull

# A `Network`, which makes its phases: to name the class here would close a circle.
Layered = Any


class StatePhase(AbstractProblem):
    r"""$s_n = \rho_n(h_n + f_n)$: a free phase, or a nudged one with a pull.

    `data` is `(inputs, context)`: per layer what the clamped input and the bias
    contribute to the drive, computed once, and the pull's arrays.
    """

    network: Layered
    data: PyTree
    pull: AbstractPull | None = None

    @staticmethod
    def of(network: Layered, x: Array, pull=None, context=()) -> StatePhase:
        data = (_input_drives(network, x), context)
        return StatePhase(network=network, data=data, pull=pull)

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
                tape.append(c.forward.apply(state[i])[1])
        return tuple(tape), drives

    def refreshed(self, state, memory):
        # A tape is shared by two blocks, but a drive is renewed by its own block.
        return self.recall(state)[0], memory[1]

    def update(self, n, state, memory, zero=frozenset()):
        inputs, context = self.data
        tape, drives = list(memory[0]), list(memory[1])
        h = inputs[n]
        for c, coupling in self.network.joined(n):
            i, j = coupling.source - 1, coupling.target - 1
            if j == n and coupling.forward and i >= 0 and i not in zero:
                out, tape[c] = coupling.forward.apply(state[i])
                h = _add(h, out)
            # The tape spares the adjoint what it shares with the forward map.
            # It is of the source's present state: since that last moved, the target has
            # had its turn, or `refreshed` has taken the tape anew.
            if i == n and coupling.returning and j not in zero:
                back = coupling.returning.adjoint(state[j], tape[c])
                h = _add(h, coupling.scale * back)
        if self.pull is not None and n in self.pull.blocks:
            # f = -(beta / c_n) dC/ds, see docs/equations.md: c_n = 1/attenuation.
            h = _add(h, self.network.attenuation[n] * self.pull(n, state, context))
        # A drive of the bias alone has axes of length 1, but a loop carries it in the
        # memory, where shapes must stay.
        h = jnp.broadcast_to(h, state[n].shape)
        drives[n] = h
        value = self.network.layers[n].activation(h)
        return value, (tuple(tape), tuple(drives))


class IncrementPhase(AbstractProblem):
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

    @staticmethod
    def of(network: Layered, state: State, memory, pull, context) -> IncrementPhase:
        units = network.units
        layers = list(zip(network.layers, memory[1], units, strict=True))
        anchors = tuple(layer.activation.anchor(h, a) for layer, h, a in layers)
        image = tuple(layer.activation(h) for layer, h, _ in layers)
        sources, targets = [], []
        for c in network.couplings:
            source = target = tape = None
            if c.source:
                unit, i = units[c.source - 1], c.source - 1
                if c.forward is not None:
                    _, tape, source = c.forward.anchor(state[i], unit)
                # An adjoint is linear in its argument, so that the scale may be there.
                if c.returning is not None:
                    back = c.scale * state[c.target - 1]
                    target = c.returning.adjoint_anchor(back, tape, unit)
            sources.append(source)
            targets.append(target)
        free = (anchors, tuple(sources), tuple(targets), state, image)
        free = jax.tree_util.tree_map(lambda leaf: leaf[None], free)
        return IncrementPhase(network=network, data=(*free, context), pull=pull)

    @property
    def incremental(self):
        return True

    def bounds(self, n):
        least, largest = self.network.layers[n].activation.range
        # Not the free state, which is at rest up to a tolerance that is far larger than
        # increments may be: they could not settle where it lies outside these bounds.
        image, unit = self.data[4][n], self.network.units[n]
        return (least - image) / unit, (largest - image) / unit

    def recall(self, state, zero=frozenset()):
        moves, units = [], self.network.units
        for c, anchor in zip(self.network.couplings, self.data[1], strict=True):
            i = c.source - 1
            if i < 0 or c.forward is None:
                moves.append(None)
            elif i in zero:
                lead = leading(state[i], self.shapes[i])
                moves.append(
                    c.forward.move_at_zero(lead, state[i].dtype, anchor, units[i])
                )
            else:
                moves.append(c.forward.apply_increment(state[i], anchor, units[i])[1])
        # Zeros as in `StatePhase`, but only for layers whose activation has arrays of
        # its own: `drive_contrast` alone reads the increments of drives.
        pairs = zip(state, self.network.layers, strict=True)
        drives = [jnp.zeros_like(s) if layer.learns else None for s, layer in pairs]
        return tuple(moves), tuple(drives)

    def refreshed(self, state, memory):
        return self.recall(state)[0], memory[1]

    def update(self, n, state, memory, zero=frozenset()):
        anchors, sources, targets, free, _, context = self.data
        network, units = self.network, self.network.units
        moves, drives, u = list(memory[0]), list(memory[1]), None
        for c, coupling in network.joined(n):
            i, j = coupling.source - 1, coupling.target - 1
            if j == n and coupling.forward and i >= 0 and i not in zero:
                out, moves[c] = coupling.forward.apply_increment(
                    state[i], sources[c], units[i]
                )
                u = _add(u, _times(network.ratio(i, n), out))
            # The adjoint itself moves with its own side, where it is not linear.
            if i == n and coupling.returning and not {i, j} <= zero:
                # In a chain the share is 1, whatever the scale.
                share = network.ratio(j, n, coupling.scale)
                back = coupling.returning.adjoint_increment(
                    _times(share, state[j]), moves[c], sources[c], targets[c], units[n]
                )
                u = _add(u, back)
        if n in self.pull.blocks:
            # A force is no difference: the rounded sum of state and increment will do.
            u = _add(u, self.pull(n, network.moved(free, state), context))
        if u is None:
            return jnp.zeros_like(state[n]), (tuple(moves), tuple(drives))
        layer = network.layers[n]
        if layer.learns:
            drives[n] = jnp.broadcast_to(u, state[n].shape)
        value = jnp.broadcast_to(
            layer.activation.increment(anchors[n], u, units[n]), state[n].shape
        )
        return value, (tuple(moves), tuple(drives))


def _input_drives(network, x):
    # Once per phase and not per sweep: of `fre-2x512` it is the largest product.
    drives = []
    for n, layer in enumerate(network.layers):
        ones = (1,) * len(layer.shape)
        h = jnp.zeros(leading(x, network.input_shape) + ones, x.dtype)
        for c in network.couplings:
            if c.source == 0 and c.target == n + 1 and c.forward is not None:
                h = h + c.forward.apply(x)[0]
        drives.append(h if layer.bias is None else h + layer.bias)
    return tuple(drives)


def _add(total, term):
    return term if total is None else total + term


def _times(factor, values):
    # A product with 1 is an array more to write.
    return values if factor == 1 else factor * values
