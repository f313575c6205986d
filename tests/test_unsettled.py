"""What has not settled takes no part, and evidence that is none says so."""

import equinox as eqx
import jax
import jax.numpy as jnp
import matrix
import numpy as np
import optax
import pytest

import ctep
from ctep._nudge import Pull
from ctep._rule import Task
from ctep._train.store.history import KEYS

KEY = jax.random.key


class Wells(ctep.EnergyNetwork):
    """Springs whose stiffness is the input: too stiff for the step they never rest."""

    weight: jax.Array = ctep.parameter()
    input_shape: tuple = eqx.field(static=True, default=(2,))
    shapes: tuple = eqx.field(static=True, default=((2,),))
    step: float = 0.5

    def energy(self, state, x):
        (s,) = state
        return 0.5 * x[0] * s @ s - s @ (self.weight * x[1])


# The third is beyond 2 over the step, the others settle.
X = np.array([[1.0, 0.5], [1.5, -1.0], [5.0, 1.0], [2.0, 0.3]], np.float32)
Y = np.array([0, 1, 0, 1])
KEPT = np.array([0, 1, 3])


def _springs():
    return Wells(jnp.array([0.4, -0.7]))


@pytest.mark.parametrize(
    "rule", [ctep.OneSided(), ctep.Centered(), ctep.Holomorphic(), ctep.Implicit()]
)
def test_an_unsettled_example_takes_no_part(rule):
    """Oracle: the mean over the others alone."""
    network = _springs()
    loss, gradient = ctep.gradient(network, X, Y, rule=rule, throw=False)
    alone, wanted = ctep.gradient(network, X[KEPT], Y[KEPT], rule=rule)
    assert loss == pytest.approx(float(alone), rel=1e-6)
    np.testing.assert_allclose(gradient.weight, wanted.weight, rtol=1e-5)
    with pytest.raises(RuntimeError):
        ctep.gradient(network, X, Y, rule=rule)


def test_a_step_of_training_is_that_of_the_settled_examples():
    """Oracle: plain gradient descent on the others; the record counts the one left."""
    options = {"optimizer": optax.sgd(0.5), "epochs": 1, "probe": 4, "progress": False}
    result = ctep.fit(_springs(), (X, Y), batch_size=4, **options)
    gradient = ctep.gradient(_springs(), X[KEPT], Y[KEPT], rule=ctep.OneSided())[1]
    wanted = _springs().weight - 0.5 * gradient.weight
    np.testing.assert_allclose(result.network.weight, wanted, rtol=1e-5)
    (record,) = result.history
    assert record["unsettled"] == 0.25
    assert record["gradient_cosine"] > 0.999
    assert "25 % of the examples did not come to rest in epoch 1" in str(result)


@pytest.mark.parametrize(
    ("stiffness", "options", "advice"),
    [
        # With the nudge on top the curvature is beyond 2 over the step.
        (
            3.5,
            {"rule": ctep.OneSided(4.0)},
            "`beta` or `radius`) smaller, lower `step`",
        ),
        (-1.0, {}, "grow without bound: the energy has no lower bound, or `step` is"),
        (5.0, {}, "grow without bound: the energy has no lower bound, or `step` is"),
        (0.01, {"solver": ctep.Sweeps(9)}, "raise `max_sweeps`, or lower `step` or"),
        (
            5.0,
            {"probe": 0},
            "raise `max_sweeps`, or lower `step` or the learning rate.",
        ),
    ],
)
def test_why_springs_do_not_settle(stiffness, options, advice):
    """Oracle: springs rest for 0 < step * curvature < 2."""
    x = np.tile(np.array([[stiffness, 1.0]], np.float32), (4, 1))
    nudge = ctep.OutputError(ctep.SquaredError())
    y = np.zeros((4, 2), np.float32)
    result = ctep.fit(
        _springs(), (x, y), nudge=nudge, epochs=1, progress=False, **options
    )
    assert result.status == "diverged"
    assert "(limit: `Watch(unsettled=0.5)`): " in result.reason
    assert advice in result.reason


