"""Many runs of one recipe: a grid of changed numbers and of seeds in one folder."""

import csv
import io
import itertools
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from .. import _checks as checks, data
from .._custom_types import Number
from .._html import as_html
from .._rule import AbstractRule
from .._text import aligned
from .._train.store import folder, history
from ..analysis import plot
from ._all import get
from .run import say, train

_FILE, _TABLE = "study.json", "study.csv"
# What one line of the table says of an epoch, after what the run was.
_MEASURED = (
    "epoch", "loss", "train_accuracy", "validation_accuracy", "test_accuracy",
    "sweeps", "unsettled", "gradient_cosine", "seconds",
)  # fmt: skip

Values = Number | Sequence[Number] | None


class Study(NamedTuple):
    """The runs of a study, as far as they have come.

    Fields:
        recipe: its name.
        axes: what was varied, by name, in the order given.
        rows: one per run and epoch: the recipe, what was varied, the seed, and what the
            epoch measured, accuracies as fractions; `None` where nothing is known.
    """

    recipe: str
    axes: tuple[str, ...]
    rows: list[dict[str, Any]]

    def curves(self, measure: str) -> dict[tuple[float, ...], np.ndarray]:
        """Return a measure by cell: `(seeds, epochs)`, NaN where nothing is known.

        Args:
            measure: such as `"test_accuracy"`.
        """
        runs: dict[tuple, dict[int, dict[int, float]]] = {}
        for row in self.rows:
            value = row[measure]
            seeds = runs.setdefault(tuple(row[axis] for axis in self.axes), {})
            epochs = seeds.setdefault(row["seed"], {})
            epochs[row["epoch"]] = math.nan if value is None else value
        length = max((row["epoch"] for row in self.rows), default=0)
        return {
            cell: np.array(
                [
                    [seeds[seed].get(n + 1, math.nan) for n in range(length)]
                    for seed in sorted(seeds)
                ]
            )
            for cell, seeds in runs.items()
        }

    def varied(self) -> tuple[str, ...]:
        """Return those of the axes that have several values."""
        return tuple(k for k in self.axes if len({row[k] for row in self.rows}) > 1)

    def ends(self) -> dict[tuple[float, ...], np.ndarray]:
        """Return the test accuracies of each cell: `(seeds, 2)`, best and final.

        With a validation the best epoch is that of it, not of the test. Runs without a
        test accuracy are left out.
        """
        judges, out = self.curves("validation_accuracy"), {}
        for cell, values in self.curves("test_accuracy").items():
            pairs = []
            for judge, run in zip(judges[cell], values, strict=True):
                known = run[np.isfinite(run)]
                judge = judge[np.isfinite(run)]
                if known.size:
                    by = judge if np.isfinite(judge).all() else known
                    pairs.append((known[np.argmax(by)], known[-1]))
            if pairs:
                out[cell] = np.array(pairs)
        return out

    def table(self) -> list[list[str]]:
        """Return the cells with their accuracy: best and final, mean over the seeds."""
        out = [[*self.axes, "seeds", "best test %", "final test %", "sweeps", "cosine"]]
        ends, others = self.ends(), ("sweeps", "gradient_cosine")
        sweeps, cosines = map(self.curves, others)
        for cell, runs in self.curves("test_accuracy").items():
            figures = map(_spread, 100 * ends[cell].T) if cell in ends else ("-", "-")
            out.append(
                [
                    *(f"{value:g}" for value in cell),
                    str(len(runs)),
                    *figures,
                    *(_mean(c[cell]) for c in (sweeps, cosines)),
                ]
            )
        return out

    def __str__(self):
        return "\n".join([*aligned(self.table(), left=0), *self._legend()])

    def _repr_html_(self):
        return as_html([self.table(), *self._legend()], left=0)

    def _legend(self):
        if any(len(runs) > 1 for runs in self.ends().values()):
            yield "+- is the standard deviation over the seeds."
        if any(row["validation_accuracy"] is not None for row in self.rows):
            yield "The best epoch is that of the best validation accuracy."


