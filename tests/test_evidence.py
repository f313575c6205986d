"""Contraction, gradients against the exact one, and what happens along the depth."""

import dataclasses
import functools
import itertools
import math

import equinox as eqx
import jax
import jax.numpy as jnp
import matrix
import numpy as np
import oracles
import pytest

import ctep
from ctep import operator_norm
from ctep._network.names import parameter_names
from ctep._rule import Task
from ctep.analysis import (
    _contraction,
    _depth,
    _gradient_check,
    _gradient_curve,
    _norms,
    _recommended_beta,
    _weights,
)
from ctep.analysis._contraction import contraction
from ctep.analysis._depth import depth_profile
from ctep.analysis._gradient_check import gradient_check
from ctep.analysis._gradient_curve import gradient_curve
from ctep.analysis._recommended_beta import recommended_beta
from ctep.analysis._weights import weight_statistics
from ctep.analysis.plot import _gradients as plot

KEY = jax.random.key(0)
TIGHT = ctep.Sweeps(2000, rtol=1e-12, atol=1e-12)
NUDGE = ctep.OutputError()


def weak(scale=0.3, **kwargs):
    """A chain of two layers whose map contracts."""
    return oracles.chain(init=oracles.centred(scale), **kwargs)


def split(network, flat):
    """Return flat states, one row per example, as states."""
    return jax.vmap(lambda row: oracles.split(network, row))(flat)


@functools.cache
def image_network(pool=ctep.AveragePool, feedback=0.2):
    return ctep.vgg(
        (3, 4, 4), input_shape=(8, 8, 2), classes=3, pool=pool, pooled=(1, 3),
        feedback=feedback, activation=ctep.Sigmoid(4.0, 0.5), key=KEY,
    )  # fmt: skip


# ------------------------------------------------------------ norms of operators


def dense_matrix(operator):
    size = math.prod(operator.in_shape)
    eye = jnp.eye(size).reshape(size, *operator.in_shape)
    return np.asarray(operator.apply(eye)[0]).reshape(size, -1)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(
    ("operator", "exact"),
    [
        (lambda: ctep.Dense((7,), (4,), key=KEY), True),
        (lambda: ctep.Conv((6, 5, 2), 3, key=KEY), False),
        (lambda: ctep.Conv((6, 6, 2), 3, stride=2, padding=0, key=KEY), False),
        (lambda: ctep.AveragePool((6, 6, 2), 3), True),
        (lambda: ctep.Chain([ctep.Conv((6, 6, 2), 3, key=KEY),
                             ctep.AveragePool((6, 6, 3))]), False),
    ],
)  # fmt: skip
def test_operator_norms_bound_the_dense_matrix(operator, exact):
    """Oracle: numpy's norms of the matrix that the operator is; equal where exact."""
    operator = operator()
    matrix = dense_matrix(operator)
    # Rows are sources: images are v @ matrix.
    truths = {
        2: np.linalg.norm(matrix, 2),
        math.inf: np.abs(matrix).sum(0).max(),
        1: np.abs(matrix).sum(1).max(),
    }
    for order, truth in truths.items():
        bound = operator_norm(operator, order)
        assert bound >= truth
        chained = isinstance(operator, ctep.Chain)
        tight = exact or (order != 2 and not chained)
        assert bound <= truth * (1 + 1e-6 if tight else 2)
    if isinstance(operator, ctep.Conv):  # closer than the triangle inequality
        taps = np.linalg.norm(operator.weight, 2, axis=(2, 3))
        assert operator_norm(operator) < taps.sum()


class Mirror(ctep.AbstractLinear):
    """An operator of the user: twice a reflection."""

    in_shape: tuple = eqx.field(static=True, default=(4,))
    out_shape: tuple = eqx.field(static=True, default=(4,))

    def image(self, v):
        return 2 * v - v.sum(-1, keepdims=True)

    def transposed(self, u):
        return self.image(u)

    def formula(self, weight, state):
        return f"mirror({state})"

    def adjoint_formula(self, weight, state):
        return f"mirror({state})"


@operator_norm.register
def _(operator: Mirror, order):
    return 2.0 if order == 2 else math.inf


def test_the_norms_of_an_unknown_operator_are_those_it_states():
    r"""Oracle: numpy's norms; $\|A\|_\infty \le \sqrt{n} \|A\|_2$ is met here."""
    matrix = dense_matrix(Mirror())
    assert operator_norm(Mirror()) == 2
    assert np.linalg.norm(matrix, 2) == pytest.approx(2, rel=1e-6)
    for axis, order in ((0, math.inf), (1, 1)):
        found = operator_norm(Mirror(), order)
        assert found == np.abs(matrix).sum(axis).max() == 4
    pool = ctep.SoftmaxPool((4, 4, 1))
    assert operator_norm(pool) == operator_norm(pool, math.inf) == math.inf
    assert operator_norm(ctep.MaxPool((4, 4, 1)), math.inf) == 1


# ------------------------------------------------------------ contraction


