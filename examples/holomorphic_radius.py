r"""Holomorphic EP: how the error of the gradient falls with the radius and the points.

With $N$ nudges on a circle of radius $r$ in the complex plane the error is $O(r^N)$
(Laborieux and Zenke, 2022, arXiv:2209.00530). One point is the one-sided rule, two are
the centred one. Beyond the disc in which the rest is holomorphic no number of points
helps. Everything is in float64, where the error is not hidden by rounding.
"""

import argparse

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

import ctep

SOLVER = ctep.Sweeps(max_sweeps=1000, rtol=1e-12, atol=1e-12)


def gradient(network, x, y, rule, weight, n):
    """Return the gradient of one rule, whose nudges are `weight(n)` times as large.

    The weight of a nudge that follows the epoch is no constant of the compiled program,
    so that one program does for all radii.
    """
    _, tree = ctep.gradient(
        network, x, y, nudge=weight * ctep.OutputError(), rule=rule, solver=SOLVER,
        epoch=n, throw=False,
    )  # fmt: skip
    leaves = jax.tree_util.tree_leaves(tree)
    return np.concatenate([np.ravel(leaf) for leaf in leaves]) / weight(n)


def draw(radii, errors):
    fig, ax = plt.subplots(figsize=(5.5, 3.6))
    for (points, values), marker in zip(errors.items(), "os^vD", strict=False):
        label = f"{points} point{'s' if points > 1 else ''}"
        ax.loglog(radii, values, marker + "-", color="black", ms=5, lw=0.8, label=label)
    ax.set(xlabel="radius of the nudges", ylabel="relative error of the gradient")
    ax.legend(frameon=False)
    fig.tight_layout()
    return fig


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--points", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--radii", type=int, default=8, help="how many, up to 3.2")
    parser.add_argument("--figure", help="save the figure to this file")
    args = parser.parse_args(argv)

    with jax.enable_x64(True):
        data = ctep.data.load("digits")
        x, y = jnp.asarray(data.x_train[:8], float).reshape(8, 64), data.y_train[:8]
        activation = ctep.Sigmoid(4.0, 0.5)
        sizes, key = (64, 32, 16, 10), jax.random.key(0)
        network = ctep.mlp(sizes, activation=activation, feedback=0.5, key=key)
        radii = 3.2 / 2.0 ** np.arange(args.radii)
        weight = lambda n: jnp.asarray(radii)[n]  # noqa: E731
        exact = gradient(network, x, y, ctep.Implicit(1e-12), weight, 0)
        errors = {
            points: [
                np.linalg.norm(gradient(network, x, y, rule, weight, n) - exact)
                / np.linalg.norm(exact)
                for n in range(args.radii)
            ]
            for points in args.points
            for rule in [ctep.Holomorphic(1.0, points)]
        }
    print("radius  " + "".join(f"{n:4d} points" for n in errors))
    for n, r in enumerate(radii):
        print(f"{r:6.3f}  " + "".join(f"{e[n]:11.1e}" for e in errors.values()))
    fig = draw(radii, errors)
    if args.figure:
        fig.savefig(args.figure)


if __name__ == "__main__":
    main()
