"""What the README and the examples show is what happens."""

import re
import runpy
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
TOY = {"own_energy.py": ["--epochs", "1"], "deep_chain.py": ["--depth", "3"]}


@pytest.mark.parametrize("block", BLOCKS, ids=range(len(BLOCKS)))
def test_readme_code_runs(block):
    """The README's own code, each block by itself."""
    exec(compile(block, "README.md", "exec"), {})


def test_readme_shows_code_early():
    """A reader finds a runnable example within the first thirty lines."""
    lines = README.splitlines()
    assert lines.index("```python") < 30
    assert len(lines) <= 100


def test_every_example_is_run():
    """No example without a toy setting here."""
    assert {p.name for p in (ROOT / "examples").glob("*.py")} == set(TOY)


@pytest.mark.parametrize("name", TOY)
def test_example_runs(name, monkeypatch, capsys):
    """Each example runs at toy size and prints something."""
    monkeypatch.setattr(sys, "argv", [name, *TOY[name]])
    runpy.run_path(str(ROOT / "examples" / name), run_name="__main__")
    assert capsys.readouterr().out
