"""The figure of a study: curves over the epochs, with bands over the seeds."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np

from ._axes import beside, drawn, logarithmic, many, panels, positive, whole_ticks

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Title, measure, factor (what is missing to 1 without), logarithmic scale.
_PANELS = (
    ("test accuracy (%)", "test_accuracy", 100, False),
    ("loss (no unit)", "loss", 1, True),
    ("sweeps (mean)", "sweeps", 1, False),
    ("1 - cosine", "gradient_cosine", None, True),
)


@runtime_checkable
class Studied(Protocol):
    """What is drawn of a `ctep.recipes.Study`."""

    @property
    def recipe(self) -> str: ...

    @property
    def axes(self) -> tuple[str, ...]: ...

    def curves(self, measure: str) -> dict[tuple[float, ...], np.ndarray]: ...


@drawn
def study(result: Studied, *, ax: Axes | None = None) -> Figure:
    """Draw accuracy, loss, sweeps and gradient of each cell over the epochs.

    Lines are the mean over the seeds, bands reach from the least to the largest.

    Args:
        result: of `ctep.recipes.study`.
        ax: where to draw; a new figure by default.
    """
    shown = [p for p in _PANELS if _known(result.curves(p[1]))]
    figure, parts = panels(
        ax, [title for title, *_ in shown], "epoch", f"{result.recipe}, mean and range"
    )
    for panel, (_, measure, factor, log) in zip(parts, shown, strict=True):
        curves = result.curves(measure)
        for (cell, runs), style in zip(curves.items(), many(len(curves)), strict=True):
            values = 1 - runs if factor is None else factor * runs
            values = positive(values) if log else values
            epochs = np.arange(1, values.shape[1] + 1)
            pairs = zip(result.axes, cell, strict=True)
            name = ", ".join(f"{axis} {value:g}" for axis, value in pairs)
            with warnings.catch_warnings():  # of epochs that no run has reached yet
                warnings.simplefilter("ignore", RuntimeWarning)
                low, mean, high = (
                    f(values, axis=0) for f in (np.nanmin, np.nanmean, np.nanmax)
                )
            panel.plot(epochs, mean, label=name or None, **style)
            panel.fill_between(epochs, low, high, color=style["color"], alpha=0.2)
        if log:
            logarithmic(panel)
    whole_ticks(parts[-1])
    if result.axes:
        beside(parts[0])
    return figure


def _known(curves) -> bool:
    return any(np.isfinite(runs).any() for runs in curves.values())
