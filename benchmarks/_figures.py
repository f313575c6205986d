"""Targets, published numbers, and the rows of the tables, from docs/results."""

import json
from pathlib import Path

import numpy as np

from ctep.recipes import RECIPES, get

RESULTS = Path(__file__).resolve().parent.parent / "docs" / "results"
NOT_RUN = "not run"

# Test accuracy in percent: target best / final; published best and final without
# residual connections, best with them, best of backpropagation (arXiv:2508.11659), and
# of Hopfield networks after 300 epochs (arXiv:2509.26003).
ACCURACY = {
    "digits": ("- (digits)", "-", "-", "-", "-"),
    "fre-2x512": ("98.30 / 98.20", "98.30±.07", "98.08", "-", "98.29±.05"),
    "fre-3x512": ("-", "98.36±.06", "98.17", "-", "98.36±.08"),
    "fre-10x64": ("97.4 / -", "92.49±.32", "-", "97.49±.05", "97.61"),
    "fre-20x64": ("97.2 / -", "-", "-", "95.95±.18", "97.48"),
    "fre-10x64-residual": ("97.4 / -", "-", "97.26", "97.49±.05", "97.61"),
    "fre-20x64-residual": ("97.2 / -", "-", "93.10", "95.95±.18", "97.48"),
    "fre-10x64-agt": ("96.7 / -", "96.71±.14", "96.47", "-", "94.52 (alignment)"),
    "fre-5x64": ("49.5 / - (CIFAR-10)", "50.72±.17", "-", "-", "49.23±.81"),
    "fre-conv-mnist": ("99.1 / -", "99.27±.07", "99.18", "-", "99.34±.04"),
    "fre-conv-cifar10": ("70 / - (CIFAR-10)", "75.04±.51", "75.02", "-", "75.45±.46"),
    "fre-vgg11": ("- (CIFAR-10)", "-", "-", "-", "-"),
    "fre-vgg13": ("- (CIFAR-10)", "-", "-", "-", "-"),
    "fre-resnet13": ("- (CIFAR-10)", "-", "-", "-", "-"),
    "fre-air": ("- (CIFAR-10)", "-", "-", "-", "-"),
    "fre-vgg5": ("- (CIFAR-10)", "92.2±.1", "-", "-", "92.0"),
    "fre-vgg11-he": ("- (CIFAR-10)", "-", "-", "-", "-"),
    "fre-resnet13-he": ("- (CIFAR-10)", "-", "-", "-", "-"),
    "vgg5": ("- (CIFAR-10)", "92.84", "-", "-", "-"),
    "hopfield-resnet13": ("- (CIFAR-10)", "93.92", "-", "-", "-"),
}
SCRIPTS = {
    "ode-overhead": "ode_overhead",
    "compile-time": "compile_time",
    "precision-quarter": "precision",
    "twins-fre-vgg11-he": "twins",
    "sweep-rate": "sweep_rate",
    "memory-rules": "memory_rules",
    "image-gradients": "image_gradients",
    "scaling-law": "scaling_law",
    "bad-input": "bad_input",
}


def _scaling(value):
    pairs = (value[f"3 layers, feedback {g}"] for g in ("0.001", "0.01"))
    wanted = (1.0, 1.003), (0.9998, 1.027)
    rows = zip(pairs, wanted, strict=True)
    return all(np.allclose(got, want, rtol=0, atol=1e-3) for got, want in rows)


