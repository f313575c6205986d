"""Learning without a free phase: oscillating nudges against `Centered` on MNIST.

Two sigmoid layers with tied feedback of one half, trained twice from the same weights
on the same batches. One rule settles and compares two rests; the other follows a nudge
that turns in the complex plane in continuous time and never rests.
"""

import jax
from _report import options, report
from _setup import load

import ctep

RULES = {
    "centered": ctep.Centered(0.2),
    "oscillating": ctep.Oscillating(0.2, 50.0, dt=1.0),
}


def train(dataset, rule, args):
    """Return the history of a run."""
    first, last = jax.random.split(jax.random.key(args.seed))
    network = ctep.mlp(
        (dataset.x_train[0].size, 64, 32, 10),
        activation=ctep.Sigmoid(2.0, 0.5),
        feedback=0.5,
        key=first,
    )
    return ctep.fit(
        network,
        dataset,
        rule=rule,
        solver=ctep.Sweeps(200, rtol=1e-3, atol=1e-3),
        epochs=args.epochs,
        batch_size=500,
        key=last,
    )


def main():
    parser = options(__doc__)
    parser.add_argument("--epochs", type=int, default=2)
    args = parser.parse_args()
    dataset = load(args)
    found = {name: train(dataset, rule, args) for name, rule in RULES.items()}
    last = {name: result.history[-1] for name, result in found.items()}
    scores = {name: 100 * record["test_accuracy"] for name, record in last.items()}
    gap = scores["oscillating"] - scores["centered"]
    unsettled = 100 * last["oscillating"]["unsettled"]
    cosine = last["oscillating"]["gradient_cosine"]
    line = (
        f"test accuracy after {args.epochs} epochs: oscillating "
        f"{scores['oscillating']:.2f} %, centered {scores['centered']:.2f} %; "
        f"{unsettled:.2f} % of the orbits not closed, cosine with the exact gradient "
        f"{cosine:.4f}"
    )
    details = {name: result.history for name, result in found.items()}
    report("oscillating", line, args, value=gap, details=details)


if __name__ == "__main__":
    main()