def jacobians(p, beta, states):
    """Return the dense Jacobians of the nudged map at states, by the oracle's map."""

    def image(flat, x, y):
        pull = -beta * jax.grad(lambda s: p.loss(oracles.readout(p.network, s), y))(
            flat
        )
        return oracles.residual(p.network, flat, x, pull) + flat

    one = jax.vmap(jax.jacfwd(image), in_axes=(0, 0, 0))
    return np.asarray(oracles.FAST(one)(states, p.x, p.y))


def sampled(p, count=60, seed=0):
    """Return `count` copies of the first example at random states, and the problem."""
    rng = np.random.default_rng(seed)
    units = sum(math.prod(s) for s in p.network.shapes)
    p = dataclasses.replace(
        p,
        x=jnp.asarray(rng.uniform(-1, 1, (count, *p.network.input_shape))),
        y=jnp.asarray(rng.integers(0, 3, count)),
    )
    return p, jnp.asarray(rng.uniform(-1, 1, (count, units)))


def unit_weights(bound, network):
    sizes = [math.prod(s) for s in network.shapes]
    return np.repeat(bound.weights, sizes)


def weighted(matrix, bound, network):
    v = unit_weights(bound, network)
    scaled = matrix * v / v[:, None]
    if bound.norm == "2":
        return np.linalg.norm(scaled, 2)
    return np.abs(scaled).sum(1).max()


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(
    "name", ["tanh symmetric", "sigmoid", "relu6", "skips", "fixed"]
)
def test_no_jacobian_exceeds_the_proved_bound(name):
    """Oracle: dense Jacobians of the nudged map at random states, weighted alike."""
    if name == "skips":
        p = oracles.skips(feedback=lambda i, j: 0.3 ** (j - i))
    elif name == "fixed":
        p = oracles.chain(feedback=ctep.Fixed(0.5))
    else:
        p = oracles.NETWORKS[name]()
    p, states = sampled(p)
    beta = 0.7
    found = contraction(p.network, p.nudge, beta)
    matrices = jacobians(p, beta, states)
    assert [b.norm for b in found.bounds] == ["2", "infinity"]
    for bound in found.bounds:
        worst = max(weighted(m, bound, p.network) for m in matrices)
        assert worst <= bound.factor(beta)
        assert worst > 0.1 * bound.factor(beta)  # no bound is met by being vast


@pytest.mark.usefixtures("x64")
def test_k1_is_the_spectral_radius_of_the_norms():
    """Oracle: numpy's eigenvalues of the block matrix, written out for a chain."""
    p = weak(feedback=0.5)
    w = [np.asarray(c.forward.weight) for c in p.network.couplings[1:]]
    assert len(w) == 1
    norms = [np.linalg.norm(v, 2) for v in w]
    matrix = np.array([[0, 0.5 * norms[0]], [norms[0], 0]])
    want = np.abs(np.linalg.eigvals(matrix)).max()
    assert contraction(p.network).bounds[0].k1 == pytest.approx(want, rel=1e-6)
    rows, columns = (np.abs(w[0]).sum(axis).max() for axis in (0, 1))
    want = math.sqrt(0.5 * rows * columns)
    assert contraction(p.network).bounds[1].k1 == pytest.approx(want, rel=1e-6)


@pytest.mark.usefixtures("x64")
def test_a_certified_network_comes_to_one_rest_at_the_rate():
    """Oracle: Banach's inequality along the iteration, from random states."""
    p, states = sampled(weak(feedback=0.7), count=20)
    p = dataclasses.replace(p, x=p.x[:1].repeat(20, 0))
    found = contraction(p.network, beta=0.0)
    assert found.proved
    problem = p.network.free(p.x)
    step = oracles.FAST(lambda s: problem.map(s))
    state, path = split(p.network, states), []
    for _ in range(60):
        path.append(np.concatenate([s.reshape(20, -1) for s in state], 1))
        state = step(state)
    rest = np.concatenate([s.reshape(20, -1) for s in state], 1)
    assert np.abs(rest - rest[0]).max() < 1e-8
    for bound in found.bounds[: 1 + (found.bounds[1].k1 < 1)]:
        v = unit_weights(bound, p.network)
        order = 2 if bound.norm == "2" else np.inf
        away = [np.linalg.norm((s - rest[0]) / v, order, axis=1) for s in path[:30]]
        for before, after in itertools.pairwise(away):
            assert np.all(after <= bound.k1 * before * (1 + 1e-9))


@pytest.mark.usefixtures("x64")
def test_the_largest_beta_is_where_the_verdict_turns():
    """Oracle: the verdict on either side; no certificate without contraction."""
    network = weak(feedback=0.7).network
    found = contraction(network, beta=0.1)
    largest = found.largest_beta
    assert 0 < largest < math.inf
    assert contraction(network, beta=0.999 * largest).proved
    assert contraction(network, beta=-0.999 * largest).proved
    assert not contraction(network, beta=1.001 * largest).proved
    best = max(found.bounds, key=lambda b: b.largest_beta)
    assert best.factor(largest) == pytest.approx(1)
    assert "Proved" in str(found)
    strong = contraction(weak(3.0).network, beta=0.1)
    assert not strong.proved
    assert strong.largest_beta == 0
    assert "Not proved" in str(strong)


