"""Accuracy of a recipe, trained as `ctep fit` trains it.

Test accuracy is reported and never acted on: no early stopping, no choice of settings.
The best epoch is therefore a maximum over the test set, as published tables give it;
the final epoch is the unbiased number.
"""

import sys
from pathlib import Path

from _report import keep, options, report
from _setup import first, load

import ctep

_KEYS = (
    "epoch loss train_accuracy test_accuracy sweeps unsettled residual "
    "gradient_cosine seconds"
).split()


def main():
    parser = options(__doc__)
    parser.add_argument("recipe", choices=sorted(ctep.recipes.RECIPES))
    parser.add_argument("--epochs", type=int, help="by default those of the recipe")
    text = "factor of every width: another network than the recipe's"
    parser.add_argument("--scale", type=float, default=1.0, help=text)
    text = "only the first training examples: easier to fit, harder to generalise from"
    parser.add_argument("--examples", type=int, help=text)
    text = "folder of the run, which goes on where it stopped if it is there already"
    parser.add_argument("--out", type=Path, help=text)
    args = parser.parse_args()
    recipe = ctep.recipes.get(args.recipe)
    dataset = load(args, recipe)
    args.dataset = dataset.name  # for the report
    if args.examples:
        dataset = first(dataset, args.examples)
    epochs = args.epochs or (2 if args.toy else recipe.epochs)
    network, settings = recipe.setup(
        dataset, seed=args.seed, epochs=epochs, scale=args.scale
    )
    begun = args.out is not None and args.out.exists()
    result = ctep.fit(network, dataset, **settings, out=args.out, resume=begun)
    size = "" if args.scale == 1 else f"-scale-{args.scale:g}"
    size += f"-examples-{args.examples}" if args.examples else ""
    name = f"{recipe.name}{size}-seed{args.seed}"
    history = [{k: record[k] for k in _KEYS} for record in result.history]
    if result.status != "completed" or not history:
        sys.exit(f"{name} {result.status}: {result.reason}")
    keep(name, history, args)
    best = max(history, key=lambda record: record["test_accuracy"])
    # None where the gradient vanished.
    cosines = [r["gradient_cosine"] or 0.0 for r in history]
    details = {
        "recipe": recipe.name,
        "epochs": epochs,
        "scale": args.scale,
        "examples": dataset.examples,
        "best_test_accuracy": best["test_accuracy"],
        "best_epoch": best["epoch"],
        "final_test_accuracy": history[-1]["test_accuracy"],
        "final_train_accuracy": history[-1]["train_accuracy"],
        "seconds": sum(r["seconds"] for r in history),
        "mean_sweeps": sum(r["sweeps"] for r in history) / epochs,
        "worst_unsettled": max(r["unsettled"] for r in history),
        "worst_gradient_cosine": min(cosines),
    }
    line = (
        f"{name}, {epochs} epochs: test accuracy "
        f"{100 * best['test_accuracy']:.2f} % at the best epoch ({best['epoch']}), "
        f"{100 * history[-1]['test_accuracy']:.2f} % at the final one; "
        f"{details['seconds']:.0f} s in all, {details['mean_sweeps']:.1f} sweeps, "
        f"unsettled at most {100 * details['worst_unsettled']:.2g} %, gradient cosine "
        f"at least {details['worst_gradient_cosine']:.4f}"
    )
    value = [best["test_accuracy"], history[-1]["test_accuracy"]]
    report(f"accuracy-{name}", line, args, value=value, details=details)


if __name__ == "__main__":
    main()
