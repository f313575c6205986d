"""Tables for a reader."""

from collections.abc import Sequence


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return rows as lines: the first column to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for first, *rest in rows:
        cells = [first.ljust(widths[0])]
        cells += [v.rjust(w) for v, w in zip(rest, widths[1:], strict=True)]
        lines.append("  " + "  ".join(cells).rstrip())
    return lines
