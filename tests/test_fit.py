import json
import math
import re
import sys

import equinox as eqx
import jax
import jax.numpy as jnp
import matrix
import numpy as np
import optax
import optax.contrib
import oracles
import pytest

import ctep
from ctep._train.loop import Loop
from ctep._train.progress import Reporter
from ctep.data.selection import BatchOrder, hold_out

ADAM = optax.adam(3e-3)  # one object: what is equal is compiled once
SURGE = optax.sgd(lambda step: jnp.where(step < 7, 0.01, 1e6))
KEYS = [
    "epoch",
    "loss",
    "train_accuracy",
    "test_accuracy",
    "sweeps",
    "unsettled",
    "residual",
    "gradient_cosine",
    "seconds",
    "as_published",
    "gradient_cosine_missing",
    "faults",
]


def toy(count=40, seed=0):
    """Return examples whose class is the largest of their first three numbers."""
    x = np.random.default_rng(seed).uniform(-1, 1, (count, 6)).astype(np.float32)
    return x, np.argmax(x[:, :3], 1)


def chain(seed=0, **options):
    key = jax.random.key(seed)
    return ctep.mlp((6, 8, 8, 3), **{"feedback": 0.3, "key": key} | options)


def fit(network=None, dataset=None, **options):
    """Train without the probe, which takes longest to compile."""
    defaults = {
        "epochs": 2,
        "batch_size": 6,
        "optimizer": ADAM,
        "key": jax.random.key(1),
        "probe": 0,
        "progress": False,
    }
    network = chain() if network is None else network
    return ctep.fit(
        network, toy() if dataset is None else dataset, **defaults | options
    )


def bits(tree):
    arrays = [np.asarray(leaf) for leaf in jax.tree.leaves(tree) if eqx.is_array(leaf)]
    return [(a.dtype, a.shape, a.tobytes()) for a in arrays]


def timeless(history):
    return [{**record, "seconds": None} for record in history]


def close(network, other, atol):
    pairs = zip(jax.tree.leaves(network), jax.tree.leaves(other), strict=True)
    for a, b in pairs:
        np.testing.assert_allclose(a, b, rtol=0, atol=atol)


def outputs(network, x):
    """Return the outputs of a tanh chain at rest: 200 sweeps in NumPy, float64."""
    double = lambda a: np.asarray(a, np.float64)  # noqa: E731
    weights = [double(c.forward.weight) for c in network.couplings]
    states = [double(x).reshape(len(x), -1)]
    states += [np.zeros((len(x), w.shape[1])) for w in weights]
    for _ in range(200):
        for n, (w, layer) in enumerate(zip(weights, network.layers, strict=True), 1):
            drive = states[n - 1] @ w + double(layer.bias)
            if n < len(weights):
                drive += (
                    network.couplings[n].feedback.scale * states[n + 1] @ weights[n].T
                )
            states[n] = np.tanh(drive)
    head = network.readout
    return states[-1] @ double(head.operator.weight) + double(head.bias)


def accuracy(network, x, y):
    return float(np.mean(np.argmax(outputs(network, x), 1) == y))


# ---------------------------------------------------------------- learning


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """Three epochs on the digits, with everything that is reported."""
    network = ctep.mlp((64, 32, 32, 10), feedback=0.1, key=jax.random.key(0))
    return fit(
        network,
        "digits",
        epochs=3,
        batch_size=None,
        probe=64,
        out=tmp_path_factory.mktemp("digits") / "run",
    )


def test_learns_the_digits(digits):
    """Oracle: the accuracy of the outputs at rest, on the test set."""
    assert digits.status == "completed"
    assert digits.reason == ""
    assert digits.signal is None
    last, data = digits.history[-1], ctep.data.load("digits")
    assert min(last["train_accuracy"], last["test_accuracy"]) > 0.9
    wanted = accuracy(digits.network, data.x_test, data.y_test)
    assert last["test_accuracy"] == pytest.approx(wanted, abs=1.5 / 360)
    losses = [record["loss"] for record in digits.history]
    assert losses == sorted(losses, reverse=True)
    assert losses[0] < math.log(10)


