"""The notebooks run as they stand, and their pages hold what they have shown."""

import importlib.util
import json
import re
import sys
from pathlib import Path

import matrix
import pytest

DOCS = Path(__file__).parents[1] / "docs"
NAMES = [path.stem for path in sorted((DOCS / "notebooks").glob("*.ipynb"))]


@pytest.fixture
def notebooks(monkeypatch):
    """Return the hook that makes their pages."""
    monkeypatch.syspath_prepend(str(DOCS / "extensions"))
    monkeypatch.delitem(sys.modules, "notebooks", raising=False)
    import notebooks

    return notebooks


def kept(name):
    cells = json.loads((DOCS / "notebooks" / f"{name}.ipynb").read_text())["cells"]
    return [cell for cell in cells if cell["cell_type"] == "code"]


def kinds(cell):
    """Return what a cell shows: text of a stream, a figure, a table or a value."""
    out = []
    for output in cell["outputs"]:
        data = output.get("data", {"stream": output.get("text")})
        order = ("stream", "text/html", "image/png", "text/plain")
        out.append(next(kind for kind in order if kind in data))
    return out


def check(cells):
    """Each figure is shown once, where its cell returns it, and training in a line."""
    for cell in cells:
        assert not any(o["output_type"] == "error" for o in cell["outputs"])
        last = "".join(cell["source"]).splitlines()[-1]
        shown = kinds(cell)
        if last.startswith("analysis.plot."):
            assert shown == ["image/png"]
        assert shown.count("image/png") <= 1
        if "ctep.fit(" in "".join(cell["source"]):
            assert shown == ["stream", "text/html"]


@pytest.mark.parametrize("name", NAMES)
def test_what_is_kept_is_shown_once(name):
    """Oracle: the rules of `check`; the cells were run in order, from the first."""
    cells = kept(name)
    check(cells)
    assert [cell["execution_count"] for cell in cells] == list(range(1, 1 + len(cells)))


@pytest.mark.parametrize("name", NAMES)
def test_pages_hold_what_notebooks_show(name, notebooks):
    """Oracle: the notebook's own cells; a line that was written over is shown once."""
    page = notebooks.page(name)
    for cell in kept(name):
        assert "".join(cell["source"]) in page
    assert page.count("<img") == sum(kinds(c).count("image/png") for c in kept(name))
    assert page.count("<table>") >= 2
    assert "\r" not in page
    assert len(re.findall(r"^epoch.*/", page, re.M)) == page.count("ctep.fit(")


def test_pages_read_returns_of_the_carriage(notebooks):
    """Oracle: what a screen would show."""
    assert notebooks.overwritten("a\rbc  \n\n\rd\rlast \n") == "bc\nlast"


@pytest.mark.filterwarnings("ignore")  # of what runs notebooks
@matrix.parametrize("name", NAMES, [])
def test_notebooks_run(name, monkeypatch):
    """Oracle: no cell fails, and what is shown has the kinds of what is kept."""
    if importlib.util.find_spec("nbclient") is None:
        pytest.skip("nbclient is not installed: pip install '.[test]'")
    import nbformat
    from nbclient import NotebookClient

    monkeypatch.delenv("MPLBACKEND", raising=False)  # a notebook's own shows figures
    notebook = nbformat.read(DOCS / "notebooks" / f"{name}.ipynb", as_version=4)
    NotebookClient(notebook, timeout=600, coalesce_streams=True).execute()
    cells = [cell for cell in notebook.cells if cell["cell_type"] == "code"]
    check(cells)
    assert list(map(kinds, cells)) == list(map(kinds, kept(name)))