def study(
    name: str,
    *,
    out: str | Path,
    seeds: int = 3,
    epochs: int | None = None,
    feedback: Values = None,
    beta: Values = None,
    rate: Values = None,
    solver_tol: Values = None,
    batch_size: Values = None,
    scale: Values = None,
    validation: Number | None = None,
    rule: AbstractRule | None = None,
    dataset: object = None,
    data_dir: str | Path | None = None,
    progress: bool = True,
) -> Study:
    """Train a recipe with every combination of some numbers, several seeds each.

    Every run has a folder of its own in `out`, as `ctep.recipes.train` leaves it, and
    `study.csv` has one line per run and epoch. It is written anew after each run. In
    the end `study.png` shows them over the epochs, and `swept.png` their accuracies
    over the values, where one axis alone has several.

    A study that was cut goes on where it ended, one that is called with more values or
    more seeds runs those alone; a run that diverged stays as it is. The table keeps
    what earlier calls ran, the result has what this one asked for.

    ```python
    import ctep

    found = ctep.recipes.study(
        "digits", feedback=[0.1, 0.3], seeds=2, epochs=1, out="study"
    )
    print(found)
    figure = ctep.analysis.plot.study(found)
    ```

    Args:
        name: a recipe, see `ctep recipes`.
        out: folder of the study.
        seeds: number of seeds, which are 0, 1, ...
        epochs: the length of each run; that of the recipe by default.
        feedback: one value or several of what `ctep.recipes.train` calls so. This and
            the following ones, where they are given, are the axes of the study.
        beta: nudge of the rule.
        rate: the largest learning rate.
        solver_tol: tolerance of the solver.
        batch_size: examples per step.
        scale: factor of every width.
        validation: fraction of the training set that is held out of all runs, to say
            which of their epochs is the best.
        rule: another rule than the recipe's.
        dataset: the name of a dataset instead of the recipe's.
        data_dir: where TFDS keeps its data.
        progress: whether to print.

    Raises:
        TypeError: if an argument is not of its kind.
        ValueError: if a value is out of range or comes twice, the recipe has a teacher,
            or `out` holds another study or something else.
        KeyboardInterrupt: on Ctrl-C, once the run on its way is saved; the table has
            what was reached.

    Cost: that of its runs, one after the other. Runs of another seed, rate, nudge or
    tolerance share their compiled programs. Others compile their own: the feedback
    decides whether there is an energy, before anything is computed.
    """
    recipe, seeds = get(name), checks.count("seeds", seeds, "3")
    epochs = checks.count("epochs", recipe.epochs if epochs is None else epochs, "10")
    given = {
        "feedback": feedback, "beta": beta, "rate": rate, "solver_tol": solver_tol,
        "batch_size": batch_size, "scale": scale,
    }  # fmt: skip
    values = {key: _several(key, v) for key, v in given.items() if v is not None}
    if recipe.teacher is not None:
        raise ValueError(
            f"`recipe` is {name!r}, which learns from a teacher, and a study trains "
            "none: train it by `ctep.recipes.train`."
        )
    root = Path(out).expanduser()
    loaded = data.load(dataset or recipe.dataset, data_dir=data_dir)
    protocol = {
        "recipe": name, "epochs": epochs, "dataset": str(dataset or recipe.dataset),
        "rule": repr(rule or recipe.rule), "axes": list(values),
    }  # fmt: skip
    held = {} if validation is None else {"validation": checks.number(validation)}
    protocol |= held
    wanted: list[dict[str, Any]] = [
        dict(zip([*values, "seed"], combination, strict=True))
        for combination in itertools.product(*values.values(), range(seeds))
    ]
    for how in wanted:  # all of them, before anything is trained or written
        how = {"epochs": epochs, "rule": rule, **held, **how}
        jax.eval_shape(lambda how=how: recipe.setup(loaded, **how) and None)
    runs = {_label(how): how for how in wanted} | _claim(root, protocol)
    _write(root, protocol, runs)
    for k, how in enumerate(wanted):
        own = root / _label(how)
        if runs[own.name].get("diverged") or len(history.read(own)) >= epochs:
            continue
        if progress:
            say(f"run {k + 1} of {len(wanted)}: {own.name}")
        try:
            result = train(
                name, epochs=epochs, rule=rule, dataset=loaded, out=own,
                resume=(own / "run.json").is_file(), progress=False, **held, **how,
            )  # fmt: skip
            if result.status == "diverged":
                runs[own.name] = {**how, "diverged": result.reason}
        finally:
            _write(root, protocol, runs)
    found = Study(name, tuple(values), _rows(root, name, wanted))
    figures = _draw(found, root)
    if progress:
        say(found)
        say(f"{root / _TABLE} has one line per run and epoch.")
        if figures:
            verb = "show" if len(figures) > 1 else "shows"
            say(f"{' and '.join(map(str, figures))} {verb} them.")
    return found