def test_history_holds_what_is_documented(digits):
    """Names, order and plain finite numbers; nothing unsettled, residuals small."""
    assert [list(record) for record in digits.history] == [KEYS] * 3
    assert [record["epoch"] for record in digits.history] == [1, 2, 3]
    for record in digits.history:
        assert record["faults"] == []
        assert record["gradient_cosine_missing"] == ""
        texts = "faults", "gradient_cosine_missing"
        numbers = [value for name, value in record.items() if name not in texts]
        assert {type(value) for value in numbers} == {int, float}
        assert all(map(math.isfinite, numbers))
        assert record["unsettled"] == 0
        assert 0 < record["residual"] < 0.01
        assert 2 < record["sweeps"] < 50
    assert digits.seconds == sum(record["seconds"] for record in digits.history)


def test_gradient_of_a_regulated_chain_is_exact(digits):
    """The probe says so; `test_fixed_feedback` shows that it can say otherwise."""
    for record in digits.history:
        assert 0.999 < record["gradient_cosine"] < 1.0001


def test_default_batch_is_a_hundredth_within_bounds(digits):
    """1437 / 100 is below the least, 20."""
    assert json.loads((digits.out / "run.json").read_text())["batch_size"] == 20


def test_printed_result(digits):
    """A table with a row per epoch, then the evidence in sentences."""
    lines = str(digits).splitlines()
    assert lines[0].split()[:3] == ["epoch", "loss", "train"]
    assert [line.split()[0] for line in lines[1:4]] == ["1", "2", "3"]
    scores = [record["test_accuracy"] for record in digits.history]
    best = max(range(3), key=lambda n: scores[n])
    assert [line.endswith("*") for line in lines[1:4]] == [n == best for n in range(3)]
    assert lines[5] == (
        f"Test accuracy: {100 * scores[-1]:.2f} % at the final epoch, "
        f"{100 * scores[best]:.2f} % at the best (epoch {best + 1}, marked *)."
    )
    cosines = [record["gradient_cosine"] for record in digits.history]
    assert lines[6] == "Rest: every example came to rest, in every epoch."
    assert lines[7] == (
        f"Cosine with the exact gradient: {min(cosines):.4f} in epoch "
        f"{cosines.index(min(cosines)) + 1}, the worst; {cosines[-1]:.4f} at the end."
    )
    assert re.fullmatch(r"completed in \d+\.\d s\.", lines[8])
    assert lines[9:] == [f"Checkpoints and history are in {digits.out}."]


# ---------------------------------------------------------------- one run, exactly


def batches_of(monkeypatch):
    """Return a list that receives the batches of each epoch as `fit` draws them."""
    drawn, order = [], BatchOrder.__call__

    def spy(self, epoch):
        out = order(self, epoch)
        if self.seed is not None:
            drawn.append([batch[batch >= 0] for batch in out])
        return out

    monkeypatch.setattr(BatchOrder, "__call__", spy)
    return drawn


def by_hand(network, optimizer, x, y, epochs, solver=None):
    """Train with `ctep.gradient` and optax; return loss and accuracy per epoch too."""
    x, state = jnp.asarray(x), optimizer.init(eqx.filter(network, eqx.is_inexact_array))
    means = []
    for batches in epochs:
        loss = correct = 0.0
        for rows in batches:
            correct += np.sum((np.argmax(outputs(network, x), 1) == y)[rows])
            mean, gradient = ctep.gradient(
                network, x[rows], jnp.asarray(y[rows]), rule=ctep.OneSided(),
                solver=solver,
            )  # fmt: skip
            loss += len(rows) * float(mean)
            updates, state = optimizer.update(gradient, state, network)
            network = eqx.apply_updates(network, updates)
        means.append((loss / len(y), correct / len(y)))
    return network, means


@matrix.parametrize(
    ("batch_size", "double", "atol"),
    [(6, False, 1e-6), (40, True, 1e-13)],
    [(6, False, 1e-6)],
)
def test_equals_a_loop_by_hand(monkeypatch, batch_size, double, atol):
    """Oracle: `ctep.gradient` and optax on the same batches, the last one of 4.

    Loss and accuracy are means over examples, before each update; two epochs of one
    batch are two steps.
    """
    drawn, (x, y) = batches_of(monkeypatch), toy()
    with jax.enable_x64(double):
        dtype = jnp.float64 if double else jnp.float32
        x = x.astype(dtype)
        solver = ctep.Sweeps(rtol=1e-5, atol=1e-5)
        result = fit(chain(), (x, y), batch_size=batch_size, solver=solver)
        network, means = by_hand(chain(), ADAM, x, y, drawn, solver)
        leaves = jax.tree.leaves(result.network)
        assert all(leaf.dtype == dtype for leaf in leaves)
        close(result.network, network, atol)
        moved = [
            np.abs(a - b).max()
            for a, b in zip(leaves, jax.tree.leaves(chain()), strict=True)
        ]
    assert min(moved) > 1e-3
    for record, (loss, correct) in zip(result.history, means, strict=True):
        assert record["loss"] == pytest.approx(loss, rel=1e-5)
        assert record["train_accuracy"] == pytest.approx(correct)


