import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import diffrax as dfx
import jax
import jax.numpy as jnp
import matrix
import numpy as np
import optimistix as optx
import oracles
import pytest
from hypothesis import given, settings, strategies as st

import ctep
from ctep._nudge import Pull
from ctep._solver import explain, first_failure
from ctep._solver.equilibrium import RESULTS

KEY = jax.random.key(0)
FAILURES = RESULTS.not_finite, RESULTS.diverged, RESULTS.not_settled


@oracles.FAST
def settle(solver, network, x, state=None, zeros=False):
    """Return the free equilibrium, from zeros unless a state is given."""
    start = network.zeros(x) if state is None else state
    return solver.solve(network.free(x), start, zeros=zeros, throw=False)


def sweeps(count, **kwargs):
    """Return a solver that does `count` sweeps, whatever happens."""
    return ctep.Sweeps(count, rtol=0.0, atol=0.0, **kwargs)


def names(result):
    """Return the name of each member of a batched result."""
    members = ("successful", "not_settled", "diverged", "not_finite")
    table = {name: np.asarray(result == getattr(RESULTS, name)) for name in members}
    flat = [
        [n for n in members if table[n].ravel()[i]] for i in range(result._value.size)
    ]
    assert all(len(found) == 1 for found in flat)
    return [found[0] for found in flat]


def diagonal(*values):
    """Return an initialiser with the given diagonal."""
    return lambda key, shape, dtype: jnp.diag(jnp.asarray(values, dtype))


def pair(*loop, activation=ctep.Identity(), taus=(1.0, 1.0)):
    """Return two layers of independent pairs of units, each pair with its own weight.

    $s_1 = \\rho(x + w s_2)$, $s_2 = \\rho(w s_1)$: if linear, the rest is
    $s_1 = x/(1 - w^2)$, $s_2 = w s_1$.
    """
    count = len(loop)
    dense = lambda init: ctep.Dense((count,), (count,), key=KEY, init=init)  # noqa: E731
    layers = [ctep.Layer((count,), activation, tau=tau) for tau in taus]
    couplings = [
        ctep.Coupling(0, 1, dense(diagonal(*[1.0] * count))),
        ctep.Coupling(1, 2, dense(diagonal(*loop)), ctep.Tied()),
    ]
    return ctep.Network((count,), layers, couplings)


def draw(network, seed=0, batch=3):
    rng = np.random.default_rng(seed)
    x = jnp.asarray(rng.uniform(-1, 1, (batch, *network.input_shape)))
    state = tuple(jnp.asarray(rng.uniform(-1, 1, (batch, *s))) for s in network.shapes)
    return x, state


# ------------------------------------------------------------ orders

CHAIN = ((0, 1), (1, 2), (2, 3), (3, 4))
GROUPS = {
    "forward": (ctep.Forward(), 3, CHAIN[:2], ((0,), (1,), (2,))),
    "backward": (ctep.Backward(), 3, CHAIN[:2], ((2,), (1,), (0,))),
    "synchronous": (ctep.Synchronous(), 3, CHAIN[:2], ((0, 1, 2),)),
    "one block": (ctep.Alternating(), 1, (), ((0,),)),
    "chain": (ctep.Alternating(), 5, CHAIN, ((0, 2, 4), (1, 3))),
    "square": (
        ctep.Alternating(),
        4,
        ((0, 1), (1, 3), (0, 2), (2, 3)),
        ((0, 3), (1, 2)),
    ),
    "both ways": (ctep.Alternating(), 2, ((0, 1), (1, 0)), ((0,), (1,))),
    "two parts": (ctep.Alternating(), 4, ((0, 1), (2, 3)), ((0, 2), (1, 3))),
    "triangle": (ctep.Alternating(), 3, ((0, 1), (1, 2), (0, 2)), ((0, 2), (1,))),
}


@pytest.mark.parametrize("name", GROUPS)
def test_groups(name):
    """Oracle: the groups, by hand; by number where the graph is not bipartite."""
    order, count, edges, groups = GROUPS[name]
    assert order.groups(count, edges) == groups


@settings(max_examples=50)
@given(st.data())
def test_alternating_separates_neighbours_of_bipartite_graphs(data):
    """Oracle: the definition, on graphs that are bipartite by construction."""
    side = data.draw(st.lists(st.booleans(), min_size=1, max_size=8))
    pairs = [(i, j) for i, a in enumerate(side) for j, b in enumerate(side) if a < b]
    edges = data.draw(st.lists(st.sampled_from(pairs))) if pairs else []
    groups = ctep.Alternating().groups(len(side), edges)
    assert sorted(n for group in groups for n in group) == list(range(len(side)))
    for group in groups:
        assert not any(i in group and j in group for i, j in edges)


@oracles.FAST
def iterates(network, x, state, count):
    """Return the states of `count` synchronous steps, by the map itself."""
    problem, out = network.free(x), [state]
    for _ in range(count):
        out.append(problem.map(out[-1]))
    return out


