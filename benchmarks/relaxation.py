"""What over-relaxation saves: sweeps of a deep chain, at equal gradients.

At initialisation and after one epoch of training, on one batch of the training set.
"""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
from _report import options, report
from _setup import load

import ctep
from ctep._rule import Task
from ctep._train.score import as_inputs


@eqx.filter_jit
def estimate(network, x, y, nudge, rule, solver):
    task = Task.mean(x, y, nudge, solver, throw=False)
    found = rule.estimate(network, task)
    free = jnp.mean(found.free.steps.astype(x.dtype))
    total = jnp.mean(found.sweeps.astype(x.dtype))
    unsettled = jnp.mean(~(found.result == ctep.RESULTS.successful))
    return found.gradient, free, total - free, unsettled


def cosine(a, b):
    a, b = (jnp.concatenate([v.ravel() for v in jax.tree.leaves(t)]) for t in (a, b))
    return float(jnp.vdot(a, b) / jnp.linalg.norm(a) / jnp.linalg.norm(b))


def table(network, x, y, settings, relaxations, tolerances):
    """Return a row for every relaxation and tolerance."""
    fine = ctep.Sweeps(max_sweeps=2000, rtol=1e-6, atol=1e-6)
    exact = estimate(network, x, y, settings["nudge"], ctep.Implicit(), fine)[0]
    rows = []
    for tolerance in tolerances:
        for relaxation in relaxations:
            solver = dataclasses.replace(
                settings["solver"],
                rtol=tolerance,
                atol=tolerance,
                relaxation=relaxation,
            )
            gradient, free, nudged, unsettled = estimate(
                network, x, y, settings["nudge"], settings["rule"], solver
            )
            row = {"tolerance": tolerance, "relaxation": relaxation}
            row |= {"free": float(free), "nudged": float(nudged)}
            row |= {"unsettled": float(unsettled), "cosine": cosine(gradient, exact)}
            rows.append(row)
    return rows


def main():
    parser = options(__doc__)
    parser.add_argument("--recipe", default="fre-20x64")
    args = parser.parse_args()
    recipe, dataset = ctep.recipes.get(args.recipe), load(args)
    network, settings = recipe.setup(dataset, seed=args.seed, epochs=1)
    size = settings["batch_size"]
    x = as_inputs(settings["pipeline"], jnp.asarray(dataset.x_train[:size]), network)
    y = jnp.asarray(dataset.y_train[:size])
    relaxations = [1 + 0.05 * k for k in range(9)]
    tolerances = [1e-2, 1e-3]
    if args.toy:
        relaxations, tolerances = relaxations[::4], tolerances[1:]
    relaxations = [round(value, 2) for value in relaxations]
    trained = ctep.fit(network, dataset, **settings, progress=False)
    when = {"initialisation": network, "after one epoch": trained.network}
    found = {
        name: table(one, x, y, settings, relaxations, tolerances)
        for name, one in when.items()
    }
    rows = [r for r in found["after one epoch"] if r["tolerance"] == tolerances[-1]]
    best = min(rows, key=lambda row: row["free"] + row["nudged"])
    plain = rows[0]
    ratio = (best["free"] + best["nudged"]) / (plain["free"] + plain["nudged"])
    line = (
        f"{recipe.name} after one epoch, tolerance {tolerances[-1]:g}: "
        f"{plain['free']:.1f} + {plain['nudged']:.1f} sweeps (cosine "
        f"{plain['cosine']:.4f}) without over-relaxation, {best['free']:.1f} + "
        f"{best['nudged']:.1f} (cosine {best['cosine']:.4f}) with "
        f"{best['relaxation']:g}, the fewest"
    )
    report("relaxation", line, args, value=ratio, details={"rows": found})
    for name, rows in found.items():
        print(f"  {name}: " + ", ".join(rows[0]))
        for row in rows:
            print("    " + "  ".join(f"{value:8.4g}" for value in row.values()))


if __name__ == "__main__":
    main()
