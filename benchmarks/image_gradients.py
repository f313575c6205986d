"""Gradients of all convolutional recipes in float32, against the exact ones in float64.

At an eighth of every width, on the first eight training images, with tight
tolerances. `Centered(0.001)` of increments is compared layer by layer, by the cosine of
the gradient of each weight: symmetric networks with implicit differentiation of the
same nudge; feedback-regulated ones with the same rule in float64, and with their
backprop twins. Where some examples of a symmetric network do not settle, no cosine of
it counts.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from _report import options, report
from _setup import cosine, load, untrained, weights
from precision import cast

import ctep
from ctep._rule import Task
from ctep._train.score import as_inputs

SYMMETRIC = (
    "vgg5", "vgg7", "vgg7-le", "vgg7-kd", "vgg7-kdw", "vgg10-kd", "vgg11-le",
    "vgg12-kd", "vgg13-le", "hopfield-resnet13",
)  # fmt: skip
REGULATED = (
    "fre-vgg11-he", "fre-vgg13-he", "fre-resnet13-he", "fre-conv-mnist",
    "fre-conv-cifar10",
)  # fmt: skip
RULE = ctep.Centered(0.001)


@eqx.filter_jit
def estimate(rule, network, nudge, x, y, solver):
    return rule.estimate(network, Task.mean(x, y, nudge, solver, throw=False))


def _limited(sweeps, tolerance):
    """Return sweeps that leave nothing out, since some networks chatter for ever."""
    return ctep.FixedSweeps(
        sweeps, sweeps, rtol=tolerance, atol=tolerance, follow=False
    )


def gradients(rule, network, nudge, x, y, solver):
    """Return the gradients of all weights, flat, and the unsettled fraction."""
    found = estimate(rule, network, nudge, x, y, solver)
    settled = np.asarray(found.result == ctep.RESULTS.successful)
    return weights(found), float(1 - settled.mean())


def cosines(a, b):
    """Return the cosine of each pair of vectors, 0 where a state has diverged."""
    values = [cosine(*pair) for pair in zip(a, b, strict=True)]
    return [value if np.isfinite(value) else 0.0 for value in values]


def compare(name, args, scale, examples):
    """Return the cosines of one recipe, and what did not settle."""
    dataset = load(args, ctep.recipes.get(name))
    network, settings = untrained(name, dataset, args, scale)
    nudge = settings["nudge"].drawn(network, settings["key"]).at(0)
    images = jnp.asarray(dataset.x_train[:examples])
    x = as_inputs(settings["pipeline"], images, network)
    y = jnp.asarray(dataset.y_train[:examples])
    solver = _limited(1000, 1e-5)
    single, unsettled = gradients(RULE, network, nudge, x, y, solver)
    found = {"unsettled": unsettled}
    with jax.enable_x64(True):
        tight = _limited(2000, 1e-9)
        given = *cast((network, nudge, x), jnp.float64), y, tight
        if name in SYMMETRIC:
            exact, found["unsettled64"] = gradients(ctep.Implicit(1e-8), *given)
            found["implicit"] = cosines(single, exact)
        else:
            same, found["unsettled64"] = gradients(RULE, *given)
            found["float64"] = cosines(single, same)
            found["twin"] = cosines(single, gradients(ctep.Backprop(), *given)[0])
    return found


def main():
    parser = options(__doc__)
    parser.add_argument("--scale", type=float, default=0.125)
    parser.add_argument("--examples", type=int, default=8)
    parser.add_argument("--recipes", nargs="*", default=(*SYMMETRIC, *REGULATED))
    args = parser.parse_args()
    args.dataset = args.dataset or "cifar10"
    names = ("vgg5",) if args.toy else args.recipes
    scale, examples = (0.03, 2) if args.toy else (args.scale, args.examples)
    details, worst = {}, {"implicit": [1.0], "float64": [1.0], "twin": [1.0]}
    for name in names:
        found = details[name] = compare(name, args, scale, examples)
        unsettled = max(found["unsettled"], found["unsettled64"])
        print(f"{name}: {100 * unsettled:.0f} % unsettled", flush=True)
        for kind in worst:
            if kind in found:
                values = ", ".join(f"{c:.5f}" for c in found[kind])
                print(f"  with {kind}: {values}", flush=True)
                if not unsettled or name in REGULATED:
                    worst[kind].append(min(found[kind]))
    without = [
        n for n, f in details.items()
        if n in SYMMETRIC and (f["unsettled"] or f["unsettled64"])
    ]  # fmt: skip
    value = [min(values) for values in worst.values()]
    line = (
        f"{RULE} in float32 at {scale:g} of the widths, smallest cosine of any "
        f"weight's gradient: {value[0]:.5f} with implicit differentiation in float64 "
        f"(symmetric recipes), {value[1]:.5f} with itself in float64 and "
        f"{value[2]:.3f} with the backprop twin (feedback-regulated recipes); without "
        f"{', '.join(without) or 'none'}, of which not all examples settle"
    )
    report("image-gradients", line, args, value=value, details=details)


if __name__ == "__main__":
    main()
