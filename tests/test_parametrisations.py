"""What weights are made of: values, gradients, proofs, and what a run does with it."""

import re

import equinox as eqx
import jax
import jax.numpy as jnp
import matrix
import numpy as np
import optax
import paramax
import pytest

import ctep
from ctep._weights.bound import norm_bound
from ctep._weights.resolution import resolving

exact = pytest.mark.usefixtures("x64")
Y = (np.arange(5) % 3).astype("int32")
EXACT = ctep.Sweeps(max_sweeps=500, rtol=1e-11, atol=1e-11)


def inputs():
    return jax.random.normal(jax.random.key(1), (5, 4))


def network(sizes=(4, 6, 5, 3), **fields):
    fields = {"feedback": 0.3, "key": jax.random.key(0)} | fields
    return ctep.mlp(sizes, **fields)


def images(pool=ctep.AveragePool):
    return ctep.vgg(
        (3, 4), classes=3, input_shape=(6, 6, 2), pooled=(2,), pool=pool,
        activation=ctep.Tanh(), feedback=0.3, key=jax.random.key(0),
    )  # fmt: skip


def readout(n):
    return n.readout


def pattern(shape):
    return jax.random.bernoulli(jax.random.key(5), 0.5, shape)


MADE = {
    "standardized": ctep.standardized,
    "weight_norm": ctep.weight_norm,
    "contractive": lambda n: ctep.contractive(n, 0.3),
    "frozen": lambda n: ctep.frozen(n, readout),
    "nonnegative": ctep.nonnegative,
    "dale": lambda n: ctep.dale(n, inhibitory=0.5, key=jax.random.key(3)),
    "mismatched": lambda n: ctep.mismatched(n, 0.2, key=jax.random.key(4)),
    "masked": lambda n: ctep.masked(n, pattern),
    "composed": lambda n: ctep.contractive(
        ctep.mismatched(ctep.weight_norm(n), 0.2, key=jax.random.key(4)), 0.5
    ),
}


def loss(made):
    made = ctep.resolve(made)
    rest = ctep.settle(made, inputs(), solver=EXACT)
    nudge = ctep.OutputError()
    return nudge.cost(made, rest.state, nudge.targets(inputs(), jnp.asarray(Y))).mean()


@exact
@matrix.parametrize("name", MADE, ["composed"])
def test_gradient_is_that_of_the_loss_at_rest(name):
    made = MADE[name](network())
    rule = ctep.Centered(1e-4)
    value, found = ctep.gradient(made, inputs(), Y, rule=rule, solver=EXACT)
    trained, rest = eqx.partition(made, made.trainable())
    draw = np.random.default_rng(0)
    way = jax.tree.map(lambda a: jnp.asarray(draw.normal(size=a.shape)), trained)

    @eqx.filter_jit
    def at(step):
        moved = jax.tree.map(lambda a, d: a + step * d, trained, way)
        return loss(eqx.combine(moved, rest))

    np.testing.assert_allclose(value, at(0.0), rtol=1e-9)
    wanted = (at(1e-5) - at(-1e-5)) / 2e-5
    products = jax.tree.map(jnp.vdot, eqx.filter(found, made.trainable()), way)
    np.testing.assert_allclose(sum(jax.tree.leaves(products)), wanted, rtol=1e-5)