# Name of the file, what it measures, target, its test, layout of the value.
FIGURES = (
    ("throughput", "`fre-2x512`, whole epochs: fraction of the 2048² float32 matmul "
     "rate", "at least 0.6", lambda v: v >= 0.6, "{:.2f}"),
    ("ode-overhead", "time of `ODE` (Euler, constant step) / time of synchronous "
     "`Sweeps`, same steps", "at most 1.3", lambda v: v <= 1.3, "{:.2f}"),
    ("compile-time", "`fre-20x64`: first call of a training chunk", "at most 10 s",
     lambda v: v <= 10, "{:.1f} s"),
    ("memory", "temporary memory of the training step, 1000 sweeps / 10 sweeps",
     "at most 1.01", lambda v: v <= 1.01, "{:.4f}"),
    ("precision", "`Centered(0.01)` in float32, symmetric network, Glorot's weights: "
     "relative error", "below 1e-3", lambda v: v < 1e-3, "{:.1e}"),
    ("precision-quarter", "the same at a quarter of Glorot's weights", "below 1e-3",
     lambda v: v < 1e-3, "{:.1e}"),
    ("sweep-rate", "free-phase sweep / 2048² matmul rate, `vgg5` and "
     "`hopfield-resnet13`; 2 alternating / 4 synchronous sweeps",
     "at least 0.8, 0.7; at most 0.6",
     lambda v: v[0] >= 0.8 and v[1] >= 0.7 and v[2] <= 0.6,
     "{0[0]:.2f}, {0[1]:.2f}; {0[2]:.2f}"),
    ("twins-fre-vgg11-he", "`fre-vgg11-he` at a quarter of its widths: training loss / "
     "that of its backprop twin; seconds per epoch, likewise", "at most 1.03; 4.5",
     lambda v: v[0] <= 1.03 and v[1] <= 4.5, "{0[0]:.3f}; {0[1]:.2f}"),
    ("memory-rules", "`vgg7`, batch 128, temporary memory of a step: 140 steps of "
     "`Unrolled` / `Centered`; 1000 / 10 sweeps; local errors, distillation / plain",
     "at least 9.7; at most 1.01; 1.15; 1.25",
     lambda v: v[0] >= 9.7 and v[1] <= 1.01 and v[2] <= 1.15 and v[3] <= 1.25,
     "{0[0]:.1f}; {0[1]:.4f}; {0[2]:.3f}; {0[3]:.3f}"),
    ("image-gradients", "convolutional recipes at an eighth of their widths, float32, "
     "smallest cosine of a layer: symmetric with implicit differentiation in float64; "
     "feedback-regulated with themselves in float64; with their twins",
     "above .999; .999; .9",
     lambda v: v[0] > 0.999 and v[1] > 0.999 and v[2] > 0.9,
     "{0[0]:.5f}; {0[1]:.5f}; {0[2]:.3f}"),
    ("scaling-law", "gradient of the first layer / $\\gamma^{L-1}$ times that of "
     "backprop, 3 layers, $\\gamma$ = .001 and .01: cosine, ratio",
     "1.0000, 1.003; .9998, 1.027", _scaling,
     "{0[3 layers, feedback 0.001][0]:.4f}, {0[3 layers, feedback 0.001][1]:.3f}; "
     "{0[3 layers, feedback 0.01][0]:.4f}, {0[3 layers, feedback 0.01][1]:.3f}"),
    ("extrapolation", "`vgg5` at an eighth of its widths, nudges of 0.1, smallest "
     "cosine of a weight's gradient with the exact one: centered, extrapolated",
     "above .9999", lambda v: min(v["vgg5"].values()) > 0.9999,
     "{0[vgg5][centered]:.3f}, {0[vgg5][richardson]:.3f}"),
    ("extrapolation", "the same with sigmoids and softmax pools; holomorphic",
     "above .9999", lambda v: min(v["vgg5, smooth"].values()) > 0.9999,
     "{0[vgg5, smooth][centered]:.5f}, {0[vgg5, smooth][richardson]:.5f}; "
     "{0[vgg5, smooth][holomorphic]:.5f}"),
    ("dynamics", "before training, three layers of 64: Lyapunov exponents within .06 "
     "of those published; convergence times within 6 %", "14 of 14; 10 of 10",
     lambda v: v == [14, 10], "{0[0]} of 14; {0[1]} of 10"),
    ("oscillating", "two epochs of MNIST: test accuracy of `Oscillating` - that of "
     "`Centered`, percent", "within 1", lambda v: abs(v) <= 1, "{:+.2f}"),
    ("bad-input", "generated bad inputs that one line of the package's own answers / "
     "all of them", "all of 2000", lambda v: v[0] == v[1] >= 2000, "{0[0]} of {0[1]}"),
    ("sigkill", "`ctep fit` killed and resumed: SIGKILLs, and faults; last checkpoint "
     "and history as of an undisturbed run, bit for bit", "40, 0",
     lambda v: v[0] >= 40 and v[1] == 0, "{0[0]}, {0[1]}"),
    ("soak", "300 runs in one process: growth of memory after the 20th; programs "
     "compiled after the first cycle", "below 5 %; 0",
     lambda v: v[0] < 0.05 and v[1] == 0, "{0[0]:+.1%}; {0[1]}"),
    ("verdicts", "settled at the default tolerances: error of the springs' gradient at "
     "steps of .3 to .001; a batch of 40 against its examples alone, float64; "
     "$\\lvert T(s) - s \\rvert$ over the tolerance; the probe's cosine against a long "
     "solve's", "within 1e-3; 1e-10; 1; .01",
     lambda v: v[0] < 1e-3 and v[1] < 1e-10 and v[2] <= 1 and v[3] < 0.01,
     "{0[0]:.1e}; {0[1]:.1e}; {0[2]:.4f}; {0[3]:.1e}"),
    ("devices", "a run on 8 devices, and in 2 processes, against one: largest relative "
     "difference of a figure of the history, float64", "at most 1e-5",
     lambda v: max(v) <= 1e-5, "{0[0]:.1e}, {0[1]:.1e}"),
    ("streaming", "`fre-vgg11-he` at a quarter of its widths: time of a step on "
     "streamed CIFAR-10 / on data in memory", "at most 1.15", lambda v: v <= 1.15,
     "{:.3f}"),
    ("increments", "`ctep.difference` of 40 functions, largest relative error: float64 "
     "at scale 1; float32 at 1e-9; at .1 to 1e-6; time of a sweep of increments by "
     "rules / by the transformation, convolutions and dense layers",
     "1e-12; 1e-5; 1e-5; at most 1, 1",
     lambda v: v[0] < 1e-12 and max(v[1:3]) < 1e-5 and max(v[3:]) <= 1,
     "{0[0]:.0e}; {0[1]:.0e}; {0[2]:.0e}; {0[3]:.2f}, {0[4]:.2f}"),
    ("depth", "`fre-10x64`, `fre-20x64`: smallest cosine of any layer, increments in "
     "float32", "-", None, "{:.6f}"),
    ("relaxation", "`fre-20x64` after one epoch: fewest sweeps with over-relaxation / "
     "sweeps without", "-", None, "{:.2f}"),
)  # fmt: skip


