"""Decay is for weights: which arrays `ctep.weights` chooses."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import ctep
from ctep._train.loop import divided
from ctep._train.store.identity import description

KEY = jax.random.key(0)


class Springs(ctep.EnergyNetwork):
    weight: jax.Array = ctep.parameter()
    gain: jax.Array = ctep.parameter()
    input_shape: tuple = eqx.field(static=True, default=(4,))
    shapes: tuple = eqx.field(static=True, default=((3,),))
    step: float = 0.3

    def energy(self, state, x):
        (s,) = state
        return 0.5 * s @ s - s @ ((self.gain * self.weight) @ x)


class Slope(ctep.AbstractActivation):
    """An activation with a gain per unit."""

    gain: jax.Array
    lipschitz = 1.0

    def __call__(self, h):
        return jnp.tanh(self.gain * h)


def sloped():
    network = ctep.mlp((4, 3, 3, 2), key=KEY)
    shape = jnp.ones((2, 3))[0]
    layers = tuple(
        eqx.tree_at(lambda layer: layer.activation, layer, Slope(shape))
        for layer in network.layers
    )
    return eqx.tree_at(lambda n: n.layers, network, layers)


def per_pixel():
    network = ctep.vgg((2,), input_shape=(4, 4, 1), classes=2, key=KEY)
    shape = network.layers[0].shape
    return eqx.tree_at(lambda n: n.layers[0].bias, network, jnp.ones(shape))


# Each with the names of what decays, by its place in the tree.
CASES = {
    "chain": (
        lambda: ctep.mlp((4, 3, 3, 1), feedback=0.1, key=KEY),
        [".couplings[0].forward.weight", ".couplings[1].forward.weight"],
    ),
    "fixed feedback": (
        lambda: ctep.mlp((4, 3, 3, 2), feedback=ctep.Fixed(0.1), key=KEY),
        [".couplings[0].forward.weight", ".couplings[1].forward.weight"],
    ),
    "stack": (
        lambda: ctep.mlp((4, *[3] * 4, 2), stack=True, key=KEY),
        [".couplings[0].forward.weight", ".layers[0].forward.weight"],
    ),
    "stack of one unit": (
        lambda: ctep.mlp((4, *[1] * 4, 2), stack=True, key=KEY),
        [".couplings[0].forward.weight", ".layers[0].forward.weight"],
    ),
    "images": (
        lambda: ctep.vgg((2,), input_shape=(4, 4, 1), classes=2, key=KEY),
        [".couplings[0].forward.operators[0].weight"],
    ),
    "a bias per pixel": (per_pixel, [".couplings[0].forward.operators[0].weight"]),
    "gains": (
        sloped,
        [".couplings[0].forward.weight", ".couplings[1].forward.weight"],
    ),
}


def places(mask):
    found = jax.tree_util.tree_leaves_with_path(mask)
    return {jax.tree_util.keystr(path) for path, chosen in found if chosen}


@pytest.mark.parametrize("name", CASES)
def test_weights_of_a_network(name):
    """Oracle: their names; as many booleans as there are arrays."""
    build, wanted = CASES[name]
    network = build()
    assert places(ctep.weights(network)) == {*wanted, ".readout.operator.weight"}
    whole = jax.tree.structure(network)
    assert jax.tree.structure(ctep.weights(network)) == whole


def test_weights_of_ones_own_energy():
    """Oracle: the field of two axes."""
    network = Springs(jnp.ones((3, 4)), jnp.ones((3, 1)))
    assert places(ctep.weights(network)) == {".weight"}


def test_a_run_is_known_by_the_name_of_the_mask():
    """Oracle: what a folder keeps of the optimiser."""
    masked, plain = optax.adamw(1e-3, mask=ctep.weights), optax.adamw(1e-3)
    assert "{'of': 'ctep.weights'}" in str(description(masked))
    assert "ctep.weights" not in str(description(plain))


def test_decay_as_fit_applies_it():
    """Oracle: weights times 1 - rate, of network and nudge; all else as it was."""
    network = ctep.mlp((4, 3, 3, 2), feedback=ctep.Fixed(0.1), key=KEY)
    network = eqx.tree_at(lambda n: n.layers[0].bias, network, jnp.ones(3))
    nudge = (ctep.OutputError() + ctep.LocalError((1,))).drawn(network, KEY)
    trained, _, _ = divided(network, nudge)
    decay = optax.add_decayed_weights(0.25, mask=ctep.weights)
    nothing = jax.tree.map(jnp.zeros_like, trained)
    updates, _ = decay.update(nothing, decay.init(trained), trained)
    moved = optax.apply_updates(trained, updates)
    pairs = jax.tree_util.tree_leaves_with_path((trained, moved))
    half = len(pairs) // 2
    for (path, old), (_, new) in zip(pairs[:half], pairs[half:], strict=True):
        weight = "weight" in jax.tree_util.keystr(path)
        np.testing.assert_allclose(new, old * (1.25 if weight else 1.0), rtol=1e-6)
    assert sum("weight" in jax.tree_util.keystr(path) for path, _ in pairs[:half]) == 4