@pytest.mark.usefixtures("x64")
@matrix.parametrize("shape", ["chain", "square"], ["square"])
def test_alternating_sweeps_are_pairs_of_synchronous_steps(shape):
    """Oracle: the map applied 2 n times, from any state.

    After n sweeps the first class of blocks is where 2 n - 1 synchronous steps have
    brought it, the second where 2 n have.
    """
    if shape == "chain":
        network, classes = ctep.mlp((4, 5, 3, 4, 3, 5, 2), key=KEY), "abab a"
    else:
        edges = [(0, 1), (1, 2), (1, 3), (2, 4), (3, 4), (0, 4)]
        network, classes = ctep.graph((4, 5, 3, 4, 3, 2), edges, key=KEY), "abba"
    classes = classes.replace(" ", "")
    x, state = draw(network)
    steps = iterates(network, x, state, 6)
    for n in (1, 2, 3):
        order = ctep.Alternating()
        both = settle(sweeps(n, order=order), network, x, state)
        for block, (kind, got) in enumerate(zip(classes, both.state, strict=True)):
            want = steps[2 * n - 1 if kind == "a" else 2 * n][block]
            np.testing.assert_allclose(got, want, rtol=0, atol=1e-12)
        far = steps[2 * n - 2][0]
        assert np.max(np.abs(both.state[0] - far)) > 1e-6


@pytest.mark.usefixtures("x64")
def test_synchronous_sweeps_are_steps_of_the_map():
    """Oracle: the map applied three times, from any state."""
    network = ctep.mlp((4, 5, 3, 4, 2), feedback=0.5, key=KEY)
    x, state = draw(network)
    steps = iterates(network, x, state, 3)
    got = settle(sweeps(3, order=ctep.Synchronous()), network, x, state)
    for a, b in zip(got.state, steps[3], strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-14)
    change = max(np.max(np.abs(a - b)) for a, b in zip(steps[3], steps[2], strict=True))
    assert float(jnp.max(got.residual)) == pytest.approx(change)


@pytest.mark.usefixtures("x64")
def test_forward_and_backward_sweeps_use_the_newest_states():
    """Oracle: two linear layers by hand, s1 = x + w s2 and s2 = w s1."""
    network, x = pair(0.5), jnp.ones((1, 1))
    state = (jnp.full((1, 1), 2.0), jnp.full((1, 1), 4.0))
    wanted = {
        ctep.Forward(): (3.0, 1.5),
        ctep.Backward(): (1.5, 1.0),
        ctep.Synchronous(): (3.0, 1.0),
        ctep.Alternating(): (3.0, 1.5),
    }
    for order, want in wanted.items():
        got = settle(sweeps(1, order=order), network, x, state)
        assert [float(s[0, 0]) for s in got.state] == list(want)


def test_default_order_follows_the_signal():
    """Oracle: forward in free phases and backward in nudged ones, sweep by sweep."""
    p = oracles.chain((4, 5, 4, 5, 3), feedback=0.5)
    free = settle(ctep.Sweeps(), p.network, p.x)
    for problem, order in (
        (p.network.free(p.x), ctep.Forward()),
        (increments(p, free, 0.1), ctep.Backward()),
    ):
        start = p.network.zeros(p.x)
        if problem.incremental:
            start = tuple(s[None] for s in start)
        default, same = (run(sweeps(1, order=o), problem, start) for o in (None, order))
        for a, b in zip(default.state, same.state, strict=True):
            np.testing.assert_array_equal(a, b)
            assert np.any(a)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(
    ("order", "relaxation"),
    [
        (ctep.Forward(), 1.0),
        (ctep.Backward(), 1.2),
        (ctep.Alternating(), 1.0),
        (ctep.Synchronous(), 0.7),
    ],
)
def test_sweeps_of_a_contraction_reach_its_fixed_point(order, relaxation):
    """Oracle: Newton's iteration with a dense Jacobian, on the equations in jnp."""
    p = oracles.NETWORKS["skips symmetric"]()
    solver = ctep.Sweeps(1000, 0.0, 1e-12, order, relaxation)
    rest = settle(solver, p.network, p.x)
    assert explain(rest.result) is None
    np.testing.assert_allclose(
        np.concatenate(rest.state, -1), oracles.roots(p), atol=1e-10
    )


# ------------------------------------------------------------ relaxation


@pytest.mark.usefixtures("x64")
def test_relaxation_moves_by_a_multiple_of_the_update():
    """Oracle: one synchronous sweep by hand; the residual is that of the full one."""
    network, x = pair(0.5), jnp.ones((1, 1))
    state = (jnp.full((1, 1), 2.0), jnp.full((1, 1), 4.0))
    solver = sweeps(1, order=ctep.Synchronous(), relaxation=1.5)
    got = settle(solver, network, x, state)
    assert [float(s[0, 0]) for s in got.state] == [3.5, -0.5]
    assert float(got.residual[0]) == 3.0


