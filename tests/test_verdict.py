"""What passes as settled is at rest, and is so in any company."""

import equinox as eqx
import jax
import jax.numpy as jnp
import matrix
import numpy as np
import pytest

import ctep
from ctep._rule import Task

KEY = jax.random.key
ORDERS = (ctep.Forward(), ctep.Backward(), ctep.Alternating(), ctep.Synchronous())


def _dense(weight):
    weight = jnp.asarray(weight, float)
    operator = ctep.Dense((weight.shape[0],), (weight.shape[1],), key=KEY(0))
    return eqx.tree_at(lambda o: o.weight, operator, weight)


def _lever():
    """A unit that moves by 9e-4 and is fed back 300 times."""
    return ctep.Network(
        (1,),
        [ctep.Layer((2,), ctep.Tanh())] * 2,
        [
            ctep.Coupling(0, 1, _dense([[9e-4, 0]])),
            ctep.Coupling(
                1,
                2,
                _dense([[1, 0], [0, 0]]),
                ctep.Fixed(1.0, _dense([[0, 0], [300, 0]])),
            ),
        ],
    )


def _images(**options):
    options = {"input_shape": (8, 8, 2), "activation": ctep.ReLU6()} | options
    return ctep.vgg((3, 4), (5,), 3, feedback=0.3, key=KEY(5), **options)


NETWORKS = {
    "chain": lambda: ctep.mlp((8, 16, 16, 16, 4), feedback=0.3, key=KEY(0)),
    "symmetric": lambda: ctep.mlp(
        (8, 16, 16, 4), activation=ctep.HardSigmoid(), feedback=1.0, key=KEY(2)
    ),
    "fixed": lambda: ctep.mlp((8, 16, 16, 4), feedback=ctep.Fixed(0.3), key=KEY(3)),
    "skips": lambda: ctep.graph(
        (8, 10, 10, 10, 4), [(0, 1), (1, 2), (2, 3), (1, 3)], feedback=0.3, key=KEY(4)
    ),
    "pools": _images,
    "a lever": _lever,
}


def _moves(problem, state):
    """Return |T(s) - s| over the tolerance 1e-3 + 1e-3 |s|, the largest of each."""
    ratios = [
        jnp.abs(t - s) / (1e-3 + 1e-3 * jnp.abs(s))
        for t, s in zip(problem.map(state), state, strict=True)
    ]
    return jnp.max(jnp.stack([r.reshape(len(r), -1).max(1) for r in ratios]), 0)


@matrix.parametrize("name", NETWORKS, ["skips", "a lever"])
def test_what_has_settled_stays_within_the_tolerance(name, x64):
    """Oracle: one more application of T to the state that was returned."""
    network = NETWORKS[name]()
    x = jax.random.normal(KEY(9), (20, *network.input_shape))
    x = jnp.ones_like(x) if name == "a lever" else x
    problem, solvers = network.free(x), [ctep.Sweeps(500, order=o) for o in ORDERS]
    solvers += [ctep.Sweeps(500, relaxation=1.2), ctep.ODE(), ctep.FixedPoint()]

    @eqx.filter_jit
    def solve(solver):
        found = solver.solve(problem, network.zeros(x), throw=False)
        return found.settled, _moves(problem, found.state)

    for solver in solvers:
        settled, moves = map(np.asarray, solve(solver))
        assert settled.sum() >= 10
        assert moves[settled].max() <= 1


class Spring(ctep.EnergyNetwork):
    """Rests where s + s^3 = w x."""

    weight: jax.Array = ctep.parameter()
    input_shape: tuple = eqx.field(static=True, default=(2,))
    shapes: tuple = eqx.field(static=True, default=((2,),))
    step: float = 0.3

    def energy(self, state, x):
        (s,) = state
        return 0.5 * s @ s + 0.25 * jnp.sum(s**4) - s @ (self.weight @ x)


