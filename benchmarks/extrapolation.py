"""Gradients that extrapolate to no nudge, against the exact one, on convolutions.

VGG-5 at an eighth of its widths, at the recipe's initial weights, on the first eight
training images, with tight tolerances: `Centered(0.1)`, its Richardson extrapolation
from the nudges 0.1 and 0.05, and `Holomorphic(0.1, 4)`, in float32, against implicit
differentiation in float64. Once with its own ReLU6 and maxima, to which complex
nudges do not apply, and once with sigmoids and softmax pools in their place.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from _report import options, report
from _setup import load, untrained
from image_gradients import cosines, gradients
from precision import cast

import ctep
from ctep._train.score import as_inputs

SINGLE = ctep.Sweeps(2000, rtol=1e-5, atol=1e-5)
DOUBLE = ctep.Sweeps(5000, rtol=1e-10, atol=1e-10)


def smooth(network):
    """Return the network with sigmoids and softmax pools, its weights as they are."""

    def part(operator):
        if isinstance(operator, ctep.MaxPool):
            return ctep.SoftmaxPool(operator.in_shape)
        return operator

    def chained(operator):
        if isinstance(operator, ctep.Chain):
            return ctep.Chain([part(o) for o in operator.operators])
        return operator

    layers = [
        dataclasses.replace(n, activation=ctep.Sigmoid(4.0, 0.5))
        if isinstance(n.activation, ctep.Clip)
        else n
        for n in network.layers
    ]
    couplings = [
        dataclasses.replace(c, forward=chained(c.forward)) for c in network.couplings
    ]
    return dataclasses.replace(network, layers=layers, couplings=couplings)


def compare(network, nudge, x, y, radius):
    """Return per rule the cosines and the relative errors of all weights."""
    with jax.enable_x64(True):
        given = *cast((network, nudge, x), jnp.float64), y, DOUBLE
        exact, loose = gradients(ctep.Implicit(1e-8), *given)
    given, found = (network, nudge, x, y, SINGLE), {}
    rules = {"centered": ctep.Centered(radius), "half": ctep.Centered(radius / 2)}
    if network.holomorphic:
        rules["holomorphic"] = ctep.Holomorphic(radius, 4)
    for name, rule in rules.items():
        found[name], unsettled = gradients(rule, *given)
        loose = max(loose, unsettled)
    pairs = zip(found["centered"], found.pop("half"), strict=True)
    found["richardson"] = [(4 * half - whole) / 3 for whole, half in pairs]
    errors = {
        name: [
            float(np.linalg.norm(a - b) / np.linalg.norm(b))
            for a, b in zip(value, exact, strict=True)
        ]
        for name, value in found.items()
    }
    rows = {
        name: {"cosine": cosines(value, exact), "error": errors[name]}
        for name, value in found.items()
    }
    return rows | {"unsettled": loose}


def main():
    parser = options(__doc__)
    parser.add_argument("--scale", type=float, default=0.125)
    parser.add_argument("--examples", type=int, default=8)
    parser.add_argument("--radius", type=float, default=0.1)
    args = parser.parse_args()
    args.dataset = args.dataset or "cifar10"
    scale, examples = (0.03, 2) if args.toy else (args.scale, args.examples)
    dataset = load(args, ctep.recipes.get("vgg5"))
    network, settings = untrained("vgg5", dataset, args, scale)
    images = jnp.asarray(dataset.x_train[:examples])
    x = as_inputs(settings["pipeline"], images, network)
    y = jnp.asarray(dataset.y_train[:examples])
    details, parts = {}, []
    for kind, subject in (("vgg5", network), ("vgg5, smooth", smooth(network))):
        rows = details[kind] = compare(subject, settings["nudge"], x, y, args.radius)
        print(f"{kind}: {100 * rows['unsettled']:.0f} % unsettled", flush=True)
        for name, row in rows.items():
            if name == "unsettled":
                continue
            values = ", ".join(f"{c:.6f}" for c in row["cosine"])
            print(f"  {name:12} cosine {values}", flush=True)
            print(f"  {'':12} error  {', '.join(f'{e:.1e}' for e in row['error'])}")
            parts.append(f"{kind} {name} {min(row['cosine']):.5f}")
    line = (
        f"Smallest cosine of any weight's gradient with the exact one, radius "
        f"{args.radius:g}, {scale:g} of the widths: {'; '.join(parts)}"
    )
    value = {
        kind: {
            name: min(row["cosine"])
            for name, row in rows.items()
            if name != "unsettled"
        }
        for kind, rows in details.items()
    }
    report("extrapolation", line, args, value=value, details=details)


if __name__ == "__main__":
    main()
