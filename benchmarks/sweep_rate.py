"""Speed of a sweep of convolutional networks, as a fraction of a matrix product's.

Only multiply-adds that the mathematics needs are counted: one convolution and one
transposed convolution per coupling between layers and sweep. The drive of the image is
computed once per batch and not counted. On a bipartite graph two alternating sweeps
are also timed against four synchronous ones, which end in the same states.
"""

import statistics
import time

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from _report import options, report
from throughput import matmul_rate

import ctep
from ctep.data import Dataset

_BATCH = 32


def multiply_adds(network):
    """Return the multiply-adds of one sweep and one example."""
    total = 0
    for c in network.couplings:
        if c.source:
            operator = c.forward
            parts = getattr(operator, "operators", (operator,))
            for part in parts:
                if hasattr(part, "weight"):
                    pixels = np.prod(part.out_shape[:-1]) if part.weight.ndim > 2 else 1
                    total += 2 * int(pixels) * part.weight.size
    return total


def solved(solver, zeros):
    """Return a compiled solve of the free phase."""

    @eqx.filter_jit
    def run(network, x, state):
        return solver.solve(network.free(x), state, zeros=zeros, throw=False).state

    return run


def seconds(function, *args):
    begin = time.perf_counter()
    jax.block_until_ready(function(*args))
    return time.perf_counter() - begin


def rate(network, x, sweeps, size, repeats):
    """Return the median fraction of the matmul rate, and multiply-adds per second.

    The drive of the image and all else that a phase does once cancel in the difference
    of a long and a short phase.
    """
    state = tuple(
        jax.random.uniform(jax.random.key(n), (_BATCH, *s))
        for n, s in enumerate(network.shapes)
    )
    short, long = (
        solved(ctep.Sweeps(n, 0.0, 0.0, ctep.Forward()), zeros=False)
        for n in (1, 1 + sweeps)
    )
    for run in (short, long):
        jax.block_until_ready(run(network, x, state))
    rows = []
    for _ in range(repeats):
        before = matmul_rate(size, 5)
        took = seconds(long, network, x, state) - seconds(short, network, x, state)
        reference = (before + matmul_rate(size, 5)) / 2
        found = multiply_adds(network) * _BATCH * sweeps / took
        rows.append((found / reference, found, reference))
    return [statistics.median(column) for column in zip(*rows, strict=True)]


def alternating(network, x, repeats):
    """Return time of 2 alternating / 4 synchronous sweeps, and the states' distance."""
    zeros = network.zeros(x)
    two = solved(ctep.Sweeps(2, 0.0, 0.0, ctep.Alternating()), zeros=False)
    four, three = (
        solved(ctep.Sweeps(n, 0.0, 0.0, ctep.Synchronous()), zeros=False)
        for n in (4, 3)
    )
    a, b, c = (run(network, x, zeros) for run in (two, four, three))
    # The group that moves first is one synchronous step behind the other.
    first = ctep.Alternating().groups(len(zeros), network.edges)[0]
    want = [c[n] if n in first else b[n] for n in range(len(zeros))]
    apart = max(float(jnp.max(jnp.abs(u - v))) for u, v in zip(a, want, strict=True))
    ratios = [
        seconds(two, network, x, zeros) / seconds(four, network, x, zeros)
        for _ in range(repeats)
    ]
    return statistics.median(ratios), apart


def main():
    args = options(__doc__).parse_args()
    args.dataset = "none: random images"
    scale, size, sweeps, repeats = (0.05, 256, 2, 1) if args.toy else (1.0, 2048, 4, 3)
    pixels = np.zeros((_BATCH, 32, 32, 3), np.uint8)
    data = Dataset("cifar10", pixels, np.zeros(_BATCH, np.int32), None, None, 10, "")
    x = jax.random.uniform(jax.random.key(args.seed), (_BATCH, 32, 32, 3))
    details, parts, values = {}, [], []
    for name in ("vgg5", "hopfield-resnet13"):
        network, _ = ctep.recipes.get(name).setup(data, seed=args.seed, scale=scale)
        fraction, found, reference = rate(network, x, sweeps, size, repeats)
        details[name] = {
            "fraction": fraction,
            "multiply_adds_per_second": found,
            "matmul_multiply_adds_per_second": reference,
            "multiply_adds_per_example": multiply_adds(network),
        }
        values.append(fraction)
        parts.append(f"{name} {fraction:.2f} ({2e-9 * found:.0f} GFLOP/s)")
        if name == "vgg5":
            ratio, apart = alternating(network, x, repeats)
            details["alternating"] = {"ratio": ratio, "largest_difference": apart}
    values.append(ratio)
    line = (
        f"free-phase sweep, batch {_BATCH}, fraction of the {size}^2 float32 matmul "
        f"rate: {', '.join(parts)}; 2 alternating / 4 synchronous sweeps of vgg5 "
        f"{ratio:.2f} (states differ by {apart:.0e})"
    )
    report("sweep-rate", line, args, value=values, details=details)


if __name__ == "__main__":
    main()