@exact
@pytest.mark.parametrize("name", MADE)
def test_gradients_are_pulled_back_as_jax_differentiates(name):
    made = MADE[name](network())
    plain, pull = resolving(made)
    cotangent = jax.tree.map(jnp.cos, eqx.filter(plain, eqx.is_inexact_array))
    arrays, rest = eqx.partition(made, eqx.is_inexact_array)

    def product(arrays):
        seen = paramax.unwrap(eqx.combine(arrays, rest))
        seen = eqx.filter(seen, eqx.is_inexact_array)
        return sum(jax.tree.leaves(jax.tree.map(jnp.vdot, seen, cotangent)))

    wanted = jax.grad(product)(arrays)
    for a, b in zip(*map(jax.tree.leaves, (pull(cotangent), wanted)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)


def weight(made, n=1):
    return np.asarray(ctep.resolve(made).couplings[n].forward.weight)


@exact
def test_weights_are_what_their_equations_say():
    plain = network()
    w = weight(plain)
    own = (w - w.mean(0)) / (w.std(0) * np.sqrt(6))
    # The mean of tanh is 0, its variance that of a quadrature of another kind.
    z, share = np.polynomial.hermite_e.hermegauss(80)
    gain = (share.sum() / (share @ np.tanh(z) ** 2)) ** 0.5
    np.testing.assert_allclose(weight(ctep.standardized(plain)), gain * own, rtol=1e-6)
    made = ctep.standardized(plain, gain=2.0)
    np.testing.assert_allclose(weight(made), 2 * own, rtol=1e-9)
    np.testing.assert_allclose(weight(ctep.weight_norm(plain)), w, rtol=1e-12)
    doubled = eqx.tree_at(
        lambda n: n.couplings[1].forward.weight.weight, ctep.weight_norm(plain), 2 * w
    )
    np.testing.assert_allclose(weight(doubled), w, rtol=1e-12)
    step = np.abs(w).max() / 3
    np.testing.assert_allclose(
        weight(ctep.quantized(plain, 3)), step * np.round(w / step), atol=1e-15
    )
    np.testing.assert_array_equal(weight(ctep.nonnegative(plain)), np.abs(w))
    np.testing.assert_array_equal(weight(MADE["masked"](plain)), w * pattern(w.shape))
    made = MADE["mismatched"](plain)
    np.testing.assert_array_equal(weight(made), weight(MADE["mismatched"](plain)))
    ratio = weight(ctep.mismatched(network((4, 90, 90, 3)), 0.2, key=jax.random.key(2)))
    ratio = ratio / weight(network((4, 90, 90, 3)))
    assert abs(ratio.std() - 0.2) < 0.01


def test_a_unit_has_one_sign():
    edges = [(0, 1), (1, 2), (1, 3), (2, 3)]
    own = ctep.graph((4, 8, 6, 5, 3), edges, feedback=0.1, key=jax.random.key(0))
    made = ctep.resolve(ctep.dale(own, inhibitory=0.5, key=jax.random.key(2)))
    first, near, far, _ = (c.forward.weight for c in made.couplings)
    np.testing.assert_array_equal(first, own.couplings[0].forward.weight)
    signs = np.sign(np.concatenate([near, far], 1))
    assert (signs == signs[:, :1]).all()
    assert len(np.unique(signs)) == 2


def test_straight_through_is_the_gradient_by_the_rounded_weights():
    made = ctep.quantized(network(), 3)
    plain, pull = resolving(made)
    cotangent = jax.tree.map(jnp.sin, eqx.filter(plain, eqx.is_inexact_array))
    found = pull(cotangent).couplings[1].forward.weight.weight
    np.testing.assert_array_equal(found, cotangent.couplings[1].forward.weight)


def test_noise_is_drawn_by_its_key_for_each_array():
    plain = network((4, 70, 70, 3))
    made = ctep.noisy(plain, 0.1)
    np.testing.assert_array_equal(weight(made), weight(plain))

    def drawn(n, key):
        seen = ctep.resolve(made, key=jax.random.key(key)).couplings[n].forward.weight
        own = np.asarray(plain.couplings[n].forward.weight)
        return (np.asarray(seen) - own) / np.abs(own).max()

    np.testing.assert_array_equal(drawn(1, 0), drawn(1, 0))
    assert abs(drawn(1, 0).std() - 0.1) < 0.005
    assert abs(np.corrcoef(drawn(1, 0).ravel(), drawn(1, 1).ravel())[0, 1]) < 0.05
    first = drawn(0, 0).ravel()
    assert abs(np.corrcoef(first, drawn(1, 0).ravel()[: first.size])[0, 1]) < 0.2


@exact
def test_stacks_are_made_layer_by_layer():
    layers = network((4, *[5] * 4, 3), stack=False, activation=ctep.Tanh())
    for make in (MADE["standardized"], MADE["contractive"], ctep.quantized):
        stacked = ctep.resolve(make(layers.stacked())).unstacked()
        single = ctep.resolve(make(layers))
        for a, b in zip(*map(jax.tree.leaves, (stacked, single)), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-12)
    noisy = ctep.resolve(ctep.noisy(layers.stacked(), 0.1), key=jax.random.key(0))
    noise = noisy.layers[0].forward.weight - layers.stacked().layers[0].forward.weight
    assert len(np.unique(np.round(noise, 12))) == noise.size


@exact
@pytest.mark.parametrize("shape", [(7, 7), (3, 9), (9, 3)])
def test_the_bound_of_a_norm_holds(shape):
    values = jax.random.normal(jax.random.key(0), shape)
    true = np.linalg.norm(np.asarray(values), 2)
    assert true <= norm_bound(values) <= 1.05 * true
    slope = jax.grad(norm_bound)(jnp.zeros(shape))
    assert np.isfinite(np.asarray(slope)).all()


@exact
def test_the_bound_of_a_convolution_holds():
    own = ctep.Conv((5, 6, 2), 3, key=jax.random.key(0))
    image = tuple(n + sum(p) for n, p in zip(own.in_shape, own.padding, strict=False))
    true = ctep.operator_norm(own)
    assert true * (1 - 1e-9) <= norm_bound(own.weight, image) <= 1.05 * true


@exact
@pytest.mark.parametrize("build", [network, images])
def test_a_contraction_is_proved_before_during_and_after_training(build):
    made = ctep.contractive(build(), 0.9)
    trained, rest = eqx.partition(made, made.trainable())
    draw = np.random.default_rng(0)
    factors = []
    for n in range(200 if build is network else 20):
        seen = eqx.combine(trained, rest)
        proof = ctep.analysis.contraction(seen, beta=0.0).bounds[0]
        assert proof.kind == "proved"
        factors.append(proof.k1)
        # As rude as no optimiser is, up to weights of a thousand.
        size = 0.5 * 1.04**n
        trained = jax.tree.map(lambda a: a + size * draw.normal(size=a.shape), trained)  # noqa: B023
    assert max(factors) <= 0.9
    assert max(factors) > 0.8  # the bound is not far from what it bounds


@exact
def test_states_come_closer_in_a_contraction():
    made = ctep.resolve(ctep.contractive(network(), 0.9))
    problem = made.free(inputs()[:1])
    weights = ctep.analysis.contraction(made, beta=0.0).bounds[0].weights

    @jax.jit
    @jax.vmap
    def ratio(key):
        keys = jax.random.split(key, 2)
        pair = [
            tuple(
                jax.random.normal(jax.random.fold_in(k, n), (1, *shape))
                for n, shape in enumerate(made.shapes)
            )
            for k in keys
        ]
        after = [
            tuple(problem.update(n, s, problem.recall(s))[0] for n in range(len(s)))
            for s in pair
        ]

        def distance(a, b):
            squares = [
                jnp.sum((u - v) ** 2) / w**2
                for w, u, v in zip(weights, a, b, strict=True)
            ]
            return jnp.sqrt(sum(squares))

        return distance(*after) / distance(*pair)

    found = ratio(jax.random.split(jax.random.key(0), 10_000))
    assert float(found.max()) < 0.9


def test_what_is_made_is_resolved_once_and_never_in_a_sweep():
    calls = []

    class Counted(paramax.AbstractUnwrappable):
        weight: jax.Array

        def unwrap(self):
            calls.append(1)
            return self.weight

    own = network((4, 4, 4, 3))
    made = eqx.tree_at(lambda n: n.couplings[1].forward.weight, own, replace_fn=Counted)
    ctep.gradient(made, inputs(), Y, solver=ctep.Sweeps(rtol=1e-3, atol=1e-3))
    assert len(calls) <= 2  # of them one is for the checks


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Return a run of two epochs, in one go."""
    out = tmp_path_factory.mktemp("runs") / "made"
    made = ctep.quantized(ctep.noisy(network((64, 12, 12, 10)), 0.05), 4)
    made = ctep.frozen(made, lambda n: n.layers[0].bias)
    return made, out, train(made, out, epochs=2)


def train(made, out, **fields):
    return ctep.fit(
        made, "digits", out=out, optimizer=optax.adam(1e-2), batch_size=100,
        probe=8, progress=False, **fields,
    )  # fmt: skip


def arrays(tree):
    return jax.tree.leaves(eqx.filter(tree, eqx.is_array))


def test_a_run_can_be_repeated_and_resumed(run, tmp_path):
    made, _, whole = run
    assert whole.history[-1]["gradient_cosine"] > 0.9
    train(made, tmp_path / "r", epochs=1)
    resumed = train(made, tmp_path / "r", epochs=2, resume=True)
    for a, b in zip(arrays(whole.network), arrays(resumed.network), strict=True):
        np.testing.assert_array_equal(a, b)


def test_what_is_frozen_stays(run):
    made, _, result = run
    np.testing.assert_array_equal(
        result.network.layers[0].bias.tree, made.layers[0].bias.tree
    )
    moved = result.network.couplings[0].forward.weight.weight.weight
    assert not np.array_equal(moved, made.couplings[0].forward.weight.weight.weight)


def test_a_run_is_restored_from_its_folder_alone(run):
    _, out, result = run
    found, _ = ctep.restore(out)
    x = ctep.data.load("digits").x_test[:20]
    np.testing.assert_array_equal(
        ctep.predict(found, x, throw=False),
        ctep.predict(result.network, x, throw=False),
    )


def test_a_run_of_other_bits_is_refused(run):
    _, out, _ = run
    other = ctep.quantized(ctep.noisy(network((64, 12, 12, 10)), 0.05), 5)
    other = ctep.frozen(other, lambda n: n.layers[0].bias)
    with pytest.raises(ValueError, match=r"weight\.bits = 4, not 5"):
        train(other, out, epochs=3, resume=True)


def test_a_network_prints_what_its_weights_are_made_of(run):
    made, _, _ = run
    line = "made: W0_1, W1_2, W_out: Quantized(Noisy); b1: NonTrainable"
    assert line in str(made)
    rows = ctep.analysis.weight_statistics(ctep.standardized(network())).names
    assert rows[:3] == ("W0_1", "W1_2", "W_out")
    assert "behind W1_2.gain" in rows


@exact
def test_an_energy_of_ones_own_has_weights_that_are_made():
    class Springs(ctep.EnergyNetwork):
        weight: jax.Array = ctep.parameter()
        input_shape: tuple = eqx.field(static=True, default=(4,))
        shapes: tuple = eqx.field(static=True, default=((3,),))
        step: float = 0.3

        def energy(self, state, x):
            (s,) = state
            return 0.5 * s @ s - s @ (self.weight @ x)

    made = ctep.quantized(Springs(jax.random.normal(jax.random.key(0), (3, 4))), 4)
    rest = ctep.settle(made, inputs(), solver=EXACT)
    np.testing.assert_allclose(
        rest.state[0], inputs() @ ctep.resolve(made).weight.T, rtol=1e-8
    )
    fixed = ctep.frozen(made, lambda n: n.weight)
    assert isinstance(fixed.weight, paramax.NonTrainable)


BAD = {
    "bits": (lambda: ctep.quantized(network(), 1), r"`bits` .*1.* 2"),
    "std": (lambda: ctep.noisy(network(), -0.1), r"`std` is -0\.1"),
    "bound": (lambda: ctep.contractive(network(), 1.5), r"`bound` is 1\.5"),
    "pool": (
        lambda: ctep.contractive(images(ctep.MaxPool)),
        r"`network` has the operator",
    ),
    "inhibitory": (
        lambda: ctep.dale(network(), inhibitory=2, key=jax.random.key(0)),
        r"`inhibitory` is 2",
    ),
    "where": (lambda: ctep.frozen(network(), lambda n: ()), r"`where` chooses no"),
    "bias": (
        lambda: ctep.weight_norm(network(), where=lambda n: n.layers[0].bias),
        r"`where` .*shape \(6,\)",
    ),
    "pattern": (
        lambda: ctep.masked(network(), jnp.ones((7, 7))),
        r"`pattern` has shape \(7, 7\)",
    ),
    "key": (
        lambda: ctep.gradient(ctep.noisy(network(), 0.1), inputs(), Y),
        r"`key` is None, but `network` draws",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_what_does_not_fit_is_refused(name):
    call, message = BAD[name]
    with pytest.raises((ValueError, TypeError), match=message) as error:
        call()
    assert re.search(r": .+\.$", str(error.value).strip(), re.S)