def test_relaxation_hastens_a_slow_pair_and_damps_an_oscillation():
    r"""Oracle: Young's spectral radius $\omega - 1$, and a map with slope -1.5."""
    x = jnp.ones((1, 1))
    plain, fast = (
        settle(ctep.Sweeps(500, 0.0, 1e-5, relaxation=w), pair(0.95), x)
        for w in (1.0, 1.5)
    )
    assert 3 * int(fast.steps[0]) < int(plain.steps[0])
    network = turning(1.5**0.5)
    plain, damped = (
        settle(ctep.Sweeps(300, relaxation=w), network, x) for w in (1.0, 0.6)
    )
    assert not bool(plain.settled[0])
    assert bool(damped.settled[0])
    assert float(damped.state[0][0, 0]) == pytest.approx(1 / 2.5, abs=1e-2)


@pytest.mark.usefixtures("x64")
def test_relaxation_stays_within_the_range_and_lowers_the_energy():
    r"""Oracle: what $E$ is for clipped units, a convex function of each block.

    Any point between a block and its minimum, or as far beyond it, has less energy,
    if it is one of the block's own states at all; outside them $E$ is infinite.
    """
    p = oracles.chain(
        (6, 20, 20, 3), activation=ctep.HardSigmoid(), init=oracles.centred(1.0)
    )
    network, x = p.network, p.x
    state, before = network.zeros(x), jnp.inf
    touched = 0
    for _ in range(8):
        state = settle(sweeps(1, relaxation=1.7), network, x, state).state
        touched += sum(int(jnp.sum((s == 0) | (s == 1))) for s in state)
        assert all(bool(jnp.all((s >= 0) & (s <= 1))) for s in state)
        energy = network.energies(state, x)
        assert np.all(energy <= before + 1e-12)
        before = energy
    assert touched
    free = settle(ctep.Sweeps(1000, 0.0, 1e-12), network, x)
    problem = network.increments(
        x, free.state, free.memory, Pull(p.nudge, network),
        (jnp.full((1, 1), 5.0), p.y[None]),
    )  # fmt: skip
    start = tuple(jnp.zeros((1, *s.shape)) for s in free.state)
    moved = sweeps(3, relaxation=1.7).solve(problem, start, throw=False).state
    # Of the image of the drive, which the free state equals to the tolerance.
    for h, d in zip(free.memory[1], moved, strict=True):
        s = jnp.clip(h, 0, 1)
        assert bool(jnp.all((s + d >= 0) & (s + d <= 1)))
        assert bool(jnp.any((d != 0) & ((s + d == 0) | (s + d == 1))))


def test_relaxed_increments_settle_however_loose_the_free_phase():
    """Oracle: that they contract, whatever state is taken for the free one.

    Units that saturate in the drive of a loose rest, but not in its state or the other
    way round, were asked to leave bounds of the one for values of the other.
    """
    p = oracles.chain(
        (6, 20, 20, 3), activation=ctep.HardSigmoid(), init=oracles.centred(0.6)
    )
    free = settle(sweeps(2, relaxation=1.3), p.network, p.x)
    pairs = zip(free.state, free.memory[1], strict=True)
    assert any(bool(jnp.any((s == 1) != (h >= 1))) for s, h in pairs)
    problem = p.network.increments(
        p.x, free.state, free.memory, Pull(p.nudge, p.network),
        (jnp.full((1, 1), 1e-6), p.y[None]),
    )  # fmt: skip
    start = tuple(jnp.zeros((1, *s.shape)) for s in free.state)
    solver = ctep.Sweeps(300, relaxation=1.3)
    assert explain(solver.solve(problem, start, throw=False).result) is None


# ------------------------------------------------------------ batches that shrink


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("gather", [(0.5,), (0.75, 0.3, 0.01)])
@pytest.mark.parametrize("zeros", [True, False])
def test_gathered_examples_take_the_sweeps_that_they_take_alone(gather, zeros):
    """Oracle: the same solve without gathering; each example has another weight."""
    network, x = pair(0.95, 0.5), jnp.eye(2).repeat(4, 0) * jnp.arange(1.0, 9)[:, None]
    lone, few = (
        settle(ctep.Sweeps(200, gather=g), network, x, zeros=zeros)
        for g in ((), gather)
    )
    assert len(set(lone.steps.tolist())) > 2
    for name in ("state", "steps", "residual"):
        a, b = getattr(lone, name), getattr(few, name)
        jax.tree.map(np.testing.assert_array_equal, a, b)
    assert names(lone.result) == names(few.result)


@matrix.campaign
@pytest.mark.usefixtures("x64")
def test_gathered_phases_know_their_own_nudge_and_their_own_example():
    """Oracle: the gradient without gathering, on pooled images and of two nudges."""
    x = jax.random.normal(KEY, (6, 6, 6, 1))
    y = jnp.arange(6) % 3
    network = ctep.vgg((3, 4), (5,), 3, input_shape=(6, 6, 1), feedback=0.5, key=KEY)
    nudge = ctep.OutputError() + ctep.LocalError((1,)).drawn(network, KEY)
    lone, few = (
        ctep.gradient(
            network, x, y, nudge=nudge, rule=ctep.Centered(0.2),
            solver=ctep.Sweeps(500, 1e-10, 1e-10, gather=gather),
        )
        for gather in ((), (0.7, 0.2))
    )  # fmt: skip
    assert lone[0] == few[0]
    assert oracles.error(few[1], lone[1]) < 1e-8


