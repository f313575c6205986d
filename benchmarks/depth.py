"""Gradients of every layer of a deep chain in float32, against the exact ones.

Behind feedback of 0.1 the effect of a nudge shrinks tenfold per layer. Float32
gradients are compared with float64 implicit differentiation, at initialisation:
`Centered(0.01)` by increments, the recipe's own settings, and `Centered` by plain
differences of two states after 300 sweeps each, with three nudges since larger ones
drown less in rounding.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from _report import options, report
from _setup import cosine
from precision import SINGLE, batch, cast, exact, weights

import ctep
from ctep._nudge import Pull
from ctep._rule import Task
from ctep._rule.base import differentiate


@eqx.filter_jit
def plain(network, x, y, rule):
    """Return the gradient from plain differences of nudged and free states."""
    solver = ctep.Sweeps(max_sweeps=300, rtol=0.0, atol=0.0)
    task = Task.mean(x, y, ctep.OutputError(), solver, throw=False)
    free = task.settle(network).state
    betas, stencil = (jnp.asarray(v, x.dtype)[:, None] for v in rule.stencil())
    pull = Pull(task.nudge, network)
    problem = network.nudged(x[None], pull, (betas, y[None]))
    begin = tuple(jnp.broadcast_to(s, (len(betas), *s.shape)) for s in free)
    nudged = solver.solve(problem, begin, throw=False).state
    d = tuple(a - b for a, b in zip(nudged, free, strict=True))

    def objective(network, nudge):
        contrast = network.energy_contrast(x, free, d, stencil * task.weight)
        return contrast + task.cost(network, nudge, free)

    return differentiate(objective, network, task.nudge)[0]


def cosines(x, y, name, seed):
    """Return the cosines of three float32 gradients with the exact one, per layer."""
    recipe, rule = ctep.recipes.get(name), ctep.Centered(0.01)
    network = recipe.network(x.shape[1:], 10, jax.random.key(seed), 1.0)
    network, solver = cast(network, jnp.float32), ctep.Sweeps(**SINGLE)
    own = {"rule": recipe.rule, "solver": recipe.solver}
    own["nudge"] = recipe.nudge(recipe.epochs, None)
    found = {
        "increments": ctep.gradient(network, x, y, rule=rule, solver=solver)[1],
        "recipe": ctep.gradient(network, x, y, **own)[1],
    }
    for beta in (0.01, 0.1, 1.0):
        found[f"plain {beta:g}"] = plain(network, x, y, ctep.Centered(beta))
    truth = exact(network, x, y)
    return {
        kind: [cosine(*pair) for pair in zip(weights(gradient), truth, strict=True)]
        for kind, gradient in found.items()
    }


def best_plain(kinds):
    """Return the smallest cosine of any layer, for the nudge where it is largest."""
    return max(min(v) for name, v in kinds.items() if name.startswith("plain"))


def main():
    args = options(__doc__).parse_args()
    jax.config.update("jax_enable_x64", True)
    x, y = batch(args, 20 if args.toy else 100)
    names = ("fre-10x64",) if args.toy else ("fre-10x64", "fre-20x64")
    chains = {name: cosines(x, y, name, args.seed) for name in names}
    parts = [
        f"{name} {min(kinds['increments']):.6f} by increments, "
        f"{min(kinds['recipe']):.4f} at the recipe's settings, "
        f"{best_plain(kinds):.4f} by plain differences at their best nudge"
        for name, kinds in chains.items()
    ]
    line = f"smallest cosine of any layer with the exact one: {'; '.join(parts)}"
    value = min(min(kinds["increments"]) for kinds in chains.values())
    details = {"examples": len(y), "cosines": chains}
    report("depth", line, args, value=value, details=details)
    for name, kinds in chains.items():
        print(f"  {name}: weights, {', '.join(kinds)}")
        for n, row in enumerate(zip(*kinds.values(), strict=True)):
            print(f"    {n + 1:2d}  " + "  ".join(f"{v:9.6f}" for v in row))


if __name__ == "__main__":
    main()
