"""A solver for each phase, and the cheapest settings that keep the gradient."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ctep
from ctep import recipes
from ctep._rule import Task
from ctep._train.programs import Reads, as_data
from ctep._train.store import identity, rebuild
from ctep._train.watch import rise
from ctep.analysis import plot, recommended_settings
from ctep.recipes.changes import Changes

NUDGE = ctep.OutputError()
X = jax.random.normal(jax.random.key(1), (4, 4))
Y = jnp.array([0, 1, 2, 1])
# Not at rest after one sweep, at any tolerance here.
ONE, LONG = ctep.Sweeps(1, 1e-4, 1e-4), ctep.Sweeps(200, 1e-4, 1e-4)


@pytest.fixture(scope="module")
def network():
    return ctep.mlp((4, 8, 8, 3), feedback=0.5, key=jax.random.key(0))


def estimate(network, solver, rule=ctep.OneSided(1e-3)):
    task = Task.mean(X, Y, NUDGE, solver, throw=False)
    return jax.jit(lambda: rule.estimate(network, task))()


# ---------------------------------------------------------------- phases


def test_each_phase_is_solved_and_judged_by_its_own_solver(network):
    """Oracle: the same phase under that solver alone, and its own number of sweeps."""
    tight = estimate(network, LONG)
    loose = ctep.Sweeps(200, 0.3, 0.3)
    pair = estimate(network, ctep.Phases(LONG, loose))
    for a, b in zip(pair.free.state, tight.free.state, strict=True):
        np.testing.assert_array_equal(a, b)
    assert np.all(pair.sweeps < tight.sweeps)
    assert np.all(pair.free.settled)
    assert np.all(pair.result == ctep.RESULTS.successful)
    for solver in (ctep.Phases(LONG, ONE), ctep.Phases(ONE, loose)):
        assert np.all(estimate(network, solver).result == ctep.RESULTS.not_settled)
    # One sweep each, of the phase that it is asked of.
    short = estimate(network, ctep.Phases(ONE, ONE))
    np.testing.assert_array_equal(short.sweeps, 2)
    np.testing.assert_array_equal(ctep.settle(
        network, X, solver=ctep.Phases(LONG, ONE)).steps, tight.free.steps
    )  # fmt: skip


def test_a_verdict_is_by_the_tolerance_of_its_phase(network):
    """Oracle: `Ramped` ends near rest, within a loose tolerance and not a tight one."""
    rule = ctep.Ramped(1e-3, 60)
    loose = ctep.Sweeps(200, 0.1, 0.1)
    kept = estimate(network, ctep.Phases(LONG, loose), rule).result
    lost = estimate(network, ctep.Phases(loose, ctep.Sweeps(200, 1e-7, 1e-7)), rule)
    assert np.all(kept == ctep.RESULTS.successful)
    assert np.all(lost.result == ctep.RESULTS.as_published)


def test_fixed_sweeps_keep_their_kind_in_a_pair(network):
    """Oracle: a `FixedSweeps` of both phases, which is the pair of itself."""
    own = ctep.FixedSweeps(free=3, nudged=2)
    both, pair = estimate(network, own), estimate(network, ctep.Phases(own, own))
    for a, b in zip(*map(jax.tree.leaves, (both.gradient, pair.gradient)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)
    np.testing.assert_array_equal(both.sweeps, pair.sweeps)


def test_numbers_of_a_pair_are_data_and_its_kinds_are_not():
    """Oracle: programs are equal where what they read is."""

    def read(solver):
        return Reads(as_data(solver))

    first = ctep.Phases(ctep.Sweeps(rtol=1e-3), ctep.Sweeps(atol=0.1))
    other = ctep.Phases(ctep.Sweeps(rtol=2e-3), ctep.Sweeps(atol=0.2))
    order = ctep.Phases(ctep.Sweeps(), ctep.Sweeps(order=ctep.Alternating()))
    assert read(first) == read(other) != read(order)
    numbers = filter(eqx.is_array, jax.tree.leaves(as_data(first)))
    assert len(list(numbers)) == 4


def test_a_pair_is_told_and_built_again(tmp_path):
    """Oracle: the pair itself."""
    pair = ctep.Phases(ctep.Sweeps(20), ctep.FixedSweeps(nudged=3))
    said = identity.description(pair)
    assert rebuild.rebuilt(said, "solver", tmp_path) == pair
    assert said != identity.description(
        ctep.Phases(pair.free, ctep.FixedSweeps(nudged=4))
    )


def test_a_run_is_not_resumed_with_another_nudged_tolerance(network, tmp_path):
    """Oracle: it goes on with its own pair, and refuses the other."""
    data = (np.asarray(X), np.asarray(Y)), (np.asarray(X), np.asarray(Y))

    def fit(tolerance, epochs, resume):
        solver = ctep.Phases(LONG, ctep.Sweeps(200, tolerance, tolerance))
        return ctep.fit(
            network, data, epochs=epochs, solver=solver, probe=0, out=tmp_path / "run",
            resume=resume, progress=False, batch_size=4,
        )  # fmt: skip

    fit(0.1, 1, False)
    with pytest.raises(ValueError, match=r"solver.*nudged"):
        fit(0.2, 2, True)
    assert fit(0.1, 2, True).history[-1]["epoch"] == 2


def test_changed_tolerances_reach_both_phases():
    """Oracle: the fields."""
    pair = ctep.Phases(ctep.Sweeps(20), ctep.FixedSweeps(nudged=3))
    found = Changes(solver_tol=0.02).solver(pair)
    for solver in (found, found.free, found.nudged):
        assert (solver.rtol, solver.atol) == (0.02, 0.02)
    assert (found.free.max_sweeps, found.nudged.nudged) == (20, 3)


def test_the_energy_is_watched_by_the_sweeps_of_the_free_phase(network):
    """Oracle: the same under the free solver alone."""
    alone, pair = (rise(network, X, s) for s in (LONG, ctep.Phases(LONG, ONE)))
    assert alone is not None
    assert alone == pair


@pytest.mark.parametrize(
    ("make", "error", "match"),
    [
        (lambda: ctep.Phases(1, LONG), TypeError, "free"),
        (lambda: ctep.Phases(LONG, None), TypeError, "nudged"),
        (lambda: ctep.Phases(LONG, ctep.Phases(LONG, ONE)), ValueError, r"\.nudged"),
    ],
)
def test_a_pair_refuses_what_is_no_solver(make, error, match):
    """Oracle: one sentence that names the argument."""
    with pytest.raises(error, match=match):
        make()


# ---------------------------------------------------------------- settings


@pytest.fixture(scope="module")
def found(network):
    with jax.enable_x64(True):
        double = jax.tree.map(lambda leaf: leaf.astype(float), network)
        result = recommended_settings(
            double, np.asarray(X, float), Y, cosine=0.98, solver=LONG,
            betas=(0.5, 1e-3), tolerances=(1e-4, 0.1, 0.5), orders=(None,),
            exact=ctep.Sweeps(500, 1e-10, 1e-10), feedback=(0.1,),
        )  # fmt: skip
    return double, result


@pytest.mark.usefixtures("x64")
def test_settings_say_what_they_cost_and_keep(found):
    """Oracle: gradients of `ctep.gradient`, in NumPy, and the steps of an estimate."""
    _, result = found
    x = np.asarray(X, float)
    best = result.best
    assert result.settings == {"rule": best.rule, "solver": best.solver}
    exact = ctep.gradient(
        result.network, x, Y, rule=ctep.Implicit(),
        solver=ctep.Sweeps(500, 1e-10, 1e-10),
    )[1]  # fmt: skip
    ours = ctep.gradient(result.network, x, Y, **result.settings)[1]
    pairs = zip(*map(jax.tree.leaves, (ours, exact)), strict=True)
    cosines = [
        np.vdot(a, b) / np.linalg.norm(a) / np.linalg.norm(b)
        for a, b in pairs if a.ndim > 1
    ]  # fmt: skip
    assert min(cosines) == pytest.approx(best.cosine, abs=1e-9)
    assert best.cosine >= 0.98
    kept = [row for row in result.rows if row.cosine >= 0.98]
    assert best.sweeps == min(row.sweeps for row in kept) < result.rows[0].sweeps
    assert result.saved == best.sweeps / result.rows[0].sweeps
    task = Task.mean(jnp.asarray(x), Y, NUDGE, best.solver)
    taken = best.rule.estimate(result.network, task).sweeps
    assert best.sweeps == pytest.approx(float(jnp.mean(taken)))
    assert best.feedback == 0.1
    assert result.network.couplings[1].feedback.scale == 0.1
    radius = ctep.analysis.spectral_radius(result.network, x)
    assert best.radius == pytest.approx(radius.mean(), rel=1e-2)


def test_settings_print_draw_and_begin_with_what_was_given(found):
    """Oracle: the rows."""
    _, result = found
    assert result.rows[0].solver == LONG
    assert result.rows[0].rule == ctep.Centered()
    text = str(result)
    assert len(text.splitlines()) == len(result.rows) + 3
    assert f"{result.best.sweeps:.1f} sweeps" in text
    assert all(np.isfinite(row.twin) for row in result.rows)
    figure = plot.recommended_settings(result)
    assert len(figure.axes) == 1
    # Of the wide nudge the bias shows, of the narrow one it does not.
    by_rule = {
        row.rule: row.cosine for row in result.rows
        if row.feedback is None and row.solver == LONG
    }  # fmt: skip
    assert by_rule[ctep.OneSided(0.5)] < by_rule[ctep.OneSided(1e-3)]


def test_without_a_setting_above_the_bound_the_best_gradient_is_taken(network):
    """Oracle: the largest cosine of all rows."""
    result = recommended_settings(
        network, X, Y, cosine=1.0, betas=(0.5,), tolerances=(0.3,), orders=(None,),
        exact=LONG,
    )  # fmt: skip
    assert result.best.cosine == max(row.cosine for row in result.rows) < 1
    assert "Nothing has a cosine of 1" in str(result)


@pytest.mark.parametrize(
    ("how", "match"),
    [
        ({"cosine": 2.0}, "`cosine` is 2"),
        ({"solver": ctep.ODE()}, "`solver` is ODE"),
        ({"betas": (0.1, -1)}, "`betas`"),
        ({"exact": ctep.Sweeps(1, 1e-9, 1e-9)}, "`throw=False`"),
    ],
)
def test_settings_refuse_in_one_sentence(network, how, match):
    """Oracle: the argument's name."""
    with pytest.raises((ValueError, RuntimeError), match=match):
        recommended_settings(network, X, Y, **how)


def test_feedback_of_several_scales_is_not_scaled():
    """Oracle: the error of a network with two."""
    weak = ctep.graph(
        (4, 8, 8, 8, 3), [(0, 1), (1, 2), (2, 3)], feedback=lambda i, j: 0.1 * j,
        key=jax.random.key(0),
    )  # fmt: skip
    with pytest.raises(ValueError, match="`feedback` is given"):
        recommended_settings(weak, X, Y, feedback=(0.1,))


# ---------------------------------------------------------------- recipes


@pytest.mark.parametrize("name", ["vgg5"])
def test_fast_recipes_change_nothing_but_rule_and_solver(name):
    """Oracle: the published recipe."""
    own, fast = recipes.get(name), recipes.get(f"{name}-fast")
    changed = {
        field.name for field in dataclasses.fields(own)
        if getattr(own, field.name) != getattr(fast, field.name)
    }  # fmt: skip
    assert changed <= {
        "name",
        "summary",
        "rule",
        "solver",
        "source",
        "cost",
        "published",
    }
    assert isinstance(fast.rule, ctep.OneSided)
    assert isinstance(fast.solver, ctep.Phases)
