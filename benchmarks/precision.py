"""Precision of float32 gradients, against float64 implicit differentiation.

A symmetric network with three layers of 64, at Glorot's initial weights, where it is
close to losing stability and small nudges have large effects, and at a quarter of them,
where its map is a contraction. The same rule in float64 tells bias from rounding.
"""

import statistics

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from _report import options, report
from _setup import load

import ctep
from ctep._rule import Task
from ctep.data import Pipeline

SINGLE = {"max_sweeps": 2000, "rtol": 1e-6, "atol": 1e-6}
DOUBLE = {"max_sweeps": 10000, "rtol": 1e-12, "atol": 1e-12}


def cast(tree, dtype):
    return jax.tree.map(lambda v: v.astype(dtype) if eqx.is_array(v) else v, tree)


def weights(gradient):
    """Return the gradients of a chain's weights, from the input to the readout."""
    found = [c.forward.weight for c in gradient.couplings]
    found.append(gradient.readout.operator.weight)
    return [np.asarray(w, np.float64) for w in found]


@eqx.filter_jit
def _estimate(network, x, y, rule, solver):
    task = Task.mean(x, y, ctep.OutputError(), solver, throw=False)
    found = rule.estimate(network, task)
    return found.gradient[0], jnp.sum(~(found.result == ctep.RESULTS.successful))


def estimate(network, x, y, rule, dtype):
    """Return the gradient of a rule, and how many examples have not settled."""
    solver = ctep.Sweeps(**(SINGLE if dtype == jnp.float32 else DOUBLE))
    gradient, unsettled = _estimate(
        cast(network, dtype), x.astype(dtype), y, rule, solver
    )
    return weights(gradient), int(unsettled)


def exact(network, x, y):
    """Return the gradient by implicit differentiation in float64."""
    return estimate(network, x, y, ctep.Implicit(restart=200), jnp.float64)[0]


def batch(args, count):
    """Return the first examples of the training set, flat and in float32."""
    dataset = load(args)
    x = Pipeline()(jnp.asarray(dataset.x_train[:count]), jnp.float32)
    x = x.reshape(len(x), -1)
    return x, jnp.asarray(dataset.y_train[:count])


def distance(a, b):
    """Return the relative error of `a` over all weights together."""
    wrong = sum(np.sum((u - v) ** 2) for u, v in zip(a, b, strict=True))
    return float(np.sqrt(wrong / sum(np.sum(v**2) for v in b)))


def errors(x, y, seeds, gain):
    """Return relative errors of `Centered(0.01)` by dtype, and unsettled examples."""
    glorot = jax.nn.initializers.glorot_uniform()
    rule, found = ctep.Centered(0.01), {"float32": [], "float64": [], "unsettled": []}
    for seed in seeds:
        network = ctep.mlp(
            (x.shape[1], 64, 64, 64, 10),
            feedback=1.0,
            init=lambda key, shape, dtype: gain * glorot(key, shape, dtype),
            key=jax.random.key(seed),
        )
        network = cast(network, jnp.float32)  # the same numbers for both dtypes
        implicit = ctep.Implicit(restart=200)
        truth, unsettled = estimate(network, x, y, implicit, jnp.float64)
        for dtype in (jnp.float32, jnp.float64):
            gradient, more = estimate(network, x, y, rule, dtype)
            found[jnp.dtype(dtype).name].append(distance(gradient, truth))
            unsettled += more
        found["unsettled"].append(unsettled)
    return found


def main():
    args = options(__doc__).parse_args()
    jax.config.update("jax_enable_x64", True)
    x, y = batch(args, 20 if args.toy else 50)
    seeds = [args.seed + k for k in range(2 if args.toy else 5)]
    for name, gain in (("precision", 1.0), ("precision-quarter", 0.25)):
        found = errors(x, y, seeds, gain)
        line = (
            "relative error of the gradient of Centered(0.01) on a symmetric "
            f"{x.shape[1]}-64-64-64-10 network, {gain:g} x Glorot, {len(seeds)} keys: "
            f"largest {max(found['float32']):.1e} in float32, "
            f"{max(found['float64']):.1e} in float64; median "
            f"{statistics.median(found['float32']):.1e} and "
            f"{statistics.median(found['float64']):.1e}; "
            f"{sum(found['unsettled'])} solves unsettled"
        )
        value, details = max(found["float32"]), {"examples": len(y), "gain": gain}
        details |= found
        report(name, line, args, value=value, details=details, seeds=seeds)
        for key, values in found.items():
            print(f"  {key}: " + "  ".join(f"{v:.1e}" for v in values))


if __name__ == "__main__":
    main()
