"""Networks of layers and couplings around a clamped input."""

import dataclasses
import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Inexact

from .. import _checks as checks
from .._arrays import added, paired, weighed
from .._custom_types import Shape, State
from .._parameter import declared
from .base import AbstractNetwork
from .coupling import Coupling, Fixed, Tied
from .describe import describe, describe_html
from .layer import Layer, Readout
from .paths import Wiring, closure, wired
from .phases import IncrementPhase, StatePhase
from .quadrature import path_integral
from .stack import Stack
from .stacking import stacked, unstacked


class Network(AbstractNetwork):
    r"""A directed graph of layers, with the clamped input as its node 0.

    $$h_n = b_n + \sum_{c: i \to n} c(s_i) + \sum_{c: n \to j} \gamma_c c^*(s_j),
    \qquad s_n = \rho_n(h_n)$$

    Layers are numbered from 1 in the order given, which is also the order of the
    sweeps: put the layers near the input first.

    If feedback is tied everywhere and the scales can be graded, i.e. there are
    weights with $c_i \gamma_c = c_j$ for every coupling and $c = 1$ at the output (a
    chain always has them), the fixed points are the stationary points of

    $$E(s) = \sum_n c_n [G_n(s_n) - \langle b_n, s_n \rangle]
    - \sum_c c_j \langle c(s_i), s_j \rangle$$

    and EP is exact in the limit of small nudges, whatever the scales.

    Args:
        input_shape: shape of one input.
        layers: the layers from input to output; the last one is the output layer.
        couplings: what joins two layers, or the input (source 0) to one.
        readout: linear map of the last layer to the outputs; without one the last
            layer is the output itself.

    Raises:
        ValueError: if a coupling names a layer that does not exist or shapes that do
            not fit, if a pair of layers is coupled twice, or if a layer is out of the
            input's reach.
    """

    input_shape: Shape = eqx.field(
        static=True, converter=lambda value: checks.positive_shape("input_shape", value)
    )
    layers: tuple[Layer, ...] = eqx.field(
        converter=lambda value: checks.members("layers", value)
    )
    couplings: tuple[Coupling, ...] = eqx.field(
        converter=lambda value: checks.members("couplings", value)
    )
    readout: Readout | None = None

    def __check_init__(self):
        _check(self)

    @property
    def shapes(self):
        return tuple(layer.shape for layer in self.layers)

    @property
    def depths(self):
        return tuple(layer.depth for layer in self.layers)

    @property
    def wiring(self) -> Wiring:
        """How the layers hang together."""
        return wired(
            self.depths,
            [(c.source - 1, c.target - 1) for c in self.couplings],
            [c.scale for c in self.couplings],
            [layer.scale if isinstance(layer, Stack) else 0.0 for layer in self.layers],
            float(jnp.finfo(self.dtype).tiny),
        )

    def numbers(self, coupling: Coupling) -> tuple[int, int]:
        """Return the layers that a coupling joins, counted from 1 through all stacks.

        The input is 0. Of a stack it is the last layer that is a source, and the first
        one a target.
        """
        ends, source = self.wiring.ends, coupling.source
        return (
            ends[source - 1][1] + 1 if source else 0,
            ends[coupling.target - 1][0] + 1,
        )

    @property
    def output_shape(self):
        if self.readout is None:
            return self.layers[-1].face
        return self.readout.operator.out_shape

    @property
    def edges(self):
        return tuple((c.source - 1, c.target - 1) for c in self.couplings if c.source)

    @property
    def taus(self):
        return tuple(layer.tau for layer in self.layers)

    @property
    def attenuation(self):
        r"""$1/c_n$, the weight that the scales give a layer against the output's.

        One number per layer, those of a stack one by one. Where they can be graded it
        follows from $c_i \gamma_c = c_j$ along any couplings that join the layer to
        the output. Elsewhere it is the largest product of scales on a path of feedback
        from the output.
        """
        return tuple(map(math.exp, self.wiring.grades))

    @property
    def dtype(self):
        # That of the first array, without a look at all the others in every trace.
        for part in (*self.layers, *self.couplings, self.readout):
            for leaf in jax.tree_util.tree_leaves(part):
                if eqx.is_inexact_array(leaf):
                    return leaf.dtype
        return super().dtype

    def spread(self, values):
        dtype, ends = self.dtype, self.wiring.ends
        return tuple(
            layer.along(values[first : last + 1], dtype)
            for layer, (first, last) in zip(self.layers, ends, strict=True)
        )

    @property
    def has_energy(self):
        grades, ends = self.wiring.grades, self.wiring.ends
        inner = [c for c in self.couplings if c.source]
        # In this order, since without feedback the scale is 0 and has no logarithm. And
        # up to rounding, since 0.1 ** 3 is not 0.001 to the last bit.
        stacks = [layer for layer in self.layers if isinstance(layer, Stack)]
        tied = [c.tied for c in inner] + [s.feedback is not None for s in stacks]
        return all(tied) and all(
            abs(
                math.log(c.scale)
                + grades[ends[c.target - 1][0]]
                - grades[ends[c.source - 1][1]]
            )
            < 1e-6
            for c in inner
        )

    @property
    def obstacle(self):
        for n, layer in enumerate(self.layers, 1):
            if layer.activation.pole is None:
                return f"has the activation {layer.activation.formula} in layer {n}"
        for c in self.couplings:
            # The input is clamped and real, and so is all that is made of it.
            maps = (c.forward, c.returning) if c.source else ()
            if not all(o.holomorphic for o in maps if o):
                return f"takes a maximum between layers {c.source} and {c.target}"
        if self.readout is not None and not self.readout.operator.holomorphic:
            return "takes a maximum in its readout"
        return None

    @property
    def holomorphic(self):
        return self.obstacle is None

    @property
    def influences(self):
        inner = [c for c in self.couplings if c.source]
        forward = {(c.source - 1, c.target - 1) for c in inner if c.forward}
        back = {(c.target - 1, c.source - 1) for c in inner if c.returning}
        return frozenset(forward | back)

    def check_nudged(self, blocks):
        moved = closure(blocks, self.influences)
        still = sorted(set(range(len(self.layers))) - moved)
        # Where anything comes back, arrays that nothing reaches are legal: `ctep.fit`
        # names them in a warning.
        if still and all(c.returning is None for c in self.couplings):
            raise ValueError(
                f"`network` has no feedback, so no nudge moves layer {still[0] + 1}, "
                "whose weights would never be trained: build it with `feedback=0.1`, "
                "or pass `rule=ctep.Backprop()`."
            )

    def without_feedback(self):
        """Return the network with its forward couplings alone.

        Raises:
            ValueError: if a forward coupling runs from a later to an earlier layer.
        """
        for c in self.couplings:
            if c.forward is not None and c.source > c.target:
                raise ValueError(
                    f"`network` couples layer {c.source} forward to layer {c.target}, "
                    "so it has no feed-forward twin: use `ctep.Implicit()`."
                )
        couplings = [
            Coupling(c.source, c.target, c.forward)
            for c in self.couplings
            if c.forward is not None
        ]
        layers = [
            dataclasses.replace(layer, feedback=None)
            if isinstance(layer, Stack)
            else layer
            for layer in self.layers
        ]
        return dataclasses.replace(self, layers=layers, couplings=couplings)

    def stacked(self, least: int = 2) -> "Network":
        """Return the network with a `Stack` for each run of equal layers.

        Equal are layers and tied linear couplings that differ by nothing but the
        numbers in their arrays, if no others join the layers within the run.

        Args:
            least: the shortest run that becomes one.
        """
        return stacked(self, checks.count("least", least, "2", least=2))

    def unstacked(self) -> "Network":
        """Return the network with single layers for its stacks."""
        return unstacked(self) if max(self.depths) > 1 else self

    def output(self, state: State) -> Inexact[Array, "*lead outputs"]:
        """Return the readout of the last layer, or the last layer itself."""
        last = self.layers[-1].at(state[-1], -1)
        return last if self.readout is None else self.readout(last)

    def free(self, x):
        return StatePhase.of(self, x)

    def nudged(self, x, pull, context):
        return StatePhase.of(self, x, pull, context)

    def increments(self, x, state, memory, pull, context):
        return IncrementPhase.of(self, state, memory, pull, context)

    def energies(self, state, x):
        if not self.has_energy:
            raise ValueError(
                "`energies` needs feedback that is tied everywhere with scales that "
                "multiply to the same product along every path to the output, which "
                "this network's do not: use `Tied` feedback, or a rule that needs no "
                "energy."
            )
        # A layer weighs c_n = 1/attenuation, a coupling what its target does: see
        # "Attenuated feedback" in docs/equations.md.
        total, attenuation = jnp.zeros(()), self.attenuation
        units, ends = self.spread(attenuation), self.wiring.ends
        for layer, s, unit in zip(self.layers, state, units, strict=True):
            local = layer.activation.potential(s)
            if layer.bias is not None:
                local = local - layer.bias * s
            if isinstance(layer, Stack):
                below = layer.received(s, (None, None), (1.0, layer.scale))[0]
                total = total + _sum((local - below * s) / unit, layer.shape)
            else:
                total = total + _sum(local, layer.shape) / unit
        for c in self.couplings:
            if c.forward is not None:
                first = ends[c.target - 1][0]
                product = c.forward.apply(self._source(c, state, x))[0]
                product = product * self._target(c, state)
                shape = self.layers[c.target - 1].face
                total = total - _sum(product, shape) / attenuation[first]
        return total

    def _source(self, coupling, state, x=None) -> Any:
        """Return what a coupling comes from: a block's last layer, or the input."""
        i = coupling.source - 1
        return x if i < 0 else self.layers[i].at(state[i], -1)

    def _target(self, coupling, state):
        """Return what a coupling leads to: a block's first layer."""
        j = coupling.target - 1
        return self.layers[j].at(state[j], 0)

    def energy_contrast(self, x, state, increments, weights):
        # sum_k w_k e_k; the products of two increments are added phase by phase.
        mean = tuple(weighed(weights, e).sum(0) for e in increments)
        real = tuple(e.real for e in mean)
        total = self._bias_contrast(real)
        moved, wiring = self.moved(state, increments), self.wiring
        units, ends = wiring.units, wiring.ends
        for c in self.couplings:
            if c.forward is None:
                continue
            i, j, source = c.source - 1, c.target - 1, self._source(c, state, x)
            if not c.source:
                total = total - paired(self._target(c, real), c.forward.apply(x)[0])
                continue
            unit = units[ends[i][1]]
            image, _, anchor = c.forward.anchor(source, unit)
            # One axis more, for the nudges: all of them start from one free state.
            anchor = jax.tree_util.tree_map(lambda leaf: leaf[None], anchor)
            own = self._source(c, increments)
            change, _ = c.forward.apply_increment(own, anchor, unit)
            ratio = wiring.ratio(ends[i][1], ends[j][0])
            nudged = ratio * weighed(weights, self._target(c, moved))
            total = total - paired(self._target(c, real), image)
            total = total - _plain(nudged, change)
        for n, layer in enumerate(self.layers):
            if isinstance(layer, Stack):
                up = layer.factors(wiring, ends[n][0])[0]
                later = layer.at(moved[n], slice(1, None))
                nudged = up * weighed(weights, later)
                image = layer.images(state[n])
                total = total - paired(layer.at(real[n], slice(1, None)), image)
                total = total - _plain(nudged, layer.images(increments[n]))
        return total

    def field_contrast(self, x, state, tangent):
        # A tied weight is part of two drives. Without the one of its feedback an error
        # of the order of its scale would stay, however small the nudge.
        total = self._bias_contrast(tangent)
        for c in self.couplings:
            tape = None
            if c.forward is not None:
                image, tape = c.forward.apply(self._source(c, state, x))
                total = total - paired(self._target(c, tangent), image)
            # Fixed weights are never trained: their share of the drive has no gradient.
            if c.returning is not None and c.tied:
                back = c.scale * c.returning.adjoint(self._target(c, state), tape)
                total = total - paired(self._source(c, tangent), back)
        for n, layer in enumerate(self.layers):
            if isinstance(layer, Stack):
                parts = layer.received(state[n], (None, None), (1.0, layer.scale))
                total = total - paired(tangent[n], added(*parts))
        return total

    def drive_contrast(self, memory, moved, weights, rescale):
        total, units = jnp.zeros(()), self.spread(self.attenuation)
        for n, (layer, a) in enumerate(zip(self.layers, units, strict=True)):
            if not layer.learns:
                continue
            h, u = memory[1][n], moved[1][n]
            # By the activation alone, for its class need not define `potential`; and at
            # once, while `h` and `u` are this layer's.
            mean = path_integral(lambda t: layer.activation(h + t * a * u) * u)  # noqa: B023
            scale = 1 if rescale else a
            total = total - scale * jnp.sum(weighed(weights, mean).real)
        return total

    def differentiable(self):
        return _without_fixed(jax.tree_util.tree_map(eqx.is_inexact_array, self))

    def trainable(self):
        """Return a tree of booleans: the arrays that `ctep.fit` trains.

        All but those of fixed feedback. Where the class of an operator or an
        activation declares some by `ctep.parameter`, of its own only these.
        """
        return _without_fixed(declared(self, otherwise=True))

    def _bias_contrast(self, tangent):
        total = jnp.zeros((), tangent[0].dtype)
        for layer, v in zip(self.layers, tangent, strict=True):
            if layer.bias is not None:
                total = total - jnp.sum(layer.bias * v)
        return total

    def __str__(self):
        return describe(self)

    def _repr_html_(self):
        return describe_html(self)


