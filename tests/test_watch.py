"""Faults are named, with the epoch, the layer and what to try."""

import equinox as eqx
import jax
import jax.numpy as jnp
import matrix
import numpy as np
import optax
import oracles
import pytest

import ctep
from ctep._train.watch import rise, saturated

ADAM = optax.adam(3e-3)


def data(examples=40, inputs=6):
    x = np.random.default_rng(0).uniform(-1, 1, (examples, inputs)).astype(np.float32)
    return x, np.argmax(x[:, :3], 1)


def chain(sizes=(6, 8, 8, 3), **options):
    return ctep.mlp(sizes, **{"feedback": 0.3, "key": jax.random.key(0)} | options)


def fit(network=None, dataset=None, **options):
    defaults = {"epochs": 2, "batch_size": 10, "optimizer": ADAM, "progress": False}
    network = chain() if network is None else network
    dataset = data() if dataset is None else dataset
    return ctep.fit(network, dataset, **{"probe": 16} | defaults | options)


def kinds(result):
    return {f["kind"] for record in result.history for f in record["faults"]}


def test_nothing_is_wrong():
    result = fit()
    assert kinds(result) == set()
    assert "Fault" not in str(result)


@matrix.campaign
def test_saturated_layer():
    """The second layer's bias drives all its units far out; it stops if told to."""
    network = chain()
    network = eqx.tree_at(lambda n: n.layers[1].bias, network, jnp.full(8, 40.0))
    result = fit(network)
    faults = [f for f in result.history[-1]["faults"] if f["kind"] == "saturated"]
    assert [(f["layer"], f["value"]) for f in faults] == [(2, 1.0)]
    assert "In epoch 2 layer 2 passes nothing on in 100.0 % of its" in faults[0]["text"]
    assert "Fault, saturated (and in 1 more epoch): In epoch 1 layer 2" in str(result)
    stopped = fit(network, watch=ctep.Watch(stop=["saturated"]))
    assert stopped.status == "diverged"
    assert stopped.reason.startswith("In epoch 1 layer 2 passes nothing on")
    assert "normalise the inputs" in stopped.reason
    before = jax.tree.leaves(network)
    for a, b in zip(before, jax.tree.leaves(stopped.network), strict=True):
        np.testing.assert_array_equal(a, b)  # that of the last good epoch


def test_accuracy_at_chance():
    """Labels that inputs know nothing of, no learning; a class that half of them have.

    Oracle: the share of the most frequent class.
    """
    x, y = data(400)
    y = np.where(np.arange(400) % 2, 0, 1 + np.arange(400) // 2 % 2)
    still = {"optimizer": optax.sgd(0.0), "batch_size": 100, "probe": 0, "epochs": 3}
    network = chain()
    result = fit(network, (0 * x, y), watch=ctep.Watch(chance=2), **still)
    found = [[f["kind"] for f in record["faults"]] for record in result.history]
    assert found == [[], ["chance"], ["chance"]]
    text = result.history[1]["faults"][0]["text"]
    assert "that of naming the most frequent class (50.0 %)" in text
    assert kinds(fit(network, (0 * x, y), **still)) == set()


@matrix.campaign
def test_rising_energy():
    """A step that is too large for the energy; a tenth of it lowers it."""
    rng = np.random.default_rng(4)
    u, v, b = (jnp.asarray(rng.uniform(-0.5, 0.5, s)) for s in ((6, 4), (4, 3), 3))
    still = {"optimizer": optax.sgd(0.0), "epochs": 1}
    still |= {"nudge": ctep.OutputError(ctep.SquaredError())}
    still |= {"watch": ctep.Watch(unsettled=1.0)}
    found = {}
    for step in (0.2, 0.9):
        network = oracles.Hopfield(u, v, b, step=step)
        found[step] = fit(network, **still)
    assert "rising energy" not in kinds(found[0.2])
    (record,) = found[0.9].history
    (fault,) = [f for f in record["faults"] if f["kind"] == "rising energy"]
    assert fault["value"] > 1e-3
    assert "In epoch 1 a sweep raised the energy by" in fault["text"]


def test_states_that_are_not_finite():
    """One input of 1e30 in a linear network: its layers, and which they are."""
    x, y = data()
    x[3] = 3e38
    network = chain(activation=ctep.Identity(), feedback=0.1)
    network = eqx.tree_at(
        lambda n: n.couplings[0].forward.weight, network, 9.0 * jnp.ones((6, 8))
    )
    result = fit(network, (x, y), probe=0, epochs=1)
    faults = result.history[0]["faults"]
    found = [f for f in faults if f["kind"] == "non-finite state"]
    assert found
    assert {f["layer"] for f in found} <= {1, 2}
    assert 0 < found[0]["value"] <= 1
    assert "became NaN or infinite for " in found[0]["text"]
    assert result.history[0]["unsettled"] > 0
    assert np.isfinite(result.history[0]["loss"] or 0)


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"unsettled": 1.5}, ValueError, "`unsettled` is 1.5, but a fraction lies in"),
        ({"saturated": -1.0}, ValueError, "`saturated` is -1.0, but a fraction lies"),
        ({"chance": -1}, ValueError, "`chance` is -1, but epochs are counted from 1"),
        ({"rise": 0.0}, ValueError, "`rise`"),
        ({"stop": ["boredom"]}, ValueError, "`stop` holds 'boredom', but must name k"),
    ],
)
def test_bad_watches(options, error, match):
    with pytest.raises(error, match=match):
        ctep.Watch(**options)


