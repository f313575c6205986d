import importlib
from pathlib import Path

import jax
import jaxtyping
import matrix
import pytest

import ctep
from ctep import _checks as checks

FOLDER = Path(__file__).resolve().parent.parent / "benchmarks"
# Not those that take seconds: processes, analyses, solvers to be traced.
CASES = {
    "constructors": 46, "builders": 22, "nudges and schedules": 16, "rules": 16,
    "pipelines": 8, "ctep.gradient": 10, "ctep.fit": 6, "datasets": 10,
    "command line": 6, "files of a run": 12,
}  # fmt: skip


@pytest.fixture(scope="module")
def bad_input():
    """The benchmark of the same cases, run as users run the package."""
    if not FOLDER.is_dir():
        pytest.skip("the benchmarks are not part of this copy")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(FOLDER)
        patch.setattr(jaxtyping.config, "jaxtyping_disable", True)
        # What passed every check would be compiled next.
        module = importlib.import_module("ctep._rule.gradient")
        done = jax.numpy.zeros(()), None, ctep.RESULTS.successful
        patch.setattr(module, "_gradient", lambda *args: done)
        # Frames inside JAX must be seen.
        before = jax.config.jax_traceback_filtering  # pyright: ignore
        jax.config.update("jax_traceback_filtering", "off")
        import bad_input

        yield bad_input
        jax.config.update("jax_traceback_filtering", before)


@matrix.campaign
def test_generated_bad_input_is_answered_in_one_line(bad_input):
    """Oracle: the exceptions that are documented, raised by the package itself."""
    found = bad_input.measure(CASES, seed=1)
    assert bad_input.faults(found) == []
    assert {name: bad_input.count(rows)["refused"] for name, rows in found.items()} == (
        CASES
    )


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: 1 / 0, "ZeroDivisionError is not documented"),
        (lambda: jax.numpy.ones(2) @ jax.numpy.ones(3), "TypeError from "),
        (lambda: "other weights", "other weights"),
        (lambda: [0][1], "IndexError is not documented"),
    ],
)
def test_other_answers_are_noticed(bad_input, call, message):
    """Oracle: answers that are known to be none."""
    verdict, _ = bad_input.judged(call)
    assert verdict.startswith(message)


def test_answers_of_two_lines_and_late_ones_are_noticed(bad_input, monkeypatch):
    """Oracle: a sentence that a value breaks, and a call that does not return."""
    broken = lambda: checks.choice("a\nb", 1, ("c",))  # noqa: E731
    assert bad_input.judged(broken)[0].startswith("ValueError of ")
    monkeypatch.setattr(bad_input, "LIMIT", 1)

    def forever():
        while True:
            pass

    assert bad_input.judged(forever)[0] == "slower than 1 s"
