"""Targets that are values: regression, several labels at once, distributions."""

import jax
import jax.numpy as jnp
import matrix
import numpy as np
import optax
import pytest
from sklearn.metrics import r2_score

import ctep
from ctep.data import AbstractRecords, ArrayRecords, Dataset, load

RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 4)).astype(np.float32)
Y = np.stack([5 + 2 * X[:, 0], X[:, 1] - X[:, 2]], 1).astype(np.float32)
SQUARED = ctep.OutputError(ctep.SquaredError())


def network(outputs=2, **options):
    options = {"feedback": 0.3, "key": jax.random.key(0)} | options
    return ctep.mlp((4, 8, outputs), **options)


def fit(dataset, outputs=2, **options):
    defaults = {
        "nudge": SQUARED,
        "epochs": 2,
        "batch_size": 16,
        "optimizer": optax.adam(3e-3),
        "probe": 0,
        "progress": False,
    }
    return ctep.fit(network(outputs), dataset, **defaults | options)


def explained(net, x, y):
    y = np.reshape(y, (len(y), -1))
    predicted = np.asarray(ctep.predict(net, x))
    # All outputs together: each weighs as much as its variance.
    return r2_score(y, predicted, multioutput="variance_weighted")


def test_values_are_fitted():
    """Oracle: scikit-learn's R2 of predictions after the last epoch."""
    run = fit(((X[:40], Y[:40]), (X[40:], Y[40:])), validation=0.25, epochs=3)
    record = run.history[-1]
    assert record["train_accuracy"] is record["test_accuracy"] is None
    wanted = explained(run.network, X[40:], Y[40:])
    assert record["test_r2"] == pytest.approx(wanted, abs=1e-5)
    score = ctep.evaluate(run.network, (X[40:], Y[40:]), nudge=SQUARED)
    assert score.accuracy is None
    assert score.r2 == pytest.approx(wanted, abs=1e-5)
    errors = (np.asarray(ctep.predict(run.network, X[40:])) - Y[40:]) ** 2
    assert score.loss == pytest.approx(errors.sum(1).mean() / 2, rel=1e-5)
    assert f"R2 {score.r2:.4f}, loss" in str(score)
    for title in ("train R2", "validation R2", "test R2"):
        assert title in str(run)
    assert "%" not in str(run).split("\n")[0].replace("unsettled %", "")
    assert f"Test R2: {record['test_r2']:.4f} at the final epoch" in str(run)


def test_r2_of_training_is_that_of_one_batch():
    """Oracle: one batch of all examples is judged before its update."""
    run = fit((X, Y), epochs=1, batch_size=60)
    wanted = explained(network(), X, Y)
    assert run.history[0]["train_r2"] == pytest.approx(wanted, abs=1e-5)


def test_r2_far_from_zero_keeps_its_digits():
    """Oracle: float64. A mean of 5000 would cancel in sums of float32."""
    y = Y + np.float32(5000)
    run = fit((X, y), epochs=1, batch_size=60, optimizer=optax.sgd(0.0))
    assert run.history[0]["train_r2"] == pytest.approx(
        explained(run.network, X, y.astype(float)), rel=1e-5
    )


@pytest.mark.parametrize("shape", [(60,), (60, 1)])
def test_one_value(shape):
    """A column and a vector are the same; so is what is trained on them."""
    y = Y[:, 0].reshape(shape)
    run = fit((X, y), 1)
    assert run.history[-1]["train_r2"] is not None
    assert load((X, y)).y_train.shape == (60, 1)
    wanted = fit((X, Y[:, :1]), 1)
    for a, b in zip(
        jax.tree.leaves(run.network), jax.tree.leaves(wanted.network), strict=True
    ):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("dtype", ["int32", "bool", "float16", "bfloat16", "uint8"])
def test_several_labels_at_once(dtype):
    """Oracle: the same numbers in float32."""
    labels = (X[:, :3] > 0.2).astype(np.float32)
    given = np.asarray(jnp.asarray(labels).astype(dtype))
    run, wanted = fit((X, given), 3), fit((X, labels), 3)
    assert run.history[-1]["train_r2"] == wanted.history[-1]["train_r2"]
    assert load((X, given)).classes is None


@matrix.campaign
def test_distributions_are_classes():
    """Oracle: the same run with labels: accuracy, loss and weights."""
    labels = np.argmax(X[:, :3], 1)
    hot = np.eye(3, dtype=np.int64)[labels]
    options = {"nudge": ctep.OutputError(), "validation": 0.2, "probe": 8}
    run = fit((X, hot), 3, **options)
    wanted = fit((X, labels), 3, **options)
    for record, other in zip(run.history, wanted.history, strict=True):
        for name in ("train_accuracy", "validation_accuracy", "loss", "faults"):
            assert record[name] == pytest.approx(other[name], rel=1e-6), name
    assert load((X, hot)).classes == 3


