"""`fre-10x64`: a feedback-regulated chain on MNIST."""

from ._fre import chain

RECIPE = chain(
    layers=10,
    width=64,
    feedback=0.1,
    relaxation=1.15,
    published="92.49±.32 % (97.49±.05 % with residual connections)",
    ours="97.40 % best, 97.24 % final epoch (seed 0)",
    cost="4.1 s on 2 CPU cores",
)