def test_what_never_settles_is_given_up_after_all_its_sweeps():
    """Oracle: a map with slope -1.5 beside one that is at rest at once."""
    x = jnp.array([[1.0], [0.0], [0.0], [1.0]])
    got = settle(ctep.Sweeps(30, gather=(0.25,)), turning(1.5**0.5), x)
    assert got.settled.tolist() == [False, True, True, False]
    assert got.steps.tolist() == [30, 1, 1, 30]


@pytest.mark.parametrize("last", [0, 3])
def test_a_place_left_over_is_nobodys(last):
    """Oracle: the same without gathering; one example moves on in a batch of two."""
    x = jnp.zeros((4, 1)).at[last].set(1.0)
    lone, few = (
        settle(ctep.Sweeps(50, gather=gather), turning(0.5), x)
        for gather in ((), (0.5,))
    )
    assert few.settled.all()
    assert lone.steps[last] > 5
    for name in ("state", "steps", "residual"):
        a, b = getattr(lone, name), getattr(few, name)
        jax.tree.map(np.testing.assert_array_equal, a, b)


def turning(weight):
    """Return s1 = x - w s2 and s2 = w s1, which rest at x/(1 + w^2)."""
    dense = lambda w: ctep.Dense((1,), (1,), key=KEY, init=diagonal(w))  # noqa: E731
    layers = [ctep.Layer((1,), ctep.Identity())] * 2
    back = ctep.Fixed(1.0, dense(-weight))
    couplings = [
        ctep.Coupling(0, 1, dense(1.0)),
        ctep.Coupling(1, 2, dense(weight), back),
    ]
    return ctep.Network((1,), layers, couplings)


# ------------------------------------------------------------ when to stop

EULER = dict(solver=dfx.Euler(), stepsize_controller=dfx.ConstantStepSize())
SOLVERS = {
    "sweeps": ctep.Sweeps(500, rtol=1e-4, atol=1e-4),
    "alternating": ctep.Sweeps(500, 1e-4, 1e-4, ctep.Alternating()),
    "ode": ctep.ODE(rtol=1e-4, atol=1e-4, interval=1.0),
    "euler": ctep.ODE(**EULER, dt0=1.0, interval=1.0, rtol=1e-4, atol=1e-4),
    "fixed point": ctep.FixedPoint(rtol=1e-4, atol=1e-4),
    "newton": ctep.FixedPoint(optx.Newton(1e-6, 1e-6), rtol=1e-4, atol=1e-4),
}


@matrix.parametrize(
    "name", ["sweeps", "ode", "euler", "fixed point"], ["sweeps", "fixed point"]
)
def test_each_example_stops_by_itself(name):
    """Oracle: a batch of the example alone; s = tanh(x + w s) is slow for small x."""
    network = pair(0.97, activation=ctep.Tanh())
    x = jnp.array([[0.02], [3.0], [-0.5], [0.0]])
    together = settle(SOLVERS[name], network, x)
    assert explain(together.result) is None
    steps = [int(n) for n in together.steps]
    assert steps[3] < steps[1] < steps[2] < steps[0]
    for n in (0, 1):
        alone = settle(SOLVERS[name], network, jnp.broadcast_to(x[n], x.shape))
        assert int(alone.steps[0]) == steps[n]
        for a, b in zip(alone.state, together.state, strict=True):
            np.testing.assert_allclose(a[0], b[n], atol=1e-6)


@pytest.mark.usefixtures("x64")
def test_an_example_is_not_touched_once_it_has_settled():
    """Oracle: as many sweeps as it moved in, counted by hand, without a tolerance."""
    network = pair(0.9)
    x = jnp.array([[1.0], [1e-3]])
    rest = settle(ctep.Sweeps(500, rtol=0.0, atol=1e-4), network, x)
    # s1 moves by x 0.81^(n - 1) in sweep n.
    count = [int(np.ceil(1 + np.log(1e-4 / v) / np.log(0.81))) for v in (1, 1e-3)]
    assert [int(n) for n in rest.steps] == count
    assert count[1] + 30 < count[0]
    for n in (0, 1):
        exact = settle(sweeps(count[n] - 1), network, x)
        np.testing.assert_allclose(rest.state[0][n], exact.state[0][n], rtol=1e-14)
        image = network.free(x).map(rest.state)
        pairs = zip(image, rest.state, strict=True)
        largest = max(float(jnp.abs(t - s)[n].max()) for t, s in pairs)
        assert float(rest.residual[n]) == pytest.approx(largest)


