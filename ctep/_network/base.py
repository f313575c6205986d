"""What every network offers."""

import abc
from collections.abc import Iterable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Inexact, PyTree

from .._arrays import leading
from .._custom_types import Lead, Memory, Shape, State
from .._parameter import declared
from .problem import AbstractProblem, AbstractPull


class AbstractNetwork(eqx.Module):
    """A dynamical system with a clamped input, whose rest is its prediction.

    States are tuples with one array per block, `(batch, *shape)`. `Network` is made of
    layers and couplings; a class of one's own is best written as an energy:

    ```python
    import ctep, jax
    import equinox as eqx
    import jax.numpy as jnp

    class Springs(ctep.EnergyNetwork):
        weight: jax.Array = ctep.parameter()
        input_shape: tuple = eqx.field(static=True, default=(6,))
        shapes: tuple = eqx.field(static=True, default=((3,),))
        step: float = 0.3

        def energy(self, state, x):
            (s,) = state
            return 0.5 * s @ s + 0.25 * jnp.sum(s**4) - s @ (self.weight @ x)

    network = Springs(0.3 * jax.random.normal(jax.random.key(0), (3, 6)))
    rest = ctep.settle(network, jnp.ones((2, 6)))
    print(network.energies(rest.state, jnp.ones((2, 6))).shape)  # (2,)
    ```
    """

    input_shape: eqx.AbstractVar[Shape]
    # Of each block, for one example.
    shapes: eqx.AbstractVar[tuple[Shape, ...]]

    @property
    @abc.abstractmethod
    def edges(self) -> tuple[tuple[int, int], ...]:
        """Pairs of blocks, counted from 0, that drive each other."""

    @property
    def taus(self) -> tuple[float, ...]:
        """Time constant of each block."""
        return (1.0,) * len(self.shapes)

    @property
    @abc.abstractmethod
    def attenuation(self) -> tuple[float, ...]:
        """How much weaker than the output each block feels a nudge of the output.

        Increments are in its units: a block moves by its attenuation times them.
        """

    @property
    def depths(self) -> tuple[int, ...]:
        """Number of layers that each block stands for, more than one in a stack."""
        return (1,) * len(self.shapes)

    def unstacked(self) -> "AbstractNetwork":
        """Return the network with a block for each layer, which analyses look at."""
        return self

    def spread(self, values: tuple[float, ...]) -> tuple[Any, ...]:
        """Return per block what multiplies a state, of a number for each layer."""
        return values

    def moved(self, state: State, increments: State) -> State:
        """Return $s_n + a_n e_n$, with $a_n$ the attenuation."""
        blocks = zip(state, self.spread(self.attenuation), increments, strict=True)
        return tuple(
            s + (e if isinstance(a, float) and a == 1 else a * e) for s, a, e in blocks
        )

    @property
    @abc.abstractmethod
    def output_shape(self) -> Shape:
        """Shape of `output` for one example."""

    @property
    @abc.abstractmethod
    def has_energy(self) -> bool:
        """Whether the fixed points are the stationary points of an energy."""

    @property
    def obstacle(self) -> str | None:
        """Why not to complex states: "takes a maximum in its readout"; or `None`."""
        return None

    @property
    def holomorphic(self) -> bool | None:
        """Whether the dynamics extends to complex states; `None` if that is open."""
        return None

    @abc.abstractmethod
    def output(self, state: State) -> Inexact[Array, "*lead outputs"]:
        """Return what the network predicts: logits or values."""

    def energies(self, state: State, x: Array) -> Lead:
        """Return the energy of each example.

        Args:
            state: one array per block, `(*lead, *shape)`.
            x: the inputs, `(*lead, *input_shape)`.

        Raises:
            ValueError: if the network has no energy.
        """
        raise ValueError(
            f"`energies` is not defined, since this {type(self).__name__} has no "
            "energy: use a rule that needs none."
        )

    def check_nudged(self, blocks: Iterable[int]) -> None:
        """Raise `ValueError` if a nudge of `blocks` cannot move the network."""

    @property
    def influences(self) -> frozenset[tuple[int, int]]:
        """Pairs (a, b) of blocks, counted from 0, where a drives b, either way."""
        # Of a network that says nothing all blocks count as coupled: with too few pairs
        # arrays would be named as out of reach that are not.
        count = len(self.shapes)
        return frozenset((a, b) for a in range(count) for b in range(count))

    @abc.abstractmethod
    def without_feedback(self) -> "AbstractNetwork":
        """Return the feed-forward twin: the same parameters, and nothing comes back.

        Raises:
            ValueError: if the network has none.
        """

    def feedforward(self, x: Array) -> State:
        """Return the state of the feed-forward twin, block by block in one pass."""
        twin = self.without_feedback()
        blocks = range(len(self.shapes))
        return twin.free(x).swept(blocks, twin.zeros(x), frozenset(blocks))

    @abc.abstractmethod
    def free(self, x: Array) -> AbstractProblem:
        """Return the problem of the free phase."""

    @abc.abstractmethod
    def nudged(self, x: Array, pull: AbstractPull, context: PyTree) -> AbstractProblem:
        """Return the problem of a nudged phase, for the state itself.

        Its `data` is `(own, context)`: the context can be replaced by a later one.
        """

    @abc.abstractmethod
    def increments(
        self,
        x: Array,
        state: State,
        memory: Memory,
        pull: AbstractPull,
        context: PyTree,
    ) -> AbstractProblem:
        r"""Return the problem of the nudged phases, for the increments.

        Args:
            x: the inputs, `(batch, *input_shape)`.
            state: the free equilibrium, `(batch, *shape)` per block.
            memory: what the free problem recalls of it.
            pull: the force, evaluated at `state` plus the increments.
            context: the pull's arrays, `(phases or 1, batch or 1, ...)`.

        Returns:
            A problem whose states are increments $e_n = (s_n(\beta) - s_n)/a_n$ in
            units of the attenuation, `(phases, batch, *shape)`.
        """

    @abc.abstractmethod
    def energy_contrast(
        self, x: Array, state: State, increments: State, weights: Array
    ) -> Float[Array, ""]:
        r"""Return $\sum_k w_k (E(s + a e_k) - E(s))$, summed over the batch.

        Its derivative by the parameters is the gradient of energy-based EP. Of complex
        increments and weights it is the real part.

        Args:
            x: the inputs, `(batch, *input_shape)`.
            state: the free equilibrium, `(batch, *shape)` per block.
            increments: $e_k$ in units of the attenuation, `(phases, batch, *shape)`.
            weights: $w_k$ times the weight of each example, `(phases, batch)`.
        """

    @abc.abstractmethod
    def field_contrast(
        self, x: Array, state: State, tangent: State
    ) -> Float[Array, ""]:
        r"""Return $-\sum_n \langle v_n, h_n \rangle$, summed over the batch.

        Its derivative by the parameters is the gradient of EP in vector fields; it
        exists for every feedback.

        Args:
            x: the inputs, `(batch, *input_shape)`.
            state: the free equilibrium, at which the drive is differentiated.
            tangent: $v_n = \sum_k w_k e_{k,n}$, `(batch, *shape)`.
        """

    def drive_contrast(
        self, memory: Memory, moved: Memory, weights: Array, rescale: bool
    ) -> Float[Array, ""]:
        r"""Return what arrays of activations add to either contrast, 0 without any.

        $$-\sum_{k,n} w_k \int_0^1 \langle u_{k,n}, \rho_n(h_n + t a_n u_{k,n})
        \rangle\,dt,$$

        $[G_n(s + a_n e_k) - G_n(s)]/a_n$ by its derivative at a fixed state (of the
        Legendre transform), with $u_k$ the increments of the drives in units of the
        attenuation $a_n$.

        Args:
            memory: what the free problem recalls of the free equilibrium.
            moved: what the problem of the increments recalls of them.
            weights: $w_k$ times the weight of each example, `(phases, batch)`.
            rescale: whether to leave $a_n$ out, by which each layer is smaller.
        """
        del memory, moved, weights, rescale
        return jnp.zeros(())

    @property
    def dtype(self) -> jnp.dtype:
        """The dtype of the states: that of the first array of parameters."""
        leaves = jax.tree_util.tree_leaves(self)
        # Not `eqx.filter`, which makes a second tree; this is asked for in every trace.
        dtypes = (leaf.dtype for leaf in leaves if eqx.is_inexact_array(leaf))
        return next(dtypes, jnp.result_type(float))

    def zeros(self, x: Array) -> State:
        """Return the state that a free phase starts from."""
        lead = leading(x, self.input_shape)
        return tuple(jnp.zeros(lead + shape, x.dtype) for shape in self.shapes)

    def differentiable(self) -> PyTree:
        """Return a tree of booleans: the arrays by which rules differentiate."""
        return jax.tree_util.tree_map(eqx.is_inexact_array, self)

    def trainable(self) -> PyTree:
        """Return a tree of booleans: the arrays that `ctep.fit` trains.

        Those that the class declares by `ctep.parameter`.
        """
        return declared(self)
