"""Depth against feedback: where equilibrium propagation parts from its backprop twin.

Chains of 64 tanh units without residual connections or biases, orthogonal weights at
the edge of chaos of the twin, or of the settling network itself. Of each: sweeps,
spectral radius, cosines of the gradient with the exact one and with the twin's, before
and after a short training, and the test accuracy of both. Rows are written as they
come, and those that are there already are not made again.
"""

import functools
import json
import time

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import scipy.sparse.linalg
from _report import folder_of, options, report
from _setup import cosine, first, load
from precision import cast

import ctep
from ctep._rule import Task
from ctep.data import Pipeline
from ctep.recipes.base import cosine_decay

DEPTHS = (10, 20, 50, 100, 300, 1000)
FEEDBACKS = (0.003, 0.01, 0.03, 0.1, 0.25)
# Of the cells where the edge of the settling network is another than the twin's.
DEEP, FELT = (100, 1000), (0.01, 0.03, 0.1, 0.25)
NAME = "depth-feedback"
# Of a training: the rate falls with depth, as that of `fre-100x64` and `fre-300x64`.
EXAMPLES, EPOCHS, BATCH, RATE = 10_000, 3, 100, 0.03
NUDGE = ctep.Frozen(ctep.OutputError())
USUAL = ctep.OneSided(0.1), ctep.Sweeps(200)
# Layers and sweeps of a batch, above which a cell is looked at and not trained.
MOST = 30_000
SMALL = ctep.OneSided(1e-6)


def gain(edge, feedback):
    own = feedback if edge == "network" else 0.0
    return ctep.edge_of_chaos(ctep.Tanh(), feedback=own).gain


def chain(depth, feedback, edge, inputs, seed):
    return ctep.mlp(
        (inputs, *[64] * depth, 10), feedback=feedback, bias=False, stack=True,
        init=jax.nn.initializers.orthogonal(gain(edge, feedback)),
        key=jax.random.split(jax.random.key(seed))[0],
    )  # fmt: skip


@functools.cache
def drawn(depth, inputs, seed):
    """Return the weights of a chain at the edge of its twin, whatever its feedback."""
    return parts(chain(depth, FEEDBACKS[0], "twin", inputs, seed))


@eqx.filter_jit
def estimate(network, x, y, rule, solver):
    """Return gradient, sweeps of both phases, who came to rest, and the free state."""
    found = rule.estimate(network, Task.mean(x, y, NUDGE, solver, throw=False))
    free, settled = found.free, found.result == ctep.RESULTS.successful
    return found.gradient[0], (free.steps, found.sweeps - free.steps), settled, free


def layers(gradient):
    """Return the gradient of each layer's weights, in float64."""
    (stack,) = gradient.layers
    parts = [gradient.couplings[0].forward.weight, *stack.forward.weight]
    return [np.ravel(np.asarray(w, np.float64)) for w in parts]


def cosines(own, other):
    """Return the cosines of two gradients: smallest, first layer, and median."""
    found = [cosine(*pair) for pair in zip(own, other, strict=True)]
    least, middle = float(np.min(found)), float(np.median(found))
    places = np.linspace(0, len(found) - 1, 11).astype(int)
    along = [found[n] for n in places]
    return {"least": least, "first": found[0], "median": middle, "along": along}


def passed(weights, x, feedback, sweeps, atol):
    """Return the states of a chain, `(depth, examples, 64)`, their last move, sweeps.

    By forward sweeps in NumPy; one of them without feedback is the pass of the twin.
    """
    states = [np.zeros((len(x), len(w))) for w in weights]
    count, moved = 0, np.inf
    while count < sweeps and moved > atol:
        count, moved = count + 1, 0.0
        for n, w in enumerate(weights):
            drive = (states[n - 1] if n else x) @ w.T
            if feedback and n + 1 < len(weights):
                drive += feedback * states[n + 1] @ weights[n + 1]
            new = np.tanh(drive)
            moved = max(moved, float(np.abs(new - states[n]).max()))
            states[n] = new
    return np.stack(states), moved, count