@pytest.mark.parametrize("limit", [1, 4])
def test_max_sweeps_is_honoured(limit):
    """Oracle: the limit, and the partial sums of a geometric series."""
    rest = settle(ctep.Sweeps(limit, 0.0, 1e-5), pair(0.9), jnp.ones((2, 1)))
    assert [int(n) for n in rest.steps] == [limit] * 2
    assert names(rest.result) == ["not_settled"] * 2
    want = sum(0.81**n for n in range(limit))
    np.testing.assert_allclose(rest.state[0], want, rtol=1e-6)


def test_without_tolerances_every_sweep_is_done():
    """Oracle: the limit; the state is still moving, so it has not settled."""
    network = ctep.mlp((4, 5, 5, 2), key=KEY)
    rest = settle(sweeps(7), network, jnp.ones((2, 4)))
    assert [int(n) for n in rest.steps] == [7, 7]
    assert names(rest.result) == ["not_settled"] * 2


def test_without_tolerances_a_still_state_ends_the_sweeps():
    """Oracle: without feedback not one bit changes in the second sweep."""
    network = ctep.mlp((4, 5, 5, 2), feedback=None, key=KEY)
    rest = settle(sweeps(7), network, jnp.ones((2, 4)))
    assert [int(n) for n in rest.steps] == [2, 2]
    assert names(rest.result) == ["successful"] * 2
    assert not np.any(rest.residual)


@matrix.parametrize("name", ["sweeps", "ode", "fixed point"], ["sweeps", "fixed point"])
def test_a_large_unit_hides_no_small_one(name):
    """Oracle: x / (1 - w^2) for a slow unit beside one that is constant at 1e6.

    A tolerance relative to a norm would be met at the first look.
    """
    network, x = pair(0.0, 0.95), jnp.array([[1e6, 1.0]])
    solver = dataclasses.replace(SOLVERS[name], rtol=1e-3, atol=0.0)
    rest = settle(solver, network, x)
    assert names(rest.result) == ["successful"]
    np.testing.assert_allclose(rest.state[0], [[1e6, 1 / (1 - 0.95**2)]], rtol=2e-2)
    early = settle(limited(solver, 12), network, x)
    assert names(early.result) == ["not_settled"]
    assert float(early.residual[0]) < 1e-3 * 1e6


def limited(solver, limit):
    """Return `solver` with another limit of its time or steps."""
    if isinstance(solver, ctep.ODE):
        return dataclasses.replace(solver, t1=float(limit))
    name = "max_steps" if isinstance(solver, ctep.FixedPoint) else "max_sweeps"
    return dataclasses.replace(solver, **{name: limit})


@pytest.mark.usefixtures("x64")
@matrix.parametrize("name", SOLVERS, ["alternating", "euler", "newton"])
def test_a_rest_comes_with_its_residual_and_its_drives(name):
    """Oracle: the equations at the state that is returned, in jnp."""
    p = oracles.chain((4, 5, 5, 3), activation=ctep.HardSigmoid(), feedback=0.8)
    rest = settle(SOLVERS[name], p.network, p.x)
    assert explain(rest.result) is None
    for n, x in enumerate(p.x):
        state = tuple(s[n] for s in rest.state)
        drives = oracles.drives(p.network, state, x)
        left = np.max(
            [
                np.max(np.abs(np.clip(h, 0, 1) - s))
                for h, s in zip(drives, state, strict=True)
            ]
        )
        # Sweeps report the last move, which is at least what is left.
        assert left - 1e-12 <= float(rest.residual[n]) < 2e-4
        if name not in ("sweeps", "alternating"):
            assert float(rest.residual[n]) == pytest.approx(left, abs=1e-12)
        for got, h in zip(rest.memory[1], drives, strict=True):
            np.testing.assert_allclose(got[n], h, atol=1e-3)


@pytest.mark.parametrize(
    "order", [None, ctep.Backward(), ctep.Alternating(), ctep.Synchronous()]
)
def test_a_start_known_to_be_zero_saves_products_alone(order):
    """Oracle: the same sweeps without that knowledge, free and nudged."""
    p = oracles.skips(feedback=ctep.Fixed(0.5))
    solver = sweeps(2, order=order)
    plain, saved = (
        settle(solver, p.network, p.x, None, zeros) for zeros in (False, True)
    )
    problem = increments(p, plain, 0.1)
    start = tuple(jnp.zeros((1, *s.shape)) for s in plain.state)
    nudged, short = (run(solver, problem, start, zeros) for zeros in (False, True))
    for a, b in ((plain, saved), (nudged, short)):
        assert np.array_equal(a.steps, b.steps)
        for s, t in zip(a.state, b.state, strict=True):
            np.testing.assert_allclose(s, t, rtol=1e-4, atol=1e-8)


# ------------------------------------------------------------ results


