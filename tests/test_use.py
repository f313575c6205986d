"""A network in use: `settle`, `predict` and `evaluate`."""

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
from sklearn import metrics

import ctep

KEY = jax.random.key(0)
X = np.random.default_rng(0).uniform(-1, 1, (7, 6)).astype(np.float32)
Y = np.array([0, 1, 2, 2, 1, 0, 1])


def network(feedback=0.3):
    return ctep.mlp((6, 8, 5, 3), feedback=feedback, key=KEY)


TIGHT = ctep.Sweeps(500, rtol=0.0, atol=1e-6)


def test_a_rest_is_one():
    """Oracle: the equations of two tanh layers, by hand."""
    net = network()
    rest = ctep.settle(net, X, solver=TIGHT)
    assert rest.settled.all()
    (w1, w2), (b1, b2) = (
        [net.couplings[n].forward.weight for n in range(2)],
        [layer.bias for layer in net.layers],
    )
    s1, s2 = rest.state
    np.testing.assert_allclose(s1, np.tanh(X @ w1 + 0.3 * s2 @ w2.T + b1), atol=1e-5)
    np.testing.assert_allclose(s2, np.tanh(s1 @ w2 + b2), atol=1e-5)


@pytest.mark.usefixtures("x64")
def test_a_rest_is_differentiated_implicitly():
    """Oracle: central differences of the rest itself, by an input and a weight."""
    solver = ctep.Sweeps(2000, rtol=0.0, atol=1e-13)
    net = ctep.mlp((6, 8, 5, 3), feedback=0.3, key=KEY)
    x = jnp.asarray(X[:2], float)

    def total(t, s):
        moved = jax.tree.map(lambda leaf: leaf * (1 + t), net)
        return jnp.sum(ctep.settle(moved, x + s, solver=solver).state[0] ** 3)

    h, zero = 1e-5, jnp.zeros(())
    got = jax.grad(total, (0, 1))(zero, zero)
    for n, slope in enumerate(got):
        step = h * jnp.eye(2)[n]
        wanted = (total(*step) - total(*-step)) / (2 * h)
        np.testing.assert_allclose(slope, wanted, rtol=1e-7)


