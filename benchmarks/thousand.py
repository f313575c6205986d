"""A thousand layers: what float32 and bfloat16 keep of every layer's gradient.

Chains of 64 tanh units without residual connections, orthogonal weights at the edge of
chaos of the settling network, feedback 0.1, without biases. Gradients of `OneSided` are
compared with those of the same rule in float64, layer by layer. And the time to compile
a training step, of so many layers against ten.
"""

import time

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from _report import options, report
from _setup import cosine, load

import ctep

FEEDBACK = 0.1


def chain(depth, inputs, seed, dtype):
    """Return a network, the same numbers in every dtype."""
    gain = ctep.edge_of_chaos(ctep.Tanh(), feedback=FEEDBACK).gain
    with jax.enable_x64(False):
        network = ctep.mlp(
            (inputs, *[64] * depth, 10), feedback=FEEDBACK, bias=False, stack=True,
            init=jax.nn.initializers.orthogonal(gain), key=jax.random.key(seed),
        )  # fmt: skip
    return jax.tree_util.tree_map(
        lambda v: v.astype(dtype) if eqx.is_inexact_array(v) else v, network
    )


def batch(args, dtype):
    dataset, examples = load(args), 10 if args.toy else 50
    x = np.asarray(dataset.x_train[:examples], np.float32).reshape(examples, -1)
    x = x / (255 if x.max() > 1 else 1)
    return jnp.asarray(x, dtype), jnp.asarray(dataset.y_train[:examples])


def weights(gradient):
    """Return the gradient of each layer's weights, in float64."""
    (stack,) = gradient.layers
    parts = [gradient.couplings[0].forward.weight, *stack.forward.weight]
    return [np.ravel(np.asarray(w, np.float64)) for w in parts]


def compared(depth, args):
    """Return the cosines with float64 of float32 and of bfloat16 products."""
    found = {}
    for name, dtype, precision, tolerance in (
        ("float64", jnp.float64, "float32", 1e-9),
        ("float32", jnp.float32, "float32", 1e-6),
        # Its factors are rounded anew in each sweep: closer to rest it may never come.
        ("bfloat16", jnp.float32, "bfloat16", 1e-3),
    ):
        with jax.enable_x64(dtype == jnp.float64):
            x, y = batch(args, dtype)
            network = chain(depth, x.shape[1], args.seed, dtype)
            network = ctep.with_precision(network, precision)
            solver = ctep.Sweeps(500, rtol=0.0, atol=tolerance)
            rule = ctep.OneSided()
            _, gradient = ctep.gradient(network, x, y, rule=rule, solver=solver)
            found[name] = weights(gradient)
    truth = found.pop("float64")
    return {
        name: [cosine(*pair) for pair in zip(own, truth, strict=True)]
        for name, own in found.items()
    }


def compiled(depth, args):
    """Return the seconds that tracing and compiling a training step take."""
    x, y = batch(args, jnp.float32)
    network = chain(depth, x.shape[1], args.seed, jnp.float32)

    @eqx.filter_jit
    def step(network, x, y):
        return ctep.gradient(network, x, y, throw=False)[1]

    begin = time.perf_counter()
    lowered = step.lower(network, x, y)
    middle = time.perf_counter()
    lowered.compile()
    return middle - begin, time.perf_counter() - middle


def main():
    args = options(__doc__).parse_args()
    jax.config.update("jax_enable_compilation_cache", False)
    depth = 40 if args.toy else 1000
    compiled(3, args)  # what only the first program pays
    seconds = {n: compiled(n, args) for n in (10, depth)}
    ratio = sum(seconds[depth]) / sum(seconds[10])
    cosines = compared(depth, args)
    least = {name: min(values) for name, values in cosines.items()}
    line = (
        f"{depth} layers, feedback {FEEDBACK}: smallest cosine of a layer's gradient "
        f"with float64 {least['float32']:.6f}, with bfloat16 products "
        f"{least['bfloat16']:.4f}; a step takes {ratio:.2f} times as long to trace and "
        "compile as one of 10 layers"
    )
    details = {"seconds": {str(n): v for n, v in seconds.items()}, "cosines": cosines}
    report("thousand", line, args, value=[*least.values(), ratio], details=details)


if __name__ == "__main__":
    main()
