"""Networks, batches and the other arguments of public functions, checked by name."""

import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array

from .. import _checks as checks
from .._network import AbstractNetwork
from .._nudge import AbstractNudge
from .._solver import AbstractSolver
from .base import AbstractRule

_KINDS = {
    "network": (AbstractNetwork, "a network", "ctep.mlp((784, 512, 10), key=key)"),
    "nudge": (AbstractNudge, "a nudge", "ctep.OutputError()"),
    "rule": (AbstractRule, "a rule", "ctep.Centered(0.1)"),
    "solver": (AbstractSolver, "a solver", "ctep.Sweeps()"),
}


def check_kinds(**values) -> None:
    """Raise `TypeError` for an argument that is not of the kind its name says."""
    for name, value in values.items():
        checks.instance(name, value, *_KINDS[name])
        checks.arrays(name, value)


def check_inputs(network: AbstractNetwork, x: Array) -> None:
    """Raise `ValueError` or `TypeError` if inputs do not fit the network."""
    shape = network.input_shape
    if x.shape[1:] != shape or x.ndim == 0:
        raise ValueError(
            f"`x` has shape {x.shape}, but this network needs (batch, "
            f"{', '.join(map(str, shape))}): reshape it, with one row per example."
        )
    if x.shape[0] == 0:
        raise ValueError("`x` is empty, but must hold an example or more: pass some.")
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise TypeError(
            f"`x` has dtype {x.dtype}, but states are real: convert it, for pixels "
            "with `x.astype(float) / 255`."
        )
    # By NumPy: inside a `jit` even `jnp.isfinite` of a constant has no value.
    if not isinstance(x, Tracer) and not np.isfinite(np.asarray(x)).all():
        raise ValueError(
            "`x` holds NaN or infinity, but an input must be finite: clean it, for "
            "example with `jnp.nan_to_num`."
        )


def check_batch(network: AbstractNetwork, nudge: AbstractNudge, x, y) -> None:
    """Raise `ValueError` or `TypeError` if a batch does not fit."""
    check_inputs(network, x)
    if y.ndim == 0 or y.shape[0] != x.shape[0]:
        raise ValueError(
            f"`y` has shape {y.shape}, but `x` holds {x.shape[0]} examples: give each "
            "of them one target."
        )
    nudge.check(network, y)
    classes = network.output_shape[-1] if network.output_shape else 1
    concrete = not isinstance(y, Tracer)
    if concrete and jnp.issubdtype(y.dtype, jnp.integer):
        values = np.asarray(y)  # which no trace takes for its own
        low, high = int(values.min()), int(values.max())
        if low < 0 or high >= classes:
            bad = low if low < 0 else high
            remedy = "fix the labels or build it with more outputs"
            if (low, high) == (1, classes):
                remedy = "labels count from 0, so pass `y - 1`"
            raise ValueError(
                f"`y` holds the label {bad}, but this network has the classes 0 to "
                f"{classes - 1}: {remedy}."
            )
    floating = jnp.issubdtype(y.dtype, jnp.floating)
    if concrete and floating and not np.isfinite(np.asarray(y)).all():
        raise ValueError(
            "`y` holds NaN or infinity, but a target must be finite: clean it."
        )
