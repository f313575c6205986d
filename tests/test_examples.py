"""What the README and the examples show is what happens."""

import re
import runpy
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import matrix
import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
TOY = {
    "deep_chain": "--depth 3",
    "feedback_strength": "--feedback 0.1 --width 8 --limit 50",
    "holomorphic_radius": "--points 2 --radii 2",
    "local_errors": "--depths 3 --width 8 --epochs 1",
    "memory": "--steps 4 8 --width 8 --batch 4",
    "own_hopfield": "--epochs 1 --memories 10",
    "own_oscillators": "--epochs 1 --oscillators 4",
    "own_resistors": "--epochs 1 --hidden 4",
    "train_fre_rnn": "--epochs 1 --recipe digits",
}
GALLERY = ROOT / "docs" / "assets" / "examples"


@pytest.mark.parametrize("block", BLOCKS, ids=range(len(BLOCKS)))
def test_readme_code_runs(block):
    """The README's own code, each block by itself."""
    exec(compile(block, "README.md", "exec"), {})


def test_readme_shows_code_early():
    """A reader finds a runnable example within the first thirty lines."""
    lines = README.splitlines()
    assert lines.index("```python") < 30
    assert len(lines) <= 100


def test_every_example_is_run_and_shown():
    """No example without a toy setting here, or output and figure in the gallery."""
    names = {path.stem for path in (ROOT / "examples").glob("*.py")}
    assert names == set(TOY)
    assert names == {path.stem for path in GALLERY.glob("*.svg")}
    assert names == {path.stem for path in GALLERY.glob("*.txt")}


@matrix.parametrize("name", TOY, ["feedback_strength"])
def test_example_runs(name, monkeypatch, capsys, tmp_path):
    """Each example runs at toy size, prints numbers that are finite, and draws."""
    figure = tmp_path / "figure.svg"
    argv = [name, *TOY[name].split(), "--figure", str(figure)]
    monkeypatch.setattr(sys, "argv", argv)
    path = ROOT / "examples" / f"{name}.py"
    assert len(path.read_text().splitlines()) < 120
    runpy.run_path(str(path), run_name="__main__")
    printed = capsys.readouterr().out
    assert re.search(r"\d", printed)
    assert "nan" not in printed
    assert figure.stat().st_size > 0
    plt.close("all")


@pytest.fixture
def gallery():
    return runpy.run_path(str(ROOT / "docs" / "extensions" / "gallery.py"))


@pytest.mark.parametrize("name", TOY)
def test_gallery_shows_text_code_output_and_figure(name, gallery):
    """Oracle: the files themselves."""
    page = gallery["page"](name)
    source = (ROOT / "examples" / f"{name}.py").read_text()
    assert page.startswith(f"# {source.split(chr(10))[0].strip('r.')[3:]}")
    assert source.split('"""')[2].strip() in page
    assert (GALLERY / f"{name}.txt").read_text().rstrip() in page
    assert f"../assets/examples/{name}.svg" in page
    assert f"({name}.md)" in gallery["index"]()
