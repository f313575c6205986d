"""The average of the weights: what is scored, returned, kept and restored."""

import json
import os
import shutil
import signal

import equinox as eqx
import jax
import jax.numpy as jnp
import matrix
import numpy as np
import optax
import pytest

import ctep
from ctep import recipes
from ctep._train import train as training
from ctep._train.average import Average
from ctep._train.loop import Loop
from ctep._train.progress import Reporter

ADAM = optax.adam(3e-2)
KEEPS = 0.8


def fit(out=None, **options):
    """Train 4 batches an epoch, of which the last is not full."""
    x = np.random.default_rng(0).uniform(-1, 1, (22, 6)).astype(np.float32)
    data = x, np.argmax(x[:, :3], 1)
    network = ctep.mlp((6, 8, 3), feedback=0.3, key=jax.random.key(0))
    defaults = {"dataset": (data, data), "network": network, "optimizer": ADAM}
    defaults |= {"epochs": 3, "batch_size": 6, "average": KEEPS}
    defaults |= {"probe": 0, "progress": False, "catch_signals": True}
    defaults["nudge"] = ctep.OutputError() + 0.1 * ctep.LocalError((1,))
    return ctep.fit(**defaults | options, out=out)


def bits(tree):
    arrays = [np.asarray(leaf) for leaf in jax.tree.leaves(tree) if eqx.is_array(leaf)]
    return [(a.dtype, a.shape, a.tobytes()) for a in arrays]


def timeless(history):
    return [{**record, "seconds": None} for record in history]


def assert_same_run(run, other):
    assert bits((run.network, run.nudge)) == bits((other.network, other.nudge))
    assert timeless(run.history) == timeless(other.history)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return fit(tmp_path_factory.mktemp("whole") / "run")


@pytest.fixture(scope="module")
def raw():
    """The same run without an average."""
    return fit(average=None)


@pytest.fixture
def out(whole, tmp_path):
    return shutil.copytree(whole.out, tmp_path / "run")


def test_the_mean_of_all_steps():
    """Oracle: optax's own, without its bias, and the first step alone."""
    rng, average = np.random.default_rng(0), None
    steps = [{"w": jnp.asarray(rng.normal(size=3), jnp.float32)} for _ in range(6)]
    ema = optax.ema(0.9, debias=True)
    state, average = ema.init(steps[0]), Average.zero({"w": jnp.full(3, 9.0)})
    for n, step in enumerate(steps):
        wanted, state = ema.update(step, state)
        average = average.after(step, 0.9)
        np.testing.assert_allclose(
            average.weights["w"], wanted["w"], rtol=1e-5, atol=1e-5
        )
        if n == 0:
            np.testing.assert_allclose(average.weights["w"], step["w"], atol=1e-5)
    assert int(average.count) == 6


def test_what_is_returned_is_the_average(whole, monkeypatch):
    """Oracle: numpy, of the weights after every batch; the callback's is the same."""
    states, networks, steps = [], [], Loop.train

    def spy(*args):
        states.append(steps(*args))
        return states[-1]

    monkeypatch.setattr(Loop, "train", spy)
    monkeypatch.setattr(training, "_CHUNK_SECONDS", 0.0)  # a chunk is a batch
    result = fit(callback=lambda record, network: networks.append(network))
    assert len(states) == 12
    shares = KEEPS ** np.arange(11, -1, -1.0)
    leaves = zip(*(jax.tree.leaves(state.trained) for state in states), strict=True)
    found = jax.tree.leaves(states[-1].average.weights)
    for leaf, own in zip(found, leaves, strict=True):
        wanted = np.tensordot(shares / shares.sum(), np.stack(own), 1)
        np.testing.assert_allclose(leaf, wanted, rtol=1e-5, atol=1e-7)
    assert bits((result.network, result.nudge)) == bits(states[-1].average.weights)
    assert bits(networks[-1]) == bits(result.network)
    assert_same_run(result, whole)