def read(name):
    path = RESULTS / f"{name}.json"
    return json.loads(path.read_text()) if path.is_file() else None


def full_runs(recipe, folder=RESULTS):
    """Return the records of a recipe as it is: of full width, all data, and no twin."""
    kinds = ("seed", "precision")  # what follows the name where nothing else differs
    paths = [
        p for kind in kinds for p in folder.glob(f"accuracy-{recipe}-{kind}*.json")
    ]
    return [json.loads(path.read_text()) for path in sorted(paths)]


def reached():
    """Return what each recipe has reached in its kept runs, in a sentence, by name."""
    found = {name: full_runs(name) for name in RECIPES}
    return {name: _sentence(name, runs) for name, runs in found.items() if runs}


def _sentence(name, runs):
    """Return the accuracy of the best and of the final epoch, with its protocol."""
    details = [run["details"] for run in runs]
    best, final = (
        _spread([d[key] for d in details])
        for key in ("best_test_accuracy", "final_test_accuracy")
    )
    both = f"{best} % best and final" if best == final else (
        f"{best} % best, {final} % final"
    )  # fmt: skip
    (epochs,) = {d["epochs"] for d in details}
    length = f"of {epochs} epochs" if epochs != get(name).epochs else "epoch"
    how = {_precision(run) for run in runs} - {"float32"}
    seeds = sorted(seed for run in runs for seed in run["seeds"])
    which = f"{len(seeds)} seeds" if len(seeds) > 1 else f"seed {seeds[0]}"
    return f"{both} {length} ({', '.join([which, *sorted(how)])})"


