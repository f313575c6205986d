"""Weights: how large they are, coupling by coupling."""

import dataclasses
import math

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Bool, Float
from paramax import AbstractUnwrappable, contains_unwrappables

from .._concrete import concrete
from .._network import AbstractNetwork, AbstractOperator, Dense, operator_norm
from .._network.names import parameter_names, paths, weight_name
from .._network.norms import WIDEST
from .._weights.places import held
from .._weights.resolution import resolve
from ._inputs import layered
from ._shown import Shown


@dataclasses.dataclass(frozen=True)
class WeightStatistics(Shown):
    """The weights of each coupling, as they are, without feedback scales.

    Fields:
        names: as the network prints them. Of weights that are made of others there is
            a row for what the dynamics sees, and one for each array behind it.
        mean: of the elements.
        std: their standard deviation.
        norm: square root of their sum of squares.
        largest: size of the largest one.
        operator_norm: the largest factor by which the map stretches a state; NaN of
            what is no map.
        exact: whether it is that factor, or a bound from above.
    """

    names: tuple[str, ...]
    mean: Float[np.ndarray, " couplings"]
    std: Float[np.ndarray, " couplings"]
    norm: Float[np.ndarray, " couplings"]
    largest: Float[np.ndarray, " couplings"]
    operator_norm: Float[np.ndarray, " couplings"]
    exact: Bool[np.ndarray, " couplings"]

    def _parts(self):
        rows = [["", "mean", "std", "norm", "largest", "operator 2-norm"]]
        for n, name in enumerate(self.names):
            columns = (self.mean, self.std, self.norm, self.largest)
            bound = "" if self.exact[n] else "<= "
            last = f"{bound}{self.operator_norm[n]:.3g}"
            if math.isnan(self.operator_norm[n]):  # what is no operator has no norm
                last = ""
            rows.append([name, *(f"{c[n]:.3g}" for c in columns), last])
        return [rows]


@concrete
def weight_statistics(network: AbstractNetwork) -> WeightStatistics:
    """Measure the weights of all couplings, fixed feedback and the readout.

    Args:
        network: a `ctep.Network`.

    Returns:
        A row per set of weights. The operator 2-norm is exact for dense couplings of
        up to 4096 units on the narrower side, else a bound, see `contraction`. It
        includes the pool of a pooled one.

    Raises:
        TypeError: if `network` is not a network.
        ValueError: if it is not a `ctep.Network`.

    Cost: as `contraction` without `x`.
    """
    rows = []
    for name, operator in _operators(layered(resolve(network))):
        arrays = jax.tree_util.tree_leaves(eqx.filter(operator, eqx.is_inexact_array))
        if not arrays:
            continue
        w = np.concatenate([np.asarray(a, np.float64).ravel() for a in arrays])
        # By the class itself, since a subclass may compute something else.
        exact = type(operator) is Dense and min(operator.weight.shape) <= WIDEST
        rows.append((name, *_sizes(w), operator_norm(operator), exact))
    if contains_unwrappables(network):
        rows += _raw(network)
    names, *columns = zip(*rows, strict=True)
    return WeightStatistics(names, *map(np.array, columns))


def _sizes(w):
    return w.mean(), w.std(), np.linalg.norm(w), np.abs(w).max()


def _raw(network):
    """Return a row for each array that weights are made of."""
    names = dict(zip(paths(network), parameter_names(network), strict=True))
    made = [p.path for p in held(network) if isinstance(p.held, AbstractUnwrappable)]
    chosen = eqx.filter(network, network.trainable())
    rows = []
    for path, leaf in jax.tree_util.tree_flatten_with_path(chosen)[0]:
        if any(path[: len(node)] == node for node in made):
            w = np.asarray(leaf, np.float64).ravel()
            rows.append((f"behind {names[path]}", *_sizes(w), math.nan, False))
    return rows


def _operators(network) -> list[tuple[str, AbstractOperator]]:
    out = []
    for c in network.couplings:
        if c.forward is not None:
            out.append((weight_name(network, c), c.forward))
        # Tied feedback has the forward weights, which need no second row.
        if c.returning is not None and not c.tied:
            out.append((weight_name(network, c, "B"), c.returning))
    if network.readout is not None:
        out.append(("W_out", network.readout.operator))
    return out
