"""Ten layers deep: the gradient with increments, and with a difference of two states.

Feedback of 0.1 per layer leaves 1e-9 of the output's nudge at the first of ten layers.
Solved for the increment itself, float32 carries it. The plain difference of two settled
float32 states, as textbooks write it, is rounding noise in the layers near the input:
below the sixth with a nudge of 0.01. Larger nudges reach further, with more bias.
"""

import argparse

import equinox as eqx
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

import ctep

SOLVER = ctep.Sweeps(max_sweeps=300, rtol=1e-4, atol=1e-4)


def weights(network):
    return [c.forward.weight for c in network.couplings]


@eqx.filter_jit
def textbook(network, x, y, beta):
    """Return the gradient of each weight by a difference of two settled states."""
    scales, ws = network.attenuation, weights(network)

    def cost(last):
        logits = network.readout.operator.image(last)
        return -jnp.sum(jax.nn.log_softmax(logits)[jnp.arange(len(y)), y])

    def settle(beta, state):
        def sweep(_, s):
            for n, w in enumerate(ws):
                drive = (s[n - 1] if n else x) @ w
                if n + 1 < len(ws):
                    drive += scales[n] / scales[n + 1] * s[n + 1] @ ws[n + 1].T
                else:
                    drive -= beta * jax.grad(cost)(s[n])
                s = [*s[:n], jnp.tanh(drive), *s[n + 1 :]]
            return s

        return jax.lax.fori_loop(0, 300, sweep, state)

    free = settle(0.0, [jnp.zeros((len(x), w.shape[1])) for w in ws])
    nudged = settle(beta, free)
    products = lambda s: [a.T @ b for a, b in zip([x, *s], s, strict=False)]  # noqa: E731
    pairs = zip(products(free), products(nudged), scales, strict=True)
    return [(a - b) / (beta * scale * len(x)) for a, b, scale in pairs]


def cosines(gradient, exact):
    """Return per layer the cosine of two gradients, 0 where one of them vanishes."""
    out = []
    for a, b in zip(gradient, exact, strict=True):
        size = np.linalg.norm(a) * np.linalg.norm(b)
        out.append(np.vdot(a, b) / size if size > 0 else 0.0)
    return out


def draw(found):
    fig, ax = plt.subplots(figsize=(5.5, 3.4))
    styles = ("o-", "s--", "^:", "v-.")
    for (name, values), style in zip(found.items(), styles, strict=True):
        color = "black" if style == "o-" else "0.5"
        ax.plot(range(1, len(values) + 1), values, style, color=color, label=name)
    ax.set(xlabel="layer", ylabel="cosine with the exact gradient", ylim=(-0.35, 1.05))
    ax.legend(frameon=False)
    fig.tight_layout()
    return fig


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--depth", type=int, default=10)
    parser.add_argument("--feedback", type=float, default=0.1)
    parser.add_argument("--figure", help="save the figure to this file")
    args = parser.parse_args(argv)

    data = ctep.data.load("digits")
    x, y = (jnp.asarray(v[:20]) for v in (data.x_train, data.y_train))
    x, sizes, key = x.reshape(20, 64), (64, *(64,) * args.depth, 10), jax.random.key(0)
    network = ctep.mlp(sizes, feedback=args.feedback, bias=False, key=key)
    _, exact = ctep.gradient(network, x, y, rule=ctep.Implicit(), solver=SOLVER)
    _, ep = ctep.gradient(network, x, y, rule=ctep.Centered(0.01), solver=SOLVER)
    exact = weights(exact)
    found = {"increments": cosines(weights(ep), exact)}
    for beta in (0.01, 0.1, 1.0):
        plain = textbook(network, x, y, jnp.asarray(beta))
        found[f"difference, nudge {beta:g}"] = cosines(plain, exact)
    print(f"attenuation of a nudge at the first layer: {network.attenuation[0]:.0e}")
    print("cosine with the exact gradient, layer by layer:")
    for name, values in found.items():
        print(f"{name:22s}", *(f"{v:6.3f}" for v in values))
    fig = draw(found)
    if args.figure:
        fig.savefig(args.figure)


if __name__ == "__main__":
    main()
