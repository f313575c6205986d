"""What it costs to make weights of something, and how far a contraction is from 1.

Steps of one batch are timed in turn, with and without, in one process; the median of
the ratios counts. The contraction is trained for an epoch, and searched by 10,000 pairs
of states, near and far, of which the worst are driven apart by gradient ascent.
"""

import statistics
import time

import jax
import jax.numpy as jnp
import numpy as np
from _report import options, report
from _setup import first, load, start

import ctep

_MADE = {
    "standardized": ctep.standardized,
    "weight_norm": ctep.weight_norm,
    "quantized": ctep.quantized,
    "noisy": lambda network: ctep.noisy(network, 0.01),
}


def ratios(args):
    """Return seconds of a training step over those with plain weights, by name."""
    recipe = ctep.recipes.get("fre-2x512" if args.toy else "fre-vgg11-he")
    dataset = first(load(args, recipe), 400)
    scale = 0.0625 if args.toy else 0.25
    network, settings = recipe.setup(dataset, seed=args.seed, scale=scale)
    runs = {}
    for name, make in {"plain": lambda n: n, **_MADE}.items():
        # The sweeps of other weights would be others: it is the making that is timed.
        fixed = ctep.FixedSweeps(free=3, nudged=3)
        loop, state, feed = start(make(network), settings, dataset, solver=fixed)
        block, _ = next(feed.blocks(0, 0))
        runs[name] = loop, state, block
    places = np.array([0, 2, 0])
    times = {name: [] for name in runs}
    for _ in range(2 if args.toy else 12):
        for name, (loop, state, block) in runs.items():
            begin = time.perf_counter()
            jax.block_until_ready(loop.train(state, block, *places))
            times[name].append(time.perf_counter() - begin)
    plain = times.pop("plain")[1:]  # without the first, which compiles
    return {
        name: statistics.median(a / b for a, b in zip(own[1:], plain, strict=True))
        for name, own in times.items()
    }


def contraction(args, bound=0.9):
    """Return the factor that is proved and the largest that is found."""
    network = ctep.mlp((64, 32, 32, 10), feedback=0.5, key=jax.random.key(args.seed))
    network = ctep.contractive(network, bound)
    network = ctep.fit(network, "digits", epochs=1, progress=False).network
    proof = ctep.analysis.contraction(network, beta=0.0).bounds[0]
    network = ctep.resolve(network)
    problem = network.free(jnp.zeros((1, 64)))
    weights = proof.weights

    def distance(a, b):
        squares = [
            jnp.sum((u - v) ** 2) / w**2 for u, v, w in zip(a, b, weights, strict=True)
        ]
        return jnp.sqrt(sum(squares))

    def image(state):
        memory = problem.recall(state)
        return tuple(problem.update(n, state, memory)[0] for n in range(len(state)))

    def ratio(pair):
        a, way = pair
        b = tuple(u + v for u, v in zip(a, way, strict=True))
        return distance(image(a), image(b)) / distance(a, b)

    def draw(key):
        keys = jax.random.split(key, 2 * len(weights) + 1)
        # Pairs from a thousandth to a thousand apart: flat ends are met by far ones.
        size = 10 ** jax.random.uniform(keys[-1], minval=-3.0, maxval=3.0)
        states = [
            jax.random.normal(k, (1, *shape))
            for k, shape in zip(keys, 2 * network.shapes, strict=False)
        ]
        half = len(weights)
        return tuple(states[:half]), tuple(size * s for s in states[half:])

    @jax.jit
    @jax.vmap
    def searched(key):
        def step(_, pair):
            slope = jax.grad(ratio)(pair)
            return jax.tree.map(lambda p, g: p + 0.3 * g, pair, slope)

        return ratio(jax.lax.fori_loop(0, 20, step, draw(key)))

    count = 100 if args.toy else 10_000
    found = searched(jax.random.split(jax.random.key(args.seed), count))
    return {"kind": proof.kind, "k1": proof.k1, "largest": float(found.max())}


def main():
    args = options(__doc__).parse_args()
    found, proof = ratios(args), contraction(args)
    listed = ", ".join(f"{name} {ratio:.3f}" for name, ratio in found.items())
    line = (
        f"step with made weights over one with plain ones: {listed}; contraction "
        f"{proof['kind']} with {proof['k1']:.4f}, largest ratio found "
        f"{proof['largest']:.4f}"
    )
    details = {"ratios": found, "contraction": proof}
    report("parametrisations", line, args, value=max(found.values()), details=details)


if __name__ == "__main__":
    main()
