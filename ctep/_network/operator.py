"""Operators: the maps that couplings apply, their adjoints and their increments."""

import abc

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from .. import _checks as checks
from .._arrays import leading
from .._custom_types import Scale, Shape
from .._difference import difference


class AbstractOperator(eqx.Module):
    r"""A map $c$ between the states of two layers.

    A subclass says what the image is; adjoint and increments follow from it. Every
    operator maps 0 to 0, and takes any number of leading axes.

    ```python
    import ctep, jax
    import equinox as eqx

    class Cube(ctep.AbstractOperator):
        in_shape: tuple = eqx.field(static=True)
        out_shape: tuple = eqx.field(static=True)

        def image(self, v):
            return v**3

    cube = Cube((8,), (8,))
    image, tape = cube.apply(jax.numpy.full((2, 8), 0.5))
    print(cube.adjoint(jax.numpy.ones((2, 8)), tape)[0, 0])  # 3 * 0.5**2
    ```

    What follows may be written faster by hand, as `MaxPool` does. `apply` hands a
    *tape* to `adjoint`: what the adjoint of a map that is not linear needs to know of
    the state it is taken at (where a pooling window had its maximum). Increments start
    from *anchors*, which are computed once at the free state, and are in units of a
    scale $a$, which may be 1e-30:

    $$\hat c(e; a) = [c(v + a e) - c(v)] / a$$

    A linear map is an `AbstractLinear`, which has no tapes and no anchors.
    """

    in_shape: eqx.AbstractVar[Shape]
    out_shape: eqx.AbstractVar[Shape]

    @abc.abstractmethod
    def image(self, v: Array) -> Array:
        """Return the image of `v`, `(*lead, *out_shape)`."""

    @property
    def linear(self) -> bool:
        """Whether the adjoint needs no tape."""
        return False

    @property
    def holomorphic(self) -> bool:
        """Whether the map extends to complex states; no, if nobody says so."""
        return False

    def apply(self, v: Array) -> tuple[Array, PyTree]:
        """Return the image of `v`, `(*lead, *out_shape)`, and its tape."""
        return self.image(v), v

    def adjoint(self, u: Array, tape: PyTree) -> Array:
        r"""Return $\partial \langle u, c(v) \rangle / \partial v$ at the taped $v$."""
        return jax.vjp(self.image, tape)[1](u)[0]

    def anchor(self, v: Array, scale: Scale = 1.0) -> tuple[Array, PyTree, PyTree]:
        """Return image and tape of `v`, and what its increments need to know of it."""
        return *self.apply(v), v

    def apply_increment(
        self, e: Array, anchor: PyTree, scale: Scale = 1.0
    ) -> tuple[Array, PyTree]:
        """Return the increment of the image, and the move of the tape.

        Args:
            e: increment of `v` in units of the scale, `(*lead, *in_shape)`.
            anchor: what `anchor` keeps of `v`.
            scale: $a$, a positive number.
        """
        v = _like(anchor, e)
        return difference(self.image, v)[1](e, scale=scale), e

    def adjoint_anchor(self, u: Array, tape: PyTree, scale: Scale = 1.0) -> PyTree:
        """Return what `adjoint_increment` needs to know of `u` at the taped state."""
        return u

    def adjoint_increment(
        self,
        e: Array,
        move: PyTree,
        anchor: PyTree,
        adjoint_anchor: PyTree,
        scale: Scale = 1.0,
    ) -> Array:
        """Return the increment of the adjoint, at a `v` that moves as well.

        Args:
            e: increment of `u` in units of the scale, `(*lead, *out_shape)`.
            move: how the tape moves with `v`, from `apply_increment`.
            anchor: what `anchor` keeps of `v`.
            adjoint_anchor: what `adjoint_anchor` keeps of `u`.
            scale: $a$, a positive number.
        """
        v, u = _like(anchor, move), _like(adjoint_anchor, e)
        return difference(self.adjoint, u, v)[1](e, move, scale=scale)

    def tape_at_zero(self, lead: Shape, dtype) -> PyTree:
        """Return the tape of `apply` at zeros, `(*lead, *in_shape)`."""
        return self.apply(jnp.zeros((*lead, *self.in_shape), dtype))[1]

    def move_at_zero(
        self, lead: Shape, dtype, anchor: PyTree, scale: Scale = 1.0
    ) -> PyTree:
        """Return the move of the tape for an increment of zeros."""
        zeros = jnp.zeros((*lead, *self.in_shape), dtype)
        return self.apply_increment(zeros, anchor, scale)[1]

    def formula(self, weight: str, state: str) -> str:
        """Return how the map is printed."""
        return f"{type(self).__name__.lower()}({weight}, {state})"

    def adjoint_formula(self, weight: str, state: str) -> str:
        """Return how the adjoint is printed."""
        return f"{type(self).__name__.lower()}'({weight}, {state})"


