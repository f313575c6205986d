"""Networks given by nothing but a scalar energy."""

import abc
import dataclasses
import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Inexact, PyTree

from .._arrays import leading, replaced
from .._custom_types import Shape, State
from .._difference import difference
from .base import AbstractNetwork
from .describe import describe_blocks
from .problem import AbstractProblem, AbstractPull

# Where the energy has the curvature k, a force f is f / k away from its rest. Nobody
# knows k: of an energy scaled such that it is of order one, docs/equations.md asks, no
# spring is taken to be softer than this, so the rest is within five times the force.
SOFTEST = 0.2


class EnergyNetwork(AbstractNetwork):
    r"""A network that a user defines by one scalar energy; the rest is autodiff.

    Subclass it, declare the fields `input_shape`, `shapes` and `step`, and write
    `energy(state, x)` for one example. The state follows
    $\dot s = -\partial (E + \beta C)/\partial s$; the discrete solvers iterate
    $s \leftarrow s - \eta\,\partial (E + \beta C)/\partial s$ with $\eta$ = `step`.

    The increments of the force are those of `ctep.difference`, so small ones keep their
    relative precision here too. The gradient is made in the same way, parameter by
    parameter.

    Fields:
        input_shape: shape of one input.
        shapes: shape of each block of the state.
        step: $\eta$; near a minimum the iteration settles if it is below 2 over the
            largest curvature of the energy.

    Cost: one gradient of the energy per block update; nine in nudged phases.

    Raises:
        TypeError: if a field holds a masked array.
        ValueError: when first used, if `energy` fails, or does not return one real
            number.
    """

    input_shape: eqx.AbstractVar[Shape]
    shapes: eqx.AbstractVar[tuple[Shape, ...]]
    step: eqx.AbstractVar[float]

    def __check_init__(self):
        for field in dataclasses.fields(self):
            leaves = jax.tree_util.tree_leaves(getattr(self, field.name))
            if any(isinstance(leaf, np.ma.MaskedArray) for leaf in leaves):
                raise TypeError(
                    f"`{field.name}` is a masked array, whose mask no array of JAX "
                    "knows: fill it, for example with `numpy.ma.filled(values, 0)`."
                )

    @abc.abstractmethod
    def energy(self, state: State, x: Array) -> Inexact[Array, ""]:
        """Return the energy of one example: `state` without any batch axis.

        A holomorphic function of complex states (no moduli, conjugates or maxima)
        can be trained by rules with complex nudges too.
        """

    def output(self, state: State) -> Inexact[Array, "*lead outputs"]:
        """Return the last block; override it to read out something else."""
        return state[-1]

    @property
    def output_shape(self):
        state = tuple(
            jax.ShapeDtypeStruct(s, jnp.result_type(float)) for s in self.shapes
        )
        return jax.eval_shape(self.output, state).shape

    @property
    def edges(self):
        # Any two blocks may share a term. So from three blocks on the graph is not
        # bipartite, and `Alternating` goes by the blocks' numbers.
        count = len(self.shapes)
        return tuple((i, j) for j in range(count) for i in range(j))

    @property
    def taus(self):
        # The velocity (T(s) - s)/tau is then the force itself, whatever the step.
        return (self.step,) * len(self.shapes)

    @property
    def attenuation(self):
        return (1.0,) * len(self.shapes)

    @property
    def has_energy(self):
        return True

    def check_nudged(self, blocks):
        state = tuple(jnp.zeros(shape, self.dtype) for shape in self.shapes)
        jax.eval_shape(self.energies, state, jnp.zeros(self.input_shape, self.dtype))

    def _repr_html_(self):
        return describe_blocks(self)

    def total_energy(self, state: State, x: Array) -> Inexact[Array, ""]:
        """Return the energy summed over the leading axes of the state."""
        return jnp.sum(self.energies(state, x))

    def energies(self, state, x):
        lead = leading(state[0], self.shapes[0])
        energy = self._checked
        for _ in lead:
            energy = jax.vmap(energy)
        return energy(state, jnp.broadcast_to(x, lead + self.input_shape))

    def _checked(self, state, x):
        """Return the energy of one example, or raise if it is no energy."""
        try:
            value = self.energy(state, x)
        except (TypeError, AttributeError, IndexError) as error:
            # Of complex states not every function is made: that is no slip.
            if any(map(jnp.iscomplexobj, state)):
                raise
            reason = str(error).splitlines()[0].rstrip(".")
            raise ValueError(
                f"`network` is of the class {type(self).__name__}, whose "
                f"`energy(state, x)` fails ({reason:.200}): its `state` is a tuple of "
                "blocks, one for each of `shapes`, so unpack it, one alone by "
                "`(s,) = state`."
            ) from error
        number = jnp.inexact if any(map(jnp.iscomplexobj, state)) else jnp.floating
        what = f"a {type(value).__name__}"
        if eqx.is_array_like(value):
            shape, kind = jnp.shape(value), jnp.result_type(value)
            if shape == () and jnp.issubdtype(kind, number):
                return value
            what = f"an array of shape {shape} and dtype {kind}"
        raise ValueError(
            f"`energy` of `{type(self).__name__}` returns {what}, but must return a "
            "scalar, one real number for one example: sum what it adds up with "
            "`jnp.sum`, in floating point."
        )

    def force(self, n: int, state: State, x: Array) -> Array:
        r"""Return $-\partial E/\partial s_n$, with the leading axes of the state."""

        def energy(s):
            return self.total_energy(replaced(state, n, s), x)

        # The gradient of a sum of energies that share no state is each example's own.
        return -jax.grad(energy, holomorphic=jnp.iscomplexobj(state[n]))(state[n])

    def without_feedback(self):
        """Raise `ValueError`: every force of an energy has its reaction."""
        raise ValueError(
            f"`network` is a {type(self).__name__}, and an energy has no feed-forward "
            "twin: use a layered network, or a rule such as `ctep.Centered()`."
        )

    def free(self, x):
        return GradientPhase(network=self, data=(x, ()), pull=None)

    def nudged(self, x, pull, context):
        return GradientPhase(network=self, data=(x, context), pull=pull)

    def increments(self, x, state, memory, pull, context):
        x, state = jax.tree_util.tree_map(lambda leaf: leaf[None], (x, state))
        data = x, state, context
        return GradientIncrementPhase(network=self, data=data, pull=pull)

    def energy_contrast(self, x, state, increments, weights):
        # The derivative of the difference would be a difference of gradients, which
        # loses small increments: so the gradient moves along with the energy.
        arrays, rest = eqx.partition(self, eqx.is_inexact_array)
        fixed = jax.lax.stop_gradient(arrays)

        def slopes(state):
            """Return the weighted sum of energies and its gradient."""

            def total(arrays):
                energies = eqx.combine(arrays, rest).energies(state, x)
                return jnp.sum(weights * energies).real

            return jax.value_and_grad(total)(fixed)

        _, push = difference(slopes, _widened(state, increments))
        value, gradient = push(increments)
        # Linear in the parameters, so that its derivative is the one found here.
        terms = jax.tree_util.tree_map(
            lambda g, a, b: jnp.sum(g * (a - b)).real, gradient, arrays, fixed
        )
        return value + sum(jax.tree_util.tree_leaves(terms))

    def field_contrast(self, x, state, tangent):
        # The drive of the gradient flow is -dE/ds, so the contrast is its derivative.
        energy = lambda s: self.total_energy(s, x)  # noqa: E731
        return jax.jvp(energy, (state,), (tangent,))[1]