@matrix.parametrize(
    "name", ["sweeps", "alternating", "euler", "fixed point"], ["sweeps", "euler"]
)
def test_each_result_by_a_problem_of_its_own(name):
    r"""Oracle: the spectral radius of $s_1 = x + w^2 s_1$, the limit, and NaN."""
    # A sweep of two blocks is worth two steps of the others.
    limits = {"sweeps": 40, "alternating": 40, "euler": 80, "fixed point": 80}
    solver = limited(SOLVERS[name], limits[name])
    x = jnp.ones((3, 1))
    settled = settle(solver, pair(0.3), x)
    assert names(settled.result) == ["successful"] * 3
    assert np.all(settled.settled)
    assert names(settle(solver, pair(1.3), x).result) == ["diverged"] * 3
    both = settle(solver, pair(0.3), jnp.array([[jnp.nan], [1.0], [jnp.inf]]))
    assert names(both.result) == ["not_finite", "successful", "not_finite"]
    np.testing.assert_allclose(both.state[0][1], settled.state[0][1], rtol=1e-6)
    short = settle(limited(solver, 1), pair(0.3), x)
    assert names(short.result) == ["not_settled"] * 3


HANGING = """
import jax.numpy as jnp
import test_solver as t

solver = t.ctep.ODE()
rests = [
    t.settle(solver, t.pair(w), jnp.full((2, 1), x))
    for w, x in ((0.3, jnp.nan), (3.0, 1.0))
]
print(*[name for rest in rests for name in t.names(rest.result)])
"""