def differentiated(weights, readout, x, y, feedback, states):
    r"""Return the gradient of the mean loss at a rest, of each layer's weights.

    Implicit differentiation by block elimination from the input on,
    $v_n = T_n v_{n+1}$, $T_n = (1 - \gamma W_{n-1} D_{n-1} T_{n-1})^{-1}
    W_n^\top D_{n+1}$; without feedback that is backpropagation.
    """
    last, count = len(weights) - 1, len(x)
    outputs = states[-1] @ readout.T
    outputs = np.exp(outputs - outputs.max(1, keepdims=True))
    error = outputs / outputs.sum(1, keepdims=True) - np.eye(len(readout))[y]
    slopes = 1 - np.square(states)
    maps, back = [], np.zeros((count, 64, 64))  # gamma W_{n-1} D_{n-1} T_{n-1}
    for n in range(last):
        right = weights[n + 1].T * slopes[n + 1][:, None]
        maps.append(np.linalg.solve(np.eye(64) - back, right) if feedback else right)
        back = feedback * (weights[n + 1] * slopes[n][:, None]) @ maps[n]
    v = (error @ readout / count)[..., None]
    felt = [np.linalg.solve(np.eye(64) - back, v)]
    for own in maps[::-1]:
        felt.append(own @ felt[-1])
    felt = np.stack(felt[::-1])[..., 0] * slopes
    found = [felt[0].T @ x]
    for n in range(last):
        # A tied weight is in two drives.
        both = felt[n + 1].T @ states[n] + feedback * states[n + 1].T @ felt[n]
        found.append(both)
    return [w.T.ravel() for w in found]  # (inputs, outputs) in a network


def radius(weights, feedback, states):
    r"""Return the largest spectral radius of some rests, `(depth, examples, 64)`.

    In units of the roots of attenuations and slopes the Jacobian of a chain with tied
    feedback is symmetric, with $\sqrt{\gamma} D_{n+1}^{1/2} W_n D_n^{1/2}$ below its
    diagonal.
    """
    inner, found = np.stack(weights[1:]), []
    for root in np.sqrt(1 - np.square(np.moveaxis(states, 1, 0))):
        below = np.sqrt(feedback) * root[1:, :, None] * inner * root[:-1, None]

        def product(v, below=below):
            v = v.reshape(-1, 64)
            out = np.zeros_like(v)
            out[1:] = (below @ v[:-1, :, None])[..., 0]
            out[:-1] += (v[1:, None] @ below)[:, 0]
            return out.ravel()

        size = (root.size, root.size)
        matrix = scipy.sparse.linalg.LinearOperator(size, product, dtype=float)  # pyright: ignore[reportCallIssue]
        start = np.random.default_rng(0).normal(size=root.size)
        options = {"v0": start, "tol": 1e-3, "return_eigenvectors": False}
        top = scipy.sparse.linalg.eigsh(matrix, 1, which="LA", **options)
        found.append(float(top[0]))
    return max(found)


def parts(network):
    """Return the weights of the layers and of the readout, `(outputs, inputs)`."""
    inner = network.layers[0].forward.weight
    weights = [network.couplings[0].forward.weight, *inner]
    readout = network.readout.operator.weight
    weights, readout = jax.tree.map(
        lambda w: np.asarray(w, np.float64).T, (weights, readout)
    )
    return weights, readout


def rest(weights, readout, feedback, x, y):
    """Return what is said of a rest and its exact gradient, in NumPy alone.

    Without compiled programs it costs seconds at any depth, so that all cells have it.
    """
    ahead, _, _ = passed(weights, x, 0.0, 1, 0.0)
    states, moved, sweeps = passed(weights, x, feedback, 300, 1e-9)
    row = {"sweeps": sweeps, "moved": moved, "settled": moved <= 1e-9}
    if not row["settled"]:
        return row
    twin = differentiated(weights, readout, x, y, 0.0, ahead)
    exact = differentiated(weights, readout, x, y, feedback, states)
    row["twin"] = cosines(exact, twin)
    outputs, wanted = states[-1] @ readout.T, ahead[-1] @ readout.T
    row["output_apart"] = float(
        np.linalg.norm(outputs - wanted) / np.linalg.norm(wanted)
    )
    row["radius"] = radius(weights, feedback, states[:, :1])
    sizes = [np.linalg.norm(exact[n]) for n in (0, -1)]
    row["first_over_last"] = float(sizes[0] / sizes[1])
    sizes = [np.linalg.norm(twin[n]) for n in (0, -1)]
    row["first_over_last_twin"] = float(sizes[0] / sizes[1])
    return row


