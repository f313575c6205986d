"""Networks of layers and couplings around a clamped input."""

import dataclasses
import math

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Inexact

from .. import _checks as checks
from .._custom_types import Shape, State
from .._parameter import declared
from .base import AbstractNetwork
from .contrasts import drive_contrast, energies, energy_contrast, field_contrast
from .coupling import Coupling, Fixed, Tied
from .describe import describe, describe_html
from .layer import Layer, Readout
from .paths import Wiring, closure, wired
from .phases import IncrementPhase, StatePhase
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
            [layer.scale for layer in self.layers],
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
        tied = [c.tied for c in inner] + [layer.tied for layer in self.layers]
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
        layers = [layer.without_feedback() for layer in self.layers]
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
        return energies(self, state, x)

    def energy_contrast(self, x, state, increments, weights):
        return energy_contrast(self, x, state, increments, weights)

    def field_contrast(self, x, state, tangent):
        return field_contrast(self, x, state, tangent)

    def drive_contrast(self, memory, moved, weights, rescale):
        return drive_contrast(self, memory, moved, weights, rescale)

    def differentiable(self):
        return _without_fixed(jax.tree_util.tree_map(eqx.is_inexact_array, self))

    def trainable(self):
        """Return a tree of booleans: the arrays that `ctep.fit` trains.

        All but those of fixed feedback. Where the class of an operator or an
        activation declares some by `ctep.parameter`, of its own only these.
        """
        return _without_fixed(declared(self, otherwise=True))

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
