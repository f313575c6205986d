"""Robustness: accuracy with noise on the weights or on the state."""

import dataclasses
import itertools
import math
from collections.abc import Sequence
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PRNGKeyArray

from .. import _checks as checks, data
from .._concrete import concrete
from .._network import AbstractNetwork
from .._nudge import OutputError
from .._rule import check_kinds
from .._solver import AbstractSolver
from .._train import as_inputs
from .._train.evaluate import check_fit
from .._train.score import agreement
from .._weights.resolution import effective
from ._inputs import solver_or


@dataclasses.dataclass(frozen=True)
class NoiseLevel:
    """Accuracy at one level of noise.

    Fields:
        weight_noise: relative size of the noise on each trained array.
        state_noise: size of the noise on the state, in the state's own unit.
        accuracy: of the examples that have an equilibrium, mean over draws; NaN if
            none has.
        deviation: standard deviation over draws, 0 for one draw.
        draws: of the noise; one where there is none.
        unsettled: fraction of the examples without an equilibrium, mean over draws.
    """

    weight_noise: float
    state_noise: float
    accuracy: float
    deviation: float
    draws: int
    unsettled: float


@concrete
@effective
def robustness(
    network: AbstractNetwork,
    dataset: str | Sequence | data.Dataset,
    *,
    weight_noise: Sequence[float] = (0.0,),
    state_noise: Sequence[float] = (0.0,),
    draws: int = 5,
    steps: int = 50,
    solver: AbstractSolver | None = None,
    batch_size: int = 500,
    pipeline: data.Pipeline | None = None,
    data_dir: str | Path | None = None,
    key: PRNGKeyArray,
) -> tuple[NoiseLevel, ...]:
    r"""Return the accuracy for every pair of a weight noise and a state noise.

    With weight noise $\sigma_w$ every trained array, biases and readout too, becomes
    $\theta (1 + \sigma_w \epsilon)$, and tied feedback with it; it is drawn once, as
    device-to-device variation is. With state noise $\sigma_s$ the prediction is that
    of the last of `steps` sweeps from zeros,

    $$s_n \leftarrow T_n(s) + \sigma_s \xi_n$$

    from input to output, with new noise each time; $\epsilon$ and $\xi$ are standard
    normal. Without state noise it is that of the equilibrium. In either case only
    those examples count that have an equilibrium without state noise; the others are
    reported as unsettled.

    Args:
        network: any network.
        dataset: as for `ctep.fit`; its test set, or its training set if it has none.
        weight_noise: levels $\sigma_w$.
        state_noise: levels $\sigma_s$.
        draws: per pair; the same random numbers for each, so that levels compare.
        steps: sweeps under state noise.
        solver: for the equilibrium; by default `Sweeps` to within 100 roundings of the
            network's dtype.
        batch_size: examples at a time.
        pipeline: makes inputs of examples, as in training.
        data_dir: of TFDS.
        key: for the noise.

    Raises:
        TypeError: if an argument is not of its kind.
        ValueError: if a level is negative, another argument out of range, or the data
            do not fit the network.

    Cost: one free phase of the whole set per draw, and `steps` sweeps of it with state
    noise.
    """
    check_kinds(network=network)
    levels = {"weight_noise": weight_noise, "state_noise": state_noise}
    for name, values in levels.items():
        example = "(0.0, 0.1)"
        checks.instance(name, values, Sequence, "a sequence of levels", example)
        for value in values:
            checks.real(name, value, example)
            if not 0 <= value < math.inf:
                raise ValueError(
                    f"`{name}` holds {value}, but a level of noise must be finite and "
                    f"not negative: pass for example `{example}`."
                )
    checks.count("draws", draws, "5")
    checks.count("steps", steps, "50")
    checks.count("batch_size", batch_size, "500")
    checks.key(key)
    solver = solver_or(solver, network.dtype)
    pipeline = data.Pipeline() if pipeline is None else pipeline
    loaded = data.load(dataset, data_dir=data_dir)
    if loaded.classes is None:
        raise ValueError(
            f"`dataset` {loaded.name!r} has values for targets, but accuracy is of "
            "classes: pass a dataset of classes."
        )
    check_fit(network, OutputError(), loaded, pipeline, jnp.asarray(loaded.y_train[:1]))
    split = (loaded.x_test, loaded.y_test)
    if loaded.x_test is None:
        split = (loaded.x_train, loaded.y_train)
    x, y = map(jnp.asarray, split)
    batch_size = min(batch_size, len(y))
    missing = -len(y) % batch_size
    # Filled up with -1, which is counted out below: all batches have one shape.
    rows = jnp.pad(jnp.arange(len(y)), (0, missing), constant_values=-1)
    rows = rows.reshape(-1, batch_size)
    table = []
    for sigma_w, sigma_s in itertools.product(weight_noise, state_noise):
        count = draws if sigma_w or sigma_s else 1
        # As arrays, for all levels to share a program: `limit` alone is compiled in.
        sizes = jnp.asarray(sigma_w), jnp.asarray(sigma_s)
        keys = jax.random.split(key, draws)[:count]
        limit = steps if sigma_s else 0
        fixed = solver, pipeline, x, y, rows, limit
        counts = np.array([_counts(network, *fixed, *sizes, k) for k in keys])
        table.append(_level(sigma_w, sigma_s, counts, len(y)))
    return tuple(table)


