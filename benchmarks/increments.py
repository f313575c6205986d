"""Differences that do not cancel: how exact they are, and what rules by hand save.

Of each function the largest relative error of `ctep.difference`: in float64 at a scale
of 1, in float32 at a scale of 1e-9, and in float32 at scales in between, where closed
forms, quadrature and plain differences meet. And the time of a sweep of increments by
the library's operators and activations, over that of the same network by the
transformation of their images alone.
"""

import dataclasses
import statistics
import time

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from _functions import FUNCTIONS, arguments
from _report import options, report

import ctep
from ctep._rule import Task
from ctep._rule.stencil import zeros

BETWEEN = (0.1, 0.01, 1e-3, 1e-4, 1e-5, 1e-6)
NUDGE = ctep.OneSided(0.01)


def distance(got, wanted):
    """Return the largest error of any result, relative to its largest element."""
    found = 0.0
    for pair in zip(jax.tree.leaves(got), jax.tree.leaves(wanted), strict=True):
        a, b = (np.asarray(v, np.complex128) for v in pair)
        found = max(found, float(np.abs(a - b).max() / np.abs(b).max()))
    return found


def errors(function, kind):
    """Return the errors of a function, and which of its primitives have no rule."""
    with jax.enable_x64(True):
        s, e = ([jnp.asarray(x) for x in values] for values in arguments(kind))
        double = jax.jit(lambda s, e, a: ctep.difference(function, *s)[1](*e, scale=a))
        value = jax.jit(function)

        def plain(s, e, a):
            moved = value(*(x + a * v for x, v in zip(s, e, strict=True)))
            return jax.tree.map(lambda n, o: (n - o) / a, moved, value(*s))

        row = {"float64": distance(double(s, e, 1.0), plain(s, e, 1.0))}
        single = [[np.asarray(x, np.float32) for x in values] for values in (s, e)]
        # The same numbers in float64, which holds what is left of a difference there.
        s, e = ([jnp.asarray(x, float) for x in values] for values in single)
        scales = [float(np.float32(a)) for a in BETWEEN]
        wanted = [plain(s, e, a) for a in scales]
        _, slope = jax.jvp(function, tuple(s), tuple(e))
    push = jax.jit(lambda s, e, a: ctep.difference(function, *s)[1](*e, scale=a))
    row["float32"] = distance(push(*single, np.float32(1e-9)), slope)
    row["between"] = max(
        distance(push(*single, np.float32(a)), w)
        for a, w in zip(scales, wanted, strict=True)
    )
    return row | {"without": sorted(ctep.difference.explain(function, *single[0]))}


class Operator(ctep.AbstractOperator):
    """An operator of which nothing but the image is known."""

    inner: ctep.AbstractOperator

    @property
    def in_shape(self):
        return self.inner.in_shape

    @property
    def out_shape(self):
        return self.inner.out_shape

    def image(self, v):
        return self.inner.apply(v)[0]


class Activation(ctep.AbstractActivation):
    """An activation of which nothing but the function is known."""

    inner: ctep.AbstractActivation

    def __call__(self, h):
        return self.inner(h)


def bare(network):
    """Return the network whose increments are all found by the transformation."""
    layers = [
        dataclasses.replace(layer, activation=Activation(layer.activation))
        for layer in network.layers
    ]
    couplings = [
        dataclasses.replace(c, forward=Operator(c.forward)) if c.source else c
        for c in network.couplings
    ]
    return dataclasses.replace(network, layers=layers, couplings=couplings)


@eqx.filter_jit
def swept(network, x, y, sweeps):
    """Return the increments after so many nudged sweeps, each of which moves."""
    task = Task.mean(x, y, ctep.OutputError(), ctep.Sweeps(4, 0.0, 0.0), throw=False)
    free = task.settle(network)
    betas, _ = NUDGE.phases(task)
    problem = NUDGE.problem(network, task, free, betas)
    order = ctep.Backward()
    solver = ctep.Sweeps(sweeps, rtol=0.0, atol=0.0, order=order)
    return solver.solve(problem, zeros(free, betas), throw=False).state


def seconds(network, x, y, sweeps):
    begin = time.perf_counter()
    jax.block_until_ready(swept(network, x, y, sweeps))
    return time.perf_counter() - begin


def timed(network, x, y, sweeps, repeats):
    """Return the times of a sweep by rules and without, in pairs, and their distance.

    What a phase does once cancels in the difference of a long and a short one.
    """
    pair = network, bare(network)
    found = [swept(one, x, y, 1 + sweeps) for one in pair]
    for one in pair:
        swept(one, x, y, 1)
    rows = []
    for _ in range(repeats):
        rows.append([
            (seconds(one, x, y, 1 + sweeps) - seconds(one, x, y, 1)) / sweeps
            for one in pair
        ])  # fmt: skip
    return rows, distance(*found)


def networks(args):
    """Return the networks that are timed, with their inputs."""
    small = args.toy
    key = jax.random.key(args.seed)
    size, count, width = (8, 4, 4) if small else (32, 32, 32)
    conv = ctep.vgg(
        (width, 2 * width, 2 * width), input_shape=(size, size, 3),
        activation=ctep.HardSigmoid(), feedback=0.5, key=key,
    )  # fmt: skip
    chain = ctep.mlp((64, *[4 if small else 256] * 8, 10), feedback=0.5, key=key)
    images = jax.random.uniform(key, (count, size, size, 3))
    vectors = jax.random.uniform(key, (count if small else 256, 64))
    return {
        "three convolutions with max pools, hard sigmoid": (conv, images),
        "eight tanh layers of 256": (chain, vectors),
    }


def main():
    args = options(__doc__).parse_args()
    args.dataset = "none: random numbers"
    names = list(FUNCTIONS)[:3] if args.toy else FUNCTIONS
    table = {name: errors(*FUNCTIONS[name]) for name in names}
    kinds = "float64", "float32", "between"
    worst = {kind: max(row[kind] for row in table.values()) for kind in kinds}
    sweeps, repeats = (2, 1) if args.toy else (10, 7)
    times, ratios = {}, []
    for name, (network, x) in networks(args).items():
        y = jnp.arange(len(x)) % 10
        rows, apart = timed(network, x, y, sweeps, repeats)
        ratio = statistics.median(own / without for own, without in rows)
        own, without = map(statistics.median, zip(*rows, strict=True))
        ratios.append(ratio)
        times[name] = {
            "rules": own, "transformation": without, "ratio": ratio, "apart": apart,
        }  # fmt: skip
    parts = ", ".join(f"{name} {t['ratio']:.2f}" for name, t in times.items())
    line = (
        f"largest relative error of {len(table)} functions' differences: "
        f"{worst['float64']:.1e} in float64 at scale 1, {worst['float32']:.1e} in "
        f"float32 at 1e-9, {worst['between']:.1e} in float32 at {BETWEEN[0]:g} to "
        f"{BETWEEN[-1]:g}; time of a sweep of increments by the library's rules / by "
        f"the transformation alone: {parts}"
    )
    details = {"functions": table, "seconds_per_sweep": times}
    value = [*worst.values(), *ratios]
    report("increments", line, args, value=value, details=details)
    for name, row in table.items():
        numbers = "  ".join(f"{row[kind]:.1e}" for kind in kinds)
        print(f"  {name:40s}  {numbers}  {', '.join(row['without'])}")
    for name, row in times.items():
        print(f"  {name}: " + ", ".join(f"{k} {v:.3g}" for k, v in row.items()))


if __name__ == "__main__":
    main()
