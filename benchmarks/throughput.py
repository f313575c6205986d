"""Speed of training, as a fraction of the machine's own float32 matrix product.

Whole epochs are timed (without evaluation, probe and compilation), between two timings
of 2048 x 2048 products. Only multiply-adds that the mathematics needs are counted.
"""

import itertools
import statistics
import time

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from _report import options, report
from _setup import load, start

import ctep
from ctep._rule import Task
from ctep._train.score import as_inputs

_FORMULA = (
    "per example: input drive n0 n1; per free and per nudged sweep 2 n_l n_(l+1) for "
    "each hidden coupling, forward and adjoint, but only one of them in the first "
    "sweep of a phase, from zeros; readout n_L n_out and its adjoint; gradient n0 n1 + "
    "2 n_l n_(l+1) for each hidden coupling + n_L n_out. Each batch counts as its "
    "slowest example does."
)


def multiply_adds(sizes, free, nudged):
    """Return the multiply-adds per example of `_FORMULA`."""
    hidden = sum(a * b for a, b in itertools.pairwise(sizes[1:-1]))
    drive, readout = sizes[0] * sizes[1], sizes[-2] * sizes[-1]
    sweeps = 2 * hidden * (free + nudged - 1)
    return drive + sweeps + 2 * readout + (drive + 2 * hidden + readout)


@eqx.filter_jit
def steps(loop, state, block, i, epoch):
    """Return how many free and nudged sweeps a batch executes."""
    network, nudge = loop.model(state)
    x, y, _ = block(i)
    x = as_inputs(loop.pipeline, x, network)
    task = Task.mean(x, y, nudge.at(epoch), loop.solver, throw=False)
    estimate = loop.rule.estimate(network, task)
    free = estimate.free.steps
    return jnp.stack([jnp.max(free), jnp.max(estimate.sweeps - free)])


def count_sweeps(loop, state, block, batches, epoch):
    """Return the mean sweeps per batch of an epoch, by doing it once more."""
    found = []
    for i in np.arange(batches):
        found.append(steps(loop, state, block, i, epoch))
        state = loop.train(state, block, i, i + 1, epoch)
    return np.mean(np.asarray(found), 0)


def matmul_rate(size, repeats):
    """Return multiply-adds per second of a float32 product, the median of repeats."""
    a = jax.random.normal(jax.random.key(0), (size, size))
    product = jax.jit(lambda a: jnp.matmul(a, a, precision=jax.lax.Precision.HIGHEST))
    product(a).block_until_ready()
    times = []
    for _ in range(repeats):
        begin = time.perf_counter()
        product(a).block_until_ready()
        times.append(time.perf_counter() - begin)
    return size**3 / statistics.median(times)


def main():
    parser = options(__doc__)
    parser.add_argument("--recipe", default="fre-2x512")
    args = parser.parse_args()
    recipe, dataset = ctep.recipes.get(args.recipe), load(args)
    size, repeats, each = (256, 3, 1) if args.toy else (2048, 15, 2)
    network, settings = recipe.setup(dataset, seed=args.seed)
    sizes = [int(np.prod(dataset.shape)), *(s[0] for s in network.shapes)]
    sizes += list(network.output_shape)
    loop, state, feed = start(network, settings, dataset)
    batches = feed.order.batches

    def epoch(state, number):
        block, _ = next(feed.blocks(number, 0))
        jax.block_until_ready(block)
        begin = time.perf_counter()
        after = loop.train(state, block, *np.array([0, batches, number]))
        jax.block_until_ready(after)
        replay = state, block, batches, np.array(number)
        return after, time.perf_counter() - begin, replay

    state, *_ = epoch(state, 0)  # warm-up: compiles
    number, rows = 1, []
    for _ in range(3):
        before, seconds, done = matmul_rate(size, repeats), 0.0, []
        for _ in range(each):
            state, took, replay = epoch(state, number)
            seconds, number = seconds + took, number + 1
            done.append(replay)
        rate = (before + matmul_rate(size, repeats)) / 2
        # What was needed is counted afterwards, by replaying the same epochs.
        sweeps = np.mean([count_sweeps(loop, *replay) for replay in done], 0)
        needed = multiply_adds(sizes, *sweeps) * dataset.examples * each
        rows.append((needed / seconds / rate, seconds / each, rate, *sweeps))
    fraction, seconds, rate, free, nudged = map(
        statistics.median, zip(*rows, strict=True)
    )
    needed = multiply_adds(sizes, free, nudged)
    names = "fraction seconds_per_epoch multiply_adds_per_second free nudged".split()
    details = {"formula": _FORMULA, "sizes": sizes, "matmul_size": size}
    details |= {"multiply_adds_per_example": needed}
    details["rows"] = [dict(zip(names, map(float, row), strict=True)) for row in rows]
    line = (
        f"{recipe.name}: {fraction:.3f} of the {size}^2 float32 matmul rate "
        f"({2e-9 * rate:.0f} GFLOP/s) over whole epochs of {seconds:.2f} s; "
        f"{free:.2f} free + {nudged:.2f} nudged sweeps per batch, "
        f"{needed / 1e6:.3f} million multiply-adds needed per example"
    )
    report("throughput", line, args, value=fraction, details=details)
    print(f"  counted: {_FORMULA}")


if __name__ == "__main__":
    main()
