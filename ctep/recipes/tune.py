"""The cheapest settings of a recipe, after a short training of it."""

import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax.numpy as jnp

from .. import _checks as checks, data
from .._train import as_inputs, fit
from ..analysis import RecommendedSettings, recommended_settings
from ._all import get


def tune(
    name: str,
    *,
    batches: int = 64,
    examples: int = 32,
    cosine: float = 0.99,
    dataset: Any = None,
    seed: int = 0,
    scale: float = 1.0,
    batch_size: int | None = None,
    feedback: Sequence[float] = (),
    data_dir: str | Path | None = None,
) -> RecommendedSettings:
    """Train a recipe for a few batches, and find its cheapest settings there.

    ```python
    import ctep

    found = ctep.recipes.tune("digits", batches=2, examples=8)
    print(found)
    ```

    Args:
        name: a recipe without a teacher, see `ctep recipes`.
        batches: to train for first, at the rates of the recipe's first epoch.
        examples: of the training set to measure on, the next ones if there are any.
        cosine: the smallest that a weight's gradient may have.
        dataset: data instead of the recipe's: whatever `ctep.data.load` takes.
        seed: that of the weights and the order of the examples.
        scale: factor of every width.
        batch_size: examples per step of the training.
        feedback: scales of feedback to try too; see `recommended_settings`.
        data_dir: where TFDS keeps its data; the variable `TFDS_DATA_DIR` by default.

    Returns:
        What was tried, and the cheapest of it; its `network` is the one that has been
        trained. Examples without a rest are left out, and counted.

    Raises:
        TypeError: if an argument is not of its kind.
        ValueError: if there is no such recipe, it learns from a teacher, or an argument
            is out of range.
        FileNotFoundError: if the dataset is not prepared.
        RuntimeError: if training ends in NaN, or no example comes to rest.

    Cost: that of so many batches, and of `recommended_settings`.
    """
    recipe = get(name)
    batches = checks.count("batches", batches, "64")
    examples = checks.count("examples", examples, "32")
    loaded = data.load(
        recipe.dataset if dataset is None else dataset, data_dir=data_dir
    )
    size = recipe.batch_size if batch_size is None else batch_size
    seen = min(loaded.examples, batches * checks.count("batch_size", size, "50"))
    x, y = loaded.x_train[:seen], loaded.y_train[:seen]
    records = data.ArrayRecords(x, y, loaded.classes)
    # By its name a pipeline knows which means and deviations to take.
    short = dataclasses.replace(loaded, train=records, test=None, content="")
    network, options = recipe.setup(
        short, seed=seed, scale=scale, batch_size=batch_size
    )
    settings: dict[str, Any] = {**options, "epochs": 1, "probe": 0}
    result = fit(network, short, **settings, progress=False)
    if result.status != "completed":
        raise RuntimeError(f"The short training has {result.status}: {result.reason}")
    end = min(seen + examples, loaded.examples)
    x, y = loaded.x_train[end - examples : end], loaded.y_train[end - examples : end]
    return recommended_settings(
        result.network,
        as_inputs(options["pipeline"], jnp.asarray(x), result.network),
        jnp.asarray(y),
        cosine=cosine,
        rule=options["rule"],
        solver=recipe.solver,
        nudge=result.nudge,
        feedback=feedback,
        throw=False,
    )


def usage(name: str, found: RecommendedSettings) -> str:
    """Return how a recipe is trained with what was found: lines of Python.

    No option of `ctep fit` says another rule, or a solver for each phase.
    """
    recipe, best = get(name), found.best
    scale = "" if best.feedback is None else f", feedback={best.feedback:g}"
    said = {key: _written(part) for key, part in found.settings.items()}
    changed = ", ".join(f'"{key}": {text}' for key, text in said.items())
    return (
        f'  data = ctep.data.load("{recipe.dataset}")\n'
        f'  network, options = ctep.recipes.get("{name}").setup(data{scale})\n'
        f"  ctep.fit(network, data, **(options | {{{changed}}}))"
    )


def _written(part) -> str:
    """Return a rule or a solver as Python that makes it."""
    return re.sub(r"\b([A-Z]\w*\()", r"ctep.\1", str(part))
