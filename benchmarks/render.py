"""Write what the JSON files in docs/results say, where people read it.

That is the tables of docs/benchmarks.md, and ctep/recipes/reached.json, by which
`ctep recipes` says what each recipe has reached.
"""

import argparse
import json
import sys
from pathlib import Path

from _figures import (
    NOT_RUN,
    accuracies,
    evidence,
    figures,
    layers,
    protocol,
    reached,
    relaxations,
)

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "benchmarks.md"
REACHED = ROOT / "ctep" / "recipes" / "reached.json"
BEGIN, END = "<!-- benchmarks: begin -->", "<!-- benchmarks: end -->"

# Title, head and rows of each table.
TABLES = (
    ("Accuracy, test % (of MNIST, if nothing else is said)",
     "recipe, seed, best epoch, final epoch, target best / final, published best, "
     "published final, published best with residual, "
     "published backpropagation best", accuracies),
    ("Evidence of the runs", "run, epochs, seconds, mean sweeps, worst unsettled "
     "%, worst gradient cosine, command", evidence),
    ("Other figures", "figure, target, measured, reached, command", figures),
    ("Cosine with the exact gradient by layer", "recipe, weights, increments, recipe's "
     "settings, plain 0.01, plain 0.1, plain 1", layers),
    ("Over-relaxation of `fre-20x64`", "when, tolerance, relaxation, free + nudged "
     "sweeps, unsettled %, cosine", relaxations),
    ("Protocol", "result, figure, machine, versions, commit, date", protocol),
)  # fmt: skip


def table(head, rows):
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines) + "\n"


def tables():
    for title, head, rows in TABLES:
        lines = list(rows()) or [[NOT_RUN] + [""] * head.count(",")]
        yield f"### {title}\n\n{table(head.split(', '), lines)}"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="fail if out of date")
    args = parser.parse_args()
    before, rest = PAGE.read_text().split(BEGIN)
    _, after = rest.split(END)
    new = {
        PAGE: f"{before}{BEGIN}\n\n{chr(10).join(tables())}\n{END}{after}",
        REACHED: json.dumps(reached(), indent=2, ensure_ascii=False) + "\n",
    }
    for path, text in new.items():
        if args.check and text != path.read_text(encoding="utf-8"):
            sys.exit(f"{path.name} is out of date: run `python benchmarks/render.py`")
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
