"""Cost of leaving synchronous sweeps to Diffrax: Euler with a step of one `tau`.

Both do the same map the same number of times; the ratio is what the generality costs.
"""

import statistics
import time

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
from _report import options, report

import ctep


def solvers(steps):
    """Return both solvers, neither of which stops before `steps`."""
    sweeps = ctep.Sweeps(steps, rtol=0.0, atol=0.0, order=ctep.Synchronous())
    ode = ctep.ODE(
        dfx.Euler(),
        dfx.ConstantStepSize(),
        dt0=1.0,
        t1=float(steps),
        interval=float(steps),
        rtol=0.0,
        atol=0.0,
    )
    return {"sweeps": sweeps, "ode": ode}


@eqx.filter_jit
def solve(solver, network, x):
    return solver.solve(network.free(x), network.zeros(x), throw=False)


def compare(sizes, batch, steps, seed):
    """Return the times of both solvers, interleaved, and how far their ends differ."""
    weights, inputs = jax.random.split(jax.random.key(seed))
    # Feedback at which no state is at rest, to the last bit, before the last step.
    network = ctep.mlp(sizes, feedback=0.25, key=weights)
    x = jax.random.uniform(inputs, (batch, sizes[0]))
    both = solvers(steps)
    ends = {name: solve(s, network, x) for name, s in both.items()}
    for name, end in ends.items():
        if int(jnp.min(end.steps)) != steps or int(jnp.max(end.steps)) != steps:
            raise RuntimeError(f"{name} did not take {steps} steps: {end.steps}")
    pairs = zip(ends["sweeps"].state, ends["ode"].state, strict=True)
    apart = max(float(jnp.max(jnp.abs(a - b))) for a, b in pairs)
    if not apart < 1e-5:
        raise RuntimeError(f"the ends differ by {apart}, so the two are not the same")
    times = {name: [] for name in both}
    for _ in range(3):
        for name, solver in both.items():
            begin = time.perf_counter()
            jax.block_until_ready(solve(solver, network, x).state)
            times[name].append(time.perf_counter() - begin)
    ratios = [o / s for o, s in zip(times["ode"], times["sweeps"], strict=True)]
    return {
        "sizes": list(sizes),
        "batch": batch,
        "steps": steps,
        "difference": apart,
        "seconds": {name: statistics.median(t) for name, t in times.items()},
        "ratios": ratios,
        "ratio": statistics.median(ratios),
    }


def main():
    args = options(__doc__).parse_args()
    if args.toy:
        cases, batch, steps = [(20, 16, 16, 4), (20, 8, 8, 8, 4)], 10, 10
    else:
        cases = [(784, 512, 512, 10), (784, 256, 256, 256, 10)]
        batch, steps = 500, 100
    found = [compare(sizes, batch, steps, args.seed) for sizes in cases]
    parts = [
        f"{case['ratio']:.2f} on {'-'.join(map(str, case['sizes']))} "
        f"(ends differ by {case['difference']:.0e})"
        for case in found
    ]
    line = (
        f"time of ODE(Euler, constant step) / time of synchronous Sweeps, {steps} "
        f"steps of {batch} examples: {', '.join(parts)}"
    )
    value = max(case["ratio"] for case in found)
    report("ode-overhead", line, args, value=value, details={"cases": found})


if __name__ == "__main__":
    main()
