"""What all figures share: axes and colours for light and dark pages, ticks, styles."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from itertools import cycle
from typing import TYPE_CHECKING, Any, ParamSpec

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

P = ParamSpec("P")

# As far from white as from the black of dark pages, through which a figure shows.
NEUTRAL = "#7f7f7f"
BLUE = "#1f83c6"
_INKED = (
    "text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color",
    "grid.color",
)  # fmt: skip
_STYLE: dict[Any, Any] = {
    **dict.fromkeys(_INKED, NEUTRAL),
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "auto",
    "legend.frameon": False,
    "legend.fontsize": "small",
    "axes.titlesize": "medium",
    "figure.titlesize": "medium",
}


def drawn(function: Callable[P, Figure]) -> Callable[P, Figure]:
    """Let a function draw in neutral colours, on no ground of its own."""

    @functools.wraps(function)
    def inner(*args: P.args, **kwargs: P.kwargs) -> Figure:
        import matplotlib as mpl

        with mpl.rc_context(_STYLE):
            return function(*args, **kwargs)

    return inner


def axes(
    ax: Axes | None, xlabel: str, ylabel: str, title: str = ""
) -> tuple[Figure, Axes]:
    """Return a figure and its axes, labelled: those given, or new ones."""
    # Importing pyplot takes longer than all of ctep, and few need it.
    import matplotlib.pyplot as plt

    if ax is None:
        figure, ax = plt.subplots(figsize=(5, 3.5), layout="constrained")
        if "inline" in plt.get_backend():
            # A notebook shows what a cell returns, and all that is open once more.
            plt.close(figure)
    ax.set(xlabel=xlabel, ylabel=ylabel, title=title)
    ax.grid(alpha=0.3)
    figure = ax.get_figure(root=True)
    assert figure is not None
    return figure, ax


def panels(
    ax: Axes | None, ylabels: Sequence[str], xlabel: str, title: str
) -> tuple[Figure, list[Axes]]:
    """Return a figure and panels above each other, in the place of `ax` if given."""
    figure, whole = axes(ax, "", "")
    count = len(ylabels)
    if ax is None:
        figure.set_size_inches(5, 1 + 1.5 * count)
        figure.suptitle(title)
    else:
        ax.set_title(title, pad=30)
    whole.axis("off")
    height, out = 1 / count, []
    for n, ylabel in enumerate(ylabels):
        box = (0, 1 - (n + 1) * height, 1, 0.88 * height)
        panel = whole.inset_axes(box, sharex=out[0] if out else None)
        axes(panel, xlabel if n == count - 1 else "", ylabel)
        panel.tick_params(labelbottom=n == count - 1)
        out.append(panel)
    figure.align_ylabels(out)
    return figure, out


def styles() -> Iterator[dict]:
    """Yield keyword arguments of `Axes.plot`: colour, marker and dash all differ."""
    # Those of Okabe and Ito, which the colour-blind can tell apart, a lighter blue.
    colours = (BLUE, "#D55E00", "#009E73", "#CC79A7", "#56B4E9", NEUTRAL)
    markers = ("o", "s", "^", "D", "v", "x")
    dashes = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 3)))
    for colour, marker, dash in zip(
        cycle(colours), cycle(markers), cycle(dashes), strict=False
    ):
        yield {
            "color": colour,
            "marker": marker,
            "linestyle": dash,
            "markersize": 4,
            "linewidth": 1.2,
        }


def many(count: int) -> list[dict]:
    """Return as many styles: of few curves all differ, of many the shade runs along."""
    if count <= 6:
        return [style for style, _ in zip(styles(), range(count), strict=False)]
    import matplotlib as mpl

    # The ends of the map vanish on a dark page, and on a light one.
    shades = mpl.colormaps["viridis"](np.linspace(0.25, 0.85, count))
    plain = {"marker": ".", "linestyle": "-", "markersize": 3, "linewidth": 0.8}
    return [{**plain, "color": tuple(shade)} for shade in shades]


def some(count: int, most: int) -> list[int]:
    """Return at most so many places of `count`, evenly, the first and the last too."""
    places = np.linspace(0, count - 1, min(count, most)).round().astype(int)
    return np.unique(places).tolist()


def name_ticks(ax: Axes, names: Sequence[str]) -> None:
    """Write names below their places, of many of them only some."""
    places = some(len(names), 12)
    turn = {"rotation": 60, "ha": "right", "rotation_mode": "anchor"}
    long = len(names) > 8
    ax.set_xticks(places, [names[n] for n in places], **(turn if long else {}))


def whole_ticks(ax: Axes) -> None:
    """Put ticks of the horizontal axis at whole numbers alone."""
    from matplotlib.ticker import MaxNLocator

    ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))


def beside(ax: Axes, **kwargs) -> None:
    """Put a legend to the right of a panel, where it covers nothing."""
    ax.legend(loc="center left", bbox_to_anchor=(1, 0.5), **kwargs)


def logarithmic(ax: Axes) -> None:
    """Make the vertical axis logarithmic, around one value as around many."""
    low, high = ax.dataLim.intervaly
    # A decade alone has no room around it; rounding may tell equal numbers apart.
    if 0 < low <= high < 1.001 * low:
        ax.set_ylim(low / 2, 2 * high)
    ax.set_yscale("log")


def from_zero(ax: Axes, values: np.ndarray) -> None:
    """Let the vertical axis begin at zero, with room above the largest value."""
    seen = values[np.isfinite(values)]
    ax.set_ylim(0, 1.1 * max(seen.max(initial=0.0), 1e-12))


def missing(cosine: np.ndarray, dtype: type = np.float64) -> np.ndarray:
    """Return one minus a cosine, at least its rounding, for a logarithmic axis."""
    return np.maximum(1 - np.asarray(cosine, float), np.finfo(dtype).eps / 2)


def positive(values: np.ndarray) -> np.ndarray:
    """Return values with NaN for what a logarithmic axis cannot show."""
    return np.where(values > 0, values, np.nan)
