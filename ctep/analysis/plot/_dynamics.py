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
from ._axes import axes, styles

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_SCALE = "feedback scale"


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
    name = "spectral radius"
    if against is None:
        return _histogram(np.asarray(values), name, ax, 1.0)
    return _curves(values, against, (label, name), ax, 1.0)


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
    if against is None:
        shown = np.asarray(values).T
        names = "index of the exponent", f"Lyapunov exponent (1/{unit})"
        return _curves(shown, range(1, len(shown) + 1), names, ax, 0.0, log=False)
    names = label, f"largest Lyapunov exponent (1/{unit})"
    leading = [np.asarray(v)[:, 0] for v in values]  # pyright: ignore[reportGeneralTypeIssues]
    return _curves(leading, against, names, ax, 0.0)


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
    name = "convergence time (steps)"
    if isinstance(values, ConvergenceTime):
        figure = _histogram(values.steps[values.converged], name, ax)
        lost = int((~values.converged).sum())
        title = f"{lost} of {len(values.steps)} examples have not converged"
        (ax or figure.axes[-1]).set_title(title, fontsize="medium")
        return figure
    against = [] if against is None else against
    times = [np.where(v.converged, v.steps, np.nan) for v in values]
    figure = _curves(times, against, (label, name), ax)
    ax = ax or figure.axes[-1]
    for at, value, time in zip(against, values, times, strict=True):
        if value.fraction < 1:
            high = np.nanmax(time) if value.fraction else 0
            ax.update_datalim([(at, high)])  # it shows even where no point does
            _note(ax, f"{1 - value.fraction:.0%} not\nconverged", (at, high))
    ax.margins(0.1, 0.2)
    ax.set_ylim(bottom=0)
    return figure


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
    title = f"{across.replace('_', ' ')} ({units[across]})"
    figure, ax = axes(ax, title, "accuracy (%)")
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
        ax.legend(fontsize="small")
    return figure


def nudge_plane(plane: NudgePlane, *, ax: Axes | None = None) -> Figure:
    r"""Plot the fraction of examples with an equilibrium in the plane of nudges.

    Contours mark how far, on average over those examples, the nudge moves the state.

    Args:
        plane: what `ctep.analysis.nudge_plane` returned.
        ax: where to draw, new axes by default.
    """
    figure, ax = axes(ax, r"Re $\beta$", r"Im $\beta$")
    real, imaginary = np.real(plane.beta), np.imag(plane.beta)
    fraction = plane.settled.mean(-1)
    shades = ax.pcolormesh(
        real, imaginary, fraction, cmap="gray", vmin=-0.5, vmax=1, shading="nearest"
    )
    bar = figure.colorbar(shades, ax=ax, label="fraction settled")
    bar.ax.set_ylim(0, 1)
    count = plane.settled.sum(-1)
    total = np.where(plane.settled, plane.distance, 0).sum(-1)
    mean = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    if np.isfinite(mean).any() and np.nanmax(mean) > np.nanmin(mean):
        lines = ax.contour(real, imaginary, mean, levels=5, colors="#0072B2")
        ax.clabel(lines, fontsize="x-small")
        ax.set_title(r"contours: $\|s(\beta) - s(0)\|$", fontsize="medium")
    ax.set_aspect("equal")
    return figure


def energy_trace(trace: ArrayLike, *, ax: Axes | None = None) -> Figure:
    """Plot the energy along a relaxation: each example, and their mean.

    Args:
        trace: what `ctep.analysis.energy_trace` returned.
        ax: where to draw, new axes by default.
    """
    values = np.asarray(trace)
    figure, ax = axes(ax, "sweep", "energy (no unit)")
    ax.plot(values, color="0.7", linewidth=0.6)
    every = max(len(values) // 10, 1)
    ax.plot(values.mean(1), label="mean", markevery=every, **next(styles()))
    ax.plot([], [], color="0.7", linewidth=0.6, label="examples")
    ax.legend(fontsize="small")
    return figure


def _note(ax, text, at):
    """Write beside a point."""
    where = {"textcoords": "offset points", "xytext": (0, 4), "ha": "center"}
    ax.annotate(text, at, fontsize="x-small", **where)


def _histogram(values, name, ax, mark=None):
    figure, ax = axes(ax, name, "examples")
    ax.hist(values[np.isfinite(values)], bins=20, color="0.6", edgecolor="black")
    if mark is not None:
        ax.axvline(mark, color="black", linestyle="--", linewidth=1)
    return figure


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
        ax.axhline(mark, color="black", linestyle="--", linewidth=1)
    if log and 0 < 20 * min(against) < max(against):
        ax.set_xscale("log")
    ax.legend(fontsize="small")
    return figure
