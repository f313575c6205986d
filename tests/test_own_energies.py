"""The energies of the examples: their rests and gradients, against their physics."""

import dataclasses
import functools
import math
import re
import runpy
from collections.abc import Callable
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import matrix
import numpy as np
import oracles
import pytest

import ctep
from ctep._rule import Task

EXAMPLES = Path(__file__).parents[1] / "examples"
TIGHT = ctep.Sweeps(5000, rtol=1e-13, atol=1e-13)
NUDGES = {
    "hopfield": ctep.OutputError(ctep.SquaredError()),
    "resistors": ctep.OutputError(),
    "oscillators": ctep.OutputError(ctep.SquaredError()),
}
SIZES = {"hopfield": (5, 6, 3), "resistors": (4, 5, 2), "oscillators": (4, 5, 3)}


@functools.cache
def example(name):
    return runpy.run_path(str(EXAMPLES / f"own_{name}.py"))


def problem(name):
    """Return a small network of its kind in float64, inputs and labels."""
    network = example(name)["build"](*SIZES[name], jax.random.key(0))
    rng = np.random.default_rng(1)
    x = jnp.asarray(rng.uniform(0, 1, (3, *network.input_shape)))
    return network, x, jnp.asarray(rng.integers(0, *network.output_shape, 3))


@oracles.FAST
def settle(network, x):
    return TIGHT.solve(network.free(x), network.zeros(x)).state


# ------------------------------------------------------------ gradients


@oracles.FAST
def gradients(network, x, y, nudge):
    task = Task.mean(x, y, nudge, TIGHT, throw=True)
    rules = ctep.Centered(1e-6), ctep.Implicit(1e-12)
    return [rule.estimate(network, task).gradient[0] for rule in rules]


@oracles.FAST
def losses(network, x, y, direction, steps, nudge):
    """Return the mean loss at the Newton roots, moved along `direction`."""

    def loss(step):
        moved = eqx.apply_updates(
            network, jax.tree_util.tree_map(lambda v: step * v, direction)
        )
        roots = jax.vmap(lambda x: oracles.newton(moved, x, relax=1000))(x)
        state = jax.vmap(lambda root: oracles.split(moved, root))(roots)
        return jnp.mean(nudge.loss(moved.output(state), y))

    return jax.vmap(loss)(steps)


@pytest.mark.usefixtures("x64")
@matrix.parametrize("name", SIZES, ["hopfield"])
def test_gradients_are_the_slopes_of_the_loss(name):
    """Oracle: central differences of the loss at Newton's roots, one per parameter."""
    network, x, y = problem(name)
    found = gradients(network, x, y, NUDGES[name])
    rng = np.random.default_rng(2)
    for field in dataclasses.fields(network):
        if not eqx.is_array(getattr(network, field.name)):
            continue
        nothing = jax.tree_util.tree_map(jnp.zeros_like, network)
        noise = jnp.asarray(rng.normal(size=getattr(network, field.name).shape))
        direction = eqx.tree_at(lambda n, f=field.name: getattr(n, f), nothing, noise)
        steps = jnp.array([1e-5, -1e-5])
        up, down = losses(network, x, y, direction, steps, NUDGES[name])
        want = float(up - down) / 2e-5
        assert abs(want) > 1e-4
        for gradient in found:
            slope = float(jnp.vdot(getattr(gradient, field.name), noise))
            assert slope == pytest.approx(want, rel=1e-6)


# ------------------------------------------------------------ what is no energy


class Bowl(ctep.EnergyNetwork):
    """A bowl around `weight`, of which `kind` makes an energy or none."""

    weight: jax.Array
    kind: Callable = eqx.field(static=True)
    input_shape: tuple = eqx.field(static=True, default=(3,))
    shapes: tuple = eqx.field(static=True, default=((3,),))
    step: float = eqx.field(static=True, default=0.5)

    def energy(self, state, x):
        return self.kind(0.5 * (state[0] - self.weight * x) ** 2)