@pytest.mark.usefixtures("x64")
def test_forces_are_told_apart_and_scaled():
    """Oracle: the parts by themselves; a frozen force has no slope."""
    network = weak(feedback=0.5).network
    local = ctep.LocalError((1, 2), temperature=2.0).drawn(network, KEY)
    alone = contraction(network).bounds
    both = contraction(network, NUDGE + 0.65 * local).bounds
    scheduled = contraction(network, ctep.linear(1.0, 4) * local, epoch=1).bounds
    frozen = contraction(network, ctep.Frozen(NUDGE)).bounds
    for norm in (0, 1):
        assert both[norm].k2 == alone[norm].k2 > 0
        assert alone[norm].k3 == 0
        ratio = both[norm].k3 / scheduled[norm].k3
        assert ratio == pytest.approx(0.65 / 0.75)
        assert frozen[norm].k2 == frozen[norm].k3 == 0
    # The first layer feels half of what the last one does.
    w = [np.linalg.norm(np.asarray(p.weight), 2) for p in local.projections]
    want = 0.65 * 0.5 / 4 * max(0.5 * w[0] ** 2, w[1] ** 2)
    assert both[0].k3 == pytest.approx(want, rel=1e-6)
    # Forces on one layer add up, those on different ones do not.
    one, two = (
        ctep.LocalError((n,), temperature=2.0, projections=local.projections[n - 1 : n])
        for n in (1, 2)
    )
    total, first, twice = (
        contraction(network, nudge).bounds[0].k3
        for nudge in (0.65 * one + 0.65 * two, one, one + 0.5 * one)
    )
    assert total == pytest.approx(want)
    assert twice == pytest.approx(1.5 * first)
    assert contraction(network, NUDGE + 0.0 * Tug.unknown()).bounds[0].k3 == 0
    assert contraction(network, ctep.Frozen(NUDGE), 5.0).largest_beta == math.inf


class Tug(ctep.AbstractNudge):
    """A nudge of the user, with the curvature 2 over all blocks."""

    def blocks(self, network):
        return tuple(range(len(network.shapes)))

    def cost(self, network, state, target):
        return sum(jnp.sum(s**2, -1) for s in state)

    def heads(self, network):
        return (ctep.Head(None, ctep.SquaredError(), weight=2.0),)

    @staticmethod
    def unknown():
        """Return one that gives no bound."""
        return type("Odd", (Tug,), {})()


@pytest.mark.usefixtures("x64")
def test_a_users_nudge_counts_with_its_own_bound():
    """Oracle: its curvature, at most as often as the weights differ."""
    network = weak(feedback=0.5).network
    two, infinity = contraction(network, Tug()).bounds
    spread = max(two.weights) / min(two.weights)
    assert two.k3 == pytest.approx(2 * spread)
    assert infinity.k3 > two.k3
    unknown = contraction(network, Tug.unknown())
    assert not unknown.proved
    assert "force has no known" in str(unknown)


@pytest.mark.usefixtures("x64")
def test_the_estimate_is_below_the_proof_and_at_the_jacobian():
    """Oracle: numpy's 2-norm of the dense Jacobian along the way to rest."""
    p = weak(feedback=0.5)
    proved, _, estimated = contraction(
        p.network, beta=0.3, x=p.x, y=p.y, steps=3, iterations=200
    ).bounds
    assert estimated.kind == "estimated"
    for k in ("k1", "k2"):
        assert 0 < getattr(estimated, k) <= getattr(proved, k) * (1 + 1e-9)
    state, worst = p.network.zeros(p.x), 0.0
    for _ in range(3):
        flat = jnp.concatenate(state, 1)
        matrices = jacobians(p, 0.0, flat)
        worst = max(worst, *(weighted(m, proved, p.network) for m in matrices))
        state = p.network.free(p.x).map(state)
    assert estimated.k1 == pytest.approx(worst, rel=1e-3)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("pool", [ctep.MaxPool, ctep.SoftmaxPool])
def test_nothing_is_proved_where_feedback_returns_through_a_pool(pool):
    """Oracle: the map itself, which jumps where the maximum moves."""
    network = image_network(pool)
    found = contraction(network)
    assert not found.proved
    assert math.isinf(found.rate)
    assert found.largest_beta == 0
    assert "pool that is not linear" in str(found)
    # Averages and a network that nothing comes back in have their bounds.
    assert math.isfinite(contraction(image_network()).bounds[0].k1)
    forward = image_network(ctep.MaxPool, None)
    assert contraction(forward, ctep.Frozen(NUDGE)).proved