class AbstractLinear(AbstractOperator):
    """An operator whose adjoint is the same everywhere: no tapes and no anchors.

    A complex state is mapped part by part, so that what comes back is the plain
    transpose and never the conjugate one.

    ```python
    import ctep, jax
    import equinox as eqx
    import jax.numpy as jnp

    class Scale(ctep.AbstractLinear):
        weight: jax.Array
        in_shape: tuple = eqx.field(static=True)
        out_shape: tuple = eqx.field(static=True)

        def image(self, v):
            return v * self.weight

    one, two = jax.random.split(jax.random.key(0))
    tanh = ctep.Tanh()
    network = ctep.Network(
        (4,),
        [ctep.Layer((8,), tanh), ctep.Layer((8,), tanh)],
        [
            ctep.Coupling(0, 1, ctep.Dense((4,), (8,), key=one)),
            ctep.Coupling(1, 2, Scale(jnp.full(8, 0.5), (8,), (8,)), ctep.Tied(0.3)),
        ],
    )
    print(network)  # s2 = tanh(scale(W1_2, s1))
    ```
    """

    def transposed(self, u: Array) -> Array:
        """Return the adjoint's image of a real `u`."""
        shape = (*leading(u, self.out_shape), *self.in_shape)
        v = jax.ShapeDtypeStruct(shape, u.dtype)
        return jax.linear_transpose(self.image, v)(u)[0]

    @property
    def linear(self):
        return True

    @property
    def holomorphic(self):
        return True

    def apply(self, v):
        return _by_parts(self.image, v), None

    def adjoint(self, u, tape):
        return _by_parts(self.transposed, u)

    def anchor(self, v, scale=1.0):
        return _by_parts(self.image, v), None, None

    def apply_increment(self, e, anchor, scale=1.0):
        return _by_parts(self.image, e), None

    def adjoint_anchor(self, u, tape, scale=1.0):
        return None

    def adjoint_increment(self, e, move, anchor, adjoint_anchor, scale=1.0):
        return _by_parts(self.transposed, e)

    def tape_at_zero(self, lead, dtype):
        return None

    def move_at_zero(self, lead, dtype, anchor, scale=1.0):
        return None


def _by_parts(function, v):
    if not jnp.iscomplexobj(v):
        return function(v)
    return jax.lax.complex(function(v.real), function(v.imag))


def _like(v, e):
    """Return an anchor with the leading axes and the dtype of an increment."""
    return jnp.broadcast_to(v, e.shape).astype(e.dtype)


