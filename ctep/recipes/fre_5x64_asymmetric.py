"""`fre-5x64-asymmetric`: a chain with fixed random feedback on MNIST."""

from ._fre import chain

RECIPE = chain(
    layers=5,
    width=64,
    feedback=0.1,
    relaxation=1.0,
    fixed=True,
    published="96.37±.11 % (best epoch, mean of 5)",
    ours="not run",
)
