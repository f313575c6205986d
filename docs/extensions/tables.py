"""Write tables into pages whenever the site is built: of the recipes, and of results.

`<!-- recipes -->` becomes all recipes under their headings. `<!-- results: A B -->`
becomes what is published of these recipes, and what the runs kept in docs/results
have reached. `<!-- scaling law -->`, `<!-- dynamics -->` and `<!-- oscillating -->`
become these results.
"""

import json
import re
from pathlib import Path

import numpy as np

from ctep.cli import _count
from ctep.recipes import RECIPES, get

RESULTS = Path(__file__).resolve().parent.parent / "results"
NOT_RUN = "not run"
# Headings, and how the names of the recipes below them begin.
GROUPS = (
    ("Examples", ("digits",)),
    ("Feedback-regulated networks", ("fre-",)),
    ("Deep networks without help", ("fre-vgg", "fre-resnet", "fre-air")),
    ("Prototype equilibrium propagation", ("p-ep",)),
    ("Intermediate error signals", ("vgg7", "vgg10", "vgg11", "vgg12", "vgg13")),
    ("Deep convolutional Hopfield networks", ("vgg5", "hopfield")),
    ("Teachers", ("vgg15", "vgg16", "vgg19")),
)


def on_page_markdown(markdown, **_):
    """Replace the marks of a page by their tables."""
    for name, make in (
        ("recipes", recipes),
        ("scaling law", scaling_law),
        ("dynamics", dynamics),
        ("oscillating", oscillating),
    ):
        if f"<!-- {name} -->" in markdown:
            markdown = markdown.replace(f"<!-- {name} -->", make())
    mark = r"<!-- results: (.*?) -->"
    return re.sub(mark, lambda found: results(found[1].split()), markdown)


def recipes():
    out = []
    for title, _ in GROUPS:
        members = [r for r in RECIPES.values() if group(r.name) == title]
        head = ("recipe", "dataset", "parameters", "published", "ours", "per epoch", "")
        rows = [
            (code(r.name), r.dataset, _count(r), r.published, r.ours, r.cost, r.summary)
            for r in members
        ]
        out += [f"## {title}\n", table(head, rows), *sources(members)]
    return "\n".join(out)


def group(name):
    """Return the heading with the longest beginning of the name."""
    pairs = [(start, title) for title, starts in GROUPS for start in starts]
    found = [(len(start), title) for start, title in pairs if name.startswith(start)]
    if not found:
        raise ValueError(f"the recipe {name!r} is in no group: add it to `GROUPS`.")
    return max(found)[1]


def sources(members):
    """Yield each source once, with the names of its recipes."""
    link = r"[arXiv:\1](https://arxiv.org/abs/\1)"
    for source in dict.fromkeys(r.source for r in members):
        names = [code(r.name) for r in members if r.source == source]
        some = "" if len(names) == len(members) else f"{', '.join(names)}: "
        yield f"{some}{re.sub(r'arXiv:([0-9]+[.][0-9]+)', link, source)}\n"


def results(names):
    """Return a table of what is published of recipes, and what they reached here."""
    what = ("published", "best epoch", "final epoch", "worst unsettled")
    percent = [f"{name}, %" for name in what]
    head = ["recipe", *percent[:3], "seeds x epochs", percent[3], "worst cosine"]
    rows = [
        (code(name), get(name).published.replace(" %", ""), *reached(name))
        for name in names
    ]
    if all(row[2] == NOT_RUN for row in rows):
        rows = [row[:3] for row in rows]
        none = "No full run has been made yet, so no published accuracy is confirmed."
        return f"{table([*head[:2], 'ours'], rows)}\n{none}\n"
    return table(head, rows)


def reached(name):
    """Return what the full runs of a recipe have reached, in the table's columns."""
    # What follows the name where width, data and rule are the recipe's own.
    runs = [
        json.loads(path.read_text())["details"]
        for kind in ("seed", "precision")
        for path in sorted(RESULTS.glob(f"accuracy-{name}-{kind}*.json"))
    ]
    if not runs:
        return (NOT_RUN, "", "", "", "")
    cosines = [d["worst_gradient_cosine"] for d in runs if "worst_gradient_cosine" in d]
    return (
        spread([d["best_test_accuracy"] for d in runs]),
        spread([d["final_test_accuracy"] for d in runs]),
        f"{len(runs)} x {max(d['epochs'] for d in runs)}",
        f"{100 * max(d['worst_unsettled'] for d in runs):.2f}",
        f"{min(cosines):.4f}" if cosines else "",
    )


def kept(name):
    return json.loads((RESULTS / f"{name}.json").read_text())


def scaling_law():
    """Return how the first layer's gradient compares with backpropagation."""
    head = ("layers", "$\\gamma$", "cosine", "second", "ratio", "second")
    rows = []
    for case, found in kept("scaling-law")["details"].items():
        layers, gamma = re.fullmatch(r"(\d+) layers, feedback (.+)", case).groups()
        cells = []
        keys = (("cosine", 4), ("ratio", 3))
        for (key, digits), known in zip(keys, found["known"], strict=True):
            first = np.array(found[key])[:, 0]
            low, mean, high = (
                f"{v:.{digits}f}" for v in (first.min(), first.mean(), first.max())
            )
            ends = [re.sub(r"^[.]", "0.", end) for end in known.split("-")]
            cells += [f"{mean} ({low} to {high})", " to ".join(filter(None, ends))]
        rows.append((layers, gamma, *cells))
    return table(head, rows)


def dynamics():
    """Return exponents and convergence times, with those of the published figure."""
    found = kept("dynamics")["details"]
    head = ("feedback", "$\\gamma$", "exponent", "published", "steps", "published")
    rows = []
    for kind, ours in found["rows"].items():
        theirs = zip(*found["published"][kind], strict=True)
        for gamma, row, known in zip(found["gammas"], ours, theirs, strict=True):
            exponent, time = ("" if v is None else f"{v:g}" for v in known)
            steps = "" if row["time"] is None else f"{row['time']:.1f}"
            settled = f"{100 * row['converged']:.4g}"
            mine = f"{row['exponent']:.2f}"
            rows.append((kind, f"{gamma:g}", mine, exponent, steps, time, settled))
    verdict, *_ = kept("dynamics")["figure"].partition(";")
    return f"{table((*head, 'converged, %'), rows)}\n{verdict}.\n"


def oscillating():
    """Return a sentence on learning without a free phase, none if it was not run."""
    if not (RESULTS / "oscillating.json").exists():
        return ""
    figure = kept("oscillating")["figure"]
    return (
        "A small symmetric network on MNIST, trained by `Oscillating` and by "
        f"`Centered` (`python benchmarks/oscillating.py`): {figure}.\n"
    )


def spread(values):
    """Return the mean in percent, with the standard deviation of several runs."""
    percent = 100 * np.array(values)
    deviation = f"±{percent.std(ddof=1):.2f}" if len(values) > 1 else ""
    return f"{percent.mean():.2f}{deviation}"


def code(name):
    return f"`{name}`"


def table(head, rows):
    lines = [head, ("---",) * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