def test_patience_ends_a_run(tmp_path):
    """Oracle: the first epoch that is three behind the best one, of a run to the end.

    A rate of 0 gets no better after the first epoch. What has ended so is not gone on
    with when it is resumed.
    """
    still = {"optimizer": optax.sgd(0.0), "validation": 0.25, "epochs": 9, "probe": 0}
    watch = ctep.Watch(patience=3)
    run = fit(**still, watch=watch, out=tmp_path / "run")
    assert [len(run.history), run.status] == [4, "completed"]
    assert "has not become better for 3 epochs: epoch 1 was the best" in str(run)
    again = fit(**still, watch=watch, out=tmp_path / "run", resume=True)
    assert len(again.history) == 4
    impatient = fit(**still, watch=ctep.Watch(patience=1))
    assert "not become better for 1 epoch: epoch 1 was the best" in str(impatient)
    learning = {"validation": 0.25, "epochs": 40, "probe": 0}
    whole, stopped = fit(**learning), fit(**learning, watch=watch)
    scores, best = [r["validation_accuracy"] for r in whole.history], 0
    for n, score in enumerate(scores):
        best = n if score > scores[best] else best
        if n - best == 3:
            break
    assert len(stopped.history) == n + 1
    with pytest.raises(ValueError, match="no validation to wait for: pass `validation"):
        fit(watch=watch)
    with pytest.raises(ValueError, match="`patience` is 0, but must be a whole number"):
        ctep.Watch(patience=0)


def test_callback(tmp_path):
    """It sees each epoch's record and network, may stop, and costs nothing if it fails.

    Oracle: the same runs without it, of as many epochs.
    """
    seen = []

    def callback(record, network):
        seen.append((record["epoch"], network))
        record.clear()  # a copy
        return len(seen) == 2

    run = fit(epochs=5, probe=0, callback=callback)
    assert [epoch for epoch, _ in seen] == [1, 2]
    assert (run.status, run.reason) == (
        "completed", "`callback` ended it after epoch 2.",
    )  # fmt: skip
    for epoch, network in seen:
        wanted = fit(epochs=epoch, probe=0).network
        for a, b in zip(*map(jax.tree.leaves, (network, wanted)), strict=True):
            np.testing.assert_array_equal(a, b)

    def fails(record, network):
        raise KeyError(record["epoch"])

    with pytest.raises(KeyError, match="1"):
        fit(probe=0, callback=fails, out=tmp_path / "run")
    after = fit(probe=0, out=tmp_path / "run", resume=True)
    assert [r["loss"] for r in after.history] == [r["loss"] for r in run.history]


def test_an_energy_that_no_number_can_hold_raises_no_alarm():
    """Oracle: forty layers at feedback 0.1 weigh up to 1e39, and nothing is wrong."""
    network = ctep.mlp((4, *[5] * 41, 3), feedback=0.1, key=jax.random.key(0))
    assert network.has_energy
    x = jax.random.normal(jax.random.key(1), (6, 4))
    assert rise(network, x, ctep.Sweeps()) is None
    assert rise(ctep.mlp((4, 5, 3), key=jax.random.key(0)), x, ctep.Sweeps()) <= 1e-5


class Bare(ctep.AbstractActivation):
    """Says nothing of itself, not even its largest slope."""

    def __call__(self, h):
        return jnp.tanh(h)


def test_an_activation_that_says_nothing_saturates_like_another():
    """Oracle: the same function with a known slope."""
    x = 10 * jax.random.normal(jax.random.key(1), (6, 4))
    found = []
    for activation in (Bare(), ctep.Tanh()):
        network = ctep.mlp((4, 50, 3), activation=activation, key=jax.random.key(0))
        rest = ctep.settle(network, x)
        found.append(float(saturated(network, x, rest.state)[0]))
    assert 0.05 < found[0] < 0.95
    assert abs(found[0] - found[1]) < 0.05