def test_constants_within_a_jit_have_no_value_yet():
    """Oracle: the same outside of it."""
    net = network()
    inside = jax.jit(lambda: ctep.settle(net, X).state)()
    for a, b in zip(inside, ctep.settle(net, X).state, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


@pytest.mark.parametrize("count", [1, 500, 1003])
def test_predictions_are_the_outputs_at_rest(count):
    """Oracle: each example by itself; more of them than are settled at once."""
    net, x = network(), np.resize(X, (count, 6))
    out = ctep.predict(net, x, solver=TIGHT)
    alone = net.output(ctep.settle(net, X, solver=TIGHT).state)
    assert out.shape == (count, 3)
    np.testing.assert_allclose(out, np.resize(alone, (count, 3)), atol=1e-5)


def test_examples_are_taken_as_fit_takes_them():
    """Oracle: the same numbers as rows of floats."""
    net = network()
    pixels = np.arange(12, dtype=np.uint8).reshape(2, 2, 3) * 20
    wanted = ctep.predict(net, pixels.reshape(2, 6) / np.float32(255))
    np.testing.assert_allclose(ctep.predict(net, pixels), wanted, atol=1e-6)
    shifted = ctep.data.Pipeline(mean=0.5)
    wanted = ctep.predict(net, X - np.float32(0.5))
    np.testing.assert_allclose(
        ctep.predict(net, X, pipeline=shifted), wanted, atol=1e-6
    )


def test_scores_count_what_they_say():
    """Oracle: accuracy and cross-entropy by NumPy, of the predictions."""
    net = network()
    score = ctep.evaluate(net, (X, Y))
    out = np.asarray(ctep.predict(net, X), float)
    log = out - np.log(np.exp(out).sum(1, keepdims=True))
    np.testing.assert_allclose(score.loss, -log[np.arange(7), Y].mean(), rtol=1e-5)
    assert score.accuracy == np.mean(out.argmax(1) == Y)
    assert (score.unsettled, score.examples) == (0, 7)
    assert str(score).startswith(f"accuracy {100 * score.accuracy:.2f} %, loss ")
    # A set apart for tests is what counts.
    assert ctep.evaluate(net, ((X, Y), (X[:3], Y[:3]))).examples == 3
    squares = ctep.OutputError(ctep.SquaredError())
    wanted = 0.5 * np.mean(((out - np.eye(3)[Y]) ** 2).sum(1))
    got = ctep.evaluate(net, (X, Y), nudge=squares).loss
    np.testing.assert_allclose(got, wanted, rtol=1e-5)


@pytest.mark.parametrize("labels", [Y, Y.astype(np.uint8)])
def test_a_confusion_counts_every_example(labels):
    """Oracle: scikit-learn, of the predictions; of more examples than one batch has."""
    net, x = network(), np.resize(X, (1003, 6))
    y = np.resize(np.roll(labels, 1), 1003)
    y[:100] = 1
    score = ctep.evaluate(net, (x, y))
    predicted = np.asarray(ctep.predict(net, x)).argmax(1)
    wanted = metrics.confusion_matrix(y, predicted, labels=range(3))
    assert score.confusion is not None
    np.testing.assert_array_equal(score.confusion, wanted)
    assert np.trace(score.confusion) == round(1003 * score.accuracy)
    assert "\n" not in str(score)


def test_a_confusion_has_a_class_per_output():
    """Those that do not settle count, and classes without examples; none of values."""
    net = network()
    score = ctep.evaluate(net, (X, np.minimum(Y, 1)), solver=ctep.Sweeps(1))
    assert score.confusion is not None
    np.testing.assert_array_equal(score.confusion.sum(1), [2, 5, 0])
    squares = ctep.OutputError(ctep.SquaredError())
    values = np.zeros((7, 3), np.float32)
    assert ctep.evaluate(net, (X, values), nudge=squares).confusion is None


def test_the_folder_of_a_run_is_no_network(tmp_path, monkeypatch):
    """Oracle: what the sentence says to call, of a run; other texts say nothing."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # as for users
    out = str(tmp_path / "run")
    ctep.fit(network(), (X, Y), epochs=1, progress=False, probe=0, out=out)
    with pytest.raises(TypeError, match=r"by `ctep.restore\(.*run'\)\[0\]`\.$") as told:
        ctep.predict(out, X)
    *_, call, _ = str(told.value).split("`")
    assert ctep.predict(eval(call), X).shape == (7, 3)
    with pytest.raises(TypeError, match=r"`network` is 'digits', .* for example `ctep"):
        ctep.predict("digits", X)


def test_a_score_is_that_of_the_history():
    """Oracle: `fit`, which has a program of its own."""
    data = ((X, Y), (X[::-1].copy(), Y))
    run = ctep.fit(network(), data, epochs=1, progress=False, probe=0)
    score = ctep.evaluate(run.network, data)
    assert score.accuracy == run.history[-1]["test_accuracy"]


def test_what_has_not_settled_is_no_prediction():
    """By default; where it is asked for, and in a score, it is counted."""
    net, hasty = network(), ctep.Sweeps(1)
    for use in (ctep.settle, ctep.predict):
        with pytest.raises(RuntimeError, match="still moving"):
            use(net, X, solver=hasty)
        with pytest.raises(Exception, match="still moving"):
            jax.block_until_ready(jax.jit(lambda x, u=use: u(net, x, solver=hasty))(X))
    assert not ctep.settle(net, X, solver=hasty, throw=False).settled.any()
    assert np.isfinite(ctep.predict(net, X, solver=hasty, throw=False)).all()
    score = ctep.evaluate(net, (X, Y), solver=hasty)
    assert score.unsettled == 1
    assert np.isnan(score.loss)
    published = ctep.FixedSweeps(1, 1)
    assert ctep.predict(net, X, solver=published).shape == (7, 3)


@pytest.mark.parametrize(
    ("call", "kind", "match"),
    [
        (lambda: ctep.settle(3, X), TypeError, "`network` is 3"),
        (lambda: ctep.settle(network(), X[:, :5]), ValueError, r"`x` has shape \(7, "),
        (lambda: ctep.predict(network(), X[0]), ValueError, r"`x` has shape \(6,\)"),
        (lambda: ctep.predict(network(), X[:, 1:]), ValueError, "the 6 numbers of"),
        (lambda: ctep.predict(network(), X[:0]), ValueError, "`x` is empty"),
        (lambda: ctep.predict(network(), X.astype(int)), TypeError, "`x` has dtype"),
        (lambda: ctep.predict(network(), X, pipeline=1), TypeError, "`pipeline` is 1"),
        (lambda: ctep.predict(network(), X, throw=1), TypeError, "`throw` is 1, but"),
        (lambda: ctep.evaluate(network(), (X[:, 1:], Y)), ValueError, "5 numbers, but"),
        (lambda: ctep.evaluate(network(), (X, Y), solver=1), TypeError, "`solver`"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(call, kind, match, monkeypatch):
    """Oracle: the sentence."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    with pytest.raises(kind, match=match):
        call()
