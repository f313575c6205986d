"""Time of a training step on streamed data, as a ratio to data that lie on the device.

Interleaved epochs of the same examples in the same order, after one of each to warm up.
Both must end with the same weights, bit for bit.
"""

import statistics
import time

import jax
import numpy as np
from _report import dataset_name, options, report
from _setup import start

import ctep
from ctep._train.devices.feed import HeldFeed, StreamedFeed
from ctep._train.devices.placement import Placement
from ctep.data.selection import BatchOrder


def _name(args):
    return dataset_name(args) if args.dataset or args.toy else "cifar10"


def feeds(args, count, batch_size):
    """Return the same examples in memory and as a stream, in the same order."""
    dataset = ctep.data.load(_name(args))
    rows, place = np.arange(min(count, dataset.examples)), Placement.default()
    order = BatchOrder(len(rows), batch_size, place.width(batch_size), (args.seed,))
    memory = HeldFeed(*dataset.train.read(rows), order, place)
    streamed = StreamedFeed(dataset.train, rows, order, place, args.workers)
    return memory, streamed, dataset


def epoch(loop, state, feed, number):
    """Return the state after an epoch and the seconds per step."""
    begin = time.perf_counter()
    for block, found in feed.blocks(number, 0):
        # Of about the length that `fit` chooses, in which the next block is read.
        state = loop.train(state, block, *np.array([0, len(found), number]))
    jax.block_until_ready(state)
    return state, (time.perf_counter() - begin) / feed.order.batches


def main():
    parser = options(__doc__)
    parser.add_argument("--recipe", default="fre-vgg11-he")
    parser.add_argument("--scale", type=float, default=0.25)
    parser.add_argument("--examples", type=int, default=5000)
    parser.add_argument("--workers", type=int, default=1)
    args = parser.parse_args()
    count = 300 if args.toy else args.examples
    recipe = ctep.recipes.get("digits" if args.toy else args.recipe)
    memory, streamed, dataset = feeds(args, count, min(recipe.batch_size, count))
    network, settings = recipe.setup(dataset, seed=args.seed, scale=args.scale)
    loop, state, _ = start(network, settings, dataset)
    states, rows = [loop.place.put(state)] * 2, []
    for number in range(4):
        times = []
        for i, feed in enumerate((memory, streamed)):
            states[i], seconds = epoch(loop, states[i], feed, number)
            times.append(seconds)
        rows.append(times)
    streamed.close()
    pairs = zip(*map(jax.tree.leaves, states), strict=True)
    same = all(np.array_equal(a, b, equal_nan=True) for a, b in pairs)
    ratios = [b / a for a, b in rows[1:]]
    value = statistics.median(ratios)
    line = (
        f"{recipe.name} x {args.scale:g}, {count} examples, {args.workers} reading "
        f"processes: a streamed step takes {value:.3f} times one in memory "
        f"({1000 * statistics.median(a for a, _ in rows[1:]):.0f} ms); "
        f"weights {'equal to the bit' if same else 'DIFFERENT'}"
    )
    args.dataset = dataset.name
    details = {"ratios": ratios, "seconds_per_step": rows, "bit_identical": same}
    report("streaming", line, args, value=value, details=details)


if __name__ == "__main__":
    main()