def _several(name: str, value: Any) -> tuple[int | float, ...]:
    several = value if isinstance(value, Sequence) else (value,)
    numbers = tuple(checks.positive(name, v, "0.1") for v in several)
    if not numbers or len(set(numbers)) < len(numbers):
        raise ValueError(
            f"`{name}` is {checks.shown(value)}, but must hold one number or several "
            "that differ: pass for example `[0.1, 0.3]`."
        )
    # 1 and 1.0 are one run. From 2**53 on every float is whole.
    plain = map(float, numbers)
    return tuple(int(v) if v.is_integer() and v < 2**53 else v for v in plain)


def _label(how: dict[str, Any]) -> str:
    return "_".join(f"{name}-{value!r}" for name, value in how.items())


def _claim(root: Path, protocol: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the runs of a study that has begun, by folder; raise if it is another."""
    path = root / _FILE
    if not path.is_file():
        if root.is_dir() and any(root.iterdir()):
            raise ValueError(
                f"`out` ({root}) holds files but no study: name a new or an empty "
                "folder."
            )
        root.mkdir(parents=True, exist_ok=True)
        return {}
    kept = folder.parse_object(path.read_bytes())
    for key in [*protocol, "validation"]:
        value = protocol.get(key)
        if kept.get(key) != value:
            raise ValueError(
                f"`out` ({root}) holds a study with {key} = {kept.get(key)}, not "
                f"{value}: name another `out`, or set that back."
            )
    return dict(kept.get("runs", {}))


def _rows(root, name, runs) -> list[dict[str, Any]]:
    return [
        {"recipe": name, **how, **{key: record.get(key) for key in _MEASURED}}
        for how in runs
        for record in history.read(root / _label(how))
    ]


def _write(root: Path, protocol: dict[str, Any], runs: dict[str, dict]) -> None:
    """Write the runs so far and the table of all of them."""
    titles = [*protocol["axes"], "seed"]
    every = [{title: how[title] for title in titles} for how in runs.values()]
    every.sort(key=lambda how: tuple(how.values()))
    text = io.StringIO()
    writer = csv.DictWriter(text, ["recipe", *titles, *_MEASURED], lineterminator="\n")
    writer.writeheader()
    writer.writerows(_rows(root, protocol["recipe"], every))
    whole = json.dumps({**protocol, "runs": runs}, indent=2) + "\n"
    for path, content in ((root / _FILE, whole), (root / _TABLE, text.getvalue())):
        with folder.writing(path):
            folder.write_atomically(path, content.encode())


def _draw(found: Study, root: Path) -> list[Path]:
    """Write the figures of a study, as far as there is something to show."""
    import matplotlib.pyplot as plt

    figures = [plot.study] if found.rows else []
    figures += [plot.swept] if len(found.varied()) == 1 and found.ends() else []
    for draw in figures:
        figure = draw(found)
        with folder.writing(path := root / f"{draw.__name__}.png"):
            figure.savefig(path, dpi=150, facecolor="white")
        plt.close(figure)
    return [root / f"{draw.__name__}.png" for draw in figures]


def _spread(values: np.ndarray) -> str:
    spread = f"+-{values.std(ddof=1):.2f}" if len(values) > 1 else ""
    return f"{values.mean():.2f}{spread}"


def _mean(values: np.ndarray) -> str:
    known = values[np.isfinite(values)]
    return f"{known.mean():.4g}" if known.size else "-"
