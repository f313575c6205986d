"""What passes as settled: is it at rest, alone as in company, and is its cosine true?

- Springs, s + s^3 = w x, at steps of 0.3 to 0.001: the relative error of the gradient,
  at the default tolerances, against its closed form.
- A batch of 40 digits against its examples one by one, float64: the largest relative
  difference of any array's gradient.
- Networks in four orders, by `ODE` and by `FixedPoint`: the largest |T(s) - s| of what
  has settled, in units of the tolerance.
- The probe's cosine: of a chain of 60 tanh layers against that with the dense Jacobian
  by NumPy, of every recipe at an eighth of its widths against that with 10,000 sweeps
  of GMRES.
"""

import argparse
import json

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from _report import RESULTS, options, report
from _setup import load, untrained

import ctep
from ctep._rule import Task
from ctep._solver import usable
from ctep._train.evaluate import as_inputs


class Springs(ctep.EnergyNetwork):
    weight: jax.Array = ctep.parameter()
    input_shape: tuple = eqx.field(static=True, default=(6,))
    shapes: tuple = eqx.field(static=True, default=((3,),))
    step: float = 0.3

    def energy(self, state, x):
        (s,) = state
        return 0.5 * s @ s + 0.25 * jnp.sum(s**4) - s @ (self.weight @ x)


def springs(steps):
    """Return the relative error of the gradient at each step."""
    x, y = np.ones((4, 6)), np.zeros((4, 3))
    nudge, found = ctep.OutputError(ctep.SquaredError()), {}
    weight = 0.3 * jax.random.normal(jax.random.key(0), (3, 6), float)
    force = np.asarray(weight) @ x[0]
    roots = [np.roots([1, 0, 1, -f]) for f in force]
    rest = np.array([r[np.argmin(np.abs(r.imag))].real for r in roots])
    exact = np.outer(rest / (1 + 3 * rest**2), x[0])
    for step in steps:
        _, gradient = ctep.gradient(
            Springs(weight, step=step), x, y, nudge=nudge, rule=ctep.Centered(1e-3),
            solver=ctep.Sweeps(100_000),
        )  # fmt: skip
        error = np.linalg.norm(gradient.weight - exact) / np.linalg.norm(exact)
        found[f"{step:g}"] = float(error)
    return found


def company():
    """Return the largest difference between a batch and its examples alone."""
    digits, found = ctep.data.load("digits"), {}
    x = digits.x_train[:40].reshape(40, -1).astype(float)
    y = digits.y_train[:40]
    networks = {
        "tanh, feedback 0.1": ctep.mlp((64, 128, 128, 10), feedback=0.1, key=KEY),
        "hard sigmoid, symmetric": ctep.mlp(
            (64, 128, 128, 10), activation=ctep.HardSigmoid(), feedback=1.0, key=KEY
        ),
    }
    for name, network in networks.items():

        def gradient(rows, network=network):
            return jax.tree_util.tree_leaves(
                ctep.gradient(
                    network,
                    x[rows],
                    y[rows],
                    rule=ctep.OneSided(0.01),
                    solver=ctep.Sweeps(5000),
                )[1]
            )

        alone = zip(*[gradient(slice(k, k + 1)) for k in range(40)], strict=True)
        found[name] = max(
            float(jnp.linalg.norm(g - sum(a) / 40) / jnp.linalg.norm(g))
            for g, a in zip(gradient(slice(None)), alone, strict=True)
        )
    return found


