"""Derivatives of a rest: of the loss by JAX itself, and the linear problems."""

import equinox as eqx
import jax
import jax.numpy as jnp
import matrix
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

import ctep
from ctep._solver import Adjoint

KEY = jax.random.key
TIGHT = ctep.Sweeps(2000, 1e-12, 1e-12)
pytestmark = pytest.mark.usefixtures("x64")


def _data(network, count=4):
    x = jax.random.normal(KEY(1), (count, *network.input_shape))
    return x, jnp.arange(count) % network.output_shape[0]


def _difference(function, value, step=1e-6):
    """Return the derivative of a function by the first element, by differences."""
    ahead = value.at[(0,) * value.ndim].add(step)
    behind = value.at[(0,) * value.ndim].add(-step)
    return float(function(ahead) - function(behind)) / (2 * step)


NETWORKS = {
    "chain": lambda: ctep.mlp((6, 8, 8, 3), feedback=0.3, key=KEY(0)),
    "fixed": lambda: ctep.mlp((6, 8, 3), feedback=ctep.Fixed(0.3), key=KEY(0)),
}
RULES = {"default": None, "backprop": ctep.Backprop(), "unrolled": ctep.Unrolled(80)}


@matrix.product(("rule", "name"), RULES, ["fixed", "chain"])
def test_the_loss_has_its_derivative(rule, name):
    """Oracle: differences of the loss, by a weight and by an input."""
    network = NETWORKS[name]()
    x, y = _data(network)

    @eqx.filter_jit
    def loss(network, x):
        return ctep.gradient(network, x, y, solver=TIGHT, rule=RULES[rule])[0]

    def weight(network):
        return network.couplings[0].forward.weight

    by_network = eqx.filter_jit(eqx.filter_grad(loss))(network, x)
    found = weight(by_network)[0, 0]
    wanted = _difference(
        lambda w: loss(eqx.tree_at(weight, network, w), x), weight(network)
    )
    assert abs(found - wanted) < 1e-7 * (1 + abs(wanted))
    wanted = _difference(lambda x: loss(network, x), x)
    for derived in (jax.grad, jax.jacfwd):
        found = jax.jit(derived(lambda x: loss(network, x)))(x)[0, 0]
        assert abs(wanted) > 1e-4
        assert abs(found - wanted) < 1e-7


def test_an_encoder_in_front_is_trained_by_plain_jax():
    """Oracle: differences, through a layer that the library knows nothing of."""
    network = NETWORKS["chain"]()
    y = jnp.arange(4) % 3
    images = jax.random.normal(KEY(3), (4, 10))
    encoder = eqx.nn.Linear(10, 6, key=KEY(4))

    @eqx.filter_jit
    def loss(encoder):
        x = jax.vmap(encoder)(images)
        return ctep.gradient(network, x, y, solver=TIGHT)[0]

    found = eqx.filter_jit(eqx.filter_grad(loss))(encoder).weight[0, 0]
    wanted = _difference(
        lambda w: loss(eqx.tree_at(lambda e: e.weight, encoder, w)), encoder.weight
    )
    assert abs(wanted) > 1e-4
    assert abs(found - wanted) < 1e-7


def test_the_gradient_has_no_derivative_and_says_so():
    """Backwards it raises; forwards, where nobody can tell, it is no number."""
    network = NETWORKS["chain"]()
    x, y = _data(network)

    def size(x):
        return jnp.sum(ctep.gradient(network, x, y)[1].readout.operator.weight)

    with pytest.raises(ValueError, match="differentiate the loss"):
        jax.grad(size)(x)
    assert np.isnan(jax.jvp(size, (x,), (x,))[1])


def test_a_rest_that_was_not_reached_has_no_derivative():
    """The linear problem of a state that runs away is not the one that is asked for."""
    network = NETWORKS["chain"]()
    x, y = _data(network)

    def loss(x):
        return ctep.gradient(network, x, y, solver=ctep.Sweeps(1))[0]

    with pytest.raises(RuntimeError, match="still moving"):
        jax.grad(loss)(x)


LINEAR = {
    "deep": lambda: ctep.mlp((4, *[6] * 30, 3), feedback=0.25, key=KEY(0)),
    "symmetric": lambda: ctep.mlp((6, 8, 8, 3), feedback=1.0, key=KEY(0)),
    "pools": lambda: ctep.vgg(
        (3,), (4,), 3, input_shape=(4, 4, 2), pool=ctep.SoftmaxPool, feedback=0.5,
        key=KEY(5),
    ),
    "two ways": lambda: ctep.graph(
        (5, 6, 6, 6, 3), [(0, 1), (1, 2), (2, 3), (1, 3)], feedback=ctep.Fixed(0.4),
        key=KEY(2),
    ),
}  # fmt: skip


@eqx.filter_jit
def _swept(network, x, count):
    return ctep.FixedSweeps(count).solve(network.free(x), network.zeros(x)).state


@eqx.filter_jit
def _linear(network, x, state, right):
    """Return both flat solutions, whether they are solved, and the dense Jacobian."""
    problem = network.free(x)
    flat, unravel = ravel_pytree(state)
    jacobian = jax.jacfwd(lambda s: ravel_pytree(problem.map(unravel(s)))[0])(flat)
    back, _, solved = Adjoint().solve(problem, state, unravel(right))
    ahead, _, also = Adjoint().forward(problem, state, unravel(right))
    back, ahead = (ravel_pytree(found)[0] for found in (back, ahead))
    return back, ahead, solved.all() & also.all(), jacobian


@matrix.parametrize("name", LINEAR, ["symmetric", "pools"])
def test_linear_problems_are_solved_at_any_depth(name):
    """Oracle: the dense Jacobian of T, and numpy; also where nothing is at rest."""
    network = LINEAR[name]()
    x = jax.random.normal(KEY(1), (1, *network.input_shape))
    for sweeps in (5, 200):
        state = _swept(network, x, sweeps)
        count = sum(s.size for s in state)
        right = np.random.default_rng(0).standard_normal(count)
        back, ahead, solved, jacobian = _linear(network, x, state, jnp.asarray(right))
        assert bool(solved)
        for found, dense in ((back, jacobian.T), (ahead, jacobian)):
            system = np.eye(count) - dense
            wanted = np.linalg.solve(system, right)
            error = np.abs(found - wanted).max()
            assert error < 1e-9 * np.linalg.cond(system) * np.abs(wanted).max()


def test_a_linear_problem_that_is_not_solved_says_so():
    """Oracle: a Krylov space that is far too small."""
    network = LINEAR["two ways"]()
    x = jax.random.normal(KEY(1), (2, *network.input_shape))

    @jax.jit
    def solved(x):
        state = TIGHT.solve(network.free(x), network.zeros(x), throw=False).state
        ones = jax.tree_util.tree_map(jnp.ones_like, state)
        small = Adjoint(1e-12, restart=1, max_steps=2)
        return small.solve(network.free(x), state, ones)[2]

    assert not solved(x).any()
