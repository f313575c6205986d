r"""Feedback strength against convergence: weak feedback is what makes a network settle.

Three tanh layers, tied feedback of strength $\gamma$, before any training. The spectral
radius of the scaled weights grows as $\sqrt\gamma$; the finite-time maximal Lyapunov
exponent over ten steps per layer says whether neighbouring trajectories meet (below 0)
or part; the convergence time is that of synchronous steps, to a change below 1e-6 (in
the 2-norm) for three steps, and has no value where an image does not settle within the
limit. The definitions are those of the FRE-RNN (2025, arXiv:2508.11659).
"""

import argparse

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

import ctep
from ctep import analysis


def measure(network, x, limit):
    """Return the radius, the exponent, the time, and the fraction that settled."""
    layers = len(network.shapes)
    radius = analysis.spectral_radius(network, of="weights")
    exponent = analysis.lyapunov(network, x, 10 * layers, key=jax.random.key(1))
    atol = 1e-6 / sum(size for (size,) in network.shapes) ** 0.5
    time = analysis.convergence_time(network, x, 0.0, atol, max_steps=limit)
    slowest = time.mean if time.fraction == 1 else np.nan
    return float(radius), float(jnp.mean(exponent)), slowest, time.fraction


def draw(strengths, rows):
    titles = ("spectral radius", "Lyapunov exponent / step", "convergence time (steps)")
    fig, axes = plt.subplots(1, 3, figsize=(9, 3))
    values = np.array(rows)
    for n, (ax, title) in enumerate(zip(axes, titles, strict=True)):
        ax.semilogx(strengths, values[:, n], "o-", color="black")
        ax.set(xlabel="feedback strength", title=title)
    missing = [g for g, row in zip(strengths, rows, strict=True) if np.isnan(row[2])]
    if missing:  # near the upper end of the axis
        end = {"transform": axes[2].get_xaxis_transform()}
        axes[2].plot(
            missing, [0.95] * len(missing), "kx", label="not all settle", **end
        )
        axes[2].legend(frameon=False, loc="lower right")
    for ax, line in zip(axes, (1, 0), strict=False):
        ax.axhline(line, color="0.5", ls="--", lw=1)
    axes[0].set_yscale("log")
    axes[2].set_yscale("log")
    fig.tight_layout()
    return fig


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    strengths = [0.001, 0.01, 0.1, 0.25, 1.0, 2.0]
    parser.add_argument("--feedback", type=float, nargs="+", default=strengths)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--limit", type=int, default=1000, help="of the steps")
    parser.add_argument("--figure", help="save the figure to this file")
    args = parser.parse_args(argv)

    rows = []
    print("feedback  spectral radius  Lyapunov exponent  convergence time  settled")
    # A change of 1e-6 of the whole state is below what float32 resolves.
    with jax.enable_x64(True):
        x = jnp.asarray(ctep.data.load("digits").x_train[:50], float).reshape(50, 64)
        for strength in args.feedback:
            sizes, key = (64, *(args.width,) * 3, 10), jax.random.key(0)
            network = ctep.mlp(sizes, feedback=strength, key=key)
            rows.append(measure(network, x, args.limit))
            radius, exponent, time, settled = rows[-1]
            print(
                f"{strength:8g}  {radius:15.3f}  {exponent:17.3f}  {time:16.1f}  "
                f"{100 * settled:5.0f} %"
            )
    fig = draw(args.feedback, rows)
    if args.figure:
        fig.savefig(args.figure)


if __name__ == "__main__":
    main()
