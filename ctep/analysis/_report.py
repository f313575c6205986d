"""All analyses of one trained network, as numbers and figures in a folder."""

from __future__ import annotations

import dataclasses
import io
import json
import math
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import ArrayLike, PRNGKeyArray

from .. import _checks as checks
from .._concrete import concrete
from .._html import as_html
from .._network import AbstractNetwork
from .._nudge import AbstractNudge
from .._rule import AbstractRule, Centered, check_kinds
from .._train.store.history import History
from . import plot
from ._contraction import contraction
from ._convergence import convergence_time
from ._depth import depth_profile
from ._energy_trace import energy_trace
from ._gradient_check import gradient_check
from ._gradient_curve import gradient_curve
from ._inputs import batch
from ._lyapunov import lyapunov
from ._nudge_plane import nudge_plane
from ._page import Section, page
from ._recommended_beta import recommended_beta
from ._spectrum import spectral_radius
from ._weights import weight_statistics


@concrete
def analyse(
    network: AbstractNetwork,
    x: ArrayLike,
    y: ArrayLike,
    folder: str | Path,
    *,
    nudge: AbstractNudge,
    rule: AbstractRule,
    history: Sequence[dict] = (),
    say: Callable[[str], None] = print,
    key: PRNGKeyArray | None = None,
) -> dict[str, Any]:
    """Run every analysis that applies, and write its numbers and its figure.

    `robustness`, which needs a whole test set, is left out.

    Args:
        network: trained.
        x: inputs, `(batch, *input_shape)`.
        y: targets, as in `ctep.gradient`.
        folder: gets `analysis.json`, per analysis `NAME.svg` and `NAME.png`, and
            `report.html`, one page with all of them that needs no other file.
        nudge: that it was trained with.
        rule: likewise; checked against the exact gradient beside `Centered`, unless it
            draws at random.
        history: of the training run.
        say: is told about each analysis in a line.
        key: for the first directions of Lyapunov exponents; by default
            `jax.random.key(0)`.

    Returns:
        What is in `analysis.json`: per analysis the numbers, or `{"refused": why}` of
        one that does not apply to this network, or none of whose examples settled.

    Raises:
        TypeError: if an argument is not of its kind.
        ValueError: if `x` or `y` do not fit the network or each other.

    Cost: that of all its parts. Most are a few phases of the batch each; `nudge_plane`
    solves 231 nudges in complex numbers, and `spectral_radius` keeps 40 states per
    example.
    """
    check_kinds(rule=rule)
    # For its errors: wrong arguments are no refusals, and leave no folder behind.
    batch(network, x, y, nudge, None, 0)
    if key is not None:
        checks.key(key)
    folder = Path(folder).expanduser()
    folder.mkdir(parents=True, exist_ok=True)
    found, sections = {}, []
    for name, analysis in _tasks(network, x, y, nudge, rule, key).items():
        try:
            result = analysis()
        # What analyses document: any other error is a mistake and must be seen.
        except (ValueError, RuntimeError) as error:
            found[name] = {"refused": str(error)}
            say(f"{name}: not here. {error}")
            sections.append(Section(name, as_html([f"Not here. {error}"])))
            continue
        found[name] = plain(result)
        lines = _summary(result).splitlines()
        say("\n    ".join([f"{name}: {lines[0]}", *lines[1:]]))
        sections.append(_section(name, result, folder))
    if history:
        found["history"] = plain(list(history))
        say(f"history: {len(history)} epochs")
        # A NaN that has got past `plain` would make a file that is not JSON.
        sections.append(_section("history", History(history), folder))
    text = json.dumps(found, indent=1, allow_nan=False)
    (folder / "analysis.json").write_text(text + "\n")
    whole = page("Why does it settle?", as_html(str(network).splitlines()), sections)
    (folder / "report.html").write_text(whole)
    return found


def _tasks(network, x, y, nudge, rule, key) -> dict[str, Callable[[], Any]]:
    """Return each analysis as a function without arguments."""
    units = sum(math.prod(shape) for shape in network.shapes)
    # By name, so that a run that was trained by `Centered()` checks it once.
    rules = {str(r): r for r in (Centered(), rule) if not r.random}
    given: Any = (network, x, y)
    how: Any = {"nudge": nudge, "throw": False}
    return {
        "spectral_radius": lambda: spectral_radius(network, x, throw=False),
        "spectral_radius_of_weights": lambda: spectral_radius(network, of="weights"),
        "lyapunov": lambda: lyapunov(
            network, x, 10 * len(network.shapes), min(8, units), key=key, throw=False
        ),
        "convergence_time": lambda: convergence_time(network, x),
        # A rule without nudges has the size 0; the usual nudge is judged in its place.
        "contraction": lambda: contraction(
            network, nudge, beta=rule.size or 0.1, x=x, y=y
        ),
        "gradient_check": lambda: gradient_check(network, x, y, rules, **how),
        "gradient_curve": lambda: gradient_curve(*given, **how),
        "recommended_beta": lambda: recommended_beta(*given, **how),
        "depth_profile": lambda: depth_profile(*given, **how),
        "weight_statistics": lambda: weight_statistics(network),
        "energy_trace": lambda: energy_trace(network, x),
        "nudge_plane": lambda: nudge_plane(*given, **how),
    }


def plain(value: Any) -> Any:
    """Return a result as JSON knows it, NaN and infinity as text."""
    if dataclasses.is_dataclass(value):
        value = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
    match value:
        case dict():
            return {str(k): plain(v) for k, v in value.items()}
        case tuple() | list():
            return [plain(v) for v in value]
        case np.ndarray() | np.generic() | jax.Array():
            return plain(np.asarray(value).tolist())
        case complex():
            return [value.real, value.imag]
        case float() if not math.isfinite(value):
            return str(value)
    return value


def _summary(result):
    """Return a result in a line or a table."""
    if dataclasses.is_dataclass(result):
        return str(result)
    values = np.ravel(np.asarray(result, float))
    found = values[np.isfinite(values)]
    if values.size == 1 or not found.size:
        return ", ".join(f"{v:.4g}" for v in values[:1])
    text = (
        f"mean {found.mean():.4g}, from {found.min():.4g} to {found.max():.4g} "
        f"over {found.size} values"
    )
    lost = values.size - found.size
    return text + (f", {lost} more without a result" if lost else "")


def _section(name, result, folder):
    """Return what the page shows of a result, and keep its figure if it has one."""
    shown = getattr(result, "_repr_html_", lambda: as_html([_summary(result)]))()
    draw = vars(plot).get(name)  # what draws it has its name
    if draw is None:
        return Section(name, shown)
    caption = plot.CAPTIONS[name]
    return Section(name, shown, _keep(draw(result), folder / name, caption), caption)


def _keep(figure, path, caption) -> bytes:
    """Write a figure with its caption, and return it as SVG without."""
    import matplotlib.pyplot as plt

    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg")
    width, height = figure.get_size_inches()
    lines = textwrap.wrap(caption, round(16 * width))
    figure.set_size_inches(width, height + 0.16 * len(lines))
    style = {"fontsize": "small", "ha": "left", "color": plot.NEUTRAL}
    figure.supxlabel("\n".join(lines), x=0.02, **style)
    for kind in ("svg", "png"):
        figure.savefig(path.with_suffix(f".{kind}"), dpi=150)
    # Pyplot keeps every figure until it is closed.
    plt.close(figure)
    return buffer.getvalue()
