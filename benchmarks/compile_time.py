"""Time to compile a chunk of training, in fresh processes without any cache."""

import json
import os
import statistics
import subprocess
import sys
import time

import jax
import numpy as np
from _report import options, report
from _setup import load, start

import ctep
from ctep._train.loop import Loop


def timed(function, *arguments):
    begin = time.perf_counter()
    out = jax.block_until_ready(function(*arguments))
    return out, time.perf_counter() - begin


def measure(args, lowered):
    """Return the seconds of one compilation in this process, by stage if `lowered`."""
    recipe, dataset = ctep.recipes.get(args.recipe), load(args)
    network, settings = recipe.setup(dataset, seed=args.seed)
    loop, state, feed = start(network, settings, dataset)
    block, _ = next(feed.blocks(0, 0))
    inputs = (state, block, *np.array([0, 1, 0]))
    jax.block_until_ready(inputs)
    if not lowered:
        _, first = timed(loop.train, *inputs)
        _, second = timed(loop.train, *inputs)
        return {"first_call": first - second}
    begin = time.perf_counter()
    stage = Loop.train.lower(loop, *inputs)
    middle = time.perf_counter()
    stage.compile()
    return {"trace": middle - begin, "compile": time.perf_counter() - middle}


def main():
    parser = options(__doc__)
    parser.add_argument("--recipe", default="fre-20x64")
    parser.add_argument("--child", choices=("first", "stages"), help="used internally")
    args = parser.parse_args()
    if args.child:
        print(json.dumps(measure(args, args.child == "stages")))
        return
    environment = os.environ | {"JAX_ENABLE_COMPILATION_CACHE": "false"}
    found = {"first_call": [], "trace": [], "compile": []}
    for _ in range(1 if args.toy else 3):
        for child in ("first", "stages"):
            done = subprocess.run(
                [sys.executable, *sys.argv, "--child", child],
                env=environment,
                stdout=subprocess.PIPE,
                text=True,
                check=True,
            )
            for name, seconds in json.loads(done.stdout.splitlines()[-1]).items():
                found[name].append(seconds)
    middle = {name: statistics.median(times) for name, times in found.items()}
    line = (
        f"first call of a training chunk of {args.recipe}: "
        f"{middle['first_call']:.1f} s longer than the second, in a fresh process "
        f"(tracing {middle['trace']:.1f} s, compiling {middle['compile']:.1f} s)"
    )
    details = {"recipe": args.recipe, "seconds": found}
    report("compile-time", line, args, value=middle["first_call"], details=details)


if __name__ == "__main__":
    main()