@matrix.campaign
def test_adaptive_steps_end_at_nan_and_at_overflow():
    """Oracle: NaN at the start, and growth beyond the largest float32 at t = 44.

    No step is small enough for the error estimate of a state that is not finite, so
    that this runs in a process of its own, with a limit.
    """
    folder = Path(__file__).parent
    run = subprocess.run(
        [sys.executable, "-c", HANGING],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    first, _, third, _ = run.stdout.split()
    assert first == "not_finite"
    assert third in ("diverged", "not_finite")


def test_growth_without_limit_is_divergence():
    """Oracle: w^2 = 1.7^2 per sweep, beyond the largest float32 after 100 of them."""
    rest = settle(ctep.Sweeps(1000), pair(1.7), jnp.ones((1, 1)))
    assert names(rest.result)[0] in ("diverged", "not_finite")
    assert not bool(rest.settled[0])


def test_strong_symmetric_weights_oscillate_in_synchronous_sweeps_alone():
    """Oracle: s = tanh(4 s') from opposite signs flips for ever; in turn it rests."""
    network, x = pair(4.0, activation=ctep.Tanh()), jnp.zeros((1, 1))
    state = (jnp.full((1, 1), 0.9), jnp.full((1, 1), -0.9))
    both = settle(ctep.Sweeps(order=ctep.Synchronous()), network, x, state)
    assert names(both.result) == ["not_settled"]
    assert int(both.steps[0]) == 100
    assert float(both.residual[0]) == pytest.approx(2, abs=1e-2)
    turn = settle(ctep.Sweeps(), network, x, state)
    assert names(turn.result) == ["successful"]
    ends = [float(s[0, 0]) for s in turn.state]
    assert ends[0] == pytest.approx(ends[1], abs=2e-3)
    assert abs(ends[0]) > 0.99


THROWS = {
    "not_settled": (ctep.Sweeps(1), 0.9, 1.0, "still moving when the solver's limit"),
    "diverged": (ctep.Sweeps(60), 1.3, 1.0, "The state grew without bound"),
    "not_finite": (ctep.Sweeps(), 0.3, jnp.nan, "The state holds NaN or infinity"),
}


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("jit", [False, True])
@pytest.mark.parametrize("name", THROWS)
def test_throw(name, jit):
    """Oracle: the member's own message, by itself and within `jit`."""
    solver, weight, value, message = THROWS[name]
    network = pair(weight)
    x = jnp.array([[value], [0.0]])

    def solve(throw):
        return solver.solve(network.free(x), network.zeros(x), throw=throw)

    run = (lambda throw: jax.jit(lambda: solve(throw).state)()) if jit else solve
    with pytest.raises(RuntimeError, match=message):
        jax.block_until_ready(run(True))
    jax.block_until_ready(run(False))
    assert message in RESULTS[getattr(RESULTS, name)]


def results(*members):
    """Return a batched result with the given members."""

    def one(n):
        out = RESULTS.successful
        for i, name in enumerate(members):
            out = RESULTS.where(n == i, getattr(RESULTS, name), out)
        return out

    return jax.vmap(one)(jnp.arange(len(members)))


def test_first_failure():
    """Oracle: by hand; the free phase first, then the nudged ones in their order."""
    free = results("successful", "not_finite", "successful", "successful", "diverged")
    first = results("successful", "diverged", "diverged", "successful", "successful")
    last = results("successful", "not_settled", "not_finite", "not_settled", "diverged")
    nudged = jax.tree_util.tree_map(lambda *v: jnp.stack(v), first, last)
    assert names(first_failure(free, nudged)) == [
        "successful",
        "not_finite",
        "diverged",
        "not_settled",
        "diverged",
    ]


def test_explain():
    """Oracle: by hand; the worst member speaks for the batch."""
    assert explain(results("successful", "successful")) is None
    order = ("not_settled", "diverged", "not_finite")
    for n, name in enumerate(order):
        text = explain(results("successful", *order[: n + 1]))
        assert text == RESULTS[getattr(RESULTS, name)]
    assert len({RESULTS[member] for member in FAILURES}) == 3


# ------------------------------------------------------------ continuous time


@pytest.mark.smoke
@pytest.mark.usefixtures("x64")
def test_ode_rests_where_sweeps_do():
    """Oracle: Newton's iteration with a dense Jacobian; for any time constants.

    They change the path, which a look before the end shows.
    """
    p = oracles.chain((6, 5, 4, 3), feedback=0.3)
    slow = dataclasses.replace(
        p.network,
        layers=[
            dataclasses.replace(layer, tau=tau)
            for layer, tau in zip(p.network.layers, (0.5, 5.0), strict=True)
        ],
    )
    control = dfx.PIDController(1e-6, 1e-8)
    tight = ctep.ODE(dfx.Tsit5(), control, t1=500.0, rtol=0.0, atol=1e-6)
    root = np.asarray(oracles.roots(p))
    for network in (p.network, slow):
        rest = settle(tight, network, p.x)
        assert explain(rest.result) is None
        np.testing.assert_allclose(np.concatenate(rest.state, -1), root, atol=1e-5)
    brief = dataclasses.replace(tight, t1=0.5)
    paths = [settle(brief, network, p.x) for network in (p.network, slow)]
    assert all(names(path.result) == ["not_settled"] * 3 for path in paths)
    assert np.max(np.abs(paths[0].state[0] - paths[1].state[0])) > 1e-2
    assert np.max(np.abs(paths[0].state[1] - paths[1].state[1])) > 1e-2


@pytest.mark.usefixtures("x64")
def test_ode_follows_the_exact_path():
    r"""Oracle: $s(t) = x (1 - e^{-t/\tau})$ of a single linear unit."""
    network = pair(0.0, taus=(2.0, 1.0))
    solver = ctep.ODE(
        dfx.Tsit5(), dfx.PIDController(1e-9, 1e-11), t1=1.7, rtol=0.0, atol=0.0
    )
    rest = settle(solver, network, jnp.array([[1.0], [-3.0]]))
    want = np.array([[1.0], [-3.0]]) * (1 - np.exp(-1.7 / 2))
    np.testing.assert_allclose(rest.state[0], want, rtol=1e-7)
    np.testing.assert_allclose(rest.residual, np.abs([1, -3] - want[:, 0]), rtol=1e-6)
    assert names(rest.result) == ["not_settled"] * 2


@pytest.mark.usefixtures("x64")
@matrix.parametrize("count", [3, 10], [3])
def test_euler_steps_of_the_time_constant_are_synchronous_sweeps(count):
    """Oracle: the map applied as many times; the steps are counted."""
    network = ctep.mlp((4, 5, 3, 4, 2), feedback=0.5, key=KEY)
    layers = [dataclasses.replace(layer, tau=0.5) for layer in network.layers]
    network = dataclasses.replace(network, layers=layers)
    x, state = draw(network)
    want = iterates(network, x, state, count)[-1]
    solver = ctep.ODE(
        **EULER, dt0=0.5, t1=0.5 * count, interval=2.0, rtol=0.0, atol=0.0
    )
    rest = settle(solver, network, x, state)
    assert [int(n) for n in rest.steps] == [count] * 3
    for a, b in zip(rest.state, want, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-14)


def test_time_limit_is_honoured():
    """Oracle: t1 / dt0 steps, also where `interval` does not divide `t1`."""
    x = jnp.ones((2, 1))
    for interval in (10.0, 3.0):
        solver = ctep.ODE(**EULER, dt0=0.25, t1=4.0, interval=interval, atol=1e-6)
        rest = settle(solver, pair(0.9), x)
        assert [int(n) for n in rest.steps] == [16, 16]
        assert names(rest.result) == ["not_settled"] * 2


def test_ode_without_tolerances_goes_on_to_its_limit():
    """Oracle: t1 / dt0 steps, for a network at rest as well."""
    solver = ctep.ODE(**EULER, dt0=0.5, t1=20.0, interval=1.0, rtol=0.0, atol=0.0)
    for x in (0.0, 1.0):
        rest = settle(solver, pair(0.5), jnp.full((1, 1), x))
        assert int(rest.steps[0]) == 40


# ------------------------------------------------------------ increments


@oracles.FAST
def increments(p, free, beta):
    """Return the problem of one nudged phase of a `Problem`, frozen force."""
    nudge = ctep.Frozen(ctep.OutputError())
    own = nudge.context(p.network, free.state, p.y)
    own = jax.tree_util.tree_map(lambda leaf: leaf[None], own)
    context = (jnp.full((1, 1), beta, p.x.dtype), own)
    pull = Pull(nudge, p.network)
    return p.network.increments(p.x, free.state, free.memory, pull, context)


@oracles.FAST
def run(solver, problem, start, zeros=False):
    return solver.solve(problem, start, zeros=zeros, throw=False)


@matrix.parametrize("name", SOLVERS, ["sweeps", "euler", "newton"])
def test_every_solver_solves_increments_however_small(name):
    """Oracle: sweeps in float64 to 1e-14; in float32 to a relative 1e-3 per layer."""
    p = oracles.chain((4, 5, 5, 5, 5, 3), feedback=1e-3)
    free = settle(ctep.Sweeps(rtol=1e-6, atol=1e-6), p.network, p.x)
    problem = increments(p, free, 0.01)
    start = tuple(jnp.zeros((1, *s.shape), s.dtype) for s in free.state)
    rest = run(SOLVERS[name], problem, start)
    assert explain(rest.result) is None
    assert rest.steps.shape == (1, 3)
    with jax.enable_x64(True):
        double = lambda tree: jax.tree_util.tree_map(  # noqa: E731
            lambda v: v.astype(jnp.float64) if v.dtype == jnp.float32 else v, tree
        )
        exact = run(ctep.Sweeps(100, 1e-14, 1e-14), double(problem), double(start))
        assert explain(exact.result) is None
    for got, want in zip(rest.state, exact.state, strict=True):
        got, want = np.asarray(got[0], np.float64), np.asarray(want[0])
        error = np.max(np.abs(got - want), -1) / np.max(np.abs(want), -1)
        assert np.all(error < 1e-3)
        assert np.max(np.abs(want)) > 1e-5  # in units of 1e-12 at the first layer


def test_increments_are_measured_in_units_of_their_block():
    """Oracle: by hand; each block by its largest element, each example by itself."""
    network = ctep.mlp((2, 2, 2, 2), readout=True, key=KEY)
    free = settle(ctep.Sweeps(), network, jnp.ones((2, 2)))
    p = oracles.Problem(
        network, jnp.ones((2, 2)), jnp.zeros(2, int), None, oracles.cross_entropy
    )
    problem = increments(p, free, 0.1)
    state = (
        jnp.array([[[1e-12, 4e-12], [1.0, 2.0]]]),
        jnp.array([[[8.0, 1.0], [1e-30, 1e-30]]]),
    )
    change = (
        jnp.array([[[2e-13, 4e-14], [0.0, 0.1]]]),
        jnp.array([[[0.0, 0.4], [0.0, 0.0]]]),
    )
    worst, excess = problem.residual(change, state, 0.01, 0.02)
    np.testing.assert_allclose(worst, [[0.05, 0.05]], rtol=1e-5)
    # 0.05 - 0.01 / 4 and 0.05 - 0.01 / 8; then 0.05 - 0.01; less atol.
    np.testing.assert_allclose(excess, [[0.05 - 0.01 / 8 - 0.02, 0.02]], rtol=1e-4)
    plain, _ = network.free(p.x).residual(
        tuple(c[0] for c in change), tuple(s[0] for s in state), 0.01, 0.02
    )
    np.testing.assert_allclose(plain, [0.4, 0.1], rtol=1e-5)


@pytest.mark.smoke
def test_fixed_point_and_newton_agree():
    """Oracle: each other, and Newton takes far fewer steps."""
    p = oracles.chain((6, 5, 4, 3), feedback=0.9, init=oracles.centred(0.8))
    plain, newton = (
        settle(SOLVERS[n], p.network, p.x) for n in ("fixed point", "newton")
    )
    assert explain(plain.result) is None
    assert explain(newton.result) is None
    for a, b in zip(plain.state, newton.state, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4)
    assert np.all(newton.steps < plain.steps)


def test_the_verdict_is_on_the_element_not_on_the_solver():
    """Oracle: a solver that stops at once leaves a state that still moves."""
    lazy = ctep.FixedPoint(optx.FixedPointIteration(1e3, 1e3), rtol=1e-3, atol=1e-3)
    rest = settle(lazy, pair(0.9), jnp.ones((1, 1)))
    assert names(rest.result) == ["not_settled"]


def test_a_layer_that_no_nudge_reaches_is_at_rest():
    """Oracle: sweeps; Newton's method leaves rounding where nothing is felt."""
    network = ctep.graph(
        (3, 4, 4, 4, 2),
        [(0, 1), (1, 2), (0, 3), (2, 3)],
        feedback_edges=[(3, 2)],
        feedback=ctep.Fixed(0.3),
        key=jax.random.key(0),
    )
    x, y = jax.random.normal(jax.random.key(1), (8, 3)), jnp.arange(8) % 2
    newton = ctep.FixedPoint(optx.Newton(1e-6, 1e-6))
    found, want = (
        ctep.gradient(network, x, y, rule=ctep.OneSided(), solver=solver)[1]
        for solver in (newton, ctep.Sweeps(500, 1e-6, 1e-6))
    )
    for a, b in zip(*map(jax.tree.leaves, (found, want)), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4)
