"""A recipe against its backprop twin: same weights, same batches, same optimiser.

Loss curves, seconds per epoch, and the cosine of the two gradients layer by layer at
the initial weights. The recipe's gradient is that of the network with its feedback, the
twin's of the one without.
"""

import dataclasses

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from _report import keep, options, report
from _setup import cosine, first, load, weights

import ctep
from ctep._rule import Task
from ctep._train.score import as_inputs


def altered(network, settings, args):
    """Return the network and options with the feedback, sweeps, precision asked for."""
    if args.feedback is not None:
        tied = {
            n: c.target - c.source
            for n, c in enumerate(network.couplings)
            if isinstance(c.feedback, ctep.Tied)
        }
        network = eqx.tree_at(
            lambda network: [network.couplings[n].feedback for n in tied],
            network,
            # A skip has the feedback of the couplings that it bypasses.
            [ctep.Tied(args.feedback**span) for span in tied.values()],
        )
    if args.sweeps is not None:
        settings["solver"] = ctep.Sweeps(args.sweeps, rtol=0.0, atol=0.0)
        settings["watch"] = ctep.Watch(unsettled=1.0)
    if args.precision is not None:
        network = ctep.with_precision(network, args.precision)
    return network, settings


def layers(network, settings, dataset):
    """Return the cosine of both rules' gradients, one number per weight."""
    rows = slice(0, settings["batch_size"])
    x = as_inputs(settings["pipeline"], jnp.asarray(dataset.x_train[rows]), network)
    nudge = settings["nudge"].drawn(network, settings["key"]).at(0)
    y = jnp.asarray(dataset.y_train[rows])
    task = Task.mean(x, y, nudge, settings["solver"], throw=False)

    found = [
        weights(eqx.filter_jit(rule.estimate)(network, task))
        for rule in (settings["rule"], ctep.Backprop())
    ]
    return [cosine(*pair) for pair in zip(*found, strict=True)]


def main():
    parser = options(__doc__)
    parser.add_argument("recipe", nargs="?", default="fre-vgg11-he")
    parser.add_argument("--scale", type=float, default=0.25)
    parser.add_argument("--examples", type=int, default=10_000)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--seeds", type=int, default=3)
    text = "of every connection of the recipe, instead of its own"
    parser.add_argument("--feedback", type=float, help=text)
    text = "exactly so many per phase of the recipe"
    parser.add_argument("--sweeps", type=int, help=text)
    text = "of the recipe's products, such as bfloat16"
    parser.add_argument("--precision", help=text)
    args = parser.parse_args()
    recipe = ctep.recipes.get(args.recipe)
    dataset = first(load(args, recipe), 200 if args.toy else args.examples)
    dataset = dataclasses.replace(dataset, test=None)
    scale, seeds = (0.05, 1) if args.toy else (args.scale, args.seeds)
    runs, cosines = {"recipe": [], "twin": []}, []
    for seed in range(args.seed, args.seed + seeds):
        for name, rule in (("recipe", None), ("twin", ctep.Backprop())):
            network, settings = recipe.setup(
                dataset, seed=seed, epochs=args.epochs, scale=scale, rule=rule
            )
            if rule is None:
                network, settings = altered(network, settings, args)
                cosines.append(layers(network, settings, dataset))
            settings["probe"] = 0
            result = ctep.fit(network, dataset, **settings)
            runs[name].append(result.history)
    losses = {
        name: np.mean([h[-1]["loss"] for h in histories])
        for name, histories in runs.items()
    }
    # The first epoch compiles.
    seconds = {
        name: np.median([r["seconds"] for h in histories for r in h[1:]])
        for name, histories in runs.items()
    }
    ratio = float(losses["recipe"] / losses["twin"])
    slower = float(seconds["recipe"] / seconds["twin"])
    worst = np.min(cosines, 0)
    changes = {k: getattr(args, k) for k in ("feedback", "sweeps", "precision")}
    changes = {k: v for k, v in changes.items() if v is not None}
    name = "-".join(["twins", recipe.name, *(f"{k}-{v}" for k, v in changes.items())])
    records = [
        {"who": who, "seed": args.seed + n, **record}
        for who, histories in runs.items()
        for n, history in enumerate(histories)
        for record in history
    ]
    keep(name, records, args)
    details = {
        "scale": scale,
        "changes": changes,
        "examples": len(dataset.y_train),
        "epochs": args.epochs,
        "loss": {k: float(v) for k, v in losses.items()},
        "seconds": {k: float(v) for k, v in seconds.items()},
        "seconds_ratio": slower,
        "cosine_per_weight": [float(c) for c in worst],
        "worst_unsettled": max(r["unsettled"] for h in runs["recipe"] for r in h),
    }
    with_ = "".join(f", {k} {v}" for k, v in changes.items())
    line = (
        f"{recipe.name}{with_} at {scale:g} of its widths, "
        f"{len(dataset.y_train)} examples, {args.epochs} epochs, {seeds} seeds: "
        "training loss of the last epoch "
        f"{losses['recipe']:.3f} / {losses['twin']:.3f} of its backprop twin = "
        f"{ratio:.3f}; seconds per epoch {seconds['recipe']:.1f} / "
        f"{seconds['twin']:.1f} = {slower:.2f}; gradient cosine per weight at the "
        f"start, from input to output: {', '.join(f'{c:.3f}' for c in worst)}"
    )
    report(name, line, args, value=[ratio, slower], details=details,
           seeds=list(range(args.seed, args.seed + seeds)))  # fmt: skip


if __name__ == "__main__":
    main()