def examined(network, x, y):
    """Return what is said of a network on a few examples.

    Gradients are those of a nudge of 1e-6 in float64, so that neither rounding nor the
    nudge's size separates them, and those of the usual settings in float32.
    """
    usual, sweeps, rests, _ = estimate(network, x, y, *USUAL)
    row = {
        "free_sweeps": float(np.mean(sweeps[0])),
        "nudged_sweeps": float(np.mean(sweeps[1])),
        "settled": float(np.mean(rests)),
    }
    feedback, (weights, readout) = network.layers[0].scale, parts(network)
    x, y = np.asarray(x, np.float64), np.asarray(y)
    ahead, _, _ = passed(weights, x, 0.0, 1, 0.0)
    twin = differentiated(weights, readout, x, y, 0.0, ahead)
    row["settings_twin"] = cosines(layers(usual), twin)
    with jax.enable_x64(True):
        solver = ctep.Sweeps(500, rtol=0.0, atol=1e-9)
        double = cast(network, jnp.float64), jnp.asarray(x), jnp.asarray(y)
        own, _, rests, free = estimate(*double, SMALL, solver)
        states = np.moveaxis(np.asarray(free.state[0]), 1, 0)
    row["settled_float64"] = float(np.mean(rests))
    if row["settled_float64"] < 1:
        return row  # not at rest: what follows would speak of no equilibrium
    exact = differentiated(weights, readout, x, y, feedback, states)
    row["exact"] = cosines(layers(own), exact)
    row["twin"] = cosines(layers(own), twin)
    row["settings_exact"] = cosines(layers(usual), exact)
    outputs, wanted = states[-1] @ readout.T, ahead[-1] @ readout.T
    apart = np.linalg.norm(outputs - wanted) / np.linalg.norm(wanted)
    row["output_apart"] = float(apart)
    row["radius"] = radius(weights, feedback, states[:, :3])
    return row