EXTRA = {
    "plateau": optax.chain(
        optax.adam(0.01), optax.contrib.reduce_on_plateau(patience=1, factor=0.5)
    ),
    "polyak": optax.polyak_sgd(0.1),
    "line search": optax.lbfgs(),
}


@matrix.parametrize("name", EXTRA, ["plateau"])
def test_optimisers_that_ask_for_more(monkeypatch, name):
    """Oracle: optax by hand, with the loss of `ctep.gradient` and its derivative.

    Of a batch of all examples; the line search takes the loss at other parameters.
    """
    batches_of(monkeypatch)
    solver, (x, y) = ctep.Sweeps(2000, rtol=1e-10, atol=1e-10), toy()
    with jax.enable_x64(True):
        x = x.astype(jnp.float64)
        options = {"batch_size": 40, "solver": solver, "epochs": 4}
        result = fit(chain(), (x, y), optimizer=EXTRA[name], **options)
        network = chain()
        arrays, static = eqx.partition(network, eqx.is_inexact_array)

        def loss(arrays):
            network = eqx.combine(arrays, static)
            return ctep.gradient(network, x, y, rule=ctep.OneSided(), solver=solver)[0]

        full = optax.with_extra_args_support(EXTRA[name])
        state = full.init(arrays)
        for _ in range(4):
            value, gradient = ctep.gradient(
                eqx.combine(arrays, static), x, y, rule=ctep.OneSided(), solver=solver
            )
            updates, state = full.update(
                gradient, state, arrays, value=value, grad=gradient, value_fn=loss
            )
            arrays = eqx.apply_updates(arrays, updates)
        close(result.network, eqx.combine(arrays, static), 1e-9)
        assert max(
            np.abs(a - b).max()
            for a, b in zip(*map(jax.tree.leaves, (arrays, network)), strict=True)
        ) > 1e-2  # fmt: skip


