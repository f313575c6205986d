"""Pages of the notebooks in `docs/notebooks`, with the outputs that are kept in them.

As an MkDocs hook this makes one page of each `*.ipynb`. None is run for that:

    python docs/extensions/notebooks.py [NAME ...]

runs all notebooks, or those that are named, and keeps what they show.
"""

import json
import os
import sys
from pathlib import Path

NOTEBOOKS = Path(__file__).resolve().parents[1] / "notebooks"
# Of several forms of one output, the first that is there.
FORMS = {
    "text/html": lambda data: f'<div class="nb-html">\n{data}\n</div>',
    "image/png": lambda data: (
        f'<img alt="Figure" src="data:image/png;base64,{data.strip()}">'
    ),
    "text/plain": lambda data: f"```text\n{data}\n```",
}


def names():
    return sorted(path.stem for path in NOTEBOOKS.glob("*.ipynb"))


def page(name):
    """Return a notebook as Markdown."""
    cells = json.loads((NOTEBOOKS / f"{name}.ipynb").read_text())["cells"]
    parts = [part for cell in cells for part in shown(cell)]
    parts.append(f"[Download this notebook]({name}.ipynb)")
    return "\n\n".join(parts) + "\n"


def shown(cell):
    """Yield what a page has of a cell: its text, or its code and each output."""
    source = "".join(cell["source"])
    if cell["cell_type"] == "markdown":
        yield source
        return
    yield f"```python\n{source}\n```"
    for output in cell["outputs"]:
        if output["output_type"] == "stream":
            yield f"```text\n{overwritten(''.join(output['text']))}\n```"
        else:
            form = next(form for form in FORMS if form in output["data"])
            yield FORMS[form]("".join(output["data"][form]))


def overwritten(text):
    """Return text as it stands after every return of the carriage."""
    lines = (line.rsplit("\r", 1)[-1].rstrip() for line in text.split("\n"))
    return "\n".join(line for line in lines if line)


def on_files(files, config):
    """Add the pages to those that are in `docs`."""
    from mkdocs.structure.files import File

    for name in names():
        path = f"notebooks/{name}.md"
        files.append(File.generated(config, path, content=page(name)))
    return files


def run(name):
    """Run a notebook and keep what it shows."""
    import nbformat
    from nbclient import NotebookClient

    path = NOTEBOOKS / f"{name}.ipynb"
    os.environ.pop("MPLBACKEND", None)  # a notebook's own shows figures
    notebook = nbformat.read(path, as_version=4)
    options = {"record_timing": False, "coalesce_streams": True}
    NotebookClient(notebook, timeout=600, **options).execute()
    notebook.metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}
    nbformat.write(notebook, path)


if __name__ == "__main__":
    for name in sys.argv[1:] or names():
        run(name)
        print(name, flush=True)