def test_nothing_is_proved_of_an_energy():
    """Oracle: it says nothing of its curvature; the estimate is a number."""
    p = oracles.NETWORKS["energy"]()
    found = contraction(p.network, p.nudge, x=p.x, y=p.y, steps=2, iterations=2)
    assert not found.proved
    assert "Hopfield" in str(found)
    (bound,) = found.bounds
    assert bound.kind == "estimated"
    assert 0 < bound.k1 < 2


# ------------------------------------------------------------ names


def test_arrays_are_named_as_printed():
    """Oracle: the names in the printed equations, in the order of the leaves."""
    p = oracles.skips(feedback=ctep.Fixed(0.1))
    trained = eqx.filter(p.network, p.network.trainable())
    names = parameter_names(p.network)
    assert names[:3] == ("b1", "b2", "b3")
    assert names[-2:] == ("W_out", "b_out")
    assert len(names) == len(jax.tree_util.tree_leaves(trained))
    text = str(p.network)
    assert all(name in text for name in names)
    energy = oracles.NETWORKS["energy"]().network
    assert parameter_names(energy) == ("u", "v", "b")


def test_arrays_of_one_coupling_are_told_apart():
    """Oracle: a coupling of two dense operators has two weights."""
    first, last = ctep.Dense((4,), (3,), key=KEY), ctep.Dense((3,), (2,), key=KEY)
    layer = ctep.Layer((2,), ctep.Tanh())
    coupling = ctep.Coupling(0, 1, ctep.Chain([first, last]))
    names = parameter_names(ctep.Network((4,), [layer], [coupling]))
    assert names == ("W0_1.operators[0].weight", "W0_1.operators[1].weight")


# ------------------------------------------------------------ against the exact one


@matrix.campaign
@pytest.mark.usefixtures("x64")
def test_gradients_are_compared_array_by_array():
    """Oracle: numpy's cosine, distance and signs with dense differentiation."""
    p = weak(0.5)
    rules = {"large": ctep.OneSided(0.5), "twin": ctep.Backprop()}
    found = gradient_check(p.network, p.x, p.y, rules, solver=TIGHT)
    truth = eqx.filter(oracles.exact(p), p.network.trainable())
    leaves = [np.ravel(v) for v in jax.tree_util.tree_leaves(truth)]
    assert found.names == (*parameter_names(p.network), "all")
    assert found.rules == ("large", "twin")
    for row, rule in enumerate(rules.values()):
        given = p.network, p.x, p.y, p.nudge, rule, TIGHT
        gradient, _ = _gradient_check._estimate(*given)
        ours = [np.ravel(v) for v in jax.tree_util.tree_leaves(gradient)]
        for n, (a, b) in enumerate(
            zip([*ours, np.concatenate(ours)], [*leaves, np.concatenate(leaves)],
                strict=True)
        ):  # fmt: skip
            assert found.cosine[row, n] == pytest.approx(oracles.cosine(a, b), abs=1e-6)
            error = np.linalg.norm(a - b) / np.linalg.norm(b)
            assert found.relative_error[row, n] == pytest.approx(error, abs=1e-6)
            assert found.sign_agreement[row, n] == np.mean(np.sign(a) == np.sign(b))
    assert found.relative_error[0, -1] > 1e-3
    assert found.examples == len(p.x)
    assert "W_out" in str(found)


@matrix.campaign
@pytest.mark.usefixtures("x64")
def test_examples_that_do_not_settle_are_left_out_and_counted():
    """Oracle: the batch without the one whose nudge is too strong."""
    p = oracles.chain(
        activation=ctep.Sigmoid(1.0), init=oracles.centred(0.5), readout=False,
        output_activation=ctep.Identity(),
    )  # fmt: skip
    y = jax.random.uniform(jax.random.key(3), (len(p.x), 3)).at[0].set(30)
    options = {
        "nudge": ctep.OutputError(ctep.SquaredError()),
        "solver": ctep.Sweeps(300, rtol=1e-8, atol=1e-8),
        "exact": ctep.OneSided(0.01),
    }
    rules = [ctep.Holomorphic(0.5, 4)]
    found = gradient_check(p.network, p.x, y, rules, throw=False, **options)
    want = gradient_check(p.network, p.x[1:], y[1:], rules, **options)
    assert (found.unsettled, found.examples) == (1, len(p.x) - 1)
    assert want.unsettled == 0
    np.testing.assert_allclose(found.cosine, want.cosine, rtol=1e-12)
    assert "1 more left out" in str(found)
    with pytest.raises(RuntimeError, match=r"moving|bound|NaN"):
        gradient_check(p.network, p.x, y, rules, **options)
    x, y = p.x[:1].repeat(3, 0), y[:1].repeat(3, 0)
    with pytest.raises(RuntimeError, match=r"moving|bound|NaN"):
        gradient_check(p.network, x, y, rules, throw=False, **options)


# ------------------------------------------------------------ step by step


