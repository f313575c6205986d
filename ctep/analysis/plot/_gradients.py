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
from .._weights import WeightStatistics
from ._axes import axes, styles

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_SPLITS = ("train", "test", "validation")
# What a training run records: title, keys with their names, factor, logarithmic scale.
_PANELS = (
    ("loss", {"loss": "loss"}, 1, True),
    ("accuracy (%)", {f"{s}_accuracy": s for s in _SPLITS}, 100, False),
    ("$R^2$", {f"{s}_r2": s for s in _SPLITS}, 1, False),
    ("sweeps", {"sweeps": "sweeps"}, 1, False),
    ("unsettled (%)", {"unsettled": "unsettled"}, 100, False),
    ("gradient cosine", {"gradient_cosine": "cosine"}, 1, False),
)


def contraction(result: Contraction, *, ax: Axes | None = None) -> Figure:
    r"""Draw the parts of each bound; the map contracts where a bar stays below 1.

    Args:
        result: of `ctep.analysis.contraction`. Bounds that are infinite are left empty.
        ax: where to draw; a new figure by default.
    """
    figure, ax = axes(ax, "", "Lipschitz constant")
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
            label=label, color=style["color"], hatch=hatch, edgecolor="black",
        )  # fmt: skip
        base = base + heights
    for n, bound in enumerate(result.bounds):
        factor = bound.factor(result.beta)
        text = f"{factor:.3g}" if np.isfinite(factor) else "no bound"
        ax.text(n, base[n] + 0.02 * base.max(), text, ha="center", va="bottom",
                bbox={"facecolor": "white", "edgecolor": "none", "pad": 1})  # fmt: skip
    ax.axhline(1, color="black", linestyle="--", linewidth=1)
    norms = {"2": "2-norm", "infinity": r"$\infty$-norm"}
    ax.set_xticks(place, [f"{norms[b.norm]}\n{b.kind}" for b in result.bounds])
    ax.set(xlabel=rf"weighted norm, $\beta$ = {result.beta:g}")
    ax.set_ylim(0, 1.15 * max(1.0, base.max()))
    ax.legend(fontsize="small")
    return figure


def gradient_check(result: GradientCheck, *, ax: Axes | None = None) -> Figure:
    """Draw how far each rule is from the exact gradient, array by array.

    Args:
        result: of `ctep.analysis.gradient_check`.
        ax: where to draw; a new figure by default.
    """
    figure, (top, low) = _panels(ax, 2, ("1 - cosine", "relative error"), "")
    place = np.arange(len(result.names))
    for r, (rule, style) in enumerate(zip(result.rules, styles(), strict=False)):
        style = _changed(style, linestyle="")
        top.plot(place, _positive(1 - result.cosine[r]), label=rule, **style)
        low.plot(place, _positive(result.relative_error[r]), label=rule, **style)
    top.set_yscale("log")
    low.set(yscale="log", xlabel="trained array")
    low.set_xticks(place, result.names, rotation=60 if len(place) > 8 else 0)
    _legend_above(top, 2)
    return figure