def moves():
    """Return the largest |T(s) - s| of settled examples over the tolerance."""
    images = {"input_shape": (8, 8, 2), "activation": ctep.ReLU6(), "key": KEY}
    skips = [(0, 1), (1, 2), (2, 3), (3, 4), (1, 3)]
    networks = {
        "chain": ctep.mlp((8, 16, 16, 16, 4), feedback=0.3, key=KEY),
        "strong": ctep.mlp((8, 16, 16, 16, 4), feedback=0.6, key=KEY),
        "symmetric": ctep.mlp(
            (8, 16, 16, 4), activation=ctep.HardSigmoid(), feedback=1.0, key=KEY
        ),
        "sigmoid": ctep.mlp(
            (8, 16, 16, 4), activation=ctep.Sigmoid(4, 0.5), feedback=0.5, key=KEY
        ),
        "fixed": ctep.mlp((8, 16, 16, 4), feedback=ctep.Fixed(0.3), key=KEY),
        "skips": ctep.graph((8, 10, 10, 10, 10, 4), skips, feedback=0.3, key=KEY),
        "pools": ctep.vgg((3, 4), (5,), 3, feedback=0.3, **images),
        "pools first": ctep.vgg(
            (3, 4), (5,), 3, feedback=0.03, pool_first=True, **images
        ),
        "softmax pools": ctep.vgg(
            (3, 4), (5,), 3, feedback=0.3, pool=ctep.SoftmaxPool, **images
        ),
        "residual": ctep.hopfield_resnet((3, 4), 3, **images),
    }
    orders = ctep.Forward(), ctep.Backward(), ctep.Alternating(), ctep.Synchronous()
    solvers = [ctep.Sweeps(500, order=order) for order in orders]
    solvers += [ctep.ODE(), ctep.FixedPoint()]
    found = {}
    for name, network in networks.items():
        x = jax.random.normal(jax.random.key(9), (30, *network.input_shape), float)
        problem, worst, count = network.free(x), 0.0, 0
        for solver in solvers:
            end = solver.solve(problem, network.zeros(x), throw=False)
            settled = np.asarray(end.settled)
            for t, s in zip(problem.map(end.state), end.state, strict=True):
                ratio = np.abs(t - s) / (1e-3 + 1e-3 * np.abs(s))
                ratio = np.where(settled, ratio.reshape(30, -1).max(1), 0)
                worst = max(worst, float(ratio.max()))
            count += int(settled.sum())
        found[name] = {"largest": worst, "settled": count / (30 * len(solvers))}
    return found


@eqx.filter_jit
def cosines(network, nudge, x, y, rule, solver):
    """Return the probe's cosine, and that of a long solve; how many had none."""
    task = Task.mean(x, y, nudge, solver, throw=False, key=jax.random.key(0))
    estimate = rule.estimate(network, task)
    counted = usable(estimate.result)
    leaves = jax.tree_util.tree_leaves
    found, missing = [], []
    for exact in (ctep.Implicit(tolerance=1e-4), ctep.Implicit(1e-6, 40, 250)):
        other = exact.estimate(network, task.of(counted))
        both = estimate.gradient[0], other.gradient[0]
        pairs = list(zip(*map(leaves, both), strict=True))
        products = [
            sum(jnp.vdot(p[i], p[j]) for p in pairs)
            for i, j in ((0, 1), (0, 0), (1, 1))
        ]
        found.append(products[0] / jnp.sqrt(products[1] * products[2]))
        missing.append(jnp.sum(counted & ~usable(other.result)))
    return jnp.stack(found), jnp.stack(missing), jnp.sum(counted)


def dense(network, x, y, state, feedback):
    """Return the exact gradient of a tanh chain by NumPy, in float64, as a vector."""
    plain = lambda leaf: np.asarray(leaf, float)  # noqa: E731
    weights = [plain(c.forward.weight) for c in network.couplings]
    biases = [plain(layer.bias) for layer in network.layers]
    out, last = plain(network.readout.operator.weight), plain(network.readout.bias)
    width, count = len(biases[0]), len(biases)
    total = np.zeros(
        sum(w.size for w in weights) + count * width + out.size + len(last)
    )
    for row in range(len(x)):
        s = [plain(block[row]) for block in state]
        below = [plain(x[row]), *s[:-1]]
        above = [feedback * weights[n + 1] @ s[n + 1] for n in range(count - 1)] + [0]
        slopes = [
            1 - np.tanh(b @ w + up + bias) ** 2
            for b, w, up, bias in zip(below, weights, above, biases, strict=True)
        ]
        blocks = np.zeros((count, width, count, width))
        for n in range(count - 1):
            blocks[n + 1, :, n] = slopes[n + 1][:, None] * weights[n + 1].T
            blocks[n, :, n + 1] = slopes[n][:, None] * feedback * weights[n + 1]
        power = np.exp(s[-1] @ out + last)
        error = power / power.sum() - np.eye(len(last))[int(y[row])]
        pull = np.zeros((count, width))
        pull[-1] = out @ error
        jacobian = blocks.reshape(count * width, -1)
        v = np.linalg.solve(np.eye(count * width) - jacobian.T, pull.ravel())
        u = np.stack(slopes) * v.reshape(count, width)
        own = [np.outer(b, a) for b, a in zip(below, u, strict=True)]
        for n in range(count - 1):
            own[n + 1] = own[n + 1] + feedback * np.outer(u[n], s[n + 1])
        parts = *map(np.ravel, own), u.ravel(), np.outer(s[-1], error).ravel(), error
        total += np.concatenate(parts) / len(x)
    return total


