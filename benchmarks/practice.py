"""What is usual in training deep networks, one thing at a time: the backprop twin.

A recipe's twin without augmentation, with crops and mirror images, and with one option
more; then with all of them. Test accuracy is that of the last epoch. In a few epochs
little is learned by heart, so that what regularises costs more than it gives.
"""

import dataclasses

import numpy as np
import optax
from _report import keep, options, report
from _setup import first, load

import ctep


def practices(settings, args):
    """Return by name what `fit` gets in place of the recipe's settings."""

    def pipeline(crop=4, flip=0.5, **changes):
        own = dataclasses.replace(settings["pipeline"], fill="zero", cutout=0)
        return {"pipeline": dataclasses.replace(own, crop=crop, flip=flip, **changes)}

    schedule = optax.cosine_decay_schedule(args.rate, args.steps)
    cut, drawn = {"cutout": 12}, {"randaugment": (3, 9)}
    smooth = {"nudge": ctep.OutputError(ctep.CrossEntropy(label_smoothing=0.2))}
    decay = {"optimizer": optax.adamw(schedule, weight_decay=0.1, mask=ctep.weights)}
    average = {"average": args.average}
    reflect = {"fill": "reflect"}
    return {
        "no augmentation": pipeline(crop=0, flip=0.0),
        "crops and mirror images": pipeline(),
        "reflected borders": pipeline(**reflect),
        "cutout 12": pipeline(**cut),
        "RandAugment(3, 9)": pipeline(**drawn),
        "labels smoothed by 0.2": pipeline() | smooth,
        "weight decay 0.1": pipeline() | decay,
        f"average {args.average:g}": pipeline() | average,
        "all but RandAugment": pipeline(**reflect, **cut) | smooth | decay | average,
        "all": pipeline(**reflect, **cut, **drawn) | smooth | decay | average,
    }


def main():
    parser = options(__doc__)
    parser.add_argument("recipe", nargs="?", default="fre-conv-cifar10")
    parser.add_argument("--scale", type=float, default=0.5)
    parser.add_argument("--examples", type=int, default=10_000)
    parser.add_argument("--tests", type=int, default=2_000)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--average", type=float, default=0.98)
    args = parser.parse_args()
    recipe = ctep.recipes.get(args.recipe)
    full = load(args, recipe)
    count, tests = (100, 100) if args.toy else (args.examples, args.tests)
    test = ctep.data.ArrayRecords(full.x_test[:tests], full.y_test[:tests], 10, "_test")
    dataset = dataclasses.replace(first(full, count), test=test)
    scale = 0.05 if args.toy else args.scale
    network, settings = recipe.setup(
        dataset, seed=args.seed, epochs=args.epochs, scale=scale, rule=ctep.Backprop()
    )
    args.steps = args.epochs * -(-count // settings["batch_size"])
    schedule = optax.cosine_decay_schedule(args.rate, args.steps)
    settings |= {"probe": 0, "optimizer": optax.adam(schedule)}
    rows, records = {}, []
    for name, changes in practices(settings, args).items():
        history = ctep.fit(network, dataset, **settings | changes).history
        print(name, history[-1]["test_accuracy"], flush=True)
        records += [{"practice": name, **record} for record in history]
        last = history[-1]
        rows[name] = {
            "test_accuracy": last["test_accuracy"],
            "train_accuracy": last["train_accuracy"],
            # The first epoch compiles.
            "seconds": float(np.median([r["seconds"] for r in history[1:]])),
        }
    keep("practice", records, args)
    listed = "; ".join(
        f"{name} {100 * row['test_accuracy']:.1f} ({100 * row['train_accuracy']:.1f})"
        for name, row in rows.items()
    )
    line = (
        f"backprop twin of {recipe.name} at {scale:g} of its widths, {count} examples, "
        f"{args.epochs} epochs, Adam at {args.rate:g} along a cosine: accuracy in % on "
        f"{tests} test examples (of its own batches in training) after the last epoch: "
        f"{listed}"
    )
    details = {"scale": scale, "epochs": args.epochs, "practices": rows}
    value = {name: row["test_accuracy"] for name, row in rows.items()}
    report("practice", line, args, value=value, details=details)


if __name__ == "__main__":
    main()
