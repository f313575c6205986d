"""What is trained: what a class declares, and nothing else that is an array."""

import equinox as eqx
import jax
import jax.numpy as jnp
import matrix
import numpy as np
import optax
import pytest

import ctep

KEY = jax.random.key
TIGHT = ctep.Sweeps(5000, 1e-12, 1e-12)


def _toy(count=24):
    x = np.random.default_rng(0).uniform(-1, 1, (count, 6)).astype(np.float32)
    return x, np.argmax(x[:, :3], 1)


def _fit(network=None, **options):
    if network is None:
        network = ctep.mlp((6, 8, 3), feedback=0.3, key=KEY(0))
    defaults = {"epochs": 3, "probe": 0, "progress": False, "batch_size": 12}
    defaults["optimizer"] = optax.adam(3e-2)
    return ctep.fit(network, _toy(), **(defaults | options))


class Weighted(ctep.AbstractLoss):
    """Cross-entropy with a weight per class."""

    weights: jax.Array

    def __call__(self, output, target):
        chosen = jnp.asarray(self.weights)[target]
        return chosen * ctep.CrossEntropy()(output, target)


@pytest.mark.parametrize("kind", [jnp.asarray, np.asarray])
def test_class_weights_are_constants(kind):
    """Oracle: the weights that were given; the gradient is that of their loss."""
    given = kind(np.array([1.0, 2.0, 0.5], np.float32))
    result = _fit(nudge=ctep.OutputError(Weighted(given)))
    np.testing.assert_array_equal(result.nudge.loss.weights, given)
    assert result.history[-1]["loss"] < result.history[0]["loss"]


class Masked(ctep.EnergyNetwork):
    """Springs, some of which are missing."""

    weight: jax.Array = ctep.parameter()
    mask: jax.Array
    input_shape: tuple = eqx.field(static=True, default=(6,))
    shapes: tuple = eqx.field(static=True, default=((3,),))
    step: float = 0.3

    def energy(self, state, x):
        (s,) = state
        return 0.5 * s @ s - s @ ((self.mask * self.weight) @ x)


def _masked():
    mask = (np.arange(18).reshape(3, 6) % 3 > 0).astype(np.float32)
    return Masked(0.3 * jax.random.normal(KEY(0), (3, 6)), jnp.asarray(mask))


def test_a_mask_of_an_energy_is_a_constant(capsys):
    """Oracle: the mask that was given; weights behind it are not reached either."""
    network = _masked()
    result = _fit(network, progress=True)
    np.testing.assert_array_equal(result.network.mask, network.mask)
    moved = np.asarray(result.network.weight != network.weight)
    np.testing.assert_array_equal(moved, np.asarray(network.mask) > 0)
    first = capsys.readouterr().err.splitlines()[0]
    assert first == "Trains 18 numbers in weight; constant: mask."


def test_the_gradient_of_an_energy_is_that_of_all_its_arrays(x64):
    """Oracle: differences of the loss, by a constant too."""
    network = jax.tree_util.tree_map(lambda v: jnp.asarray(v, float), _masked())
    x, y = _toy(4)

    def loss(mask):
        moved = eqx.tree_at(lambda n: n.mask, network, mask)
        return ctep.gradient(moved, x.astype(float), y, solver=TIGHT)[0]

    found = ctep.gradient(
        network, x.astype(float), y, solver=TIGHT, rule=ctep.Centered(1e-3)
    )[1]
    step = jnp.zeros((3, 6)).at[1, 0].set(1e-6)
    wanted = (loss(network.mask + step) - loss(network.mask - step)) / 2e-6
    assert found.mask[1, 0] == pytest.approx(float(wanted), rel=1e-5)


def test_an_energy_that_declares_nothing_is_refused():
    """With the line that it lacks."""

    class Silent(ctep.EnergyNetwork):
        weight: jax.Array
        input_shape: tuple = eqx.field(static=True, default=(6,))
        shapes: tuple = eqx.field(static=True, default=((3,),))
        step: float = 0.3

        def energy(self, state, x):
            return 0.5 * state[0] @ state[0] - state[0] @ (self.weight @ x)

    with pytest.raises(ValueError, match=r"weight: jax\.Array = ctep\.parameter\(\)"):
        _fit(Silent(jnp.ones((3, 6))))


def test_an_array_that_an_energy_never_reads_is_named():
    """It would be reported as trained."""

    class Idle(Masked):
        spare: jax.Array = ctep.parameter(default=None)

    network = Idle(_masked().weight, _masked().mask, spare=jnp.ones(2))
    with pytest.warns(UserWarning, match="No gradient ever reaches spare: "):
        _fit(network, epochs=1)


class Sparse(ctep.AbstractLinear):
    """A dense map with missing weights."""

    weight: jax.Array = ctep.parameter()
    mask: jax.Array
    in_shape: tuple = eqx.field(static=True)
    out_shape: tuple = eqx.field(static=True)

    def image(self, v):
        return v @ (self.mask * self.weight)

    def transposed(self, u):
        return u @ (self.mask * self.weight).T

    def lipschitz(self):
        return jnp.linalg.norm(self.mask * self.weight, 2)

    def formula(self, weight, state):
        return f"{weight} {state}"

    def adjoint_formula(self, weight, state):
        return f"{weight}' {state}"


