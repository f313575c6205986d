"""Stacks: a run of equal layers as one block, whose programs do not grow with it."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from .. import _checks as checks
from .._arrays import times
from .coupling import Tied
from .layer import Layer
from .operator import AbstractLinear
from .paths import Wiring

# What comes from below and from above, `None` for nothing; the factors of both.
Ends = tuple[Array | None, Array | None]
Factors = tuple[float, float]


class Stack(Layer):
    r"""A run of equal layers, each coupled to the next, as one block of the state.

    $$s_d = \rho(b_d + c_{d-1}(s_{d-1}) + \gamma c_d^*(s_{d+1})), \qquad d = 1..D$$

    Couplings that lead here drive the first layer, those that leave read the last one;
    what they feed back goes the other way. A sweep visits the layers in a loop, so that
    a thousand of them compile like ten. `network.stacked()` makes one wherever it
    can, `network.unstacked()` makes layers of it again.

    ```python
    import ctep, jax

    network = ctep.mlp((784, *[64] * 100, 10), feedback=0.1, key=jax.random.key(0))
    print(network.shapes)  # ((100, 64),)
    print(len(network.unstacked().shapes))  # 100
    ```

    Args:
        shape: the depth $D$ and the shape of one layer.
        activation: $\rho$ of every layer, without arrays of its own.
        bias: $b$, `(depth, ...)`, or `None`.
        tau: time constant of every layer.
        forward: the linear operators $c_1$ to $c_{D-1}$ as one, whose arrays have them
            along their first axis.
        feedback: `Tied(scale)` or `None`.

    Raises:
        ValueError: if there are fewer than two layers, the activation has arrays, or
            `forward` holds another number of operators or such of other shapes.
        TypeError: if `forward` is not linear, or `feedback` is neither.
    """

    # Never None, but a subclass has defaults after those of its parent.
    forward: AbstractLinear | None = None
    feedback: Tied | None = None

    def __check_init__(self):
        example = "network.stacked()"
        noun = "a linear operator"
        checks.instance("forward", self.forward, AbstractLinear, noun, example)
        noun, kinds = "Tied or None", (Tied, type(None))
        checks.instance("feedback", self.feedback, kinds, noun, "ctep.Tied(0.1)")
        if len(self.shape) < 2 or self.depth < 2:
            raise ValueError(
                f"`shape` is {self.shape}, but must hold a depth of at least 2 and the "
                "shape of one layer: pass for example `(100, 64)`."
            )
        if self.learns:
            raise ValueError(
                "`activation` has arrays, of which every layer needs its own: leave "
                "the layers unstacked."
            )
        lengths = {leaf.shape[:1] for leaf in _arrays(self.forward)}
        ends = {self.forward.in_shape, self.forward.out_shape}  # pyright: ignore[reportOptionalMemberAccess]
        if lengths != {(self.depth - 1,)} or ends != {self.face}:
            raise ValueError(
                f"`forward` has arrays whose first axis is {sorted(lengths)} and "
                f"shapes {sorted(ends)}, but {self.depth} layers of shape {self.face} "
                f"need {self.depth - 1} operators of that shape."
            )

    @property
    def depth(self) -> int:
        return self.shape[0]

    @property
    def face(self):
        return self.shape[1:]

    @property
    def scale(self) -> float:
        return 0.0 if self.feedback is None else self.feedback.scale

    @property
    def tied(self) -> bool:
        return self.feedback is not None

    @property
    def links(self):
        return tuple(
            (_at(self.forward, place), self.feedback) for place in range(self.depth - 1)
        )

    def factors(self, wiring: Wiring, first: int) -> Factors:
        """Return those of increments in units of their layers, the first of them given.

        Those of states are 1 and the scale.
        """
        if self.feedback is None:
            return 1.0, 0.0
        up = wiring.ratio(first, first + 1)
        return up, wiring.ratio(first + 1, first, self.scale)

    def at(self, s: Array, place: int | slice) -> Array:
        return s[(..., place, *(slice(None),) * len(self.face))]

    def single(self):
        return tuple(
            Layer(self.face, self.activation, self._bias(place), self.tau)
            for place in range(self.depth)
        )

    def without_feedback(self):
        return dataclasses.replace(self, feedback=None)

    def means(self, values: Array) -> Array:
        axis = values.ndim - len(self.shape)
        return jnp.mean(jnp.moveaxis(values, axis, 0).reshape(self.depth, -1), 1)

    def along(self, values: Sequence[float], dtype) -> Any:
        full = jnp.asarray(np.asarray(values), dtype)
        return full.reshape((-1,) + (1,) * len(self.face))

    def anchor(self, h: Array, unit: Array) -> PyTree:
        axis = h.ndim - len(self.shape)
        return jax.vmap(self.activation.anchor, (axis, 0), axis)(h, unit.ravel())

    def images(self, s: Array) -> Array:
        """Return the images of all layers but the last, `(*lead, depth - 1, *face)`."""
        return self._each(lambda c, v: c.apply(v)[0], self.at(s, slice(None, -1)))

    def adjoints(self, s: Array) -> Array:
        """Return the adjoints of all layers but the first, likewise."""
        return self._each(lambda c, u: c.adjoint(u, None), self.at(s, slice(1, None)))

    def received(
        self, s: Array, ends: Ends, factors: Factors
    ) -> tuple[Array, Array | None]:
        """Return what all layers get from below and from above, `(*lead, *shape)`.

        Args:
            s: state or increment of the block.
            ends: what the first layer gets from below, the last one from above.
            factors: of what a layer gets from the one before it, and the one after.
        """
        axis = s.ndim - len(self.shape)

        def edge(value):
            one = self.at(s, slice(0, 1))
            if value is None:
                return jnp.zeros_like(one)
            return jnp.broadcast_to(jnp.expand_dims(value, axis), one.shape)

        below = times(factors[0], self.images(s))
        below, above = jnp.concatenate([edge(ends[0]), below], axis), None
        if self.feedback is not None:
            above = times(factors[1], self.adjoints(s))
        elif ends[1] is not None:
            above = jnp.zeros_like(self.at(s, slice(1, None)))
        if above is not None:
            above = jnp.concatenate([above, edge(ends[1])], axis)
        return below, above

    def swept(
        self,
        s: Array,
        ends: Ends,
        factors: Factors,
        respond: Callable[[Any, Any, PyTree], tuple[Array, Array]],
        move: Callable[[Array, Array, PyTree], tuple[Array, PyTree]],
        given: tuple[PyTree, PyTree],
        back: bool,
    ) -> tuple[Array, Array, PyTree]:
        """Return the block after each layer had its turn, its drives, what was found.

        Args:
            s: state or increment of the block, `(*lead, *shape)`.
            ends: see `received`.
            factors: likewise.
            respond: function of what a layer gets from below and above, and of what is
                given for it, that returns its value and its drive.
            move: function of that value, the layer's state and what is given for it
                that returns its new state and what is found.
            given: what is given to `respond` and to `move`, trees whose leaves have the
                layers along their first axis.
            back: whether the last layer is the first to move.
        """
        axis = s.ndim - len(self.shape)
        old = jnp.moveaxis(s, axis, 0)
        arrays, static = eqx.partition(self.forward, eqx.is_array)

        def up(c, v):
            return times(factors[0], c.apply(v)[0])

        def down(c, u):
            if self.feedback is None:
                return None
            return times(factors[1], c.adjoint(u, None))

        def turn(below, above, now, given):
            value, drive = respond(below, above, given[0])
            new, found = move(value, now, given[1])
            return new, (new, drive, found)

        def step(carry, xs):
            weights, now, neighbour, given = xs
            c = eqx.combine(weights, static)
            if back:
                new, out = turn(up(c, neighbour), carry, now, given)
                sent = down(c, new)
            else:
                new, out = turn(carry, down(c, neighbour), now, given)
                sent = up(c, new)
            return jnp.zeros_like(carry) if sent is None else sent, out

        # The newest neighbour is carried, the other is as it was; the layer that moves
        # last has no such other one within.
        start, end = ends[::-1] if back else ends
        start = jnp.zeros((), s.dtype) if start is None else start
        start = jnp.broadcast_to(start, old.shape[1:]).astype(s.dtype)
        rest = slice(1, None) if back else slice(None, -1)
        others = old[:-1] if back else old[1:]
        inner, last = (
            jax.tree_util.tree_map(lambda leaf, place=place: leaf[place], (old, given))
            for place in (rest, 0 if back else -1)
        )
        xs = arrays, inner[0], others, inner[1]
        carry, outs = jax.lax.scan(step, start, xs, reverse=back)
        _, own = turn(*((end, carry) if back else (carry, end)), *last)

        def joined(many, one):
            return jnp.concatenate([one[None], many] if back else [many, one[None]])

        block, drives, found = jax.tree_util.tree_map(joined, outs, own)
        return jnp.moveaxis(block, 0, axis), jnp.moveaxis(drives, 0, axis), found

    def _bias(self, place):
        if self.bias is None:
            return None
        own = self.bias[place]  # pyright: ignore[reportIndexIssue]
        # As it was before it got the axes of the layer.
        while own.ndim > 1 and own.shape[0] == 1:
            own = own[0]
        return own

    def _each(self, function, values):
        axis = values.ndim - len(self.shape)
        arrays, static = eqx.partition(self.forward, eqx.is_array)

        def one(pair):
            return function(eqx.combine(pair[0], static), pair[1])

        # A loop, since not every operator can be batched by its weights.
        out = jax.lax.map(one, (arrays, jnp.moveaxis(values, axis, 0)))
        return jnp.moveaxis(out, 0, axis)


def _at(operators, place):
    """Return one of several operators whose arrays lie along a first axis."""
    return jax.tree_util.tree_map(
        lambda leaf: leaf[place] if eqx.is_array(leaf) else leaf, operators
    )


def _arrays(tree):
    return jax.tree_util.tree_leaves(eqx.filter(tree, eqx.is_array))
