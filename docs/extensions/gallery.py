"""A gallery of the examples: their text, code, printed output and figures.

As an MkDocs hook this makes one page of each `examples/*.py`, and an index of them. No
example is run for that: output and figures are files in `docs/assets/examples`, which

    python docs/extensions/gallery.py [NAME ...]

makes by running the examples, all of them or those that are named.
"""

import contextlib
import io
import os
import runpy
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES, ASSETS = ROOT / "examples", ROOT / "docs" / "assets" / "examples"
INDEX = "examples/index.md"


def names():
    return sorted(path.stem for path in EXAMPLES.glob("*.py"))


def parts(name):
    """Return the title, the text and the code of an example."""
    source = (EXAMPLES / f"{name}.py").read_text()
    _, text, code = source.split('"""', 2)
    title, _, body = text.partition("\n")
    return title.rstrip("."), body.strip(), code.strip()


def page(name):
    title, body, code = parts(name)
    output = (ASSETS / f"{name}.txt").read_text().rstrip()
    return (
        f"# {title}\n\n{body}\n\n![{title}](../assets/examples/{name}.svg)\n\n"
        f'```python title="examples/{name}.py"\n{code}\n```\n\n'
        f"It prints\n\n```\n{output}\n```\n"
    )


def index():
    lines = ["# Examples", "", "Each is one file, run as `python examples/NAME.py`."]
    for name in names():
        title, _, _ = parts(name)
        figure = f"![{title}](../assets/examples/{name}.svg){{ width=360 }}"
        lines += ["", f"## [{title}]({name}.md)", "", f"[{figure}]({name}.md)"]
    return "\n".join(lines) + "\n"


def on_config(config):
    """Put the pages of the gallery where the navigation names its index."""
    titles = {name: parts(name)[0].partition(":")[0] for name in names()}
    pages = [INDEX, *({title: f"examples/{n}.md"} for n, title in titles.items())]
    for entry in config.nav:
        if INDEX in entry.values():
            entry.update({title: pages for title in entry})
    return config


def on_files(files, config):
    """Add the pages of the gallery to those that are in `docs`."""
    from mkdocs.structure.files import File

    files.append(File.generated(config, INDEX, content=index()))
    for name in names():
        path = f"examples/{name}.md"
        files.append(File.generated(config, path, content=page(name)))
    return files


def render(name):
    """Run an example and keep what it prints and draws."""
    import matplotlib as mpl

    mpl.use("Agg")
    mpl.rcParams["svg.hashsalt"] = "ctep"  # the same file for the same numbers
    os.environ["SOURCE_DATE_EPOCH"] = "0"
    main = runpy.run_path(str(EXAMPLES / f"{name}.py"))["main"]
    with contextlib.redirect_stdout(io.StringIO()) as output:
        main(["--figure", str(ASSETS / f"{name}.svg")])
    (ASSETS / f"{name}.txt").write_text(output.getvalue())


if __name__ == "__main__":
    ASSETS.mkdir(parents=True, exist_ok=True)
    for name in sys.argv[1:] or names():
        render(name)
        print(name, flush=True)