ENTRIES = {
    "force": lambda n, x, y: n.force(0, (y,), x),
    "total energy": lambda n, x, y: n.total_energy((y,), x),
    "gradient": lambda n, x, y: ctep.gradient(n, x, y, nudge=NUDGES["hopfield"]),
    "holomorphic": lambda n, x, y: ctep.gradient(
        n, x, y, nudge=NUDGES["hopfield"], rule=ctep.Holomorphic(0.1, 4)
    ),
    "fit": lambda n, x, y: ctep.fit(
        n, (x, jnp.arange(4) % 3), nudge=NUDGES["hopfield"], epochs=1
    ),
}


@pytest.mark.parametrize("entry", ENTRIES)
def test_an_energy_is_one_number(entry):
    """Oracle: the text; the shape received, and the sum that was forgotten."""
    network = Bowl(jnp.ones(3), lambda v: v)
    with pytest.raises(ValueError, match=r"`energy` of `Bowl`.*\(3,\).*`jnp.sum`"):
        ENTRIES[entry](network, jnp.ones((4, 3)), jnp.ones((4, 3)))


@pytest.mark.parametrize(
    ("kind", "what"),
    [
        (lambda v: jnp.sum(v, keepdims=True), "(1,)"),
        (lambda v: jnp.sum(v > 0), "int32"),
        (lambda v: jnp.sum(v) + 0j, "complex64"),
        (lambda v: (jnp.sum(v), None), "tuple"),
        (lambda v: None, "NoneType"),
    ],
)
def test_what_is_no_energy_is_refused(kind, what):
    """Oracle: the text, with what was returned."""
    network, x = Bowl(jnp.ones(3), kind), jnp.ones((4, 3))
    with pytest.raises(ValueError, match=rf"`energy`.*{re.escape(what)}"):
        ctep.gradient(network, x, x, nudge=NUDGES["hopfield"])


def test_a_masked_field_is_refused():
    """Oracle: the text; JAX would take the values beneath the mask."""
    weight = np.ma.masked_invalid([1.0, np.nan, 2.0])
    with pytest.raises(TypeError, match="`weight` is a masked array"):
        Bowl(weight, jnp.sum)  # pyright: ignore[reportArgumentType]


# ------------------------------------------------------------ Hopfield


@pytest.mark.usefixtures("x64")
def test_hopfield_update_is_attention():
    r"""Oracle: $X \mathrm{softmax}(b X^\top \xi)$ in numpy, images clamped.

    Ramsauer et al., 2020, arXiv:2008.02217, equation 3: the same for all units at once.
    """
    network, x, _ = problem("hopfield")
    network = dataclasses.replace(network, sharpness=2.5)
    o = np.random.default_rng(3).normal(size=(3, 3))
    patterns = np.concatenate([network.keys, network.values], 1)
    match = np.exp(2.5 * np.concatenate([x, o], 1) @ patterns.T)
    want = (match / match.sum(1, keepdims=True)) @ patterns
    found = network.free(x).map((jnp.asarray(o),))[0]
    np.testing.assert_allclose(found, want[:, 6:], rtol=1e-12)


@pytest.mark.usefixtures("x64")
def test_a_sharp_memory_returns_what_it_stores():
    """Oracle: the label beside the image that is shown, for well separated memories."""
    keys, values = np.eye(4), np.eye(4)[::-1]
    kind = example("hopfield")["Hopfield"]
    network = kind(jnp.asarray(keys), jnp.asarray(values), (4,), ((4,),), 30.0)
    (o,) = settle(network, jnp.asarray(keys))
    np.testing.assert_allclose(o, values, atol=1e-10)


# ------------------------------------------------------------ resistors


def currents(network, x, hidden, out):
    """Return the current into each node of each example, in numpy."""
    below, above = (np.log1p(np.exp(v)) for v in (network.below, network.above))
    sources = np.concatenate([x, -x, np.ones((len(x), 1)), -np.ones((len(x), 1))], 1)
    drop = sources[:, :, None] - hidden[:, None]
    into = np.sum(below * drop, 1)
    drop = hidden[:, :, None] - out[:, None]
    into -= np.sum(above * drop, 2)
    v = hidden / network.thermal
    into -= network.saturation * (np.expm1(v) - np.expm1(-v))
    return into, np.sum(above * drop, 1)