def test_why_a_chain_does_not_settle():
    """Without inputs the free phase rests at zero, where it begins."""
    network = ctep.mlp((2, 4, 4, 2), feedback=1.0, bias=False, key=KEY(0))
    rule, solver = ctep.Centered(1.0), ctep.Sweeps(2)
    result = ctep.fit(
        network, (np.zeros((4, 2), np.float32), Y), epochs=1, rule=rule, solver=solver,
        progress=False,
    )  # fmt: skip
    assert result.status == "diverged"
    assert "not in the nudged one, so make the nudge" in result.reason
    assert result.reason.endswith("raise `max_sweeps` or weaken the feedback.")


def test_a_batch_of_none_changes_nothing():
    """Neither momentum nor decay moves the weights; the run ends and says why."""
    x = np.repeat(X[2:3], 4, 0)
    optimizer = optax.adamw(0.1, weight_decay=0.1)
    result = ctep.fit(
        _springs(), (np.concatenate([X[[0, 1, 3, 0]], x]), np.tile(Y, 2)),
        batch_size=8, optimizer=optimizer, epochs=1, probe=0, progress=False,
        watch=ctep.Watch(unsettled=1.0),
    )  # fmt: skip
    moved = result.network.weight
    assert jnp.abs(moved - _springs().weight).min() > 1e-3
    result = ctep.fit(
        _springs(), (x, Y), optimizer=optimizer, epochs=3, probe=4, progress=False,
        batch_size=4, watch=ctep.Watch(unsettled=1.0),
    )  # fmt: skip
    np.testing.assert_array_equal(result.network.weight, _springs().weight)
    assert result.status == "diverged"
    assert [record["loss"] for record in result.history] == [None]
    assert result.history[0]["gradient_cosine"] is None
    assert "No cosine in epoch 1: none of the 4 probe examples" in str(result)


def test_the_worst_epoch_is_named():
    """Oracle: the history. Steps of growing size push the springs off."""
    record = dict.fromkeys(KEYS, 0.5)
    missing = {"gradient_cosine_missing": "nobody looked"}
    history = [
        record | {"epoch": 1, "unsettled": 0.0, "gradient_cosine": 0.99},
        record | {"epoch": 2, "unsettled": 0.125, "gradient_cosine": None} | missing,
        record | {"epoch": 3, "unsettled": 0.0, "gradient_cosine": 0.75},
        record | {"epoch": 4, "unsettled": 0.0, "gradient_cosine": 0.95},
    ]
    history[3]["as_published"] = 0.5
    run = _springs(), ctep.OutputError(), history, "completed", "", 1.0, None
    text = str(ctep.Result(*run))
    assert (
        "Rest: 12.5 % of the examples did not come to rest in epoch 2, the worst"
        in text
    )
    assert "0.7500 in epoch 3, the worst; 0.9500 at the end." in text
    assert "No cosine in epoch 2: nobody looked." in text
    assert (
        "As published: 50 % of the examples took part short of rest in epoch 4" in text
    )


@matrix.campaign
def test_a_cosine_below_its_bound_is_a_fault_where_exactness_is_promised():
    """Oracle: a nudge so large that the estimate is not the gradient any more."""
    x = np.random.default_rng(0).standard_normal((40, 3)).astype(np.float32)
    data = 3 * x, np.argmax(x[:, :2], 1)
    network = ctep.mlp((3, 6, 6, 2), feedback=0.8, key=KEY(1))
    options = {"epochs": 1, "progress": False, "optimizer": optax.sgd(1e-6)}
    watch = ctep.Watch(cosine=0.999)
    kinds = []
    for rule in (ctep.OneSided(4.0), ctep.OneSided(1e-3), ctep.Coupled(0.1)):
        nudge, own = None, network
        if isinstance(rule, ctep.Coupled):
            nudge = ctep.OutputError(ctep.SquaredError())
            own = ctep.mlp((3, 6, 2), feedback=0.8, readout=False, key=KEY(1))
        result = ctep.fit(own, data, rule=rule, nudge=nudge, watch=watch, **options)
        (record,) = result.history
        kinds.append([fault["kind"] for fault in record["faults"]])
        if rule == ctep.OneSided(4.0):
            assert record["gradient_cosine"] < 0.999
            assert "make `beta` smaller" in record["faults"][0]["text"]
    assert kinds == [["cosine"], [], []]


