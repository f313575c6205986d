"""What notebooks show: tables, each figure once, and progress on one line."""

import html
import re

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest

import ctep
from ctep import analysis
from ctep._html import as_html
from ctep._train import progress
from ctep._train.progress import Reporter
from ctep._train.store.history import History, table
from ctep.analysis.plot import _axes

KEY = jax.random.key(0)
RECORD = {
    "epoch": 1, "loss": 1.25, "train_accuracy": 0.5, "test_accuracy": 0.25,
    "sweeps": 7.5, "unsettled": 0.0, "residual": 1e-4, "gradient_cosine": 0.99,
    "seconds": 2.0, "faults": [],
}  # fmt: skip


def words(shown):
    """Return the text of HTML, word by word, without titles that are empty."""
    return html.unescape(re.sub(r"<[^>]*>", " ", shown)).split()


def batch():
    x = jax.random.uniform(jax.random.key(1), (5, 4))
    return ctep.mlp((4, 6, 6, 3), feedback=0.3, key=KEY), x, jnp.arange(5) % 3


SHOWN = {
    "contraction": lambda n, x, y: analysis.contraction(n),
    "convergence_time": lambda n, x, y: analysis.convergence_time(n, x),
    "depth_profile": lambda n, x, y: analysis.depth_profile(n, x, y),
    "gradient_check": lambda n, x, y: analysis.gradient_check(
        n, x, y, {"a <b>": ctep.Centered()}
    ),
    "weight_statistics": lambda n, x, y: analysis.weight_statistics(n),
}


@pytest.mark.parametrize("name", SHOWN)
def test_results_show_what_they_print(name):
    """Oracle: the printed text, whose words are those of the tables."""
    result = SHOWN[name](*batch())
    shown = result._repr_html_()
    assert words(shown) == str(result).split()
    assert "<b>" not in shown
    rows = [len(re.findall("<t[dh]", row)) for row in shown.split("<tr>")[1:]]
    assert len(set(rows)) <= 1


def test_networks_show_their_equations():
    """Oracle: what they print, but for the signs of equality."""
    network = batch()[0]
    titles = ["at", "rest", "shape"]
    shown = words(network._repr_html_())
    assert [w for w in shown if w not in titles] == [
        w for w in str(network).split() if w != "=" and w not in titles
    ]


def test_networks_of_your_own_show_their_blocks():
    """Oracle: the shapes of the quartic, counted by hand."""
    shown = words(oracles.quartic().network._repr_html_())
    assert shown[:1] == ["Quartic:"]
    assert "7" in shown  # units, of blocks of 4 and 3
    assert shown[-4:] == ["s1", "4", "s2", "3"]


def test_a_result_shows_as_a_table():
    """Oracle: what it prints; its history is the list that it was given."""
    network = batch()[0]
    records = [RECORD, {**RECORD, "epoch": 2, "test_accuracy": 0.3}]
    result = ctep.Result(
        network, ctep.OutputError(), records, "completed", "", 3.0, None
    )
    assert result.history == records
    assert words(result._repr_html_()) == str(result).split()
    assert words(result.history._repr_html_()) == table(records).split()
    empty = ctep.Result(network, ctep.OutputError(), [], "diverged", "Why.", 1.0, None)
    assert words(empty._repr_html_()) == str(empty).split()
    assert History()._repr_html_() == "<p>no epoch was finished</p>"


@pytest.mark.parametrize(
    ("accuracy", "r2", "first"),
    [(0.5, None, ["accuracy", "50.00", "%"]), (None, 0.25, ["R2", "0.2500"])],
)
def test_a_score_shows_as_a_table(accuracy, r2, first):
    """Oracle: its fields."""
    shown = ctep.Score(1.5, accuracy, 0.25, 8, r2)._repr_html_()
    titles, cells = (words(part) for part in shown.split("<tbody>"))
    assert titles == [first[0], "loss", "unsettled", "examples"]
    assert cells == [*first[1:], "1.5", "25.00", "%", "8"]


@pytest.mark.parametrize("classes", [2, 21])
def test_a_score_shows_its_confusion(classes):
    """Oracle: its counts, row by row, unless there are too many."""
    counts = np.arange(classes**2).reshape(classes, classes)
    shown = ctep.Score(1.5, 0.5, 0.25, 8, confusion=counts)._repr_html_()
    if classes == 2:
        *_, table = shown.split("they were given:")
        wanted = ["class", "0", "1", "0", "0", "1", "1", "2", "3"]
        assert words(table) == wanted
    else:
        assert shown.count("<table>") == 1
        assert "21 classes are too many for a table" in shown


def test_what_is_shown_cannot_command():
    """Oracle: HTML's own rules."""
    shown = as_html(["<script>\x1b[1m", [["&"], ["<i>"]]])
    assert "<script>" not in shown
    assert "<i>" not in shown
    assert "\x1b" not in shown


# ------------------------------------------------------------ progress


def screen(text):
    """Return the lines that a notebook shows: a return goes to the line's start."""
    lines = []
    for line in text.split("\n"):
        shown = ""
        for part in line.split("\r"):
            shown = part + shown[len(part) :]
        lines.append(shown.rstrip())
    return lines


