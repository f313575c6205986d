r"""How gradients of feedback-regulated chains compare with backpropagation, per layer.

With weak feedback $\gamma$ and a small nudge, the gradient of layer k of L is
$\gamma^{L-k}$ times that of the same layers without feedback. Chains of 64 tanh units
with Glorot's weights, sparse random inputs, one nudge of 0.1 whose force is frozen and
no rescaling, in float64. The mean over seeds of the cosine, and of the ratio of the
norms over $\gamma^{L-k}$.
"""

import jax
import jax.numpy as jnp
import numpy as np
from _report import options, report
from _setup import cosine

import ctep

# Depth and feedback, with the known cosine and ratio at the first layer.
CASES = (
    (3, 0.001, "1.0000", "1.003"),
    (3, 0.01, ".9998", "1.027"),
    (3, 0.1, ".974-.976", "1.30-1.33"),
    (3, 0.25, ".63-.69", "-"),
    (5, 0.1, ".94", "1.6"),
)
EXAMPLES, INPUTS, WIDTH, CLASSES = 16, 784, 64, 10


def batch(seed):
    rng = np.random.default_rng(seed)
    x = rng.uniform(0, 1, (EXAMPLES, INPUTS))
    x = x * (rng.uniform(0, 1, x.shape) < 0.2)
    return jnp.asarray(x), jnp.asarray(rng.integers(0, CLASSES, EXAMPLES))


def weights(gradient):
    """Return the gradients of the couplings, from the input's side."""
    return [np.ravel(c.forward.weight) for c in gradient.couplings]


def measure(depth, feedback, width, seeds):
    """Return per seed and layer the cosine and the ratio; NaN where nothing settles."""
    found = []
    for seed in seeds:
        network = ctep.mlp(
            (INPUTS, *[width] * depth, CLASSES),
            feedback=feedback,
            bias=False,
            key=jax.random.key(seed),
        )
        nudge = ctep.Frozen(ctep.OutputError())
        given = {"nudge": nudge, "solver": ctep.Sweeps(5000, rtol=1e-10, atol=1e-10)}
        rule = ctep.OneSided(0.1, rescale=False)
        ours = weights(ctep.gradient(network, *batch(seed), rule=rule, **given)[1])
        rule = ctep.Backprop()
        theirs = weights(ctep.gradient(network, *batch(seed), rule=rule, **given)[1])
        rows = []
        for k, (a, b) in enumerate(zip(ours, theirs, strict=True), 1):
            ratio = np.linalg.norm(a) / np.linalg.norm(b)
            rows.append((cosine(a, b), float(ratio / feedback ** (depth - k))))
        found.append(rows)
    return np.array(found)


def main():
    parser = options(__doc__)
    args = parser.parse_args()
    args.dataset = "sparse random inputs"
    jax.config.update("jax_enable_x64", True)
    seeds = [args.seed] if args.toy else list(range(args.seed, args.seed + 5))
    cases, width = (CASES[:2], 16) if args.toy else (CASES, WIDTH)
    details, value = {}, {}
    print("layers  feedback  layer   cosine   ratio   range of cosine, of ratio; known")
    for depth, feedback, *known in cases:
        found = measure(depth, feedback, width, seeds)
        name = f"{depth} layers, feedback {feedback:g}"
        details[name] = {
            "cosine": found[..., 0].tolist(),
            "ratio": found[..., 1].tolist(),
            "known": known,
        }
        for k, (c, r) in enumerate(found.mean(0), 1):
            low, high = found[:, k - 1].min(0), found[:, k - 1].max(0)
            ranges = ", ".join(
                f"{a:.4g}-{b:.4g}" for a, b in zip(low, high, strict=True)
            )
            text = f"{ranges}; {', '.join(known)}" if k == 1 else ranges
            print(f"{depth:6} {feedback:9g} {k:6} {c:8.4f} {r:7.3f}   {text}")
        value[name] = found.mean(0)[0].tolist()
    line = (
        "Gradient of the first layer against backprop, cosine and ratio: "
        + "; ".join(f"{name}: {c:.4f}, {r:.3f}" for name, (c, r) in value.items())
    )
    report("scaling-law", line, args, value=value, details=details, seeds=seeds)


if __name__ == "__main__":
    main()