def sixty(examples):
    """Return the probe's cosine in a chain of 60 layers, and by the dense Jacobian."""
    network = ctep.mlp((64, *[64] * 60, 10), feedback=0.25, key=KEY)
    dataset = ctep.data.load("digits")
    x = dataset.x_train[:examples].reshape(examples, -1).astype(np.float32)
    y, solver = jnp.asarray(dataset.y_train[:examples]), ctep.Sweeps(1000)
    vectors = []
    for rule in (ctep.OneSided(), ctep.Implicit(tolerance=1e-4)):
        _, g = ctep.gradient(network, x, y, rule=rule, solver=solver)
        leaves = [c.forward.weight for c in g.couplings] + [n.bias for n in g.layers]
        leaves += [g.readout.operator.weight, g.readout.bias]
        vectors.append(np.concatenate([np.ravel(leaf) for leaf in leaves]))
    vectors.append(
        dense(network, x, y, ctep.settle(network, x, solver=solver).state, 0.25)
    )
    one, probe, exact = (v / np.linalg.norm(v) for v in vectors)
    found = {"probe": float(one @ probe), "long": float(one @ exact)}
    found |= {"long missing": 0, "examples": examples}
    print("60 layers", found, flush=True)
    return found


def images(args, recipe):
    """Return a recipe's dataset, or where it is not prepared CIFAR-10 in its place.

    The networks are those of a hundred classes; only the images are others.
    """
    try:
        return load(args, recipe)
    except FileNotFoundError:
        found = ctep.data.load("cifar10")
        x, y = found.x_train[:64], found.y_train[:64]
        records = ctep.data.ArrayRecords(x, y, 100)
        return ctep.data.Dataset(recipe.dataset, records, None, "images of CIFAR-10")


def probe(name, args, scale, examples):
    """Return what the probe reports of a network, and what is true."""
    if name == "60 layers":
        return sixty(examples)
    dataset = images(args, ctep.recipes.get(name))
    network, settings = untrained(name, dataset, args, scale)
    x = jnp.asarray(dataset.x_train[:examples])
    x = as_inputs(settings["pipeline"], x, network)
    nudge = settings["nudge"].drawn(network, settings["key"]).at(0)
    parts = nudge, settings["rule"], settings["solver"]
    y = jnp.asarray(dataset.y_train[:examples])
    values, missing, counted = cosines(network, parts[0], x, y, *parts[1:])
    known = [None if np.isnan(v) else float(v) for v in values]
    found = {
        "probe": None if int(missing[0]) or not int(counted) else known[0],
        "long": known[1], "long missing": int(missing[1]), "examples": int(counted),
    }  # fmt: skip
    print(name, found, flush=True)
    return found


KEY = jax.random.key(0)


def main():
    parser = options(__doc__)
    parser.add_argument("--scale", type=float, default=0.125)
    parser.add_argument("--examples", type=int, default=8)
    parser.add_argument("--recipes", nargs="*", default=tuple(ctep.recipes.RECIPES))
    parser.add_argument(
        "--missing", action="store_true", help="go on with what the result file lacks"
    )
    args = parser.parse_args()
    args.dataset = args.dataset or ("digits" if args.toy else None)
    names = ("digits",) if args.toy else ("60 layers", *args.recipes)
    steps = (0.3, 0.1) if args.toy else (0.3, 0.1, 0.03, 0.01, 0.003, 0.001)
    if args.missing:
        details = json.loads((RESULTS / "verdicts.json").read_text())["details"]
    else:
        with jax.enable_x64(True):
            parts = {"springs": springs(steps), "company": company()}
            details = {**parts, "moves": moves(), "probe": {}}
    # As they come: each of them is some minutes of compilation.
    for name in names:
        if name in details["probe"]:
            continue
        count = 2 if args.toy else args.examples
        details["probe"][name] = probe(name, args, args.scale, count)
        keep(args, steps, details)
        jax.clear_caches()


def keep(args, steps, details):
    """Report what is known by now."""
    apart = [
        abs(f["probe"] - f["long"])
        for f in details["probe"].values()
        if f["probe"] is not None and not f["long missing"]
    ]
    value = [
        max(details["springs"].values()),
        max(details["company"].values()),
        max(f["largest"] for f in details["moves"].values()),
        max(apart, default=0.0),
    ]
    line = (
        f"springs at steps of {steps[0]:g} to {steps[-1]:g}: gradient within "
        f"{value[0]:.1e} of the closed form; a batch of 40 against its examples alone, "
        f"float64: {value[1]:.1e}; settled examples of {len(details['moves'])} "
        f"networks by six solvers move by at most {value[2]:.4f} of the tolerance; the "
        f"probe's cosine is within {value[3]:.1e} of a long solve's "
        f"({len(apart)} of {len(details['probe'])} networks; the others have none)"
    )
    shown = argparse.Namespace(**{**vars(args), "dataset": args.dataset or "mnist"})
    report("verdicts", line, shown, value=value, details=details)


if __name__ == "__main__":
    main()