def test_an_optimiser_that_asks_for_too_much_leaves_nothing(tmp_path):
    """A Hessian, or a mask of the network where parameters are a pair."""

    def update(gradient, state, parameters=None, *, hessian, **others):
        return gradient, state

    more = optax.GradientTransformationExtraArgs(lambda parameters: (), update)
    masked = optax.adamw(1e-3, mask=chain().trainable())
    for optimizer, reason in ((more, "hessian"), (masked, "structure")):
        with pytest.raises(ValueError, match=f"`optimizer` cannot .*{reason}.*, True"):
            fit(optimizer=optimizer, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_masks_of_a_network():
    """Oracle: fixed feedback as it was drawn, in `fit` and in a loop of one's own.

    Decay of all weights shrinks what no gradient moves; with the mask it does not.
    """
    network = ctep.mlp((5, 6, 6, 3), feedback=ctep.Fixed(0.1), key=jax.random.key(0))
    x, y = jax.random.normal(jax.random.key(1), (8, 5)), jnp.arange(8) % 3
    mask = network.trainable()
    arrays = eqx.filter(network, eqx.is_inexact_array)
    _, gradient = ctep.gradient(network, x, y, rule=ctep.OneSided())
    fixed = lambda n: n.couplings[1].feedback.operator.weight  # noqa: E731
    for optimizer, kept in (
        (optax.adamw(0.1, weight_decay=0.5), False),
        (optax.adamw(0.1, weight_decay=0.5, mask=mask), True),
    ):
        updates, _ = optimizer.update(gradient, optimizer.init(arrays), arrays)
        moved = eqx.apply_updates(network, updates)
        assert np.array_equal(fixed(moved), fixed(network)) == kept
        first = moved.couplings[0].forward.weight
        assert np.abs(first - network.couplings[0].forward.weight).min() > 0.01
    frozen = eqx.tree_at(lambda m: m.couplings[0].forward.weight, mask, False)
    labels = jax.tree.map(lambda m: "train" if m else "freeze", frozen)
    parts = {"train": optax.adam(0.1), "freeze": optax.set_to_zero()}
    split = optax.multi_transform(parts, (labels, "train"))
    result = fit(network, (np.asarray(x), np.asarray(y)), optimizer=split)
    same = [
        np.array_equal(a, b)
        for a, b in zip(*map(jax.tree.leaves, (result.network, network)), strict=True)
    ]
    names = [jax.tree_util.keystr(p) for p, _ in jax.tree.leaves_with_path(network)]
    assert {name for name, one in zip(names, same, strict=True) if one} == {
        ".couplings[0].forward.weight", ".couplings[1].feedback.operator.weight",
    }  # fmt: skip


def test_epochs_use_every_example_once_in_a_new_order(monkeypatch):
    """Oracle: a permutation; full batches, then the rest."""
    drawn = batches_of(monkeypatch)
    fit()
    orders = [np.concatenate(batches) for batches in drawn]
    assert [len(batch) for batch in drawn[0]] == [6] * 6 + [4]
    assert len(orders) == 2
    for order in orders:
        np.testing.assert_array_equal(np.sort(order), np.arange(40))
    assert np.any(orders[0] != orders[1])


def test_same_key_same_bits():
    """Weights, and records but for the time; another key gives other weights."""
    first, again = fit(), fit()
    assert bits(first.network) == bits(again.network)
    assert timeless(first.history) == timeless(again.history)
    other = fit(key=jax.random.key(2))
    assert bits(first.network) != bits(other.network)


def test_chunks_change_nothing(monkeypatch):
    """Oracle: one batch per chunk against as many as may be."""
    module = sys.modules["ctep._train.train"]
    report, runs = Reporter.batch, {}
    for seconds in (0.0, 100.0):
        done = []

        def spy(reporter, epoch, count, done=done):
            done.append(count)
            report(reporter, epoch, count)

        monkeypatch.setattr(module, "_CHUNK_SECONDS", seconds)
        monkeypatch.setattr(Reporter, "batch", spy)
        runs[seconds] = fit(), done
    assert runs[0.0][1] == list(range(1, 15))
    assert runs[100.0][1] == [1, 5, 7, 8, 12, 14]
    assert bits(runs[0.0][0].network) == bits(runs[100.0][0].network)
    assert timeless(runs[0.0][0].history) == timeless(runs[100.0][0].history)


# ---------------------------------------------------------------- data


def test_the_test_set_is_for_reporting_only():
    """Oracle: runs with another test set, and without one."""
    x, y = toy(25, seed=1)
    runs = [fit(), fit(dataset=(toy(), (x, y))), fit(dataset=(toy(), (-x, 2 - y)))]
    assert bits(runs[0].network) == bits(runs[1].network) == bits(runs[2].network)
    assert [record["test_accuracy"] for record in runs[0].history] == [None, None]
    for run, test in ((runs[1], (x, y)), (runs[2], (-x, 2 - y))):
        assert list(run.history[0]) == KEYS
        wanted = accuracy(run.network, *test)
        assert run.history[-1]["test_accuracy"] == pytest.approx(wanted)
    assert runs[1].history[-1]["test_accuracy"] != runs[2].history[-1]["test_accuracy"]


def test_validation_is_held_out():
    """Oracle: a run on the other examples alone, and outputs at rest."""
    x, y = toy(50, seed=2)
    run = fit(dataset=(x, y), validation=0.2)
    train, held = hold_out(len(y), 0.2, jax.random.key(1))
    assert (len(train), len(held)) == (40, 10)
    alone = fit(dataset=(x[train], y[train]))
    assert bits(run.network) == bits(alone.network)
    assert list(run.history[0]) == [*KEYS[:-1], "validation_accuracy", "faults"]
    wanted = accuracy(run.network, x[held], y[held])
    assert run.history[-1]["validation_accuracy"] == pytest.approx(wanted)
    assert f"Validation accuracy: {100 * wanted:.2f} % at the final" in str(run)
    assert "Test accuracy" not in str(run)


def test_bytes_are_pixels():
    """Oracle: the same images divided by 255, in the shape of a vector."""
    rng = np.random.default_rng(3)
    x, y = rng.integers(0, 256, (40, 2, 3, 1), dtype=np.uint8), toy()[1]
    floats = (x / 255).astype(np.float32).reshape(40, 6)
    close(fit(dataset=(x, y)).network, fit(dataset=(floats, y)).network, 1e-6)


# ---------------------------------------------------------------- what is trained


def test_fixed_feedback():
    """Random feedback is no parameter, weight decay or not; all else is.

    Its gradient is an approximation, and the probe says so.
    """
    decay = optax.adamw(3e-3, weight_decay=0.1)
    network = chain(feedback=ctep.Fixed(0.8))
    result = fit(network, optimizer=decay, probe=16)
    for before, after in zip(network.couplings, result.network.couplings, strict=True):
        assert bits(after.feedback) == bits(before.feedback)
        assert bits(after.forward) != bits(before.forward)
    assert len(bits(network.couplings[1].feedback)) == 1
    for record in result.history:
        assert -1 <= record["gradient_cosine"] < 0.999


@matrix.campaign
def test_energy_network_trains():
    """A user's scalar energy, on a task that chance solves in a third of the cases."""
    rng = np.random.default_rng(4)
    u, v, b = (jnp.asarray(rng.uniform(-0.5, 0.5, s)) for s in ((6, 4), (4, 3), 3))
    network = oracles.Hopfield(u, v, b)
    nudge = ctep.OutputError(ctep.SquaredError())
    result = fit(network, nudge=nudge, epochs=15, optimizer=optax.adam(0.01))
    first, last = result.history[0], result.history[-1]
    assert last["loss"] < 0.6 * first["loss"]
    assert last["train_accuracy"] > 0.75
    assert last["unsettled"] < 0.05  # as weights grow, the step is near its limit


class Offset(ctep.AbstractNudge):
    """The cross-entropy of the output, moved by an offset that the nudge owns."""

    offset: jax.Array = ctep.parameter()

    def blocks(self, network):
        return (len(network.shapes) - 1,)

    def cost(self, network, state, target):
        return ctep.CrossEntropy()(network.output(state) + self.offset, target)


def test_parameters_of_a_nudge_are_trained():
    """Oracle: one step down the gradient, softmax minus one-hot, at rest."""
    (x, y), offset = toy(), jnp.array([0.5, 0.0, -0.5])
    result = fit(
        nudge=Offset(offset), optimizer=optax.sgd(1.0), batch_size=40, epochs=1
    )
    error = jax.nn.softmax(outputs(chain(), x) + offset) - np.eye(3)[y]
    wanted = offset - np.mean(error, 0)
    np.testing.assert_allclose(result.nudge.offset, wanted, atol=1e-3)
    assert np.abs(wanted - offset).max() > 0.05


def test_weight_of_a_nudge_follows_the_epoch():
    """No nudge in the first epoch: nothing is learnt until the second."""
    nudge = ctep.OutputError() * (lambda epoch: jnp.where(epoch == 0, 0.0, 1.0))
    options = {"nudge": nudge, "optimizer": optax.sgd(0.1)}
    still, moved = fit(epochs=1, **options), fit(epochs=2, **options)
    assert still.history[0]["loss"] == 0
    close(still.network, chain(), 0)
    assert moved.history[1]["loss"] > 0.1
    assert bits(moved.network) != bits(chain())


# ---------------------------------------------------------------- failure


def test_divergence_returns_the_last_good_network(tmp_path):
    """A good epoch, then steps of a million; oracle: the good epoch alone."""
    network = chain(activation=ctep.Identity(), feedback=0.1)
    options = {"optimizer": SURGE, "rule": ctep.Backprop()}
    good = fit(network, epochs=1, **options)
    result = fit(network, epochs=9, out=tmp_path / "run", **options)
    assert result.status == "diverged"
    assert re.match(
        r"The loss or a weight became NaN or infinite in epoch 2 before batch [2-8]: "
        "lower the learning rate",
        result.reason,
    )
    assert bits(result.network) == bits(good.network)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(result.network))
    assert timeless(result.history[:-1]) == timeless(good.history)
    fault = result.history[-1]["faults"][0]
    assert fault["kind"] == "non-finite loss"
    assert fault["text"] == result.reason
    assert result.history[-1]["loss"] is None
    assert result.reason in str(result)
    saved, _ = ctep.restore(tmp_path / "run", network, optimizer=SURGE)
    assert bits(saved) == bits(good.network)