def report(monkeypatch, batches=4, faults=()):
    now = iter(range(100))
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(now))
    monkeypatch.setattr(
        progress, "_screen", lambda *_: progress._Overwritten(2 * batches)
    )
    reporter = Reporter(2, batches, 0, True)
    with reporter:
        for epoch in (1, 2):
            for done in range(1, batches + 1):
                reporter.batch(epoch, (epoch - 1) * batches + done)
            reporter.epoch({**RECORD, "epoch": epoch, "faults": faults})


def test_progress_is_one_line_that_is_written_over(monkeypatch, capsys):
    """Oracle: a screen that does what returns ask for."""
    report(monkeypatch)
    out, err = capsys.readouterr()
    assert err == ""
    last, rest = screen(out)
    assert rest == ""
    assert last.startswith("epoch 2/2  loss 1.2500  train 50.00 %")
    assert last.endswith("2.0 s")
    # A second per batch by this clock, so as many seconds are left as batches.
    assert "epoch 1/2  3/8 batches  5 s left" in out
    assert "epoch 2/2  6/8 batches  2 s left  (last: epoch 1/2" in out


def test_warnings_are_not_written_over(monkeypatch, capsys):
    """Oracle: the same, with a fault in both epochs."""
    report(monkeypatch, faults=[{"text": "Too bold."}])
    first, second, last, rest = screen(capsys.readouterr().out)
    assert first == second == "warning: Too bold."
    assert last.startswith("epoch 2/2  loss")
    assert rest == ""


# ------------------------------------------------------------ figures


@pytest.fixture
def plt(monkeypatch):
    import matplotlib.pyplot as plt

    plt.close("all")
    yield plt
    plt.close("all")


@pytest.mark.parametrize(
    "backend", ["agg", "module://matplotlib_inline.backend_inline"]
)
def test_a_notebook_has_no_figure_left_to_show_again(backend, plt, monkeypatch):
    """Oracle: pyplot's own list of what is open, and axes that are the user's."""
    monkeypatch.setattr(plt, "get_backend", lambda: backend)
    figure = analysis.plot.spectral_radius(np.array([0.2, 0.4]))
    assert plt.fignum_exists(getattr(figure, "number", -1)) == (backend == "agg")
    _, ax = plt.subplots()
    shown = analysis.plot.spectral_radius(np.array([0.2, 0.4]), ax=ax)
    assert plt.fignum_exists(shown.number)


def luminance(colour):
    import matplotlib.colors as colours

    rgb = np.array(colours.to_rgb(colour))
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    return linear @ np.array([0.2126, 0.7152, 0.0722])


@pytest.mark.parametrize("page", ["#ffffff", "#1e2129"])
def test_ink_is_seen_on_light_pages_and_dark_ones(page, plt):
    """Oracle: contrast as WCAG 2 defines it; 3 is what it asks of graphics."""
    figure = analysis.plot.spectral_radius(np.array([0.2, 0.4]))
    (ax,) = figure.axes
    parts = [ax.title, ax.xaxis.label, *ax.get_xticklabels(), ax.spines["left"]]
    colours = [p.get_edgecolor() if p is parts[-1] else p.get_color() for p in parts]
    colours += [
        style["color"] for style, _ in zip(_axes.styles(), range(2), strict=False)
    ]
    for colour in colours:
        low, high = sorted((luminance(colour), luminance(page)))
        assert (high + 0.05) / (low + 0.05) > 3
    assert figure.get_facecolor()[3] == ax.get_facecolor()[3] == 0


def test_every_figure_of_a_report_has_a_title_and_a_caption():
    """Oracle: the functions there are; `robustness` is not in a report."""
    plot = analysis.plot
    drawn = {name for name, value in vars(plot).items() if callable(value)}
    assert set(plot.CAPTIONS) == drawn - {"robustness"}
    assert all(
        text.count(".") >= 1 and len(text) < 300 for text in plot.CAPTIONS.values()
    )


@pytest.mark.parametrize("value", [0.1, 0.3, 1.0])
def test_a_constant_has_a_place_on_a_logarithmic_axis(value, plt):
    """Oracle: it lies within the limits; matplotlib warns of none."""
    history = [
        {"epoch": n, "loss": value, "gradient_cosine": 1 - value} for n in (1, 2)
    ]
    figure = analysis.plot.history(history)
    figure.canvas.draw()
    for panel in figure.axes[0].child_axes:
        low, high = panel.get_ylim()
        assert low < value < high


@pytest.mark.parametrize("count", [1, 2, 5, 20, 101])
def test_ticks_and_styles_stay_few(count, plt):
    """Oracle: by counting."""
    places = _axes.some(count, 12)
    assert len(places) == min(count, 12)
    assert (places[0], places[-1]) == (0, count - 1)
    _, ax = plt.subplots()
    _axes.name_ticks(ax, [f"n{k}" for k in range(count)])
    texts = [text.get_text() for text in ax.get_xticklabels()]
    assert texts == [f"n{k}" for k in places]
    assert len(_axes.many(count)) == count


@pytest.mark.parametrize(("low", "high"), [(3, 3), (3, 20), (10, 480)])
def test_bins_of_times_hold_whole_numbers(low, high):
    """Oracle: each edge between two whole numbers, each bin as many of them."""
    from ctep.analysis.plot._dynamics import _whole_bins

    edges = _whole_bins(np.array([low, high]))
    assert (edges % 1 == 0.5).all()
    assert len(edges) <= 31
    assert edges[0] < low <= high < edges[-1]
    assert len(set(np.diff(edges))) == 1
