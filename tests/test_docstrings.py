"""The examples in docstrings run, and the names that a reader needs are public."""

import inspect
import re
import textwrap
from pathlib import Path

import matrix

import ctep

DOCS = Path(__file__).parent.parent / "docs"


def public():
    """Return all public objects by their names."""
    found = {}
    for module in (ctep, ctep.analysis, ctep.data, ctep.recipes):
        for name, value in vars(module).items():
            known = getattr(value, "__module__", "") or ""
            if not name.startswith("_") and known.startswith("ctep"):
                found[f"{module.__name__}.{name}"] = value
    return found


def examples():
    """Return the fenced examples of public docstrings by name."""
    found = {}
    for name, value in public().items():
        text = textwrap.dedent("    " + (value.__doc__ or ""))
        blocks = re.findall(r"```python\n(.*?)```", inspect.cleandoc(text), re.S)
        for n, block in enumerate(blocks):
            found[f"{name} {n}" if n else name] = block
    return found


EXAMPLES = examples()
ABSTRACT = [name for name, value in public().items() if ".Abstract" in name]


@matrix.parametrize("name", EXAMPLES, [n for n in EXAMPLES if ".Abstract" in n])
def test_an_example_runs(name, tmp_path, monkeypatch):
    """In an empty folder, on its own."""
    monkeypatch.chdir(tmp_path)
    exec(compile(EXAMPLES[name], name, "exec"), {"__name__": "example"})


def test_examples_are_where_people_look():
    """Every abstract class shows how to subclass it; the doors show how to call."""
    lacking = [n for n in ABSTRACT if "class " not in EXAMPLES.get(n, "isinstance")]
    assert len(ABSTRACT) >= 12
    assert set(lacking) <= {"ctep.AbstractPool"}
    doors = "mlp vgg graph fit gradient settle predict evaluate restore".split()
    assert [d for d in doors if f"ctep.{d}" not in EXAMPLES] == []


def test_names_on_the_page_for_authors_are_public():
    """Oracle: the page, in which every `ctep.name` and `AbstractName` must be found."""
    text = (DOCS / "write-your-own.md").read_text()
    used = set(re.findall(r"\bctep((?:\.\w+)+)", text))
    used |= {f".{name}" for name in re.findall(r"\bAbstract\w+", text)}
    for path in used:
        value = ctep.data if "Records" in path else ctep
        for part in path.removeprefix(".data").strip(".").split("."):
            assert not part.startswith("_")
            value = getattr(value, part)