@pytest.mark.usefixtures("x64")
def test_resistors_obey_kirchhoff():
    """Oracle: Ohm's and Shockley's laws in numpy; no current piles up at any node."""
    network, x, _ = problem("resistors")
    hidden, out = map(np.asarray, settle(network, x))
    for current in currents(network, np.asarray(x), hidden, out):
        np.testing.assert_allclose(current, 0, atol=1e-11)
    # The diodes take part.
    into, _ = currents(dataclasses.replace(network, saturation=0.0), x, hidden, out)
    assert np.abs(into).max() > 1e-3


@pytest.mark.usefixtures("x64")
def test_nudge_is_a_current():
    """Oracle: Ohm's law; away from rest the force is the current into each node."""
    network, x, _ = problem("resistors")
    rng = np.random.default_rng(4)
    state = tuple(jnp.asarray(rng.normal(size=(3, *s))) for s in network.shapes)
    found = [network.force(n, state, x) for n in range(2)]
    for a, b in zip(found, currents(network, x, *map(np.asarray, state)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10)


@pytest.mark.usefixtures("x64")
def test_linear_resistors_solve_the_laplacian():
    """Oracle: a dense solve of the conductance Laplacian with clamped sources."""
    network, x, _ = problem("resistors")
    network = dataclasses.replace(network, saturation=0.0)
    found = np.concatenate(settle(network, x), 1)
    below, above = map(np.asarray, network.conductances())
    sources, (hidden, outputs) = len(below), above.shape
    g = np.zeros((sources + hidden + outputs,) * 2)
    g[:sources, sources : sources + hidden] = below
    g[sources : sources + hidden, sources + hidden :] = above
    g = g + g.T
    laplacian = np.diag(g.sum(1)) - g
    clamped = np.asarray(jax.vmap(network.sources)(x))
    free = laplacian[sources:, sources:]
    want = np.linalg.solve(free, -laplacian[sources:, :sources] @ clamped.T).T
    np.testing.assert_allclose(found, want, atol=1e-11)


# ------------------------------------------------------------ oscillators


@pytest.mark.usefixtures("x64")
def test_oscillators_are_locked():
    """Oracle: Kuramoto's equation in numpy; every phase velocity vanishes at rest."""
    network, x, _ = problem("oscillators")
    ring, out = map(np.asarray, settle(network, x))
    below, w, above, field = map(
        np.asarray, (network.below, network.ring, network.above, network.field)
    )
    strength, angle = np.hypot(*field), np.arctan2(field[1], field[0])
    theta = np.pi * np.asarray(x)
    pull = lambda w, a, b: np.sum(w * np.sin(a[:, :, None] - b[:, None]), 1)  # noqa: E731
    rate = pull(below, theta, ring) + pull(above.T, out, ring)
    rate += w * np.sin(np.roll(ring, -1, 1) - ring)
    rate += np.roll(w, 1) * np.sin(np.roll(ring, 1, 1) - ring)
    rate += strength[:5] * np.sin(angle[:5] - ring)
    np.testing.assert_allclose(rate, 0, atol=1e-11)
    rate = pull(above, ring, out) + strength[5:] * np.sin(angle[5:] - out)
    np.testing.assert_allclose(rate, 0, atol=1e-11)
    assert np.ptp(ring) > 0.1


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("coupling", [0.7, -0.2])
def test_two_oscillators_in_closed_form(coupling):
    r"""Oracle: equal fields at $\pm\psi$ pull two coupled phases to $\pm\phi$.

    By symmetry $\phi_1 = -\phi_2 = \phi$ with
    $h \sin(\psi - \phi) = W \sin 2\phi$; for $\psi = \pi/2$ this is
    $\cos\phi\,(h - 2 W \sin\phi) = 0$.
    """
    kind, h = example("oscillators")["Oscillators"], 1.2
    # One oscillator in the ring, whose neighbour is itself, and one output.
    network = kind(
        below=jnp.zeros((1, 1)),
        ring=jnp.zeros(1),
        above=jnp.full((1, 1), coupling),
        field=jnp.array([[0.0, 0.0], [h, -h]]),
        input_shape=(1,),
        shapes=((1,), (1,)),
    )
    first, second = settle(network, jnp.zeros((1, 1)))
    locked = h / (2 * coupling)
    want = math.asin(locked) if 0 < locked < 1 else math.pi / 2
    np.testing.assert_allclose([first[0, 0], second[0, 0]], [want, -want], atol=1e-7)
