r"""A ring of phase oscillators: an energy of your own that classifies flowers.

Each oscillator has a phase $\phi_i$. Neighbours on the ring are coupled, so are all of
them to the clamped phases $\theta_k = \pi x_k$ of the inputs and to the outputs, and a
field of strength $h_i$ pins each to an angle $\psi_i$:

$$E = -\sum_{ij} W_{ij} \cos(\phi_i - \phi_j) - \sum_i h_i \cos(\phi_i - \psi_i)$$

the XY model, at rest where Kuramoto's oscillators lock (Wang, Wanjura and Marquardt,
2024, arXiv:2402.08579). The outputs are cosines of the last phases, times a gain.
"""

import argparse

import equinox as eqx
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
from sklearn.datasets import load_iris

import ctep


class Oscillators(ctep.EnergyNetwork):
    """Clamped inputs, a ring, and output oscillators that listen to all of it."""

    # W from each input to each oscillator of the ring, from each to the next one, and
    # from each to each output.
    below: jax.Array = ctep.parameter()
    ring: jax.Array = ctep.parameter()
    above: jax.Array = ctep.parameter()
    # h cos psi and h sin psi, of the ring and then of the outputs.
    field: jax.Array = ctep.parameter()
    input_shape: tuple[int, ...] = eqx.field(static=True)
    shapes: tuple[tuple[int, ...], ...] = eqx.field(static=True)
    gain: float = eqx.field(static=True, default=2.0)
    step: float = eqx.field(static=True, default=0.4)

    def energy(self, state, x):
        ring, out = state
        phases = jnp.concatenate([ring, out])
        waves = jnp.stack([jnp.cos(phases), jnp.sin(phases)])
        inner, outer = waves[:, : len(ring)], waves[:, len(ring) :]
        inputs = jnp.stack([jnp.cos(jnp.pi * x), jnp.sin(jnp.pi * x)])
        # cos(a - b) = cos a cos b + sin a sin b
        around = self.ring * jnp.cos(ring - jnp.roll(ring, -1))
        coupled = jnp.sum(inputs @ self.below * inner + inner * (outer @ self.above.T))
        return -coupled - jnp.sum(around) - jnp.sum(self.field * waves)

    def output(self, state):
        return self.gain * jnp.cos(state[-1])


def build(inputs, oscillators, outputs, key):
    """Return a network with random couplings, and fields of strength 1."""
    a, b, c, d = jax.random.split(key, 4)
    angles = jax.random.uniform(d, (oscillators + outputs,), maxval=2 * jnp.pi)
    return Oscillators(
        below=0.5 * jax.random.normal(a, (inputs, oscillators)) / jnp.sqrt(inputs),
        ring=0.5 * jax.random.normal(b, (oscillators,)),
        above=0.5 * jax.random.normal(c, (oscillators, outputs)) / oscillators**0.5,
        field=jnp.stack([jnp.cos(angles), jnp.sin(angles)]),
        input_shape=(inputs,),
        shapes=((oscillators,), (outputs,)),
    )


def iris():
    """Return Fisher's flowers, scaled to [0, 1]; every fifth is for testing."""
    x, y = load_iris(return_X_y=True)
    x = ((x - x.min(0)) / np.ptp(x, 0)).astype(np.float32)
    test = np.arange(len(y)) % 5 == 0
    return (x[~test], y[~test]), (x[test], y[test])


def draw(network, x, y):
    """Draw the ring at rest, for a flower of each species."""
    rest = ctep.Sweeps(1000, 1e-4, 1e-4).solve(network.free(x), network.zeros(x))
    phases, where = rest.state[0], np.linspace(0, 2 * np.pi, len(network.ring), False)
    fig, axes = plt.subplots(1, 3, figsize=(8, 2.8))
    for species, ax in enumerate(axes):
        phase = phases[np.argmax(y == species)]
        at, arrow = ((np.cos(a), np.sin(a)) for a in (where, phase))
        ax.quiver(*at, *arrow, pivot="mid", scale=8, width=0.012, color="black")
        ax.set_title(f"species {species}")
        ax.set(xlim=(-1.2, 1.2), ylim=(-1.2, 1.2), aspect="equal")
        ax.axis("off")
    return fig


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--oscillators", type=int, default=16)
    parser.add_argument("--figure", help="save the figure to this file")
    args = parser.parse_args(argv)

    network = build(4, args.oscillators, 3, jax.random.key(0))
    solver = ctep.Sweeps(max_sweeps=1000, rtol=1e-4, atol=1e-4)
    settings = {"nudge": ctep.OutputError(ctep.SquaredError()), "solver": solver}
    (x, y), test = iris()
    rule = ctep.Centered(0.01)
    print(ctep.analysis.gradient_check(network, x[::6], y[::6], [rule], **settings))
    result = ctep.fit(
        network, ((x, y), test), rule=rule, optimizer=optax.adam(1e-2),
        epochs=args.epochs, key=jax.random.key(1), probe=0, progress=False, **settings,
    )  # fmt: skip
    print(result)
    fig = draw(result.network, *map(jnp.asarray, test))
    if args.figure:
        fig.savefig(args.figure)


if __name__ == "__main__":
    main()
