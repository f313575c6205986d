"""The memory of a gradient: EP against backpropagation through time.

Backpropagation through a relaxation of T steps stores all of its states; EP stores one
equilibrium and its increments, however long they take. The numbers are the compiler's
own account of what a compiled gradient allocates besides its inputs and outputs.
Nothing is run.
"""

import argparse

import equinox as eqx
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt

import ctep


def megabytes(network, x, y, rule, steps):
    """Return the temporary memory of the compiled gradient."""
    solver = ctep.Sweeps(max_sweeps=steps)

    @eqx.filter_jit
    def gradient(network, x, y):
        return ctep.gradient(network, x, y, rule=rule, solver=solver, throw=False)

    compiled = gradient.lower(network, x, y).compile().compiled
    return compiled.memory_analysis().temp_size_in_bytes / 1e6


def draw(steps, found):
    fig, ax = plt.subplots(figsize=(5.5, 3.4))
    for (name, values), style in zip(found.items(), ("s--", "^:", "o-"), strict=True):
        color = "black" if style == "o-" else "0.5"
        ax.loglog(steps, values, style, color=color, label=name)
    ax.set(xlabel="steps of the relaxation", ylabel="temporary memory (MB)")
    ax.set_xticks(steps, map(str, steps))
    ax.minorticks_off()
    ax.legend(frameon=False)
    fig.tight_layout()
    return fig


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, nargs="+", default=[10, 20, 40, 80, 160])
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--figure", help="save the figure to this file")
    args = parser.parse_args(argv)

    sizes = (784, args.width, args.width, 10)
    network = ctep.mlp(sizes, feedback=0.1, key=jax.random.key(0))
    x, y = jnp.zeros((args.batch, 784)), jnp.zeros(args.batch, int)
    rules = {
        "through time": ctep.Unrolled,
        "the same, rematerialised": lambda t: ctep.Unrolled(t, rematerialise=True),
        "EP": lambda t: ctep.Centered(0.1),
    }
    found = {
        name: [megabytes(network, x, y, rule(t), t) for t in args.steps]
        for name, rule in rules.items()
    }
    print("temporary memory in MB", *(f"{t:8d} steps" for t in args.steps))
    for name, values in found.items():
        print(f"{name:24s}", *(f"{v:12.2f}" for v in values))
    fig = draw(args.steps, found)
    if args.figure:
        fig.savefig(args.figure)


if __name__ == "__main__":
    main()
