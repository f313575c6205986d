import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ctep

CASES = {
    "tanh": (ctep.Tanh(), 0.05),
    "large tanh": (ctep.Tanh(), 1.0),
    "relu": (ctep.ReLU(), 0.7),
    "hard sigmoid": (ctep.HardSigmoid(), 2.0),
    "identity": (ctep.Identity(), 3.0),
}


@pytest.mark.parametrize("name", CASES)
def test_signals_and_small_differences_are_passed_on(name):
    """Oracle: a network of 800 units at random, in NumPy; 10 layers of it."""
    activation, variance = CASES[name]
    gain, bias = ctep.edge_of_chaos(activation, variance)
    rng = np.random.default_rng(0)
    drives = np.sqrt(variance) * rng.normal(size=800)
    tangent, before, ratios = rng.normal(size=800), [], []
    for _ in range(10):
        weights = gain * rng.normal(size=(800, 800)) / np.sqrt(800)
        before.append(np.mean(drives**2))
        passed = tangent * np.asarray(activation.derivative(jnp.float32(drives)))
        ratios.append(np.sum((passed @ weights) ** 2) / np.sum(tangent**2))
        tangent = passed @ weights
        states = np.asarray(activation(jnp.float32(drives)))
        drives = states @ weights + bias * rng.normal(size=800)
    assert np.exp(np.mean(np.log(before))) == pytest.approx(variance, rel=0.2)
    assert np.exp(np.mean(np.log(ratios))) == pytest.approx(1, rel=0.06)


def test_known_gains():
    """Oracle: by hand; a rectifier passes half, and tanh's slope is 1 - h^2 near 0."""
    traced = jax.jit(lambda x: x * ctep.edge_of_chaos(ctep.Tanh()).gain)(1.0)
    assert float(traced) == pytest.approx(ctep.edge_of_chaos(ctep.Tanh()).gain)
    assert ctep.edge_of_chaos(ctep.ReLU(), 1.0) == pytest.approx((2**0.5, 0), abs=2e-3)
    assert ctep.edge_of_chaos(ctep.Tanh(), 1e-4)[0] == pytest.approx(1.0001, rel=1e-6)
    assert ctep.edge_of_chaos(ctep.Tanh())[0] == pytest.approx(1.05, abs=0.005)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ((ctep.Sigmoid(), 0.05), "`variance` is 0.05, but with a gain of 4"),
        ((ctep.Tanh(), 0.0), "`variance` is 0.0, but must be positive"),
    ],
)
def test_what_has_no_edge(given, message):
    """Oracle: by hand; a sigmoid's states are near one half at least."""
    with pytest.raises(ValueError, match=re.escape(message)):
        ctep.edge_of_chaos(*given)


def test_fifty_layers_keep_inputs_apart():
    """Oracle: at the edge distances stay within a factor; at less gain they vanish."""

    def kept(gain):
        network = ctep.mlp(
            (20, *[32] * 50, 5), feedback=0.01, bias=False, key=jax.random.key(0),
            init=jax.nn.initializers.orthogonal(gain), stack=False,
        )  # fmt: skip
        states = network.feedforward(jax.random.normal(jax.random.key(1), (2, 20)))
        apart = [float(jnp.linalg.norm(s[0] - s[1])) for s in states]
        return apart[-1] / apart[0]

    gain, _ = ctep.edge_of_chaos(ctep.Tanh())
    assert 0.2 < kept(gain) < 5
    assert kept(0.9) < 0.05


@pytest.mark.parametrize("feedback", [0.0, 0.03, 0.2])
def test_feedback_moves_the_edge(feedback):
    """Oracle: a linear chain of 80 layers as one linear system, solved by NumPy.

    Far from both ends a signal neither grows nor fades; without the factor it does.
    """
    depth, width, rng = 80, 4, np.random.default_rng(0)
    gain = ctep.edge_of_chaos(ctep.Identity(), 1.0, feedback).gain
    weights = [np.linalg.qr(rng.normal(size=(width, width)))[0] for _ in range(depth)]

    def growth(gain):
        matrix = np.eye(depth * width)
        for n in range(depth - 1):
            here, there = (slice(k * width, (k + 1) * width) for k in (n, n + 1))
            matrix[there, here] -= gain * weights[n].T
            matrix[here, there] -= feedback * gain * weights[n]
        source = np.zeros(depth * width)
        source[:width] = rng.normal(size=width)
        sizes = np.linalg.norm(
            np.linalg.solve(matrix, source).reshape(depth, width), axis=1
        )
        return (sizes[40] / sizes[20]) ** (1 / 20)

    assert growth(gain) == pytest.approx(1, abs=1e-6)
    assert growth(gain * (1 + feedback)) == pytest.approx(
        1 if feedback == 0 else (1 - (1 - 4 * feedback) ** 0.5) / (2 * feedback),
        abs=1e-6,
    )