@matrix.campaign
def test_fixed_sweeps_are_taken_as_published():
    """Oracle: the same synchronous steps by hand, plain differences of two states."""
    with jax.enable_x64():
        network = ctep.mlp((3, 8, 8, 8, 2), feedback=0.9, key=KEY(0))
        x = jax.random.normal(KEY(1), (4, 3))
        y, beta = jnp.arange(4) % 2, 1e-5
        solver = ctep.FixedSweeps(4, 6, order=ctep.Synchronous())
        task = Task.mean(x, y, ctep.OutputError(), solver)
        rule = ctep.OneSided(beta)
        estimate = eqx.filter_jit(rule.estimate)(network, task)
        assert (estimate.result == ctep.RESULTS.as_published).all()
        np.testing.assert_array_equal(estimate.sweeps, 10)

        @eqx.filter_jit
        def by_hand(network):
            free = network.zeros(x)
            for _ in range(4):
                free = network.free(x).map(free)
            pull = Pull(ctep.OutputError(), network)
            nudged = network.nudged(x, pull, (jnp.full((1,), beta), y))
            moved = free
            for _ in range(6):
                free, moved = network.free(x).map(free), nudged.map(moved)
            pairs = zip(free, moved, strict=True)
            tangent = tuple((m - s) / beta / 4 for s, m in pairs)
            pairs = zip(tangent, network.attenuation, strict=True)
            scaled = tuple(v / a for v, a in pairs)
            return eqx.filter_grad(lambda n: n.field_contrast(x, free, scaled))(network)

        wanted = by_hand(network).couplings[1].forward.weight
        found = estimate.gradient[0].couplings[1].forward.weight
        error = jnp.linalg.norm(found - wanted) / jnp.linalg.norm(wanted)
        assert error < 1e-4