def test_divergence_in_the_first_epoch():
    """What comes back is the network that went in."""
    network = chain(activation=ctep.Identity(), feedback=0.1)
    result = fit(
        network,
        (toy()[0] * np.float32(1e3), toy()[1]),
        optimizer=optax.sgd(3e38),
        rule=ctep.Backprop(),
    )
    assert result.status == "diverged"
    assert bits(result.network) == bits(network)
    assert [record["loss"] for record in result.history] == [None]
    assert "\nFault, non-finite loss: The loss or a weight became NaN" in str(result)


def test_unsettled_examples_stop_the_run():
    """One sweep settles nothing; the record that says so is kept."""
    solver = ctep.Sweeps(max_sweeps=1)
    result = fit(solver=solver)
    assert result.status == "diverged"
    assert result.reason.startswith(
        "In epoch 1 100.0 % of the examples did not come to rest (limit: "
        "`Watch(unsettled=0.5)`): raise `max_sweeps`"
    )
    assert bits(result.network) == bits(chain())
    assert [record["unsettled"] for record in result.history] == [1.0]
    assert result.history[0]["loss"] is None
    assert "100 % of the examples did not come to rest in epoch 1" in str(result)
    patient = fit(solver=solver, watch=ctep.Watch(unsettled=1.0))
    assert patient.status == "diverged"  # nothing is left to learn from
    assert [record["unsettled"] for record in patient.history] == [1.0]


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"epochs": 0}, ValueError, "`epochs` is 0, but must be a whole number of"),
        ({"epochs": 1.5}, (ValueError, TypeError), "epochs"),
        (
            {"batch_size": 0},
            ValueError,
            "`batch_size` is 0, but must be a whole",
        ),
        ({"probe": -1}, ValueError, "`probe` is -1, but must be .* at least 0"),
        ({"watch": 0.5}, TypeError, "watch"),
        ({"workers": -1}, ValueError, "`workers` is -1, but must be a whole number"),
        ({"keep": 0}, ValueError, "`keep` is 0, but must be a whole number of at"),
        ({"mesh": 8}, TypeError, "mesh"),
        ({"callback": 3}, TypeError, "callback"),
        ({"validation": 1.0}, ValueError, "`validation` is .*, but a fraction"),
        ({"validation": -0.1}, ValueError, "`validation` is .*, but a fraction"),
        ({"dataset": "digitz"}, ValueError, "got 'digitz'; did you mean 'digits'"),
        ({"resume": True}, ValueError, "`resume` is True but `out` is None: pass the"),
        (
            {"dataset": "digits"},
            ValueError,
            r"'digits' has inputs of shape \(8, 8\), 64 numbers, but this network "
            r"takes \(6,\): build it for 64 inputs",
        ),
        (
            {"dataset": (toy()[0], toy()[1] + 1)},
            ValueError,
            r"has 4 classes, but this network has outputs of shape \(3,\): build it",
        ),
        (
            {"dataset": (toy()[0] * np.nan, toy()[1])},
            ValueError,
            "NaN",
        ),
    ],
)
def test_bad_input_is_refused_before_anything_is_compiled(
    monkeypatch, options, error, match
):
    """Each is one sentence that names the argument."""
    monkeypatch.setattr(Loop, "train", None)
    with pytest.raises(error, match=match):
        fit(**options)


# ---------------------------------------------------------------- progress


def test_progress_off_is_silence(capfd):
    """Nothing on either stream."""
    fit()
    out = capfd.readouterr()
    assert (out.out, out.err) == ("", "")


def test_progress_off_a_terminal_is_a_line_per_epoch(capsys, monkeypatch):
    """On stderr, without control characters."""
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    data = (toy(), toy(25, seed=1))
    result = fit(dataset=data, progress=True)
    out = capsys.readouterr()
    assert out.out == ""
    assert out.err.isprintable() or "\x1b" not in out.err
    first, *lines = out.err.splitlines()
    assert first == "Trains 155 numbers in b1, b2, W0_1, W1_2, W_out, b_out."
    for line, record in zip(lines, result.history, strict=True):
        assert line.startswith(f"epoch {record['epoch']}/2  loss {record['loss']:.4f}")
        assert f"train {100 * record['train_accuracy']:.2f} %" in line
        assert f"test {100 * record['test_accuracy']:.2f} %" in line
        assert "unsettled 0 %" in line