def test_an_operator_keeps_what_it_does_not_declare():
    """Oracle: its mask; a layer's bias and plain weights are trained as ever."""
    operators = [
        Sparse(0.3 * jax.random.normal(KEY(1), s), jnp.eye(*s), s[:1], s[1:])
        for s in ((6, 5), (5, 3))
    ]
    layers = [ctep.Layer(o.out_shape, ctep.Tanh(), jnp.zeros(o.out_shape))
              for o in operators]  # fmt: skip
    couplings = [
        ctep.Coupling(0, 1, operators[0]),
        ctep.Coupling(1, 2, operators[1], ctep.Tied(0.3)),
    ]
    network = ctep.Network((6,), layers, couplings)
    result = _fit(network, nudge=ctep.OutputError(ctep.SquaredError()))
    for before, after in zip(network.couplings, result.network.couplings, strict=True):
        np.testing.assert_array_equal(after.forward.mask, before.forward.mask)
        assert jnp.any(after.forward.weight != before.forward.weight)
    assert jnp.any(result.network.layers[0].bias != 0)


class Leaky(ctep.AbstractActivation):
    """A rectifier with a slope of its own below zero."""

    slope: jax.Array
    formula = "leaky(h)"
    lipschitz = 1.0
    range = (-np.inf, np.inf)
    pole = None

    def __call__(self, h):
        return jnp.where(h > 0, h, self.slope * h)

    def potential(self, s):
        return jnp.zeros_like(s)  # which no rule reads


class Bent(ctep.AbstractActivation):
    """A smooth activation with a gain per unit."""

    gain: jax.Array
    formula = "bent(h)"
    lipschitz = 1.0
    range = (-np.inf, np.inf)
    pole = None

    def __call__(self, h):
        return jnp.tanh(self.gain * h)

    def potential(self, s):
        return jnp.zeros_like(s)


ACTIVATIONS = {
    "one slope": (Leaky(np.array(0.2)), lambda a: a.slope, ()),
    "a gain per unit": (Bent(np.linspace(0.5, 1, 8)), lambda a: a.gain, (3,)),
}


@matrix.product(("name", "feedback"), ACTIVATIONS, [0.3, 1.0])
def test_arrays_of_an_activation_get_their_gradient(name, feedback, x64):
    """Oracle: implicit differentiation, and differences of the loss."""
    activation, get, place = ACTIVATIONS[name]
    activation = jax.tree_util.tree_map(jnp.asarray, activation)
    init = jax.nn.initializers.variance_scaling(0.3, "fan_avg", "uniform")
    network = ctep.mlp(
        (6, 8, 8, 3), activation=activation, feedback=feedback, key=KEY(0), init=init,
    )  # fmt: skip
    x, y = _toy(8)
    x = x.astype(float)

    def gradient(network, rule):
        return ctep.gradient(network, x, y, rule=rule, solver=TIGHT)

    where = lambda n: get(n.layers[0].activation)  # noqa: E731
    step = jnp.zeros_like(where(network)).at[place].set(1e-6)
    ends = [
        gradient(eqx.tree_at(where, network, where(network) + s), ctep.Implicit())[0]
        for s in (step, -step)
    ]
    wanted = float(ends[0] - ends[1]) / 2e-6
    exact = where(gradient(network, ctep.Implicit())[1])[place]
    assert abs(wanted) > 1e-4
    assert exact == pytest.approx(wanted, rel=1e-5)
    # By the contrast of energies, and by that of fields, which leaves the attenuation.
    for rescale in (True, False):
        rule = ctep.Centered(1e-5, rescale=rescale)
        found = where(gradient(network, rule)[1])[place]
        scale = 1.0 if rescale else network.attenuation[0]
        assert found == pytest.approx(scale * wanted, rel=1e-5)


def test_arrays_of_an_activation_are_aligned_too(x64):
    """Oracle: backpropagation, where the fixed feedback is the transpose."""
    activation = Bent(jnp.linspace(0.5, 1, 8))
    forward = ctep.mlp((6, 8, 8, 3), activation=activation, feedback=0.3, key=KEY(0))
    couplings = [
        ctep.Coupling(c.source, c.target, c.forward, ctep.Fixed(1.0, c.forward))
        for c in forward.couplings
    ]
    network = ctep.Network((6,), forward.layers, couplings, forward.readout)
    x, y = _toy(8)
    found, want = (
        ctep.gradient(network, x.astype(float), y, rule=rule)[1]
        for rule in (ctep.FeedbackAlignment(), ctep.Backprop())
    )
    for a, b in zip(found.layers, want.layers, strict=True):
        np.testing.assert_allclose(a.activation.gain, b.activation.gain, rtol=1e-9)