class Chain(AbstractOperator):
    r"""Operators one after the other, $c = c_k \circ \dots \circ c_1$.

    `Chain((conv, MaxPool(conv.out_shape)))` is the coupling of most convolutional
    Hopfield networks; with the pooling first it is that of a network which passes on
    pooled activity.

    ```python
    import ctep, jax

    conv = ctep.Conv((28, 28, 1), 8, key=jax.random.key(0))
    print(ctep.Chain((conv, ctep.MaxPool(conv.out_shape))).out_shape)  # (14, 14, 8)
    ```

    Args:
        operators: the maps in the order of their application, from the source on.

    Raises:
        ValueError: if there is none, or the shapes of two neighbours differ.
    """

    operators: tuple[AbstractOperator, ...] = eqx.field(
        converter=lambda value: checks.members("operators", value)
    )

    def __check_init__(self):
        if not self.operators:
            raise ValueError(
                "`operators` is empty, but a chain needs at least one operator: pass "
                "for example `(conv, ctep.MaxPool(conv.out_shape))`."
            )
        example = "(conv, ctep.MaxPool(conv.out_shape))"
        for operator in self.operators:
            checks.instance(
                "operators", operator, AbstractOperator, "operators alone", example
            )
        pairs = zip(self.operators, self.operators[1:], strict=False)
        for first, second in pairs:
            if first.out_shape != second.in_shape:
                raise ValueError(
                    f"`operators` holds one that returns shape {first.out_shape} "
                    f"before one that takes {second.in_shape}: make them agree."
                )

    @property
    def in_shape(self):
        return self.operators[0].in_shape

    @property
    def out_shape(self):
        return self.operators[-1].out_shape

    @property
    def linear(self):
        return all(o.linear for o in self.operators)

    @property
    def holomorphic(self):
        return all(o.holomorphic for o in self.operators)

    def image(self, v):
        return self.apply(v)[0]

    def apply(self, v):
        tapes = []
        for operator in self.operators:
            v, tape = operator.apply(v)
            tapes.append(tape)
        return v, tuple(tapes)

    def adjoint(self, u, tape):
        for operator, own in self._backwards(tape):
            u = operator.adjoint(u, own)
        return u

    def anchor(self, v, scale=1.0):
        tapes, anchors = [], []
        for operator in self.operators:
            v, tape, anchor = operator.anchor(v, scale)
            tapes.append(tape)
            anchors.append(anchor)
        return v, tuple(tapes), tuple(anchors)

    def apply_increment(self, e, anchor, scale=1.0):
        moves = []
        for operator, own in zip(self.operators, anchor, strict=True):
            e, move = operator.apply_increment(e, own, scale)
            moves.append(move)
        return e, tuple(moves)

    def adjoint_anchor(self, u, tape, scale=1.0):
        out = []
        for n in reversed(range(len(self.operators))):
            out.append(self.operators[n].adjoint_anchor(u, tape[n], scale))
            # Only operators nearer to the source ask what reaches them.
            if not all(operator.linear for operator in self.operators[:n]):
                u = self.operators[n].adjoint(u, tape[n])
        return tuple(reversed(out))

    def adjoint_increment(self, e, move, anchor, adjoint_anchor, scale=1.0):
        for operator, *own in self._backwards(move, anchor, adjoint_anchor):
            e = operator.adjoint_increment(e, *own, scale)
        return e

    def tape_at_zero(self, lead, dtype):
        # Every operator maps 0 to 0, so each of them stands at zeros. By `apply` a
        # pool's tape would cost the product with zeros of the convolution before it.
        return tuple(o.tape_at_zero(lead, dtype) for o in self.operators)

    def move_at_zero(self, lead, dtype, anchor, scale=1.0):
        pairs = zip(self.operators, anchor, strict=True)
        return tuple(o.move_at_zero(lead, dtype, own, scale) for o, own in pairs)

    def formula(self, weight, state):
        for operator in self.operators:
            state = operator.formula(weight, state)
        return state

    def adjoint_formula(self, weight, state):
        for operator in reversed(self.operators):
            state = operator.adjoint_formula(weight, state)
        return state

    def _backwards(self, *trees):
        return list(zip(self.operators, *trees, strict=True))[::-1]


def enclosed(formula: str) -> str:
    """Return a formula in brackets, unless it is one name or one call."""
    depth = 0
    for character in formula:
        depth += (character == "(") - (character == ")")
        if character == " " and depth == 0:
            return f"({formula})"
    return formula