def test_the_average_is_scored_and_training_goes_on_without_it(whole, raw):
    """Oracle: `evaluate` of what is returned; the losses of a run without one."""
    x = np.random.default_rng(0).uniform(-1, 1, (22, 6)).astype(np.float32)
    y = np.argmax(x[:, :3], 1)
    score = ctep.evaluate(whole.network, (x, y))
    assert whole.history[-1]["test_accuracy"] == pytest.approx(score.accuracy)
    for name in ("loss", "train_accuracy", "sweeps"):
        ours = [record[name] for record in whole.history]
        assert ours == pytest.approx([record[name] for record in raw.history], rel=1e-5)


def test_a_folder_holds_both(whole, raw):
    """Oracle: what was returned, and the end of the run without an average."""
    kept = [ctep.restore(whole.out), ctep.restore(whole.out, best=True)]
    assert bits(kept[0]) == bits((whole.network, whole.nudge))
    plain = ctep.restore(whole.out, average=False)
    pairs = zip(
        jax.tree.leaves(plain), jax.tree.leaves((raw.network, raw.nudge)), strict=True
    )
    for a, b in pairs:
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
    assert bits(plain) != bits(kept[0])
    # A network and a nudge of one's own are filled in alike.
    given = {"nudge": ctep.OutputError() + 0.1 * ctep.LocalError((1,))}
    fresh = ctep.mlp((6, 8, 3), feedback=0.3, key=jax.random.key(9))
    for average, wanted in ((True, kept[0]), (False, plain)):
        options = given | {"optimizer": ADAM, "average": average}
        assert bits(ctep.restore(whole.out, fresh, **options)) == bits(wanted)


def test_a_run_goes_on_bit_for_bit(whole, tmp_path, monkeypatch):
    """Stopped within an epoch, and between two; oracle: the run without a stop."""
    report, left = Reporter.batch, [6]

    def stop(reporter, epoch, done):
        report(reporter, epoch, done)
        if left and done >= left[0]:
            left.pop()
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(Reporter, "batch", stop)
    out = tmp_path / "run"
    assert fit(out).status == "interrupted"
    fit(out, resume=True, callback=lambda record, network: record["epoch"] == 2)
    assert_same_run(fit(out, resume=True), whole)


def test_more_epochs_from_what_was_returned(out):
    """Without a warning; oracle: a longer run from the start."""
    kept = ctep.restore(out)[0]
    assert_same_run(fit(out, resume=True, epochs=4, network=kept), fit(epochs=4))


@pytest.mark.parametrize("other", [0.7, None])
def test_another_average_is_another_run(out, other):
    """Oracle: the sentence."""
    with pytest.raises(ValueError, match=r"holds a run with average = 0\.8, not "):
        fit(out, resume=True, average=other)


def test_a_run_that_breaks_returns_what_it_began_with():
    """Before the first step there is nothing to average."""
    network = ctep.mlp((6, 8, 3), feedback=0.3, key=jax.random.key(0))
    result = fit(network=network, optimizer=optax.sgd(np.inf))
    assert result.status == "diverged"
    assert bits(result.network) == bits(network)


def test_it_is_said_at_the_start(capsys):
    fit(epochs=1, progress=True)
    wanted = "Scored and returned: their average, which keeps 0.8 a step."
    assert wanted in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize("value", [0.0, 1.0, 1.5, float("nan"), True])
def test_an_average_out_of_range(value):
    """Oracle: the sentence, before anything compiles."""
    match = "`average` is .*: pass for example [`]?0.999"
    with pytest.raises((ValueError, TypeError), match=match):
        fit(average=value)


@matrix.campaign
def test_a_recipe_with_an_average(tmp_path):
    """Oracle: `fit` with the recipe's own options; its folder opened again."""
    out, digits = tmp_path / "run", ctep.data.load("digits")
    options = {"epochs": 1, "scale": 0.1}
    found = recipes.train("digits", average=0.9, out=out, progress=False, **options)
    network, settings = recipes.get("digits").setup(digits, average=0.9, **options)
    wanted = ctep.fit(network, digits, progress=False, **settings)
    assert bits(found.network) == bits(wanted.network)
    assert json.loads((out / "run.json").read_text())["changes"] == {"average": 0.9}
    assert bits(recipes.restore(out).network) == bits(wanted.network)