@matrix.campaign
@pytest.mark.parametrize("step", [0.3, 0.03, 0.001])
def test_a_small_step_does_not_pass_for_a_rest(step, x64):
    """Oracle: the root of the cubic, and its derivative, in closed form."""
    network = Spring(jnp.array([[0.9, -0.4], [0.3, 1.2]]), step=step)
    x, y = jnp.array([[1.0, 0.5]]), jnp.array([[0.2, -0.3]])
    force = np.asarray(network.weight @ x[0])
    rest = np.array(
        [r.real for f in force for r in np.roots([1, 0, 1, -f]) if abs(r.imag) < 1e-9]
    )
    error = rest - np.asarray(y[0])
    exact = np.outer(error / (1 + 3 * rest**2), np.asarray(x[0]))
    nudge = ctep.OutputError(ctep.SquaredError())
    for solver in (ctep.Sweeps(20_000), ctep.ODE(), ctep.FixedPoint(max_steps=20_000)):
        loss, gradient = ctep.gradient(
            network, x, y, nudge=nudge, solver=solver, rule=ctep.Centered(1e-3)
        )
        # A force within 1e-3 (1 + |s|), and springs no softer than 1.
        assert abs(loss - 0.5 * error @ error) < 2e-3
        assert np.abs(gradient.weight - exact).max() < 2e-3
    hurried = ctep.Sweeps(3).solve(network.free(x), network.zeros(x), throw=False)
    assert not hurried.settled.any()


def test_a_step_that_rounds_away_hides_no_force():
    """Oracle: the force itself, of a state that a step of 1e-5 cannot move."""
    network = Spring(jnp.array([[0.9, -0.4], [0.3, 1.2]]), step=1e-5)
    x = jnp.array([[1.0, 0.5]])
    near = tuple(1.002 * s for s in (jnp.array([[0.5524, 0.6823]]),))
    found = ctep.Sweeps(5).solve(network.free(x), near, throw=False)
    assert jnp.abs(network.force(0, found.state, x)).max() > 1.5e-3
    assert not found.settled.any()


@matrix.parametrize("name", ["symmetric", "pools", "skips"], ["skips"])
def test_no_example_depends_on_the_others(name, x64):
    """Oracle: each example alone."""
    network = NETWORKS[name]()
    x = jax.random.normal(KEY(1), (8, *network.input_shape))
    y = jnp.arange(8) % network.output_shape[0]
    for solver in (ctep.Sweeps(500), ctep.Sweeps(500, gather=(0.5,))):

        def gradient(rows, solver=solver):
            return ctep.gradient(
                network, x[rows], y[rows], rule=ctep.OneSided(0.01), solver=solver
            )[1]

        single = [gradient(slice(k, k + 1)) for k in range(8)]
        mean = jax.tree_util.tree_map(lambda *leaves: sum(leaves) / 8, *single)
        for a, b in zip(
            jax.tree_util.tree_leaves(gradient(slice(None))),
            jax.tree_util.tree_leaves(mean),
            strict=True,
        ):
            assert jnp.abs(a - b).max() <= 1e-10 * jnp.abs(b).max()


@matrix.parametrize("pool", [ctep.MaxPool, ctep.SoftmaxPool], [ctep.MaxPool])
def test_synchronous_sweeps_are_the_synchronous_map(pool, x64):
    """Oracle: T applied again and again."""
    network = _images(pool=pool, pool_first=True)
    x = jax.random.normal(KEY(5), (2, *network.input_shape))
    problem = network.free(x)
    state = network.zeros(x)
    for count in range(1, 6):
        state = problem.map(state)
        solver = ctep.FixedSweeps(count, order=ctep.Synchronous())
        found = solver.solve(problem, network.zeros(x), zeros=True)
        for a, b in zip(found.state, state, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("size", [1e-3, 30.0, 1e20])
def test_one_sweep_from_nothing_is_finite(size):
    """A nudge of any strength: it moves by all of itself, and is no failure.

    Oracle: of a linear layer the increment is the force, after one sweep of it.
    """
    network = ctep.mlp(
        (2, 3), activation=ctep.Identity(), readout=False, key=jax.random.key(0)
    )
    nudge = size * ctep.OutputError(ctep.SquaredError())
    x, y = jnp.ones((1, 2)), jnp.zeros((1, 3))
    for solver in (ctep.FixedSweeps(2, 1, follow=False), ctep.Sweeps(1)):
        task = Task.mean(x, y, nudge, solver, throw=False)
        result = ctep.OneSided(1.0).estimate(network, task).result
        assert bool(result != ctep.RESULTS.not_finite), result
