"""Studies: every run once, one table of all, and what cannot be studied."""

import csv
import re
import types

import matrix
import numpy as np
import pytest

import ctep
from ctep import recipes
from ctep._train.store import history
from ctep.recipes import grid

HOW = {"seeds": 2, "epochs": 1, "scale": 0.05, "progress": False}


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A study of two scales of feedback, and where it lies."""
    out = tmp_path_factory.mktemp("study") / "feedback"
    return recipes.study("digits", feedback=[0.03, 0.3], out=out, **HOW), out


@pytest.fixture
def trained(monkeypatch):
    """What is trained from here on, by the arguments."""
    calls, train = [], grid.train

    def counted(*args, **kwargs):
        calls.append(kwargs)
        return train(*args, **kwargs)

    monkeypatch.setattr(grid, "train", counted)
    return calls


def lines(out):
    with open(out / "study.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_one_line_per_run_and_epoch(done):
    """Oracle: the histories in the folders of the runs."""
    found, out = done
    table = lines(out)
    assert [(row["feedback"], row["seed"]) for row in table] == [
        ("0.03", "0"), ("0.03", "1"), ("0.3", "0"), ("0.3", "1"),
    ]  # fmt: skip
    for row in table:
        own = f"feedback-{row['feedback']}_scale-0.05_seed-{row['seed']}"
        (record,) = history.read(out / own)
        for key in ("loss", "test_accuracy", "sweeps", "gradient_cosine"):
            assert float(row[key]) == record[key]
    assert found.axes == ("feedback", "scale")
    assert [row["loss"] for row in found.rows] == [float(r["loss"]) for r in table]


def test_cells_are_compared(done):
    """Oracle: means and deviations by NumPy; more feedback takes more sweeps."""
    found, _ = done
    curves = found.curves("test_accuracy")
    assert list(curves) == [(0.03, 0.05), (0.3, 0.05)]
    values = [row["test_accuracy"] for row in found.rows]
    np.testing.assert_array_equal(np.concatenate(list(curves.values()))[:, 0], values)
    titles, *rows = found.table()
    best = 100 * np.array(values[:2])
    assert rows[0][titles.index("best test %")] == (
        f"{best.mean():.2f}+-{best.std(ddof=1):.2f}"
    )
    sweeps = [float(row[titles.index("sweeps")]) for row in rows]
    assert sweeps[0] < sweeps[1]
    assert str(found).splitlines()[1].split()[0] == "0.03"
    assert "<table" in found._repr_html_()


@matrix.campaign
def test_nothing_is_trained_twice(done, trained):
    """Nor compiled; more seeds and values train those alone, and rows stay in order."""
    first, out = done
    again = recipes.study("digits", feedback=[0.03, 0.3], out=out, **HOW)
    assert (trained, again) == ([], first)
    more = HOW | {"seeds": 3}
    wider = recipes.study("digits", feedback=[0.03], out=out, **more)
    assert [call["seed"] for call in trained] == [2]
    assert wider.rows[:2] == first.rows[:2]
    # The table keeps what this call did not ask for.
    kept = [(row["feedback"], row["seed"]) for row in lines(out)]
    assert kept == [("0.03", str(n)) for n in range(3)] + [("0.3", "0"), ("0.3", "1")]


def test_whole_numbers_are_one_run_and_a_divergence_is_the_end(tmp_path, monkeypatch):
    """Oracle: the calls that train; 1 is 1.0, and what diverged does so again."""
    calls = []

    def diverged(*args, out, **kwargs):
        calls.append(kwargs["batch_size"])
        return types.SimpleNamespace(status="diverged", reason="too far")

    monkeypatch.setattr(grid, "train", diverged)
    how = HOW | {"seeds": 1, "out": tmp_path / "new"}
    for size in (100, [100.0], 100):
        assert not recipes.study("digits", batch_size=size, **how).rows
    assert calls == [100]


@matrix.campaign
def test_a_study_that_was_cut_goes_on(tmp_path, monkeypatch):
    """Oracle: the same study without a break; the table has what was reached."""
    train, out = grid.train, tmp_path / "cut"

    def cut(*args, seed, **kwargs):
        if seed:
            raise KeyboardInterrupt
        return train(*args, seed=seed, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(grid, "train", cut)
        with pytest.raises(KeyboardInterrupt):
            recipes.study("digits", beta=0.1, out=out, **HOW)
    assert [row["seed"] for row in lines(out)] == ["0"]
    found = recipes.study("digits", beta=0.1, out=out, **HOW)
    whole = recipes.study("digits", beta=0.1, out=tmp_path / "whole", **HOW)
    kept = [{k: v for k, v in row.items() if k != "seconds"} for row in found.rows]
    for row, other in zip(kept, whole.rows, strict=True):
        assert row == {k: other[k] for k in row}


def test_the_figure_has_a_line_and_a_band_per_cell(done):
    """Oracle: the rows; lines are means, bands reach from the least to the largest."""
    found, _ = done
    figure = ctep.analysis.plot.study(found)
    top = figure.axes[0].child_axes[0]
    assert top.get_ylabel() == "test accuracy (%)"
    labels = [line.get_label() for line in top.lines]
    assert labels == ["feedback 0.03", "feedback 0.3"]  # the scale is one for all
    for line, band, runs in zip(
        top.lines, top.collections, found.curves("test_accuracy").values(), strict=True
    ):
        np.testing.assert_allclose(line.get_ydata(), 100 * runs.mean(0))
        heights = band.get_paths()[0].vertices[:, 1]
        assert heights.min() == pytest.approx(100 * runs.min())
        assert heights.max() == pytest.approx(100 * runs.max())


def test_accuracies_over_what_was_varied(done):
    """Oracle: means and deviations by NumPy; both figures lie in the folder."""
    found, out = done
    assert {path.name for path in out.glob("*.png")} == {"study.png", "swept.png"}
    (ax,) = ctep.analysis.plot.swept(found).axes
    assert (ax.get_xlabel(), ax.get_xscale()) == ("feedback", "log")
    assert [text.get_text() for text in ax.get_legend().texts] == ["best", "final"]
    runs = 100 * np.array([v[:, 0] for v in found.curves("test_accuracy").values()])
    for line, _, (bars,) in ax.containers:
        np.testing.assert_allclose(line.get_xdata(), [0.03, 0.3])
        np.testing.assert_allclose(np.array(line.get_ydata(), float), runs.mean(1))
        reach = np.array([part[:, 1] for part in bars.get_segments()])
        np.testing.assert_allclose(np.diff(reach)[:, 0], 2 * runs.std(1, ddof=1))
    alone = found._replace(rows=[row for row in found.rows if row["feedback"] == 0.3])
    with pytest.raises(ValueError, match="a study of 0 axes with several values"):
        ctep.analysis.plot.swept(alone)
    with pytest.raises(ValueError, match="a study without a finished epoch"):
        ctep.analysis.plot.study(found._replace(rows=[]))
    assert str(found).endswith("\n+- is the standard deviation over the seeds.")


def test_a_validation_says_which_epoch_is_the_best():
    """Oracle: by hand; the second run has the best validation before its best test."""
    figures = {1: [(0.5, 0.6), (0.9, 0.7), (0.8, 0.8)], 2: [(0.9, 0.4), (0.7, 0.9)]}
    rows = [
        {"beta": 0.1, "seed": seed, "epoch": n, "validation_accuracy": v}
        | {"test_accuracy": t, "sweeps": 3.0, "gradient_cosine": None}
        for seed, pairs in figures.items()
        for n, (v, t) in enumerate(pairs, 1)
    ]
    found = grid.Study("digits", ("beta",), rows)
    np.testing.assert_array_equal(found.ends()[(0.1,)], [[0.7, 0.8], [0.4, 0.9]])
    assert "The best epoch is that of the best validation accuracy." in str(found)
    for row in rows:
        row["validation_accuracy"] = None
    np.testing.assert_array_equal(found.ends()[(0.1,)], [[0.8, 0.8], [0.9, 0.9]])
    assert "validation" not in str(found)


def test_a_validation_is_held_out_of_every_run(tmp_path, monkeypatch):
    """Oracle: what the runs are called with; with another one it is another study."""
    calls = []

    def told(*args, validation, **kwargs):
        calls.append(validation)
        return types.SimpleNamespace(status="completed")

    monkeypatch.setattr(grid, "train", told)
    how = HOW | {"out": tmp_path / "new", "beta": 0.1}
    recipes.study("digits", validation=0.25, **how)
    assert calls == [0.25, 0.25]
    with pytest.raises(ValueError, match=r"study with validation = 0.25, not None"):
        recipes.study("digits", **how)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"beta": [0.1, 0.1]}, "`beta` is [0.1, 0.1], but must hold one number or"),
        ({"beta": []}, "`beta` is [], but must hold one number or several"),
        ({"rate": [0.1, -1.0]}, "`rate` is -1.0, but must be positive"),
        ({"seeds": 0}, "`seeds` is 0, but must be a whole number of at least 1"),
        ({"epochs": 0}, "`epochs` is 0"),
        ({"beta": 0.1, "rule": ctep.Backprop()}, "`beta` is 0.1, but Backprop has no"),
        ({"name": "vgg7-kd"}, "learns from a teacher, and a study trains none"),
        ({"name": "digitz"}, "did you mean digits"),
    ],
)
def test_nothing_is_written_for_what_cannot_be(change, message, tmp_path):
    """Oracle: the documented errors, before a folder is made."""
    given = {"name": "digits", "out": tmp_path / "new"} | HOW | change
    with pytest.raises((TypeError, ValueError), match=re.escape(message)):
        recipes.study(given.pop("name"), **given)
    assert not (tmp_path / "new").exists()


def test_a_folder_of_something_else(done, tmp_path, trained):
    """Another protocol is refused by name, and so are other files."""
    _, out = done
    with pytest.raises(ValueError, match=r"holds a study with epochs = 1, not 2"):
        recipes.study("digits", feedback=[0.03], out=out, **(HOW | {"epochs": 2}))
    with pytest.raises(ValueError, match=r"holds a study with axes = .*'feedback'"):
        recipes.study("digits", beta=[0.03], out=out, **HOW)
    (tmp_path / "notes.txt").touch()
    with pytest.raises(ValueError, match="holds files but no study: name a new"):
        recipes.study("digits", beta=0.03, out=tmp_path, **HOW)
    assert trained == []
    assert (out / "study.json").is_file()