@matrix.campaign
def test_fixed_sweeps_stop_early_where_they_may_and_never_fail():
    """Oracle: sweeps to the same tolerance, where everything is at rest."""
    network = ctep.mlp((3, 8, 8, 2), feedback=0.3, key=KEY(0))
    x, y = jax.random.normal(KEY(1), (4, 3)), jnp.arange(4) % 2
    plain, fixed = (
        ctep.gradient(network, x, y, solver=solver)
        for solver in (ctep.Sweeps(), ctep.FixedSweeps(99, 99, rtol=1e-3, atol=1e-3))
    )
    for a, b in zip(*map(jax.tree_util.tree_leaves, (plain, fixed)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)
    ctep.gradient(network, x, y, solver=ctep.FixedSweeps(1, 1))  # and does not raise
    with pytest.raises(ValueError, match="`nudged` is 0, but must be a whole"):
        ctep.FixedSweeps(3, 0)
    blown = ctep.mlp((3, 8, 8, 2), activation=ctep.Identity(), feedback=9.0, key=KEY(0))
    with pytest.raises(RuntimeError, match="NaN or infinity"):
        ctep.gradient(blown, x, y, solver=ctep.FixedSweeps(60))


def test_a_cost_that_stands_no_zero_is_learnt_from_the_others():
    """Oracle: the others alone; what is left out must not be put at zero."""

    class Direction(ctep.AbstractLoss):
        def __call__(self, output, target):
            chosen = jnp.take_along_axis(output, target[..., None], -1)[..., 0]
            return -chosen / jnp.linalg.norm(output, axis=-1)

    nudge = 0.05 * ctep.OutputError(Direction())
    loss, gradient = ctep.gradient(_springs(), X, Y, nudge=nudge, throw=False)
    alone, wanted = ctep.gradient(_springs(), X[KEPT], Y[KEPT], nudge=nudge)
    assert loss == pytest.approx(float(alone), rel=1e-6)
    np.testing.assert_allclose(gradient.weight, wanted.weight, rtol=1e-4)


def test_steps_that_run_away_are_not_differentiated():
    """Oracle: the others alone, of as many unrolled steps."""
    rule = ctep.Unrolled(60)
    x = X * np.array([[1, 1], [1, 1], [2, 1], [1, 1]], np.float32)
    _, gradient = ctep.gradient(_springs(), x, Y, rule=rule, throw=False)
    _, wanted = ctep.gradient(_springs(), x[KEPT], Y[KEPT], rule=rule)
    np.testing.assert_allclose(gradient.weight, wanted.weight, rtol=1e-4)
    with pytest.raises(RuntimeError, match="grew without bound"):
        ctep.gradient(_springs(), x, Y, rule=rule)


@matrix.campaign
def test_checks_take_what_was_taken_as_published():
    """Oracle: all examples; with `Sweeps` of as many none would be left."""
    network = ctep.mlp((3, 8, 8, 2), feedback=0.9, key=KEY(0))
    x, y = jax.random.normal(KEY(1), (4, 3)), jnp.arange(4) % 2
    rules = {"fixed": ctep.OneSided(), "unrolled": ctep.Unrolled(3)}
    found = ctep.analysis.gradient_check(
        network, x, y, rules, solver=ctep.FixedSweeps(3, 3)
    )
    assert found.cosine.shape[0] == 2
    with pytest.raises(RuntimeError):
        ctep.analysis.gradient_check(network, x, y, rules, solver=ctep.Sweeps(3))


def test_the_loss_of_a_score_is_that_of_the_settled_examples():
    """Oracle: the others alone."""
    score = ctep.evaluate(_springs(), (X, Y))
    alone = ctep.evaluate(_springs(), (X[KEPT], Y[KEPT]))
    assert score.unsettled == 0.25
    assert score.loss == pytest.approx(alone.loss, rel=1e-5)


class Bursting(ctep.AbstractActivation):
    """Overflows float32 where its drive is large."""

    lipschitz = np.inf

    def __call__(self, h):
        return jnp.exp(h * h)


@pytest.mark.parametrize("fixed", [False, True])
def test_a_forward_pass_that_overflows_takes_no_part(fixed):
    """Oracle: the other examples alone, loss, gradient, and the loss differentiated."""
    feedback = ctep.Fixed() if fixed else 0.3
    rule = ctep.FeedbackAlignment() if fixed else ctep.Backprop()
    network = ctep.mlp(
        (3, 4, 4, 2), activation=Bursting(), feedback=feedback, key=KEY(0)
    )
    x = 0.3 * jax.random.normal(KEY(1), (4, 3)).at[2].mul(1e3)
    y, kept = jnp.array([0, 1, 0, 1]), jnp.array([0, 1, 3])

    def both(x, y):
        loss, gradient = ctep.gradient(network, x, y, rule=rule, throw=False)
        slope = jax.grad(
            lambda s: ctep.gradient(network, s * x, y, rule=rule, throw=False)[0]
        )
        return [loss, slope(1.0), *jax.tree.leaves(gradient)]

    assert np.isfinite(ctep.gradient(network, x[kept], y[kept], rule=rule)[0])
    for a, b in zip(both(x, y), both(x[kept], y[kept]), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
    with pytest.raises(RuntimeError, match="NaN"):
        ctep.gradient(network, x, y, rule=rule)


def test_the_loss_of_unrolled_steps_is_that_of_those_that_stayed():
    """Oracle: the others alone; one of four runs away."""
    x = X * np.array([[1, 1], [1, 1], [2, 1], [1, 1]], np.float32)
    loss, _ = ctep.gradient(_springs(), x, Y, rule=ctep.Unrolled(60), throw=False)
    wanted, _ = ctep.gradient(_springs(), x[KEPT], Y[KEPT], rule=ctep.Unrolled(60))
    assert float(loss) == pytest.approx(float(wanted), rel=1e-5)
