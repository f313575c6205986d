"""Figures of what networks do on their way to rest."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import ArrayLike

from ... import _checks as checks
from .._convergence import ConvergenceTime
from .._nudge_plane import NudgePlane
from .._robustness import NoiseLevel
from ._axes import (
    BLUE,
    NEUTRAL,
    axes,
    drawn,
    logarithmic,
    positive,
    styles,
    whole_ticks,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_SCALE = "feedback scale"


@drawn
def spectral_radius(
    values: ArrayLike | Iterable[ArrayLike],
    against: Sequence[float] | None = None,
    *,
    label: str = _SCALE,
    ax: Axes | None = None,
) -> Figure:
    """Plot spectral radii: a histogram, or mean and range against a parameter.

    A line marks 1, below which an equilibrium attracts.

    Args:
        values: what `ctep.analysis.spectral_radius` returned, or one such result for
            each entry of `against`.
        against: values of the parameter.
        label: its name.
        ax: where to draw, new axes by default.

    Raises:
        ValueError: if there is not one result per value.
    """
    names, title = (label, "spectral radius (no unit)"), "Spectral radius at rest"
    if against is None:
        shown = np.ravel(np.asarray(values))
        return _histogram(shown, (names[1], title), ax, 20, mark=1.0)
    return _curves(values, against, (*names, title), ax, 1.0)


@drawn
def lyapunov(
    values: ArrayLike | Iterable[ArrayLike],
    against: Sequence[float] | None = None,
    *,
    label: str = _SCALE,
    unit: str = "step",
    ax: Axes | None = None,
) -> Figure:
    """Plot Lyapunov exponents: by their index, or against a parameter.

    Mean and range over the examples; a line marks 0, above which trajectories part.

    Args:
        values: what `ctep.analysis.lyapunov` returned, or one such result for each
            entry of `against`, of which the first exponent is shown.
        against: values of the parameter.
        label: its name.
        unit: of time: a step of the map, or the layers' `tau`.
        ax: where to draw, new axes by default.

    Raises:
        ValueError: if there is not one result per value.
    """
    title = "Finite-time Lyapunov exponents"
    if against is None:
        shown = np.asarray(values).T
        names = "index of the exponent", f"Lyapunov exponent (1/{unit})", title
        figure = _curves(shown, range(1, len(shown) + 1), names, ax, 0.0, log=False)
        whole_ticks(ax or figure.axes[-1])
        return figure
    names = label, f"largest Lyapunov exponent (1/{unit})", title
    leading = [np.asarray(v)[:, 0] for v in values]  # pyright: ignore[reportGeneralTypeIssues]
    return _curves(leading, against, names, ax, 0.0)


@drawn
def convergence_time(
    values: ConvergenceTime | Sequence[ConvergenceTime],
    against: Sequence[float] | None = None,
    *,
    label: str = _SCALE,
    ax: Axes | None = None,
) -> Figure:
    """Plot convergence times: a histogram, or mean and range against a parameter.

    Examples that have not converged are left out and counted: in the title, or beside
    each mean that lacks some.

    Args:
        values: what `ctep.analysis.convergence_time` returned, or one such result for
            each entry of `against`.
        against: values of the parameter.
        label: its name.
        ax: where to draw, new axes by default.

    Raises:
        ValueError: if there is not one result per value.
    """
    name, title = "convergence time (steps)", "Convergence time"
    if isinstance(values, ConvergenceTime):
        lost = int((~values.converged).sum())
        title += f": {lost} of {len(values.steps)} examples have not converged"
        times = values.steps[values.converged]
        figure = _histogram(times, (name, title), ax, _whole_bins(times))
        whole_ticks(ax or figure.axes[-1])
        return figure
    against = [] if against is None else against
    times = [np.where(v.converged, v.steps, np.nan) for v in values]
    figure = _curves(times, against, (label, name, title), ax)
    ax = ax or figure.axes[-1]
    for at, value, time in zip(against, values, times, strict=True):
        if value.fraction < 1:
            high = np.nanmax(time) if value.fraction else 0
            ax.update_datalim([(at, high)])  # it shows even where no point does
            _note(ax, f"{1 - value.fraction:.0%} not\nconverged", (at, high))
    ax.margins(0.1, 0.2)
    ax.set_ylim(bottom=0)
    return figure


@drawn
def robustness(levels: Iterable[NoiseLevel], *, ax: Axes | None = None) -> Figure:
    """Plot accuracy against noise, with a bar of one standard deviation over draws.

    The noise with more levels is the horizontal axis, the other tells curves apart.
    Points of which some examples had no equilibrium say so.

    Args:
        levels: what `ctep.analysis.robustness` returned.
        ax: where to draw, new axes by default.
    """
    levels = list(levels)
    counts = {
        name: len({getattr(level, name) for level in levels})
        for name in ("weight_noise", "state_noise")
    }
    across = max(counts, key=lambda name: counts[name])
    (other,) = set(counts) - {across}
    units = {"weight_noise": "relative", "state_noise": "units of the state"}
    name = f"{across.replace('_', ' ')} ({units[across]})"
    figure, ax = axes(ax, name, "accuracy (%)", "Accuracy under noise")
    for value, style in zip(
        sorted({getattr(level, other) for level in levels}), styles(), strict=False
    ):
        curve = [level for level in levels if getattr(level, other) == value]
        curve.sort(key=lambda level: getattr(level, across))
        ax.errorbar(
            [getattr(level, across) for level in curve],
            [100 * level.accuracy for level in curve],
            [100 * level.deviation for level in curve],
            capsize=2,
            label=f"{other.replace('_', ' ')} {value:g}",
            **style,
        )
        for level in curve:
            if level.unsettled > 0:
                at = getattr(level, across), 100 * level.accuracy
                _note(ax, f"{level.unsettled:.0%} unsettled", at)
    if counts[other] > 1:
        ax.legend()
    return figure


@drawn
def nudge_plane(plane: NudgePlane, *, ax: Axes | None = None) -> Figure:
    r"""Plot the fraction of examples with an equilibrium in the plane of nudges.

    Contours mark how far, on average over those examples, the nudge moves the state.

    Args:
        plane: what `ctep.analysis.nudge_plane` returned.
        ax: where to draw, new axes by default.
    """
    names = r"Re $\beta$ (no unit)", r"Im $\beta$ (no unit)"
    figure, ax = axes(ax, *names, "Nudges with an equilibrium")
    ax.grid(False)
    real, imaginary = np.real(plane.beta), np.imag(plane.beta)
    fraction = plane.settled.mean(-1)
    shades = ax.pcolormesh(
        real, imaginary, fraction, cmap="cividis", vmin=0, vmax=1, shading="nearest"
    )
    figure.colorbar(shades, ax=ax, label="fraction settled")
    count = plane.settled.sum(-1)
    total = np.where(plane.settled, plane.distance, 0).sum(-1)
    mean = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    if np.isfinite(mean).any() and np.nanmax(mean) > np.nanmin(mean):
        style = {"colors": "black", "linewidths": 0.8}
        lines = ax.contour(real, imaginary, mean, levels=5, **style)
        ax.clabel(lines, fontsize="x-small")
        what = r"$\|s(\beta) - s(0)\|$ (units of the state)"
        ax.set_title(f"Nudges with an equilibrium\ncontours: {what}")
    ax.set_aspect("equal")
    return figure


@drawn
def energy_trace(trace: ArrayLike, *, ax: Axes | None = None) -> Figure:
    """Plot how far the energy is above its end: each example, and their median.

    A dotted line marks what rounding makes of an energy of this size. What lies below
    its end, as an energy that rises does, has no place on the logarithmic axis; the
    title counts such examples.

    Args:
        trace: what `ctep.analysis.energy_trace` returned.
        ax: where to draw, new axes by default.
    """
    values = np.asarray(trace)
    rounding = np.finfo(values.dtype).eps * np.abs(values).max(initial=0.0)
    # A double has room for the difference, whatever the trace was computed in.
    above = values.astype(float) - values[-1]
    rises = int((np.diff(values.astype(float), axis=0) > 10 * rounding).any(0).sum())
    title = f"Energy above its end: {rises} of {values.shape[1]} examples rise"
    figure, ax = axes(ax, "sweep", r"$E - E_{end}$ (no unit)", title)
    thin = {"color": NEUTRAL, "linewidth": 0.5, "alpha": 0.5}
    ax.plot(positive(above), **thin)
    every = max(len(values) // 10, 1)
    middle = positive(np.median(above, 1))
    ax.plot(middle, label="median", markevery=every, **next(styles()))
    ax.plot([], [], label="examples", **thin)
    if rounding > 0:
        ax.axhline(
            rounding, color=NEUTRAL, linestyle=":", label="rounding of the energy"
        )
        ax.set_ylim(bottom=0.1 * rounding)
    logarithmic(ax)
    whole_ticks(ax)
    ax.legend()
    return figure


def _note(ax, text, at):
    """Write beside a point."""
    where = {"textcoords": "offset points", "xytext": (0, 4), "ha": "center"}
    ax.annotate(text, at, fontsize="x-small", **where)


def _histogram(values, names, ax, bins, mark=None):
    figure, ax = axes(ax, names[0], "examples", names[1])
    ax.hist(values[np.isfinite(values)], bins, color=BLUE, edgecolor=NEUTRAL)
    if mark is not None:
        ax.axvline(mark, color=NEUTRAL, linestyle="--", linewidth=1)
    return figure


def _whole_bins(values):
    """Return edges of at most 30 bins, each about as many whole numbers."""
    low, high = (int(values.min()), int(values.max())) if len(values) else (0, 0)
    width = -(-(high - low + 1) // 30)
    return np.arange(low, high + width + 1, width) - 0.5


def _curves(values, against, names, ax, mark=None, log=True):
    """Plot mean and range of each of `values` over its examples."""
    values, against = [np.ravel(v) for v in values], list(against)
    if len(values) != len(against):
        raise ValueError(
            f"`against` has {len(against)} values for {len(values)} results, but each "
            "result needs its own: pass as many."
        )
    for value in against:
        checks.real("against", value, "(0.01, 0.1, 1.0)")
    figure, ax = axes(ax, *names)
    present = [v[np.isfinite(v)] for v in values]
    mean, low, high = (
        np.array([f(v) if len(v) else np.nan for v in present])
        for f in (np.mean, np.min, np.max)
    )
    style = next(styles())
    ax.plot(against, mean, label="mean", **style)
    ax.fill_between(against, low, high, color=style["color"], alpha=0.2, label="range")
    if mark is not None:
        ax.axhline(mark, color=NEUTRAL, linestyle="--", linewidth=1)
    if log and 0 < 20 * min(against) < max(against):
        ax.set_xscale("log")
    ax.legend()
    return figure
