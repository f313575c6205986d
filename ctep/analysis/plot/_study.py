"""Figures of a study: curves over the epochs, and their ends over what was varied."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np

from ._axes import (
    axes,
    beside,
    drawn,
    logarithmic,
    many,
    panels,
    positive,
    some,
    styles,
    whole_ticks,
)

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

    def varied(self) -> tuple[str, ...]: ...

    def ends(self) -> dict[tuple[float, ...], np.ndarray]: ...


@drawn
def study(result: Studied, *, ax: Axes | None = None) -> Figure:
    """Draw accuracy, loss, sweeps and gradient of each cell over the epochs.

    Lines are the mean over the seeds, bands reach from the least to the largest.

    Args:
        result: of `ctep.recipes.study`.
        ax: where to draw; a new figure by default.

    Raises:
        ValueError: if of no run an epoch is known.
    """
    shown = [p for p in _PANELS if _known(result.curves(p[1]))]
    if not shown:
        raise ValueError(
            "`result` is a study without a finished epoch, of which there is nothing "
            "to draw: read in `study.json` why its runs have ended."
        )
    several = result.varied()
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
            told = (f"{axis} {value:g}" for axis, value in pairs if axis in several)
            name = ", ".join(told)
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
    if several:
        beside(parts[0])
    return figure


@drawn
def swept(result: Studied, *, ax: Axes | None = None) -> Figure:
    """Draw the best and the final test accuracy over the one number that was varied.

    Marks are the mean over the seeds, bars reach one standard deviation up and down.

    Args:
        result: of `ctep.recipes.study`, of which one axis has several values.
        ax: where to draw; a new figure by default.

    Raises:
        ValueError: if none of its axes has several values, or more than one.
    """
    several, ends = result.varied(), result.ends()
    if len(several) != 1 or not ends:
        raise ValueError(
            f"`result` is a study of {len(several)} axes with several values and "
            f"{len(ends)} cells with an accuracy, but this is a figure over one axis: "
            "draw it by `ctep.analysis.plot.study`."
        )
    place = result.axes.index(several[0])
    cells = sorted(ends, key=lambda cell: cell[place])
    values = np.array([cell[place] for cell in cells])
    title = f"{result.recipe}, mean and standard deviation"
    figure, ax = axes(ax, several[0].replace("_", " "), "test accuracy (%)", title)
    for n, (name, style) in enumerate(zip(("best", "final"), styles(), strict=False)):
        runs = [100 * ends[cell][:, n] for cell in cells]
        spread = [run.std(ddof=1) if len(run) > 1 else 0.0 for run in runs]
        means = [run.mean() for run in runs]
        ax.errorbar(values, means, spread, capsize=3, label=name, **style)
    if values[-1] > 5 * values[0]:
        ax.set_xscale("log")
    ticks = values[some(len(values), 6)]
    ax.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    ax.set_xticks([], minor=True)
    ax.legend()
    return figure


def _known(curves) -> bool:
    return any(np.isfinite(runs).any() for runs in curves.values())