@pytest.mark.usefixtures("x64")
@matrix.parametrize("name", ["symmetric", "skips regulated", "energy"], ["symmetric"])
def test_nudged_steps_descend_the_gradient_in_time(name):
    """Oracle: Ernoult et al. 2019; equal at every step to the order of the nudge."""
    if name == "symmetric":
        p = oracles.chain((6, 5, 4, 4, 3), init=oracles.centred(0.5))
    elif name == "energy":
        p = oracles.NETWORKS["energy"]()
    else:
        p = oracles.skips(feedback=lambda i, j: 0.5 ** (j - i), init=oracles.centred())
    found = gradient_curve(
        p.network, p.x, p.y, steps=12, rule=ctep.Centered(1e-5), nudge=p.nudge,
        solver=TIGHT,
    )  # fmt: skip
    reached = found.bptt_norm > 0
    assert np.all(found.relative_error[reached] < 1e-8)
    assert np.all(found.ep_norm[~reached] == 0)
    # It is a curve: the first step has little of what the last one has.
    assert np.abs(found.bptt_norm[0] / found.bptt_norm[-1] - 1).max() > 0.2
    assert "backpropagation" in str(found)


@pytest.mark.usefixtures("x64")
def test_without_an_energy_the_curves_part():
    """Oracle: feedback through other weights, which the adjoint does not have."""
    p = oracles.chain((6, 5, 4, 4, 3), feedback=ctep.Fixed(0.5))
    found = gradient_curve(p.network, p.x, p.y, steps=8, solver=TIGHT)
    last = found.names.index("b3")
    # One step back is the same: nothing has come along the feedback yet.
    assert found.relative_error[0, last] < 1e-5
    assert found.relative_error[-1, found.names.index("b1")] > 0.1


@matrix.campaign
@pytest.mark.usefixtures("x64")
def test_both_curves_are_their_rules():
    """Oracle: `Unrolled` truncated to so many steps, and as many nudged sweeps."""
    p = weak(0.5)
    rule = ctep.Centered(0.2)
    found = gradient_curve(p.network, p.x, p.y, steps=4, rule=rule, solver=TIGHT)

    @oracles.FAST
    def both(p):
        few = ctep.FixedSweeps(4, 4, order=ctep.Synchronous())
        rest = TIGHT.solve(p.network.free(p.x), p.network.zeros(p.x)).state
        task = Task.mean(p.x, p.y, p.nudge, few, throw=False)
        task = dataclasses.replace(task, start=rest)
        pair = ctep.Unrolled(4), rule
        return [r.estimate(p.network, task).gradient[0] for r in pair]

    for gradient, norms in zip(both(p), (found.bptt_norm, found.ep_norm), strict=True):
        want = [np.linalg.norm(v) for v in jax.tree_util.tree_leaves(gradient)]
        np.testing.assert_allclose(norms[3], want, rtol=1e-9)
    assert found.relative_error[3].max() > 1e-4  # the bias of a large nudge
    assert np.all(found.cosine[3] > 0.99)


# ------------------------------------------------------------ how large a nudge


@matrix.campaign
def test_the_recommended_nudge_balances_what_was_measured():
    """Oracle: the errors at it, measured anew against float64 differentiation."""
    p = jax.tree_util.tree_map(
        lambda v: v.astype(jnp.float32) if eqx.is_inexact_array(v) else v, weak(0.5)
    )
    solver = ctep.Sweeps(1000, rtol=1e-6, atol=1e-6)
    found = recommended_beta(p.network, p.x, p.y, solver=solver)
    assert found.order == 2
    assert found.measured_order == pytest.approx(2, abs=0.1)
    assert 0 < found.beta < 0.1
    assert found.bias == pytest.approx(found.rounding, rel=1e-3)
    # A plain difference would have lost eps / beta of the state; increments do not.
    assert max(found.roundings) < 30 * float(jnp.finfo(jnp.float32).eps)
    assert found.betas[-1] < 1e-14
    assert "rounding" in str(found)
    with jax.enable_x64(True):
        wide = oracles.as_double(p)
        truth = oracles.vector(eqx.filter(oracles.exact(wide), p.network.trainable()))
        task = Task.mean(wide.x, wide.y, wide.nudge, TIGHT)
        rule = ctep.Centered(10 * found.beta)
        biased = oracles.FAST(rule.estimate)(wide.network, task).gradient[0]
    bias = np.linalg.norm(oracles.vector(biased) - truth) / np.linalg.norm(truth)
    assert bias == pytest.approx(100 * found.bias, rel=0.05)


@pytest.mark.usefixtures("x64")
def test_a_linear_network_has_no_bias_to_balance():
    """Oracle: a quadratic energy and cost; one-sided bias is linear, in float64."""
    p = oracles.NETWORKS["linear"]()
    found = recommended_beta(
        p.network, p.x, p.y, rule=ctep.OneSided(0.1), nudge=p.nudge, solver=TIGHT
    )
    assert found.order == 1
    assert found.beta < 1e-5
    assert found.rounding < 1e-13