class Columns(AbstractRecords):
    """Records of a user's own, whose targets are values."""

    shape, dtype, classes, decodes = (4,), np.dtype("float32"), None, False
    target = np.dtype(("float32", (2,)))

    def __len__(self):
        return len(X)

    def read(self, rows):
        return X[rows], Y[rows]

    @property
    def arrays(self):
        return ArrayRecords(X, Y)


def test_streamed_values_are_the_same_values():
    """Oracle: a run from memory, to the bit."""
    wanted = fit((X, Y), validation=0.2)
    for dataset in ((X, Y), Dataset("own", Columns(), None, "here")):
        run = fit(dataset, validation=0.2, workers=0)
        assert run.history[-1]["train_r2"] == wanted.history[-1]["train_r2"]
        assert run.history[-1]["validation_r2"] == wanted.history[-1]["validation_r2"]


def test_values_are_resumed_and_restored(tmp_path):
    """Oracle: the uninterrupted run; the best epoch is that of the best R2."""
    wanted = fit((X, Y), epochs=3, out=tmp_path / "whole", validation=0.2)
    fit((X, Y), epochs=1, out=tmp_path / "run", validation=0.2)
    run = fit((X, Y), epochs=3, out=tmp_path / "run", validation=0.2, resume=True)
    assert [r["validation_r2"] for r in run.history] == [
        r["validation_r2"] for r in wanted.history
    ]
    best, _ = ctep.restore(
        tmp_path / "run", network(), nudge=SQUARED, optimizer=optax.adam(3e-3),
        best=True,
    )  # fmt: skip
    np.testing.assert_array_equal(
        ctep.predict(best, X), ctep.predict(run.network, X)
    )  # which gets better all the time


def test_no_better_than_the_mean():
    """A rate of zero learns nothing; R2 of constant targets is not a number."""
    run = fit((X, Y), epochs=1, optimizer=optax.sgd(0.0), watch=ctep.Watch(chance=1))
    assert [f["kind"] for f in run.history[0]["faults"]] == ["chance"]
    assert "no better than the mean" in run.history[0]["faults"][0]["text"]
    constant = fit((X, np.ones((60, 2), np.float32)), epochs=1)
    assert constant.history[0]["train_r2"] is None


REFUSED = {
    "class numbers as floats": (
        (X, np.argmax(X[:, :3], 1).astype(float)),
        3,
        "1 values per example, but this network has outputs of shape .3,.: build it "
        "with 1 outputs. Class numbers must be of a whole dtype: `y.astype",
    ),
    "more outputs than values": ((X, Y), 3, "2 values.*build it with 2 outputs"),
    "a column of class numbers": (
        (X, np.zeros((60, 1), int)), 3, r"`y` must hold.*pass `y.reshape\(-1\)`",
    ),
    "three axes": ((X, np.zeros((60, 2, 2))), 2, r"got shape \(60, 2, 2\)"),
    "not finite": ((X, np.full((60, 2), np.nan)), 2, "`y` must be finite"),
    "other targets to test": (((X, Y), (X, Y[:, :1])), 2, "`y_test` has targets of"),
    "values to train, classes to test": (
        ((X, Y), (X, np.zeros(60, int))), 2, "`y_test` has targets of",
    ),
    "too few": ((X, Y[:9]), 2, "60 examples, but `y` has 9 targets"),
}  # fmt: skip


@pytest.mark.parametrize(("dataset", "outputs", "match"), REFUSED.values(), ids=REFUSED)
def test_refuses(dataset, outputs, match):
    with pytest.raises(ValueError, match=match) as caught:
        fit(dataset, outputs)
    assert "\n" not in str(caught.value)


def test_values_need_a_loss_of_values():
    """Cross-entropy compares with probabilities; so do recipes with classes."""
    for call in (
        lambda: fit((X, Y), nudge=ctep.OutputError()),
        lambda: ctep.evaluate(network(), (X, Y)),
    ):
        with pytest.raises(
            ValueError, match=r"pass `nudge=ctep\.OutputError\(ctep\.Sq"
        ):
            call()
    with pytest.raises(ValueError, match="but recipes are for classes"):
        ctep.recipes.train("digits", dataset=(X, Y), progress=False)
    with pytest.raises(ValueError, match="accuracy is of classes"):
        ctep.analysis.robustness(network(), (X, Y), key=jax.random.key(0))
    with pytest.raises(ValueError, match="`classes` is 3, but `y` holds values"):
        load((X, Y), classes=3)


def test_a_sequence_is_answered_by_what_it_is():
    """Rows of features over time are no batch of vectors."""
    sequences = np.zeros((10, 7, 4), np.float32)
    with pytest.raises(ValueError, match=r"sequences of 7 vectors.*one row per step"):
        fit((sequences, Y[:10]))