def _without_fixed(mask):
    return eqx.tree_at(
        lambda m: [c.feedback for c in m.couplings],
        mask,
        replace_fn=lambda f: jax.tree_util.tree_map(lambda _: False, f),
        # `None` counts as a leaf, or `tree_at` would find nothing there to replace.
        is_leaf=lambda v: v is None or isinstance(v, Tied | Fixed),
    )


def _plain(a, b):
    """Return the real part of a sum of plain products, without conjugates."""
    total = paired(a.real, b.real)
    if jnp.iscomplexobj(a):
        total = total - paired(a.imag, b.imag)
    return total


def _sum(values, shape):
    return jnp.sum(values, tuple(range(-len(shape), 0)))


def _check(network):
    count = len(network.layers)
    if count == 0:
        raise ValueError(
            "`layers` is empty, but a network needs at least one layer that moves: "
            "pass one or more `ctep.Layer`."
        )
    for layer in network.layers:
        example = "ctep.Layer((512,), ctep.Tanh())"
        checks.instance("layers", layer, Layer, "layers alone", example)
    for c in network.couplings:
        example = "ctep.Coupling(0, 1, operator)"
        checks.instance("couplings", c, Coupling, "couplings alone", example)
    kinds, example = (Readout, type(None)), "ctep.Readout(operator)"
    checks.instance("readout", network.readout, kinds, "a Readout or None", example)
    shapes = (network.input_shape, *(layer.face for layer in network.layers))
    seen = set()
    for c in network.couplings:
        name = f"{c.source} -> {c.target}"
        if not (0 <= c.source <= count and 1 <= c.target <= count):
            raise ValueError(
                f"`couplings` holds {name}, but the layers are numbered 1 to {count} "
                "and the input is 0: couple layers that exist."
            )
        if (c.source, c.target) in seen:
            raise ValueError(
                f"`couplings` holds {name} twice: leave one out, or add their weights."
            )
        seen.add((c.source, c.target))
        for operator in (c.forward, c.returning):
            ends = (shapes[c.source], shapes[c.target])
            if operator and (operator.in_shape, operator.out_shape) != ends:
                raise ValueError(
                    f"`couplings` holds {name} with an operator from "
                    f"{operator.in_shape} to {operator.out_shape}, but these layers "
                    f"have shapes {ends[0]} and {ends[1]}: make them agree."
                )
    forward = [(c.source, c.target) for c in network.couplings if c.forward]
    missing = sorted(set(range(1, count + 1)) - closure([0], forward))
    if missing:
        raise ValueError(
            f"`couplings` leaves layer {missing[0]} out of the input's reach: add a "
            "forward path from the input (0) to it, or remove the layer."
        )
    if network.readout is not None:
        source = network.readout.operator.in_shape
        if source != shapes[-1]:
            raise ValueError(
                f"`readout` reads shape {source}, but the last layer has shape "
                f"{shapes[-1]}: make them agree."
            )