class GradientPhase(AbstractProblem):
    r"""$s = s - \eta (\partial E/\partial s - f)$; `data` is `(inputs, context)`."""

    network: EnergyNetwork
    data: PyTree
    pull: AbstractPull | None

    @property
    def incremental(self):
        return False

    @property
    def step(self):
        return SOFTEST * self.network.step

    def recall(self, state, zero=frozenset()):
        return ()

    def update(self, n, state, memory, zero=frozenset()):
        x, context = self.data
        force = self.network.force(n, state, x)
        if self.pull is not None and n in self.pull.blocks:
            force = force + self.pull(n, state, context)
        return state[n] + self.network.step * force, memory


class GradientIncrementPhase(AbstractProblem):
    r"""The same for $d$, with $\partial E(s+d)/\partial s - \partial E(s)/\partial s$.

    `data` is `(inputs, state, context)`.
    """

    network: EnergyNetwork
    data: PyTree
    pull: AbstractPull

    @property
    def incremental(self):
        return True

    @property
    def step(self):
        return SOFTEST * self.network.step

    def recall(self, state, zero=frozenset()):
        return ()

    def update(self, n, state, memory, zero=frozenset()):
        x, free, context = self.data
        force = functools.partial(self.network.force, n, x=x)
        # A free force is zero up to a tolerance only. It is no part of a difference, so
        # zeros are at rest exactly where nothing pulls.
        free = _widened(free, state)
        move = difference(force, free)[1](state)
        if n in self.pull.blocks:
            nudged = tuple(s + d for s, d in zip(free, state, strict=True))
            move = move + self.pull(n, nudged, context)
        return state[n] + self.network.step * move, memory


def _widened(state, increments):
    """Return a free state with the leading axes and the dtype of its increments."""
    return tuple(
        jnp.broadcast_to(s, d.shape).astype(d.dtype)
        for s, d in zip(state, increments, strict=True)
    )
