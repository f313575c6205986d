"""Local errors against depth: how strongly the first layer feels what is wrong.

A nudge of the output fades from layer to layer on its way back. Hidden layers that
predict the label on their own (2025, arXiv:2508.15989) pull from nearby. The response
of a layer is measured as the gradient of its biases, which is the mean of its nudged
state less its free state, per unit of nudge. The networks are symmetric: behind weak
feedback a local error is scaled like all else in that layer's energy.
"""

import argparse

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

import ctep

SOLVER = ctep.Sweeps(max_sweeps=300, rtol=1e-4, atol=1e-4)


def nudges(network):
    """Return the output's error alone, and with one of every second layer."""
    layers = tuple(range(2, len(network.shapes), 2))
    local = ctep.LocalError(layers).drawn(network, jax.random.key(1))
    output = ctep.OutputError()
    return {"output error": output, "with local errors": output + 0.65 * local}


def responses(network, x, y, nudge):
    """Return the size of each layer's response to the nudge."""
    rule = ctep.OneSided(0.01, rescale=False)
    _, gradient = ctep.gradient(network, x, y, nudge=nudge, rule=rule, solver=SOLVER)
    return [np.linalg.norm(layer.bias) for layer in gradient.layers]


def learning(network, data, nudge, epochs):
    """Return the test accuracy in percent after each epoch."""
    result = ctep.fit(network, data, nudge=nudge, solver=SOLVER, epochs=epochs,
                      batch_size=50, probe=0, progress=False)  # fmt: skip
    return [100 * record["test_accuracy"] for record in result.history]


def draw(felt, learned):
    fig, (left, right) = plt.subplots(1, 2, figsize=(8, 3.3))
    for (name, values), style in zip(felt.items(), ("o-", "s--"), strict=True):
        look = {"color": "black" if style == "o-" else "0.5", "ms": 4, "label": name}
        left.semilogy(range(1, len(values) + 1), values, style, **look)
        epochs = range(1, len(learned[name]) + 1)
        right.plot(epochs, learned[name], style, **look)
    left.set(xlabel=f"layer of {len(values)}", ylabel="response per unit of nudge")
    left.legend(frameon=False)
    right.set(xlabel="epoch", ylabel="test accuracy (%)")
    fig.tight_layout()
    return fig


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--depths", type=int, nargs="+", default=[3, 6])
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--gain", type=float, default=0.3, help="of Glorot's weights")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--figure", help="save the figure to this file")
    args = parser.parse_args(argv)

    data = ctep.data.load("digits")
    x, y = jnp.asarray(data.x_train[:20]).reshape(20, 64), data.y_train[:20]
    init = jax.nn.initializers.variance_scaling(args.gain**2, "fan_avg", "uniform")
    print("layers  nudge               response of the first and the last layer")
    for depth in args.depths:
        sizes, key = (64, *(args.width,) * depth, 10), jax.random.key(0)
        network = ctep.mlp(sizes, init=init, key=key)
        nudge = nudges(network)
        felt = {name: responses(network, x, y, nudge[name]) for name in nudge}
        for name, sizes in felt.items():
            print(f"{depth:6d}  {name:18s}  {sizes[0]:17.1e} {sizes[-1]:22.1e}")
    # The deepest network learns with both.
    learned = {n: learning(network, data, nudge[n], args.epochs) for n in nudge}
    for name, values in learned.items():
        print(f"test accuracy after {args.epochs} epochs, {name}: {values[-1]:.2f} %")
    fig = draw(felt, learned)
    if args.figure:
        fig.savefig(args.figure)


if __name__ == "__main__":
    main()
