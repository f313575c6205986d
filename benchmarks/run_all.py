"""Run the benchmarks at their final settings, then write the tables and the figures.

Left out are `accuracy.py` of convolutional recipes, which takes hours, changes of
`twins.py`, and `gpu.py`.

Figures of speed need an idle machine. A benchmark that fails does not stop the others.
"""

import argparse
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
RECIPES = (
    "fre-2x512", "fre-3x512", "fre-10x64", "fre-20x64", "fre-10x64-residual",
    "fre-20x64-residual", "fre-10x64-agt", "fre-5x64",
)  # fmt: skip
# Timings first, while nothing has warmed the machine up.
RUNS = (
    ("throughput.py",),
    ("ode_overhead.py",),
    ("compile_time.py",),
    ("memory.py",),
    ("memory_rules.py",),
    ("precision.py",),
    ("parametrisations.py",),
    ("depth.py",),
    ("relaxation.py",),
    ("sweep_rate.py",),
    ("image_gradients.py",),
    ("scaling_law.py",),
    ("extrapolation.py",),
    ("dynamics.py",),
    ("oscillating.py",),
    ("bad_input.py",),
    ("sigkill.py",),
    ("soak.py",),
    ("devices.py",),
    ("verdicts.py",),
    ("streaming.py",),
    ("twins.py", "fre-vgg11-he", "--dataset", "cifar10"),
    ("practice.py", "--dataset", "cifar10"),
    *(("accuracy.py", recipe, "--seed", "0") for recipe in RECIPES),
)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--toy", action="store_true", help="seconds each, no results")
    parser.add_argument("--skip-accuracy", action="store_true", help="no full runs")
    args = parser.parse_args()
    failed = []
    for name, *words in RUNS:
        if args.skip_accuracy and name == "accuracy.py":
            continue
        words += ["--toy"] if args.toy else []
        print(f"\n=== {name} {' '.join(words)}".rstrip(), flush=True)
        begin = time.monotonic()
        done = subprocess.run([sys.executable, str(HERE / name), *words])
        print(f"=== {time.monotonic() - begin:.0f} s", flush=True)
        if done.returncode:
            failed.append(" ".join((name, *words)))
    if not args.toy:
        for name in ("render.py", "plot.py"):
            subprocess.run([sys.executable, str(HERE / name)], check=True)
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
