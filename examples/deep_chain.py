"""How deep can EP go? The gradient of each layer, against the exact one.

Feedback of 0.1 per layer leaves 1e-9 of the output's nudge at the first of ten layers.
Solved for the increment itself, float32 carries it; the plain difference of two states
would be rounding noise below the fifth layer or so.
"""

import argparse

import jax
import jax.numpy as jnp

import ctep


def cosines(network, x, y):
    """Return per layer the cosine of the EP gradient with the exact one."""
    solver = ctep.Sweeps(max_sweeps=300, rtol=1e-4, atol=1e-4)
    _, ep = ctep.gradient(network, x, y, rule=ctep.OneSided(1e-3), solver=solver)
    _, exact = ctep.gradient(network, x, y, rule=ctep.Implicit(), solver=solver)
    pairs = zip(ep.couplings, exact.couplings, strict=True)
    return [cosine(a.forward.weight, b.forward.weight) for a, b in pairs]


def cosine(a, b):
    return float(jnp.vdot(a, b) / jnp.linalg.norm(a) / jnp.linalg.norm(b))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--depth", type=int, nargs="+", default=[5, 10, 20])
    parser.add_argument("--feedback", type=float, default=0.1)
    args = parser.parse_args()
    x = jax.random.uniform(jax.random.key(0), (20, 64))
    y = jax.random.randint(jax.random.key(1), (20,), 0, 10)
    print("layers  attenuation  cosine with the exact gradient: first, middle, last")
    for depth in args.depth:
        sizes = (64, *(64,) * depth, 10)
        network = ctep.mlp(sizes, feedback=args.feedback, key=jax.random.key(2))
        c = cosines(network, x, y)
        faint = network.attenuation[0]
        print(
            f"{depth:6d}  {faint:11.0e}  {c[0]:.6f}, {c[depth // 2]:.6f}, {c[-1]:.6f}"
        )


if __name__ == "__main__":
    main()
