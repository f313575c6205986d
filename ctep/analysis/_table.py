"""Tables for a reader."""

from collections.abc import Sequence


def counted(examples: int, unsettled: int) -> str:
    """Return over how many examples means are taken."""
    left_out = f", {unsettled} more left out that did not settle" if unsettled else ""
    return f"{examples} examples{left_out}"


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return rows as lines: the first column to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for first, *rest in rows:
        cells = [first.ljust(widths[0])]
        cells += [v.rjust(w) for v, w in zip(rest, widths[1:], strict=True)]
        lines.append("  " + "  ".join(cells).rstrip())
    return lines