def _level(sigma_w, sigma_s, counts, examples):
    settled, correct = counts.T
    share = correct[settled > 0] / settled[settled > 0]
    return NoiseLevel(
        weight_noise=float(sigma_w),
        state_noise=float(sigma_s),
        accuracy=float(share.mean()) if len(share) else math.nan,
        deviation=float(share.std(ddof=1)) if len(share) > 1 else 0.0,
        draws=len(counts),
        unsettled=1 - float(settled.mean()) / examples,
    )


@eqx.filter_jit
def _counts(network, solver, pipeline, x, y, rows, steps, sigma_w, sigma_s, key):
    """Return how many examples have settled, and how many of those are right."""
    at_weights, at_state = jax.random.split(key)
    network = _perturbed(network, sigma_w, at_weights)

    def body(total, batch):
        index, key = batch
        ready = as_inputs(pipeline, x[index], network)
        problem, zeros = network.free(ready), network.zeros(ready)
        free = solver.solve(problem, zeros, zeros=True, throw=False)
        state = free.state
        if steps:
            state = _noisy(problem, zeros, steps, sigma_s, key)
        right = agreement(network.output(state), y[index], classes=True)
        settled = free.settled & (index >= 0)
        return total + jnp.stack([settled.sum(), (settled & right).sum()]), None

    keys = jax.random.split(at_state, len(rows))
    return jax.lax.scan(body, jnp.zeros(2, int), (rows, keys))[0]


def _perturbed(network, sigma, key):
    trained, rest = eqx.partition(network, network.trainable())
    leaves, structure = jax.tree_util.tree_flatten(trained)
    keys = jax.random.split(key, len(leaves))
    noisy = [
        # In the dtype of what it moves: with 64 bits enabled it would widen float32.
        w * (1 + sigma.astype(w.dtype) * jax.random.normal(k, w.shape, w.dtype))
        for w, k in zip(leaves, keys, strict=True)
    ]
    return eqx.combine(jax.tree_util.tree_unflatten(structure, noisy), rest)


def _noisy(problem, state, steps, sigma, key):
    """Return the state after sweeps whose every update is followed by noise."""

    def sweep(t, carry):
        state, memory = carry
        for n, key_n in enumerate(jax.random.split(jax.random.fold_in(key, t), blocks)):
            value, memory = problem.update(n, state, memory)
            noise = jax.random.normal(key_n, value.shape, value.dtype)
            value = value + sigma.astype(value.dtype) * noise
            state = (*state[:n], value, *state[n + 1 :])
        return state, memory

    blocks = len(state)
    return jax.lax.fori_loop(0, steps, sweep, (state, problem.recall(state)))[0]
