"""Memory of a training step of VGG-7: through time, with and without other nudges.

XLA's own account of the compiled step of a batch of 128: what it allocates besides
inputs and outputs. Nothing is trained.
"""

import dataclasses

import numpy as np
from _report import options, report
from _setup import start, temporary_bytes, untrained

import ctep
from ctep.data import ArrayRecords, Dataset


def cases(steps):
    """Return per name the recipe that gives the nudge, the rule, and the sweeps."""
    rule, again = ctep.Centered(0.25), ctep.Unrolled(steps, rematerialise=True)
    return {
        "plain": ("vgg7", rule, 250),
        "unrolled": ("vgg7", ctep.Unrolled(steps), 250),
        "rematerialised": ("vgg7", again, 250),
        "10 sweeps": ("vgg7", rule, 10),
        "1000 sweeps": ("vgg7", rule, 1000),
        "local errors": ("vgg7-le", rule, 250),
        "distillation": ("vgg7-kd", rule, 250),
    }


def measure(args, dataset, scale, batch, name, rule, sweeps):
    """Return the temporary bytes of VGG-7 with the nudge of a recipe."""
    network, settings = untrained(name, dataset, args, scale, batch_size=batch)
    solver = dataclasses.replace(settings["solver"], free=sweeps, nudged=sweeps)
    return temporary_bytes(*start(network, settings, dataset, rule=rule, solver=solver))


def main():
    args = options(__doc__).parse_args()
    scale, batch, steps = (0.05, 8, 4) if args.toy else (1.0, 128, 140)
    images, labels = np.zeros((batch, 32, 32, 3), np.uint8), np.zeros(batch, np.int32)
    dataset = Dataset("cifar10", ArrayRecords(images, labels, 10), None, "zeros")
    args.dataset = "none: nothing is trained"
    found = {}
    for case, settings in cases(steps).items():
        found[case] = measure(args, dataset, scale, batch, *settings)
        print(f"  {case}: {found[case] / 1e6:.1f} MB", flush=True)
    plain = found["plain"]
    ratios = [
        found["unrolled"] / plain,
        found["1000 sweeps"] / found["10 sweeps"],
        found["local errors"] / plain,
        found["distillation"] / plain,
    ]
    line = (
        f"temporary memory of a training step of vgg7, batch {batch}: {steps} steps "
        f"of Unrolled {ratios[0]:.1f} times that of Centered "
        f"({plain / 1e6:.0f} MB), 1000 sweeps {ratios[1]:.4f} times that of "
        f"10; local errors {ratios[2]:.3f} and distillation "
        f"{ratios[3]:.3f} times that without"
    )
    details = {"bytes": found, "batch": batch, "steps": steps, "scale": scale}
    report("memory-rules", line, args, value=ratios, details=details)


if __name__ == "__main__":
    main()
