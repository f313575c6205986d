"""Memory of a training step against the number of sweeps that it may take.

XLA's own account of the compiled step: what it allocates besides inputs and outputs.
"""

import dataclasses

from _report import options, report
from _setup import load, start, temporary_bytes

import ctep


def measure(args, rule, sweeps):
    """Return the temporary memory of a recipe with another rule and limit."""
    recipe, dataset = ctep.recipes.get(args.recipe), load(args)
    network, settings = recipe.setup(dataset, seed=args.seed)
    solver = dataclasses.replace(recipe.solver, max_sweeps=sweeps)
    return temporary_bytes(*start(network, settings, dataset, rule=rule, solver=solver))


def main():
    parser = options(__doc__)
    parser.add_argument("--recipe", default="fre-2x512")
    args = parser.parse_args()
    rules = {"OneSided": ctep.OneSided(0.1), "Centered": ctep.Centered(0.1)}
    few, many = 10, 1000
    found = {}
    for name, rule in rules.items():
        sizes = {n: measure(args, rule, n) for n in (few, many)}
        found[name] = {
            f"bytes_at_{few}": sizes[few],
            f"bytes_at_{many}": sizes[many],
            "ratio": sizes[many] / sizes[few],
        }
    parts = [
        f"{entry['ratio']:.4f} for {name} ({entry[f'bytes_at_{many}'] / 1e6:.2f} MB)"
        for name, entry in found.items()
    ]
    line = (
        f"temporary memory of a training step of {args.recipe}, at most {many} "
        f"sweeps / at most {few}: {', '.join(parts)}"
    )
    value = max(entry["ratio"] for entry in found.values())
    details = {"recipe": args.recipe, "rules": found}
    report("memory", line, args, value=value, details=details)


if __name__ == "__main__":
    main()