def gradient_curve(result: GradientCurve, *, ax: Axes | None = None) -> Figure:
    """Draw the norms of both gradients over the steps, and their relative error.

    Marks are equilibrium propagation, lines backpropagation through time.

    Args:
        result: of `ctep.analysis.gradient_curve`.
        ax: where to draw; a new figure by default.
    """
    titles = "norm of the gradient", "relative error"
    figure, (top, low) = _panels(ax, 2, titles, "nudged steps, steps back in time")
    steps = np.arange(1, len(result.cosine) + 1)
    every = max(1, len(steps) // 15)
    for n, (name, style) in enumerate(zip(result.names, styles(), strict=False)):
        if n // 6 % 2:  # the styles come around
            style = _changed(style, markerfacecolor="none")
        marks = _changed(style, linestyle="", markevery=every)
        top.plot(steps, _positive(result.bptt_norm[:, n]), **_changed(style, marker=""))
        top.plot(steps, _positive(result.ep_norm[:, n]), label=name, **marks)
        error = _positive(result.relative_error[:, n])
        low.plot(steps, error, markevery=every, **style)
    for panel in (top, low):
        panel.set_yscale("log")
    _legend_above(top, 5, title="marks: EP, lines: BPTT")
    return figure


def recommended_beta(result: Recommendation, *, ax: Axes | None = None) -> Figure:
    """Draw bias and rounding over the nudge, and where they cross.

    Marks were measured, lines are what was made of them.

    Args:
        result: of `ctep.analysis.recommended_beta`.
        ax: where to draw; a new figure by default.
    """
    figure, ax = axes(ax, r"nudge $\beta$", "relative error of the gradient")
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
        ax.plot(beta, _positive(line), label=label, **_changed(style, marker=""))
        seen = _positive(np.array(seen))
        ax.plot(at, seen, **_changed(style, linestyle=""))
    ax.axvline(
        result.beta, color="black", linestyle="--", linewidth=1,
        label=rf"recommended, {result.beta:.2g}",
    )  # fmt: skip
    ax.set(xscale="log", yscale="log")
    # Far below the rounding nobody needs to see how small a bias would be.
    least = min([v for v in result.roundings if v > 0], default=result.bias)
    if least > 0:
        ax.set_ylim(bottom=1e-3 * least)
    ax.legend(fontsize="small")
    return figure


def depth_profile(result: DepthProfile, *, ax: Axes | None = None) -> Figure:
    """Draw activity, saturation, displacement and gradient over the layers.

    Args:
        result: of `ctep.analysis.depth_profile`.
        ax: where to draw; a new figure by default.
    """
    titles = "activity", "saturated (%)", r"rms $s(\beta) - s(0)$", "gradient norm"
    figure, panels = _panels(ax, 4, titles, "layer")
    layers = np.arange(1, len(result.activity) + 1)
    first, second = islice(styles(), 2)
    panels[0].plot(layers, result.activity, **first)
    panels[1].plot(layers, 100 * result.low, label="lower end", **first)
    panels[1].plot(layers, 100 * result.high, label="upper end", **second)
    panels[1].legend(fontsize="small")
    panels[2].plot(layers, _positive(result.displacement), **first)
    panels[3].plot(layers, _positive(result.gradient), **first)
    for panel in panels[2:]:
        panel.set_yscale("log")
    panels[-1].set_xticks(layers[:: max(1, len(layers) // 10)])
    return figure


def weight_statistics(result: WeightStatistics, *, ax: Axes | None = None) -> Figure:
    """Draw the spread of each coupling's weights, their norms and the largest one.

    Args:
        result: of `ctep.analysis.weight_statistics`.
        ax: where to draw; a new figure by default.
    """
    figure, (top, low) = _panels(ax, 2, ("weight", "norm"), "")
    place = np.arange(len(result.names))
    first, second, third = (
        _changed(style, linestyle="") for style in islice(styles(), 3)
    )
    top.errorbar(place, result.mean, result.std, capsize=3, label="mean, std", **first)
    top.plot(place, result.largest, label="largest", **second)
    low.plot(place, result.norm, label="elements", **first)
    low.plot(place, result.operator_norm, label="operator", **third)
    low.set(xlabel="coupling")
    low.set_ylim(bottom=0)
    low.set_xticks(place, result.names, rotation=60 if len(place) > 8 else 0)
    for panel in (top, low):
        panel.legend(fontsize="small", loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def history(result: Result | Sequence[dict], *, ax: Axes | None = None) -> Figure:
    """Draw a training run over its epochs, each kind of number in its own panel.

    Args:
        result: of `ctep.fit`, or the records of its history.
        ax: where to draw; a new figure by default.

    Raises:
        ValueError: if there is no epoch.
    """
    from matplotlib.ticker import MaxNLocator

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
    titles = [title for title, *_ in shown]
    figure, panels = _panels(ax, len(shown), titles, "epoch")
    epochs = [record["epoch"] for record in records]
    for panel, (_, keys, factor, logarithmic) in zip(panels, shown, strict=True):
        for (key, name), style in zip(keys.items(), styles(), strict=False):
            values = [record.get(key) for record in records]
            if any(value is not None for value in values):
                values = [np.nan if v is None else factor * v for v in values]
                panel.plot(epochs, values, label=name, **style)
        if logarithmic:
            panel.set_yscale("log")
        else:
            # An offset beside the axis would hide that values are near 98 or near 1.
            panel.ticklabel_format(useOffset=False)
        if len(keys) > 1:
            panel.legend(fontsize="small")
    panels[-1].xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure


def _panels(
    ax: Axes | None, count: int, ylabels: Sequence[str], xlabel: str
) -> tuple[Figure, list[Axes]]:
    """Return a figure and panels above each other, in the place of `ax` if given."""
    figure, whole = axes(ax, "", "")
    if ax is None:
        figure.set_size_inches(5, 1 + 1.5 * count)
    whole.axis("off")
    height = 1 / count
    panels = []
    for n in range(count):
        box = (0, 1 - (n + 1) * height, 1, 0.88 * height)
        panel = whole.inset_axes(box, sharex=panels[0] if panels else None)
        axes(panel, xlabel if n == count - 1 else "", ylabels[n])
        panel.tick_params(labelbottom=n == count - 1)
        panels.append(panel)
    figure.align_ylabels(panels)
    return figure, panels


def _legend_above(panel, columns, title=None):
    panel.legend(
        fontsize="x-small", title_fontsize="x-small", title=title, ncols=columns,
        loc="lower center", bbox_to_anchor=(0.5, 1.02),
    )  # fmt: skip


def _changed(style: dict, **changes) -> dict:
    return {**style, **changes}


def _positive(values):
    """Return values with NaN for what a logarithmic axis cannot show."""
    return np.where(values > 0, values, np.nan)
