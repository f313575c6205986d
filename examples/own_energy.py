"""An energy of your own: a dense associative memory in front of a linear layer.

The network is one scalar function. Everything else follows: its dynamics, its
equilibria, and a gradient by equilibrium propagation that can be held against the exact
one.
"""

import argparse

import equinox as eqx
import jax
import jax.numpy as jnp

import ctep


class Memory(ctep.EnergyNetwork):
    """Hidden units `h` are drawn to stored patterns, the output `o` reads them."""

    encoder: jax.Array
    patterns: jax.Array
    decoder: jax.Array
    input_shape: tuple[int, ...] = eqx.field(static=True)
    shapes: tuple[tuple[int, ...], ...] = eqx.field(static=True)
    step: float = eqx.field(static=True, default=0.5)

    def energy(self, state, x):
        h, o = state
        pull = jax.nn.logsumexp(self.patterns @ h)
        quadratic = 0.5 * h @ h + 0.5 * o @ o
        return quadratic - h @ (self.encoder @ x) - pull - o @ (self.decoder @ h)


def build(inputs, hidden, patterns, outputs, key):
    keys = jax.random.split(key, 3)
    return Memory(
        encoder=jax.random.normal(keys[0], (hidden, inputs)) / jnp.sqrt(inputs),
        patterns=jax.random.normal(keys[1], (patterns, hidden)) / jnp.sqrt(hidden),
        decoder=0.5 * jax.random.normal(keys[2], (outputs, hidden)) / jnp.sqrt(hidden),
        input_shape=(inputs,),
        shapes=((hidden,), (outputs,)),
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=5)
    epochs = parser.parse_args().epochs
    network = build(64, 32, 16, 10, jax.random.key(0))

    x = jax.random.uniform(jax.random.key(1), (8, 64))
    y = jnp.arange(8)
    solver = ctep.Sweeps(max_sweeps=1000, rtol=1e-4, atol=1e-4)
    _, estimate = ctep.gradient(network, x, y, rule=ctep.Centered(0.05), solver=solver)
    _, exact = ctep.gradient(network, x, y, rule=ctep.Implicit(), solver=solver)
    for name in ("encoder", "patterns", "decoder"):
        a, b = getattr(estimate, name), getattr(exact, name)
        error = jnp.linalg.norm(a - b) / jnp.linalg.norm(b)
        print(f"{name:10s} relative error of the gradient {error:.1e}")

    result = ctep.fit(
        network, "digits", solver=solver, epochs=epochs, key=jax.random.key(2)
    )
    print(result)


if __name__ == "__main__":
    main()
