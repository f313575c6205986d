"""Initial weights by a few numbers, which tell one draw from another."""

import math

import equinox as eqx
import jax
import numpy as np

from ..._network import AbstractNetwork


def weights(network: AbstractNetwork) -> dict[str, dict[str, float]]:
    """Return of each array two numbers that tell its draw from another, by its name.

    They are its root mean square and its projection on a fixed direction, to six digits
    of the rounding of which `redrawn` sees nothing.
    """
    found = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(network):
        if not (eqx.is_inexact_array(leaf) and leaf.size):
            continue
        values = np.asarray(leaf, np.float64).ravel()
        numbers = {
            "rms": np.linalg.norm(values),
            "projection": values @ np.cos(np.arange(values.size)),
        }
        if all(map(math.isfinite, numbers.values())):  # JSON has no word for others
            size = math.sqrt(values.size)
            told = {key: float(f"{n / size:.6g}") for key, n in numbers.items()}
            found[jax.tree_util.keystr(path).lstrip(".")] = told
    return found


def redrawn(was: dict[str, dict[str, float]], now: dict[str, dict[str, float]]) -> bool:
    """Return whether weights differ by more than the rounding of another device.

    Args:
        was: what `weights` said of them, of all arrays of `now` at least.
        now: what it says of those to compare.
    """
    return any(
        abs(was[name][key] - value) > 1e-3 * max(was[name]["rms"], told["rms"])
        for name, told in now.items()
        for key, value in told.items()
    )
