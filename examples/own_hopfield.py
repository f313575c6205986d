r"""A modern Hopfield network: an energy of your own that completes labels.

Memory $m$ stores an image $K_m$ beside its label $V_m$. The image part of the state is
clamped to the input $x$; the label part $o$ is free and minimises

$$E(o, x) = \tfrac12 |o|^2 - \tfrac1b \ln \sum_m e^{\,b (K_m x + V_m o)}$$

With $\eta = 1$ an update is $o \leftarrow V^\top \mathrm{softmax}(b (K x + V o))$, that
of Ramsauer et al., 2020, arXiv:2008.02217. EP learns the memories.
"""

import argparse

import equinox as eqx
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax

import ctep


class Hopfield(ctep.EnergyNetwork):
    """Continuous associative memory with clamped images and free labels."""

    keys: jax.Array = ctep.parameter()
    values: jax.Array = ctep.parameter()
    input_shape: tuple[int, ...] = eqx.field(static=True)
    shapes: tuple[tuple[int, ...], ...] = eqx.field(static=True)
    sharpness: float = eqx.field(static=True, default=1.0)
    step: float = eqx.field(static=True, default=1.0)

    def energy(self, state, x):
        (o,) = state
        match = self.sharpness * (self.keys @ x + self.values @ o)
        return 0.5 * o @ o - jax.nn.logsumexp(match) / self.sharpness


def build(memories, inputs, outputs, key):
    """Return a network with random memories, whose labels are small."""
    a, b = jax.random.split(key)
    return Hopfield(
        keys=jax.random.normal(a, (memories, inputs)) / jnp.sqrt(inputs),
        values=0.3 * jax.random.normal(b, (memories, outputs)) / jnp.sqrt(outputs),
        input_shape=(inputs,),
        shapes=((outputs,),),
    )


def draw(network):
    """Draw each memory as an image, titled with the label that it votes for."""
    votes = np.argmax(network.values, 1)
    order = np.argsort(votes, kind="stable")[:40]
    fig, axes = plt.subplots(4, 10, figsize=(8, 3.8))
    for ax in axes.flat:
        ax.axis("off")
    for ax, m in zip(axes.flat, order, strict=False):
        ax.imshow(network.keys[m].reshape(8, 8), cmap="gray")
        ax.set_title(votes[m], fontsize=9, pad=2)
    fig.suptitle("what the memories store, and the digit that each votes for")
    return fig


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--memories", type=int, default=40)
    parser.add_argument("--figure", help="save the figure to this file")
    args = parser.parse_args(argv)

    network = build(args.memories, 64, 10, jax.random.key(0))
    solver = ctep.Sweeps(max_sweeps=1000, rtol=1e-4, atol=1e-4)
    # The label of a memory is about one-hot, so the outputs are no logits.
    settings = {"nudge": ctep.OutputError(ctep.SquaredError()), "solver": solver}
    rule, data = ctep.Centered(0.05), ctep.data.load("digits")
    x, y = data.x_train[:20].reshape(20, 64), data.y_train[:20]
    print(ctep.analysis.gradient_check(network, x, y, [rule], **settings))

    result = ctep.fit(
        network, data, rule=rule, optimizer=optax.adam(1e-2),
        epochs=args.epochs, key=jax.random.key(1), probe=0, progress=False, **settings,
    )  # fmt: skip
    print(result)
    fig = draw(result.network)
    if args.figure:
        fig.savefig(args.figure)


if __name__ == "__main__":
    main()
