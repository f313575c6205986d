r"""A nonlinear resistor network: an energy of your own that obeys Kirchhoff's laws.

The state is the voltage $v$ of every node, the energy is half the power that resistors
$i, j$ of conductance $g_{ij} > 0$ dissipate, plus the pseudo-power of the diodes:

$$E = \tfrac12 \sum_{ij} g_{ij} (v_i - v_j)^2
+ \sum_{i \in \text{hidden}} I_s (V_T e^{v_i/V_T} + V_T e^{-v_i/V_T})$$

Its stationary points obey Kirchhoff's current law. Inputs are voltage sources, $x$ and
$-x$ since no conductance is negative; an output is the voltage between two nodes, and
a nudge is a current into them (Kendall et al., 2020, arXiv:2006.01981).
"""

import argparse

import equinox as eqx
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax

import ctep


class Resistors(ctep.EnergyNetwork):
    """Sources, hidden nodes with two antiparallel diodes to ground, output nodes."""

    # From each source to each hidden node, and from each of these to each output node.
    below: jax.Array = ctep.parameter()
    above: jax.Array = ctep.parameter()
    input_shape: tuple[int, ...] = eqx.field(static=True)
    shapes: tuple[tuple[int, ...], ...] = eqx.field(static=True)
    saturation: float = eqx.field(static=True, default=0.05)
    thermal: float = eqx.field(static=True, default=0.25)
    gain: float = eqx.field(static=True, default=20.0)
    step: float = eqx.field(static=True, default=0.15)

    def conductances(self):
        return jax.nn.softplus(self.below), jax.nn.softplus(self.above)

    def sources(self, x):
        return jnp.concatenate([x, -x, jnp.array([1.0, -1.0], x.dtype)])

    def energy(self, state, x):
        hidden, out = state
        below, above = self.conductances()
        power = dissipated(below, self.sources(x), hidden)
        power += dissipated(above, hidden, out)
        diodes = 2 * self.thermal * jnp.cosh(hidden / self.thermal)
        return 0.5 * power + self.saturation * jnp.sum(diodes)

    def output(self, state):
        """Return the voltages between pairs of nodes, amplified."""
        high, low = jnp.split(state[-1], 2, -1)
        return self.gain * (high - low)


def dissipated(g, a, b):
    """Return the sum of g (a - b)^2 over all pairs, by products with g alone."""
    return a**2 @ jnp.sum(g, 1) - 2 * a @ g @ b + b**2 @ jnp.sum(g, 0)


def build(inputs, hidden, outputs, key):
    """Return a network with random conductances, about 1 per node and side."""
    a, b = jax.random.split(key)
    below = 0.02 + 2 * jax.random.uniform(a, (2 * inputs + 2, hidden))
    above = 0.02 + 2 * jax.random.uniform(b, (hidden, 2 * outputs))
    return Resistors(
        below=jnp.log(jnp.expm1(below / len(below))),
        above=jnp.log(jnp.expm1(above / len(above))),
        input_shape=(inputs,),
        shapes=((hidden,), (2 * outputs,)),
    )


def draw(before, after):
    """Draw the conductances from the pixels to the hidden nodes that changed most."""
    fig, axes = plt.subplots(2, 8, figsize=(8, 2.6))
    nodes = np.argsort(-np.abs(after - before).max(0))[:8]
    for row, name, g in zip(axes, ("before", "after"), (before, after), strict=True):
        row[0].set_ylabel(name)
        for ax, n in zip(row, nodes, strict=False):
            ax.imshow((g[:64, n] - g[64:128, n]).reshape(8, 8), cmap="gray")
            ax.set(xticks=[], yticks=[])
    fig.suptitle("conductance to a pixel less that to its negative, eight hidden nodes")
    return fig


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--hidden", type=int, default=32)
    parser.add_argument("--figure", help="save the figure to this file")
    args = parser.parse_args(argv)

    network = build(64, args.hidden, 10, jax.random.key(0))
    solver = ctep.Sweeps(max_sweeps=2000, rtol=1e-4, atol=1e-5)
    # Small, since the gain enters twice; increments keep their digits.
    rule, data = ctep.Centered(1e-4), ctep.data.load("digits")
    x, y = data.x_train[:20].reshape(20, 64), data.y_train[:20]
    print(ctep.analysis.gradient_check(network, x, y, [rule], solver=solver))
    rate = optax.cosine_decay_schedule(2e-2, 72 * args.epochs)
    result = ctep.fit(
        network, data, rule=rule, solver=solver, optimizer=optax.adam(rate),
        epochs=args.epochs, key=jax.random.key(1), probe=0, progress=False,
    )  # fmt: skip
    print(result)
    fig = draw(network.conductances()[0], result.network.conductances()[0])
    if args.figure:
        fig.savefig(args.figure)


if __name__ == "__main__":
    main()
