"""What all figures share: axes, and marks that are told apart without colour."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import cycle
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def axes(ax: Axes | None, xlabel: str, ylabel: str) -> tuple[Figure, Axes]:
    """Return a figure and its axes, labelled: those given, or new ones."""
    # Importing pyplot takes longer than all of ctep, and few need it.
    import matplotlib.pyplot as plt

    if ax is None:
        _, ax = plt.subplots(figsize=(5, 3.5), layout="constrained")
    ax.set(xlabel=xlabel, ylabel=ylabel)
    ax.grid(alpha=0.3)
    figure = ax.get_figure(root=True)
    assert figure is not None
    return figure, ax


def styles() -> Iterator[dict]:
    """Yield keyword arguments of `Axes.plot`: colour, marker and dash all differ."""
    # Colours of Okabe and Ito, which the colour-blind can tell apart.
    colours = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#000000")
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