@matrix.campaign
@pytest.mark.usefixtures("x64")
def test_any_rule_of_a_known_order_has_its_nudge_recommended():
    """Oracle: the order of a circle of four points, as it is measured."""
    p = weak(0.5, activation=ctep.Sigmoid(4.0, 0.5))
    rule = ctep.Holomorphic(0.4, 4)
    found = recommended_beta(p.network, p.x, p.y, rule=rule, solver=TIGHT)
    assert found.largest == 0.4
    assert found.order == 4
    assert found.measured_order == pytest.approx(4, abs=0.3)


# ------------------------------------------------------------ along the depth


@pytest.mark.usefixtures("x64")
@matrix.parametrize("beta", [0.2, -0.2], [0.2])
def test_depth_profile_measures_the_states(beta):
    """Oracle: numpy's means over Newton's roots, free and nudged, and the gradient."""
    p = oracles.NETWORKS["hard sigmoid"]()
    network = p.network
    found = depth_profile(network, p.x, p.y, solver=TIGHT, beta=beta, tolerance=0.05)

    @oracles.FAST
    def nudged(p):
        def one(x, y):
            cost = lambda s: p.loss(oracles.readout(p.network, s), y)  # noqa: E731
            return oracles.newton(p.network, x, lambda s: -beta * jax.grad(cost)(s))

        return jax.vmap(one)(p.x, p.y)

    free = split(network, oracles.roots(p))
    moved = split(network, nudged(p))
    for n, (s, t) in enumerate(zip(free, moved, strict=True)):
        s, t = np.asarray(s), np.asarray(t)
        assert found.activity[n] == pytest.approx(s.mean(), abs=1e-9)
        assert found.rms[n] == pytest.approx(np.sqrt((s**2).mean()), abs=1e-9)
        assert found.low[n] == pytest.approx(np.mean(s <= 0.05))
        assert found.high[n] == pytest.approx(np.mean(s >= 0.95))
        rms = np.sqrt(np.mean((t - s) ** 2))
        assert found.displacement[n] == pytest.approx(rms, rel=1e-6)
    assert max(found.low) > 0
    assert "displacement" in str(found)


@matrix.campaign
@pytest.mark.usefixtures("x64")
def test_depth_profile_shows_signals_that_vanish():
    r"""Oracle: $\gamma$ per layer in displacement and raw gradient."""
    p = oracles.chain((6, 5, 5, 5, 3), feedback=0.01)
    options = {"solver": TIGHT, "beta": 1e-3}
    raw = depth_profile(p.network, p.x, p.y, rescale=False, **options)
    scaled = depth_profile(p.network, p.x, p.y, **options)
    for values in (raw.displacement, raw.gradient):
        falls = values[1:] / values[:-1]
        assert np.all((falls > 20) & (falls < 500))
    assert np.all(scaled.gradient / scaled.gradient[-1] > 0.05)
    assert np.all(np.isfinite(raw.low))
    rule = ctep.OneSided(1e-3, rescale=False)
    gradient, _ = _gradient_check._estimate(p.network, p.x, p.y, NUDGE, rule, TIGHT)
    own = gradient.couplings[1].forward.weight, gradient.layers[1].bias
    want = math.sqrt(sum(float(jnp.sum(v**2)) for v in own))
    assert raw.gradient[1] == pytest.approx(want, rel=1e-9)


def test_open_ends_of_a_range_and_tiny_signals_in_float32():
    r"""Oracle: a rectifier has no upper end; $\gamma$ per layer, below 1e-19."""
    p = oracles.chain(activation=ctep.ReLU(), feedback=1e-24)
    found = depth_profile(p.network, p.x, p.y, rescale=False)
    assert np.all(np.isnan(found.high))
    assert np.all(np.isfinite(found.low))
    for first, last in (found.displacement, found.gradient):
        assert 1e-26 < first / last < 1e-22


def test_norms_of_what_is_too_small_to_be_squared():
    """Oracle: numpy in float64."""
    a, b = np.random.default_rng(0).normal(size=(2, 3, 4)) * [[[1e-30]], [[1e-10]]]
    single = jnp.asarray(a, jnp.float32), jnp.asarray(b, jnp.float32)
    assert float(_norms.norm(single[0])) == pytest.approx(
        np.linalg.norm(a), rel=1e-6, abs=0
    )
    assert float(_norms.cosine(*single)) == pytest.approx(
        oracles.cosine(a, b), rel=1e-5
    )
    assert _norms.norm(jnp.zeros(3)) == 0
    assert np.isnan(_norms.cosine(single[0], jnp.zeros((3, 4))))


@pytest.mark.usefixtures("x64")
def test_weight_statistics():
    """Oracle: numpy on the weights; a convolution's norm is a bound."""
    network = oracles.chain(feedback=ctep.Fixed(0.5)).network
    found = weight_statistics(network)
    assert found.names == ("W0_1", "W1_2", "B1_2", "W_out")
    assert found.exact.all()
    operators = [c.forward for c in network.couplings]
    operators += [network.couplings[1].feedback.operator, network.readout.operator]
    assert len(operators) == len(found.names)
    for n, operator in enumerate(operators):
        w = np.asarray(operator.weight)
        row = w.mean(), w.std(), np.linalg.norm(w), np.abs(w).max()
        got = found.mean[n], found.std[n], found.norm[n], found.largest[n]
        np.testing.assert_allclose(got, row, rtol=1e-12)
        norm = np.linalg.norm(w, 2)
        assert found.operator_norm[n] == pytest.approx(norm, rel=1e-9)
    images = weight_statistics(image_network())
    assert list(images.exact) == [False, False, False, True]
    assert "<=" in str(images)