def _precision(run):
    words = run["command"].split()
    flag = "--precision"
    return words[words.index(flag) + 1] if flag in words else "float32"


def _spread(values):
    percents = 100 * np.array(values)
    if len(percents) == 1:
        return f"{percents[0]:.2f}"
    deviation = f"{percents.std(ddof=1):.2f}".removeprefix("0")
    return f"{percents.mean():.2f}±{deviation}"


def percent(value):
    return f"{100 * value:.2f}"


def figures():
    for name, what, target, test, layout in FIGURES:
        record = read(name)
        command = f"`python benchmarks/{SCRIPTS.get(name, name)}.py`"
        if record is None:
            yield what, target, NOT_RUN, "", command
        else:
            value = record["value"]
            verdict = "" if test is None else "yes" if test(value) else "**no**"
            command = f"`{record['command']}`"
            yield what, target, layout.format(value), verdict, command
    yield _local_errors()


def _local_errors():
    """Return the row of the two runs with and without local errors."""
    names = [f"accuracy-{name}-scale-0.25-seed0" for name in ("vgg7-le", "vgg7")]
    records = [record for name in names if (record := read(name))]
    values = [record["details"]["final_train_accuracy"] for record in records]
    command = "`python benchmarks/accuracy.py vgg7-le --scale 0.25 --epochs 3`, `vgg7`"
    what = "training accuracy after 3 epochs, percent: `vgg7-le`; `vgg7`, x 0.25"
    if len(values) < 2:
        return what, "the first one ahead", NOT_RUN, "", command
    verdict = "yes" if values[0] > values[1] else "**no**"
    shown = "; ".join(map(percent, values))
    return what, "the first one ahead", shown, verdict, command


def accuracies():
    for recipe, (target, *published) in ACCURACY.items():
        records = full_runs(recipe)
        if not records:
            yield (f"`{recipe}`", "", NOT_RUN, NOT_RUN, target, *published)
        for record in records:
            d = record["details"]
            best = f"{percent(d['best_test_accuracy'])} (epoch {d['best_epoch']})"
            final, seed = percent(d["final_test_accuracy"]), record["seeds"][0]
            yield (f"`{recipe}`", seed, best, final, target, *published)


def evidence():
    for path in sorted(RESULTS.glob("accuracy-*.json")):
        record = read(path.stem)
        d, name = record["details"], path.stem.removeprefix("accuracy-")
        link, command = f"[{name}](results/{name}.jsonl)", f"`{record['command']}`"
        yield (link, d["epochs"], f"{d['seconds']:.0f}", f"{d['mean_sweeps']:.1f}",
               percent(d["worst_unsettled"]), f"{d['worst_gradient_cosine']:.4f}",
               command)  # fmt: skip


def layers():
    record = read("depth")
    for name, kinds in (record["details"]["cosines"] if record else {}).items():
        for n, row in enumerate(zip(*kinds.values(), strict=True)):
            yield (f"`{name}`", n + 1, *(f"{cosine:.4f}" for cosine in row))


def relaxations():
    record = read("relaxation")
    for when, rows in (record["details"]["rows"] if record else {}).items():
        for row in rows:
            sweeps = f"{row['free']:.1f} + {row['nudged']:.1f}"
            yield (when, f"{row['tolerance']:g}", f"{row['relaxation']:g}", sweeps,
                   percent(row["unsettled"]), f"{row['cosine']:.4f}")  # fmt: skip


def protocol():
    for path in sorted(RESULTS.glob("*.json")):
        r = read(path.stem)
        machine = f"{r['machine']['cpu']}, {r['machine']['cores']} cores"
        if not (device := r["machine"]["device"]).startswith("cpu"):
            machine = f"{device}, {machine}"
        packages = ("python", "jax", "jaxlib", "equinox", "diffrax")
        versions = ", ".join(f"{name} {r['versions'][name]}" for name in packages)
        yield path.stem, r["figure"], machine, versions, r["commit"], r["date"]
