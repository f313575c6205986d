"""Networks given by nothing but a scalar energy."""

import abc

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Inexact, PyTree

from .._custom_types import Shape, State
from .activation import path_integral
from .base import AbstractNetwork, AbstractProblem, AbstractPull


class EnergyNetwork(AbstractNetwork):
    r"""A network that a user defines by one scalar energy; the rest is autodiff.

    Subclass it, declare the fields `input_shape`, `shapes` and `step`, and write
    `energy(state, x)` for one example. The state follows
    $\dot s = -\partial (E + \beta C)/\partial s$; the discrete solvers iterate
    $s \leftarrow s - \eta\,\partial (E + \beta C)/\partial s$ with $\eta$ = `step`.

    The increments of the nudged phase are the energy's mean Hessian along the way to
    them, by Gauss-Legendre quadrature of Jacobian-vector products, so they keep their
    relative precision here too; the quadrature's own error is $O(d^9)$.

    Fields:
        input_shape: shape of one input.
        shapes: shape of each block of the state.
        step: $\eta$; near a minimum the iteration settles if it is below 2 over the
            largest curvature of the energy.

    Cost: one gradient of the energy per block update; eight in nudged phases.
    """

    input_shape: eqx.AbstractVar[Shape]
    shapes: eqx.AbstractVar[tuple[Shape, ...]]
    step: eqx.AbstractVar[float]

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
        count = len(self.shapes)
        return tuple((i, j) for j in range(count) for i in range(j))

    @property
    def taus(self):
        return (self.step,) * len(self.shapes)

    @property
    def attenuation(self):
        return (1.0,) * len(self.shapes)

    @property
    def has_energy(self):
        return True

    def total_energy(self, state: State, x: Array) -> Inexact[Array, ""]:
        """Return the energy summed over the leading axes of the state."""
        lead = state[0].shape[: state[0].ndim - len(self.shapes[0])]
        energy = self.energy
        for _ in lead:
            energy = jax.vmap(energy)
        return jnp.sum(energy(state, jnp.broadcast_to(x, lead + self.input_shape)))

    def force(self, n: int, state: State, x: Array) -> Array:
        r"""Return $-\partial E/\partial s_n$, with the leading axes of the state."""

        def energy(s):
            return self.total_energy((*state[:n], s, *state[n + 1 :]), x)

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
        return GradientIncrementPhase(network=self, data=(x, state, context), pull=pull)

    def energy_contrast(self, x, state, increments, weights):
        def slope(t):
            moved = tuple(s + t * d for s, d in zip(state, increments, strict=True))
            tangent = tuple(
                weights.reshape(weights.shape + (1,) * (d.ndim - weights.ndim)) * d
                for d in increments
            )
            energy = lambda s: self.total_energy(s, x)  # noqa: E731
            return jax.jvp(energy, (moved,), (tangent,))[1].real

        return path_integral(slope)

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

    def recall(self, state, zero=frozenset()):
        return ()

    def update(self, n, state, memory, zero=frozenset()):
        x, context = self.data
        force = self.network.force(n, state, x)
        if self.pull is not None:
            pull = self.pull(n, state, context)
            force = force if pull is None else force + pull
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

    def recall(self, state, zero=frozenset()):
        return ()

    def update(self, n, state, memory, zero=frozenset()):
        x, free, context = self.data

        def slope(t):
            moved = tuple(s + t * d for s, d in zip(free, state, strict=True))
            force = lambda s: self.network.force(n, s, x)  # noqa: E731
            return jax.jvp(force, (moved,), (state,))[1]

        force = path_integral(slope)
        nudged = tuple(s + d for s, d in zip(free, state, strict=True))
        pull = self.pull(n, nudged, context)
        force = force if pull is None else force + pull
        return state[n] + self.network.step * force, memory
