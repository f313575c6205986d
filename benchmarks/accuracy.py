"""Accuracy of a recipe, trained as `ctep fit` trains it.

Test accuracy is reported and never acted on: no early stopping, no choice of settings.
The best epoch is therefore a maximum over the test set, as published tables give it;
the final epoch is the unbiased number.
"""

import sys
from pathlib import Path

from _accuracy import save
from _report import options
from _setup import first, load

import ctep


def main():
    parser = options(__doc__)
    alone = [name for name, r in ctep.recipes.RECIPES.items() if r.teacher is None]
    parser.add_argument("recipe", choices=alone, help="one that has no teacher")
    parser.add_argument("--epochs", type=int, help="by default those of the recipe")
    text = "factor of every width: another network than the recipe's"
    parser.add_argument("--scale", type=float, default=1.0, help=text)
    text = "only the first training examples: easier to fit, harder to generalise from"
    parser.add_argument("--examples", type=int, help=text)
    text = "train the feed-forward twin, by backprop, from the same weights and batches"
    parser.add_argument("--twin", action="store_true", help=text)
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
        dataset,
        seed=args.seed,
        epochs=epochs,
        scale=args.scale,
        rule=ctep.Backprop() if args.twin else None,
    )
    begun = args.out is not None and args.out.exists()
    result = ctep.fit(network, dataset, **settings, out=args.out, resume=begun)
    size = "" if args.scale == 1 else f"-scale-{args.scale:g}"
    size += f"-examples-{args.examples}" if args.examples else ""
    size += "-twin" if args.twin else ""
    name = f"{recipe.name}{size}-seed{args.seed}"
    if result.status != "completed" or not result.history:
        sys.exit(f"{name} {result.status}: {result.reason}")
    save(
        name,
        result.history,
        args,
        recipe=recipe.name,
        scale=args.scale,
        examples=dataset.examples,
    )


if __name__ == "__main__":
    main()