# ------------------------------------------------------------ figures


@functools.cache
def small():
    """A chain in float32, as most networks are."""
    network = ctep.mlp((4, 5, 5, 3), feedback=0.2, key=KEY)
    x = jax.random.normal(KEY, (2, 4))
    return network, x, jnp.array([0, 2])


def odd():
    """Return a network of the user's own kind."""
    kind = type("Odd", (ctep.Module,), {"check_nudged": lambda self, blocks: None})
    return kind(lambda v: v, (4,))


def numbers(*shape):
    """Return positive numbers, one of them not known."""
    out = np.random.default_rng(0).uniform(0.1, 1, shape)
    out[..., -1] = np.nan
    return out


def figures():
    layers, names = numbers(4), ("W0_1", "b1", "W_out")
    records = [
        {"epoch": n, "loss": 1 / n, "train_accuracy": 0.5, "test_accuracy": 0.4,
         "sweeps": 5.0, "unsettled": 0.1, "gradient_cosine": None if n == 2 else 0.9}
        for n in (1, 2, 3)
    ]  # fmt: skip
    bounds = (
        _contraction.Bound("2", "proved", 0.5, 1.0, 0.2, (1.0,)),
        _contraction.Bound("infinity", "proved", math.inf, 1.0, 0.2, (1.0,)),
    )
    beta = _recommended_beta.Recommendation(
        0.01, 1e-4, 1e-4, 2, 2.0, 0.1, (1e-2, 2.5e-3, 6e-4), (1e-2, 1e-8, 1e-15),
        (1e-4, 1e-4, 2e-4), 1e-4, 1e-12, 2, 1,
    )  # fmt: skip
    check = [numbers(2, 3)] * 3
    curve = [numbers(5, 3)] * 4
    return {
        plot.contraction: _contraction.Contraction(0.1, bounds, None),
        plot.gradient_check: _gradient_check.GradientCheck(
            ("a", "b"), names, *check, 2, 0
        ),
        plot.gradient_curve: _gradient_curve.GradientCurve("a", names, *curve, 2, 1),
        plot.recommended_beta: beta,
        plot.depth_profile: _depth.DepthProfile(0.1, *[layers] * 6, 2, 1),
        plot.weight_statistics: _weights.WeightStatistics(
            names, *[numbers(3)] * 5, np.array([True, False, True])
        ),
        plot.history: records,
    }


# Panels, and marks or bars in all of them.
SIZES = {
    plot.contraction: (1, 6),
    plot.gradient_check: (2, 4),
    plot.gradient_curve: (2, 9),
    plot.recommended_beta: (1, 5),
    plot.depth_profile: (4, 5),
    plot.weight_statistics: (2, 4),
    plot.history: (5, 6),
}


def panels(figure):
    return figure.axes[0].child_axes or figure.axes


@pytest.mark.parametrize("draw", SIZES, ids=lambda draw: draw.__name__)
def test_figures_show_every_value(draw):
    """Oracle: how many lines and bars there are; axes have labels."""
    import matplotlib.pyplot as plt

    figure = draw(figures()[draw])
    figure.canvas.draw()
    shown = panels(figure)
    assert all(ax.get_ylabel() for ax in shown)
    assert shown[-1].get_xlabel()
    assert figure.get_suptitle() or figure.axes[0].get_title()
    marks = sum(
        len(ax.patches) or len(ax.lines) - len(ax.containers) * 2 for ax in shown
    )
    assert (len(shown), marks) == SIZES[draw]
    own, ax = plt.subplots()
    assert draw(figures()[draw], ax=ax) is own
    plt.close("all")


@pytest.mark.parametrize("layers", [2, 20, 100])
def test_figures_of_deep_networks_stay_readable(layers):
    """Oracle: what is written takes its place, and nothing is written twice there."""
    import matplotlib.pyplot as plt

    names = (
        *(f"b{n}" for n in range(layers)),
        *(f"W{n}" for n in range(layers)),
        "all",
    )
    rows = numbers(layers)
    deep = {
        plot.gradient_check: _gradient_check.GradientCheck(
            ("a", "b"), names, *[numbers(2, len(names))] * 3, 2, 0
        ),
        plot.gradient_curve: _gradient_curve.GradientCurve(
            "a", names[:-1], *[numbers(5, len(names) - 1)] * 4, 2, 1
        ),
        plot.depth_profile: _depth.DepthProfile(0.1, *[rows] * 6, 2, 1),
        plot.weight_statistics: _weights.WeightStatistics(
            names, *[numbers(len(names))] * 5, np.ones(len(names), bool)
        ),
    }
    for draw, result in deep.items():
        figure = draw(result)
        figure.canvas.draw()
        *_, low = panels(figure)
        ticks = [text for text in low.get_xticklabels() if text.get_text()]
        assert len(ticks) <= 12
        boxes = sorted(text.get_window_extent().x1 for text in ticks)
        assert all(b - a > 5 for a, b in itertools.pairwise(boxes))
        legend = panels(figure)[0].get_legend()
        assert legend is None or len(legend.get_texts()) <= 6
    plt.close("all")


