"""Training a feedback-regulated network: ten layers, and their backprop twin.

The recipe is that of the FRE-RNN (2025, arXiv:2508.11659): ten tanh layers of 64 units,
feedback of 0.1 and no residual connections. Its twin has the same layers, weights and
batches, no feedback, and backpropagation. The images are the embedded digits; with
`--dataset mnist --batch-size 500 --epochs 50` this is the published run.
"""

import argparse

import matplotlib.pyplot as plt

import ctep


def train(recipe, data, args, rule=None):
    """Return the result of a run with the recipe's rule, or with another one."""
    network, settings = recipe.setup(data, seed=0, epochs=args.epochs, rule=rule)
    settings["batch_size"] = args.batch_size
    if rule is not None:
        settings["probe"] = 0  # its gradient is the exact one
    return ctep.fit(network, data, progress=False, **settings)


def draw(runs):
    fig, axes = plt.subplots(1, 2, figsize=(7.5, 3.2))
    styles = {"EP": ("o-", "black"), "its twin": ("s--", "0.5")}
    for name, run in runs.items():
        style, color = styles[name]
        for ax, key in zip(axes, ("loss", "test_accuracy"), strict=True):
            values = [record[key] for record in run.history]
            epochs = range(1, len(values) + 1)
            ax.plot(epochs, values, style, color=color, ms=4, label=name)
    axes[0].set(xlabel="epoch", ylabel="training loss (nats)", yscale="log")
    axes[1].set(xlabel="epoch", ylabel="test accuracy")
    axes[0].legend(frameon=False)
    fig.tight_layout()
    return fig


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recipe", default="fre-10x64")
    parser.add_argument("--dataset", default="digits")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--batch-size", type=int, default=50)
    parser.add_argument("--figure", help="save the figure to this file")
    args = parser.parse_args(argv)

    recipe, data = ctep.recipes.get(args.recipe), ctep.data.load(args.dataset)
    runs = {
        "EP": train(recipe, data, args),
        "its twin": train(recipe, data, args, ctep.Backprop()),
    }
    for name, run in runs.items():
        print(f"{name}:\n{run}\n")
    fig = draw(runs)
    if args.figure:
        fig.savefig(args.figure)


if __name__ == "__main__":
    main()
