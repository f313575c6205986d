"""Convolutional recipes on CIFAR-10, for a machine with an accelerator.

    python benchmarks/gpu.py                                  what has been run
    python benchmarks/gpu.py --pack FOLDER                    write the data
    python benchmarks/gpu.py --data FOLDER --runs FOLDER --minutes 25

The second command needs `TFDS_DATA_DIR`; the third one nothing but its two folders, and
jax, equinox, diffrax, optimistix, optax and numpy (a checkout that is not installed can
be the `PYTHONPATH`). It divides the time that is left among the recipes that are not
finished, and goes on where an earlier call stopped.
"""

import os
import signal
import sys
import threading
import time
from pathlib import Path

import numpy as np
from _accuracy import save
from _figures import full_runs
from _report import RESULTS, options

import ctep
from ctep.data import ArrayRecords, Dataset

# Epochs of each, far fewer than are published for symmetric networks (300).
EPOCHS = {
    "fre-conv-cifar10": 25,
    "fre-vgg11": 25,
    "fre-resnet13": 25,
    "fre-vgg11-he": 25,
    "fre-resnet13-he": 25,
    "vgg5": 12,
    "hopfield-resnet13": 12,
}
ARRAYS = ("x_train", "y_train", "x_test", "y_test")


def pack(folder):
    """Write CIFAR-10 as one file of arrays."""
    data = ctep.data.load("cifar10")
    folder.mkdir(parents=True, exist_ok=True)
    arrays = {name: getattr(data, name) for name in ARRAYS}
    np.savez_compressed(folder / "cifar10.npz", **arrays)


def unpack(folder, toy):
    """Return what `pack` wrote, or noise for a toy."""
    if toy:
        rng = np.random.default_rng(0)
        x = rng.integers(0, 256, (256, 32, 32, 3), np.uint8)
        y = np.arange(256, dtype=np.int32) % 10
        parts = ArrayRecords(x, y, 10), ArrayRecords(x[:64], y[:64], 10)
        return Dataset("cifar10", *parts, "noise")
    with np.load(folder / "cifar10.npz") as file:
        x, y, x_test, y_test = (file[name] for name in ARRAYS)
    parts = ArrayRecords(x, y, 10), ArrayRecords(x_test, y_test, 10)
    return Dataset("cifar10", *parts, "cifar10.npz")


def within(seconds, function, *args, **kwargs):
    """Call a function that ends early, and in good order, on SIGTERM."""
    timer = threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGTERM))
    timer.start()
    try:
        return function(*args, **kwargs)
    finally:
        timer.cancel()


def called(name, args):
    """Return the name of a run and of its files."""
    precision = f"-precision-{args.precision}" if args.precision else ""
    twin = "-twin" if args.twins else ""
    return f"{name}{twin}{precision}-seed{args.seed}"


def train(name, dataset, args, seconds):
    """Train a recipe until it is finished or the time is over."""
    epochs, scale = (1, 0.03) if args.toy else (args.epochs or EPOCHS[name], 1.0)
    network, settings = ctep.recipes.get(name).setup(
        dataset,
        seed=args.seed,
        epochs=epochs,
        scale=scale,
        rule=ctep.Backprop() if args.twins else None,
        precision=args.precision or "float32",
    )
    # Another number of epochs has other rates, and is another run.
    out = args.runs / f"{called(name, args)}-epochs{epochs}"
    settings |= {
        "out": out,
        "resume": out.exists(),
        "progress": False,
        "catch_signals": True,
    }
    return within(seconds, ctep.fit, network, dataset, **settings)


def status(args):
    """Print what has been run, and what has not."""
    for name, epochs in EPOCHS.items():
        records = full_runs(name, args.results or RESULTS)
        for record in records:
            print(record["figure"])
        if not records:
            print(f"{name}: not run ({epochs} epochs)")


def main():
    parser = options(__doc__)
    parser.add_argument("--pack", type=Path, metavar="FOLDER", help="write the data")
    parser.add_argument("--data", type=Path, help="folder that --pack has written")
    parser.add_argument("--runs", type=Path, help="folder of checkpoints")
    parser.add_argument("--minutes", type=float, default=25.0, help="for all of it")
    text = "which ones, in this order; by default all"
    parser.add_argument("--recipes", nargs="+", choices=EPOCHS, default=list(EPOCHS),
                        metavar="RECIPE", help=text)  # fmt: skip
    parser.add_argument("--epochs", type=int, help="of each, instead of its own")
    text = "their feed-forward twins, by backpropagation, instead"
    parser.add_argument("--twins", action="store_true", help=text)
    text = "of products, such as tensorfloat32"
    parser.add_argument("--precision", help=text)
    args = parser.parse_args()
    args.dataset = "cifar10"
    if args.pack:
        return pack(args.pack)
    if args.runs is None and args.data is None:
        return status(args)
    if args.runs is None or (args.data is None and not args.toy):
        parser.error("training takes both --data and --runs")
    deadline = time.monotonic() + 60 * args.minutes
    dataset = unpack(args.data, args.toy)
    for n, name in enumerate(args.recipes):
        left = args.recipes[n:]
        share = (deadline - time.monotonic()) / len(left)
        if share <= 0:
            sys.exit(f"no time left for {', '.join(left)}")
        result = train(name, dataset, args, share)
        if result.status == "completed":
            save(
                called(name, args),
                result.history,
                args,
                recipe=name,
                twin=args.twins,
                precision=args.precision or "float32",
            )
        else:
            done = len(result.history)
            print(f"{name}: {result.status} after {done} epochs. {result.reason}")
    return None


if __name__ == "__main__":
    main()