def test_a_history_may_be_a_result():
    """Oracle: the records in it; what nobody measured has no panel."""
    import matplotlib.pyplot as plt

    records = [{"epoch": 1, "loss": 1.0, "test_accuracy": None}]
    network = small()[0]
    result = ctep.Result(network, NUDGE, records, "completed", "", 1.0, None)
    assert len(panels(plot.history(result))) == 1
    assert len(panels(plot.history(records))) == 1
    plt.close("all")


# ------------------------------------------------------------ wrong input


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda n, x, y: contraction(n, steps=0), "`steps` is 0"),
        (lambda n, x, y: contraction(n, iterations=0), "`iterations` is 0"),
        (lambda n, x, y: contraction(n, x=x), "`y` is None, but `x`"),
        (lambda n, x, y: contraction(n, y=y), "`x` is None, but `y`"),
        (lambda n, x, y: contraction(n, x=x[:, 1:], y=y), "`x` has shape"),
        (lambda n, x, y: contraction(ctep.Module(lambda v: v, (4,))), "feed-forward"),
        (lambda n, x, y: contraction(odd(), x=x, y=y), "how a Odd passes a force on"),
        (
            lambda n, x, y: contraction(
                n,
                ctep.LocalError((9,), projections=(ctep.Dense((5,), (3,), key=KEY),)),
            ),
            "`layers` holds 9",
        ),
        (
            lambda n, x, y: contraction(n, ctep.Distillation(n, ((1, 1), (1, 2)))),
            "`pairs` is .* which names a layer twice",
        ),
        (lambda n, x, y: gradient_check(n, x, y, []), "`rules` is empty"),
        (
            lambda n, x, y: gradient_check(n, x, y, [ctep.Implicit()] * 2),
            r"holds Implicit\(.*\) twice",
        ),
        (lambda n, x, y: gradient_check(n, x[:, 1:], y, {}), "`x` has shape"),
        (lambda n, x, y: gradient_curve(n, x, y, steps=0), "`steps` is 0"),
        (
            lambda n, x, y: gradient_curve(n, x, y, rule=ctep.Holomorphic(0.1, 4)),
            None,
        ),
        (
            lambda n, x, y: recommended_beta(n, x, y, rule=ctep.RandomSign()),
            r"`rule` is RandomSign\(.* its bias grows with the nudge is not known",
        ),
        (
            lambda n, x, y: gradient_curve(n, x, y, rule=ctep.Oscillating()),
            r"`rule` is Oscillating\(.* nudges that stand still",
        ),
        (lambda n, x, y: depth_profile(odd(), x, y), "is a Odd, which has no layers"),
        (lambda n, x, y: weight_statistics(odd()), "is a Odd, which has no layers"),
        (lambda n, x, y: depth_profile(n, x, y, beta=0.0), "`beta` is 0"),
        (lambda n, x, y: depth_profile(n, x, y, tolerance=0.0), "`tolerance` is 0.0"),
        (lambda n, x, y: plot.history([]), "`result` holds no epoch"),
    ],
)
def test_wrong_values_are_answered_in_one_sentence(call, message):
    """Oracle: the documented errors; a rule on a circle is no error."""
    if message is None:
        assert "Holomorphic" in str(call(*small()))
        return
    with pytest.raises(ValueError, match=message):
        call(*small())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda n, x, y: contraction(n, beta="a"), "`beta` is 'a'"),
        (lambda n, x, y: contraction("net"), "`network` is 'net'"),
        (lambda n, x, y: gradient_check(n, x, y, ["a"]), "`rule` is 'a'"),
        (lambda n, x, y: gradient_check(n, x, y, 3), "`rules` is 3"),
        (lambda n, x, y: gradient_curve(n, x, y, rule=ctep.Implicit()), "`rule` is"),
        (
            lambda n, x, y: recommended_beta(n, x, y, rule=ctep.Implicit()),
            "`rule` is Implicit",
        ),
        (lambda n, x, y: depth_profile("n", x, y), "`network` is 'n'"),
        (lambda n, x, y: weight_statistics("n"), "`network` is 'n'"),
    ],
)
def test_wrong_kinds_are_answered_in_one_sentence(call, message, monkeypatch):
    """Oracle: the documented errors, as a user without type checks sees them."""
    import jaxtyping

    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    with pytest.raises(TypeError, match=message):
        call(*small())