def trained(network, dataset, rule, args):
    """Return the network after a short training, and the record of its last epoch."""
    depth = network.layers[0].depth
    steps = -(-dataset.examples // BATCH)
    rate = min(1e-3, RATE / depth)
    result = ctep.fit(
        network,
        dataset,
        nudge=NUDGE,
        rule=rule,
        solver=USUAL[1],
        optimizer=optax.adam(cosine_decay(rate, EPOCHS, steps)),
        epochs=EPOCHS,
        batch_size=BATCH,
        watch=ctep.Watch(unsettled=1.0),
        probe=0,
        key=jax.random.split(jax.random.key(args.seed))[1],
        progress=False,
    )
    keys = "loss", "train_accuracy", "test_accuracy", "sweeps", "unsettled"
    found = {k: result.history[-1][k] for k in keys} if result.history else {}
    found["most_unsettled"] = max((r["unsettled"] for r in result.history), default=1.0)
    return result.network, found | {"status": result.status}


def made(cell, dataset, x, y, args):
    """Return the row of a cell: of a network that settles, or of a twin."""
    begin = time.perf_counter()
    jax.clear_caches()  # every depth and feedback has programs of its own
    # A twin at its own edge has no feedback: any would do, and the rule leaves it out.
    feedback = cell["feedback"] or FEEDBACKS[0]
    network = chain(cell["depth"], feedback, cell["edge"], x.shape[1], args.seed)
    if cell["who"] == "rest":
        found = rest(
            *parts(network), feedback, np.asarray(x, np.float64), np.asarray(y)
        )
        return cell | found | {"seconds": time.perf_counter() - begin}
    if cell["who"] == "twin":
        _, found = trained(network, dataset, ctep.Backprop(), args)
        return cell | {"training": found, "seconds": time.perf_counter() - begin}
    start = examined(network, x, y)
    row, work = cell | {"start": start}, start["free_sweeps"] + start["nudged_sweeps"]
    if start["settled"] < 0.5:
        row["training"] = {"status": "not trained: most examples do not come to rest"}
    elif work * cell["depth"] > MOST:
        row["training"] = {"status": "not trained: too many sweeps for this machine"}
    else:
        network, row["training"] = trained(network, dataset, USUAL[0], args)
        row["end"] = examined(network, x, y)
    return row | {"seconds": time.perf_counter() - begin}


def cells(depths, feedbacks):
    """Return what is to be measured, the cheapest first.

    A twin at its own edge is the same one whatever the feedback, and is trained once.
    """
    found = [
        {"depth": depth, "feedback": f, "edge": edge, "who": "rest"}
        for depth in depths
        for edge in ("twin", "network")
        for f in feedbacks
    ]
    for depth in depths:
        one = {"depth": depth, "edge": "twin"}
        found.append(one | {"feedback": 0.0, "who": "twin"})
        found += [one | {"feedback": f, "who": "network"} for f in feedbacks]
    for depth in sorted({*depths} & {*DEEP}):
        for who in ("network", "twin"):
            one = {"depth": depth, "edge": "network", "who": who}
            found += [one | {"feedback": f} for f in feedbacks if f in FELT]
    return found


def same(row, cell):
    return all(row[key] == value for key, value in cell.items())


def told(rows, args):
    """Report the cosines and the accuracies of all rows that are there."""
    rests = [row for row in rows if row["who"] == "rest" and row["settled"]]
    close = [row for row in rests if row["edge"] == "twin"]
    near = [r for r in close if r["feedback"] * r["depth"] <= 1]
    far = [r for r in close if r["feedback"] * r["depth"] >= 3]
    values = [
        min((r["twin"]["median"] for r in near), default=0.0),
        max((r["twin"]["median"] for r in far), default=0.0),
        min(
            (
                r["start"]["exact"]["least"]
                for r in rows
                if "exact" in r.get("start", {})
            ),
            default=0.0,
        ),
    ]
    trained = [r for r in rows if r.get("training", {}).get("status") == "completed"]
    line = (
        f"{len(rests)} rests of chains of 64 tanh units: median layer's cosine with "
        f"the twin's gradient at least {values[0]:.3f} where feedback times depth is "
        f"at most 1, at most {values[1]:.3f} where it is 3 or more; equilibrium "
        f"propagation's own with its exact one at least {values[2]:.6f}; "
        f"{len(trained)} short trainings"
    )
    report(NAME, line, args, value=values, details={"rows": len(rows)})


def main():
    parser = options(__doc__)
    parser.add_argument("--depths", type=int, nargs="+", default=DEPTHS)
    parser.add_argument("--feedbacks", type=float, nargs="+", default=FEEDBACKS)
    text = "of a cell: its rest alone, the network that settles, its twin"
    kinds = "rest", "network", "twin"
    parser.add_argument("--who", nargs="+", choices=kinds, default=kinds, help=text)
    parser.add_argument("--edges", nargs="+", default=("twin", "network"))
    args = parser.parse_args()
    depths, feedbacks = args.depths, args.feedbacks
    if args.toy:
        depths, feedbacks = (4, 6), (0.03, 0.1)
    dataset = load(args)
    x = Pipeline()(jnp.asarray(dataset.x_train[:20]), jnp.float32)
    x, y = x.reshape(len(x), -1), jnp.asarray(dataset.y_train[:20])
    dataset = first(dataset, 200 if args.toy else EXAMPLES)
    folder, rows = folder_of(args), []
    path = None if folder is None else folder / f"{NAME}.jsonl"
    if path is not None and path.is_file():
        rows = [json.loads(line) for line in path.read_text().splitlines()]
    for cell in cells(depths, feedbacks):
        asked = cell["who"] in args.who and cell["edge"] in args.edges
        if not asked or any(same(row, cell) for row in rows):
            continue
        row = made(cell, dataset, x, y, args)
        rows.append(row)
        print(json.dumps(row), flush=True)
        if path is not None:
            with path.open("a") as file:
                file.write(json.dumps(row) + "\n")
    told(rows, args)


if __name__ == "__main__":
    main()
