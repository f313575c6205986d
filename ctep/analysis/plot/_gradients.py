"""Figures of contraction, gradients, depth profiles, weights and training runs."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from ..._train import Result
from .._contraction import Contraction
from .._depth import DepthProfile
from .._gradient_check import GradientCheck
from .._gradient_curve import GradientCurve
from .._recommended_beta import Recommendation
from .._recommended_settings import RecommendedSettings
from .._weights import WeightStatistics
from ._axes import (
    NEUTRAL,
    axes,
    beside,
    drawn,
    from_zero,
    logarithmic,
    many,
    missing,
    name_ticks,
    panels,
    positive,
    some,
    styles,
    whole_ticks,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_SPLITS = ("train", "test", "validation")
# What a training run records: title, keys with their names, factor, logarithmic scale.
# Without a factor it is what is missing to 1.
_PANELS = (
    ("loss (no unit)", {"loss": "loss"}, 1, True),
    ("accuracy (%)", {f"{s}_accuracy": s for s in _SPLITS}, 100, False),
    ("$R^2$", {f"{s}_r2": s for s in _SPLITS}, 1, False),
    ("sweeps (mean)", {"sweeps": "sweeps"}, 1, False),
    ("unsettled (%)", {"unsettled": "unsettled"}, 100, False),
    ("1 - cosine", {"gradient_cosine": "gradient"}, None, True),
)


@drawn
def contraction(result: Contraction, *, ax: Axes | None = None) -> Figure:
    r"""Draw the parts of each bound; the map contracts where a bar stays below 1.

    Args:
        result: of `ctep.analysis.contraction`. Bounds that are infinite are left empty.
        ax: where to draw; a new figure by default.
    """
    figure, ax = axes(ax, "", "Lipschitz constant (no unit)", "Contraction bounds")
    beta = abs(result.beta)
    parts = {
        "$K_1$, free map": [b.k1 for b in result.bounds],
        r"$|\beta| K_2$, output error": [beta * b.k2 for b in result.bounds],
        r"$|\beta \kappa| K_3$, other forces": [beta * b.k3 for b in result.bounds],
    }
    base, place = np.zeros(len(result.bounds)), np.arange(len(result.bounds))
    for (label, values), style, hatch in zip(
        parts.items(), styles(), ("", "///", "..."), strict=False
    ):
        heights = np.where(np.isfinite(values), values, 0.0)
        ax.bar(
            place, heights, 0.6, base,
            label=label, color=style["color"], hatch=hatch, edgecolor=NEUTRAL,
        )  # fmt: skip
        base = base + heights
    for n, bound in enumerate(result.bounds):
        factor = bound.factor(result.beta)
        text = f"{factor:.3g}" if np.isfinite(factor) else "no bound"
        ax.text(n, base[n] + 0.02 * base.max(), text, ha="center", va="bottom")
    ax.axhline(1, color=NEUTRAL, linestyle="--", linewidth=1)
    norms = {"2": "2-norm", "infinity": r"$\infty$-norm"}
    ax.set_xticks(place, [f"{norms[b.norm]}\n{b.kind}" for b in result.bounds])
    ax.set(xlabel=rf"weighted norm, $\beta$ = {result.beta:g}")
    # Above the highest bar there is room for the legend.
    ax.set_ylim(0, 1.6 * max(1.0, base.max()))
    ax.legend(loc="upper right")
    return figure


@drawn
def gradient_check(result: GradientCheck, *, ax: Axes | None = None) -> Figure:
    """Draw how far each rule is from the exact gradient, array by array.

    Args:
        result: of `ctep.analysis.gradient_check`.
        ax: where to draw; a new figure by default.
    """
    ylabels, title = (
        ("1 - cosine", "relative error"),
        "Rules against the exact gradient",
    )
    figure, (top, low) = panels(ax, ylabels, "trained array", title)
    place = np.arange(len(result.names))
    for r, (rule, style) in enumerate(zip(result.rules, styles(), strict=False)):
        style = _changed(style, linestyle="")
        top.plot(place, missing(result.cosine[r]), label=rule, **style)
        low.plot(
            place, np.maximum(result.relative_error[r], 1e-16), label=rule, **style
        )
    logarithmic(top)
    logarithmic(low)
    name_ticks(low, result.names)
    _legend_above(top, 2)
    return figure


@drawn
def gradient_curve(result: GradientCurve, *, ax: Axes | None = None) -> Figure:
    """Draw the norms of both gradients over the steps, and their relative error.

    Marks are equilibrium propagation, lines backpropagation through time. Of more than
    twelve arrays it shows twelve.

    Args:
        result: of `ctep.analysis.gradient_curve`.
        ax: where to draw; a new figure by default.
    """
    ylabels = "norm of the gradient", "relative error"
    title = "Nudged steps (marks) and steps back in time (lines)"
    figure, (top, low) = panels(ax, ylabels, "steps", title)
    steps = np.arange(1, len(result.cosine) + 1)
    every = max(1, len(steps) // 15)
    kept = some(len(result.names), 12)  # of a deep network, more would be a thicket
    named = [kept[k] for k in some(len(kept), 6)]
    for n, style in zip(kept, many(len(kept)), strict=True):
        name = result.names[n] if n in named else None
        marks = _changed(style, linestyle="", markevery=every)
        top.plot(steps, positive(result.bptt_norm[:, n]), **_changed(style, marker=""))
        top.plot(steps, positive(result.ep_norm[:, n]), label=name, **marks)
        error = positive(result.relative_error[:, n])
        low.plot(steps, error, markevery=every, **style)
    for panel in (top, low):
        logarithmic(panel)
    whole_ticks(low)
    beside(top)
    return figure


@drawn
def recommended_beta(result: Recommendation, *, ax: Axes | None = None) -> Figure:
    """Draw bias and rounding over the nudge, and where they cross.

    Marks were measured, lines are what was made of them.

    Args:
        result: of `ctep.analysis.recommended_beta`.
        ax: where to draw; a new figure by default.
    """
    names = r"nudge $\beta$ (no unit)", "relative error of the gradient"
    figure, ax = axes(ax, *names, "Bias and rounding of the gradient")
    low, high = min(*result.betas, result.beta), result.largest
    beta = np.geomspace(low, high, 200)
    bias = result.bias * (beta / result.beta) ** result.order
    tried = result.largest / 2.0 ** np.arange(len(result.biases))
    curves = {
        rf"bias, $\propto \beta^{result.order}$": (bias, tried, result.biases),
        r"rounding, $r_0 + r_1/\beta$": (
            result.floor + result.growth / beta, result.betas, result.roundings,
        ),
    }  # fmt: skip
    for (label, (line, at, seen)), style in zip(curves.items(), styles(), strict=False):
        ax.plot(beta, positive(line), label=label, **_changed(style, marker=""))
        seen = positive(np.array(seen))
        ax.plot(at, seen, **_changed(style, linestyle=""))
    ax.axvline(
        result.beta, color=NEUTRAL, linestyle="--", linewidth=1,
        label=rf"recommended, {result.beta:.2g}",
    )  # fmt: skip
    ax.set_xscale("log")
    logarithmic(ax)
    # Far below the rounding nobody needs to see how small a bias would be.
    least = min([v for v in result.roundings if v > 0], default=result.bias)
    if least > 0:
        ax.set_ylim(bottom=1e-3 * least)
    ax.legend()
    return figure


@drawn
def recommended_settings(
    result: RecommendedSettings, *, ax: Axes | None = None
) -> Figure:
    """Draw the smallest cosine over the sweeps, one mark for each setting tried.

    Args:
        result: of `ctep.analysis.recommended_settings`.
        ax: where to draw; a new figure by default.
    """
    names = "sweeps of all phases", "1 - smallest cosine"
    figure, ax = axes(ax, *names, "What a cheaper gradient is worth")
    tried = dict.fromkeys(row.tried for row in result.rows)
    for name, style in zip(tried, styles(), strict=False):
        rows = [row for row in result.rows if row.tried == name]
        cosine = missing(np.array([row.cosine for row in rows]))
        style = _changed(style, linestyle="")
        ax.plot([row.sweeps for row in rows], cosine, label=name, **style)
    line = {"color": NEUTRAL, "linewidth": 1}
    ax.axhline(1 - result.bound, linestyle="--", label="bound", **line)
    ax.axvline(result.best.sweeps, linestyle=":", label="recommended", **line)
    logarithmic(ax)
    ax.legend()
    return figure


@drawn
def depth_profile(result: DepthProfile, *, ax: Axes | None = None) -> Figure:
    """Draw activity, saturation, displacement and gradient over the layers.

    Args:
        result: of `ctep.analysis.depth_profile`.
        ax: where to draw; a new figure by default.
    """
    ylabels = "rms activity", "saturated (%)", r"rms $s(\beta) - s(0)$", "gradient norm"
    title = f"Depth profile at a nudge of {result.beta:g}"
    figure, rows = panels(ax, ylabels, "layer", title)
    layers = np.arange(1, len(result.rms) + 1)
    first, second = islice(styles(), 2)
    if len(layers) > 30:
        first, second = (_changed(style, markersize=2) for style in (first, second))
    rows[0].plot(layers, result.rms, **first)
    from_zero(rows[0], result.rms)
    rows[1].plot(layers, 100 * result.low, label="lower end", **first)
    rows[1].plot(layers, 100 * result.high, label="upper end", **second)
    rows[1].set_ylim(-5, 105)
    rows[1].legend()
    rows[2].plot(layers, positive(result.displacement), **first)
    rows[3].plot(layers, positive(result.gradient), **first)
    for row in rows[2:]:
        logarithmic(row)
    whole_ticks(rows[-1])
    return figure


@drawn
def weight_statistics(result: WeightStatistics, *, ax: Axes | None = None) -> Figure:
    """Draw the spread of each coupling's weights, their norms and the largest one.

    Args:
        result: of `ctep.analysis.weight_statistics`.
        ax: where to draw; a new figure by default.
    """
    ylabels, title = ("weight (no unit)", "norm (no unit)"), "Weights of each coupling"
    figure, (top, low) = panels(ax, ylabels, "coupling", title)
    place = np.arange(len(result.names))
    first, second, third = (
        _changed(style, linestyle="") for style in islice(styles(), 3)
    )
    top.errorbar(place, result.mean, result.std, capsize=3, label="mean, std", **first)
    top.plot(place, result.largest, label="largest", **second)
    low.plot(place, result.norm, label="elements", **first)
    low.plot(place, result.operator_norm, label="operator", **third)
    from_zero(low, np.concatenate([result.norm, result.operator_norm]))
    name_ticks(low, result.names)
    for panel in (top, low):
        beside(panel)
    return figure


@drawn
def history(result: Result | Sequence[dict], *, ax: Axes | None = None) -> Figure:
    """Draw a training run over its epochs, each kind of number in its own panel.

    Args:
        result: of `ctep.fit`, or the records of its history.
        ax: where to draw; a new figure by default.

    Raises:
        ValueError: if there is no epoch.
    """
    records = result.history if isinstance(result, Result) else list(result)
    if not records:
        raise ValueError(
            "`result` holds no epoch, but a figure needs at least one: train first."
        )
    shown = [
        panel
        for panel in _PANELS
        if any(record.get(key) is not None for record in records for key in panel[1])
    ]
    figure, rows = panels(ax, [title for title, *_ in shown], "epoch", "Training run")
    epochs = [record["epoch"] for record in records]
    for panel, (_, keys, factor, log) in zip(rows, shown, strict=True):
        for (key, name), style in zip(keys.items(), styles(), strict=False):
            values = [record.get(key) for record in records]
            if any(value is not None for value in values):
                values = np.array(values, float)  # None becomes NaN
                if factor is None:
                    values = missing(values, np.float32)
                else:
                    values = positive(values) if log else factor * values
                panel.plot(epochs, values, label=name, **style)
        if log:
            logarithmic(panel)
        else:
            # An offset beside the axis would hide that values are near 98 or near 1.
            panel.ticklabel_format(useOffset=False)
        if len(keys) > 1:
            panel.legend()
    whole_ticks(rows[-1])
    return figure


def _legend_above(panel, columns, title=None):
    panel.legend(
        fontsize="x-small", title_fontsize="x-small", title=title, ncols=columns,
        loc="lower center", bbox_to_anchor=(0.5, 1.02),
    )  # fmt: skip


def _changed(style: dict, **changes) -> dict:
    return {**style, **changes}
