"""Text for a terminal: tables, and nothing that can command it."""

from collections.abc import Sequence


def aligned(rows: Sequence[Sequence[str]], left: int = 1) -> list[str]:
    """Return rows as lines, their columns two blanks apart.

    Args:
        rows: the cells of each line, all rows of the same length.
        left: how many columns stand to the left, numbers after them to the right.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    sides = [str.ljust if n < left else str.rjust for n in range(len(widths))]
    lines = [
        [f(v, w) for f, v, w in zip(sides, row, widths, strict=True)] for row in rows
    ]
    return ["  ".join(line).rstrip() for line in lines]


def indented(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return a table two blanks from the edge, its first column to the left."""
    return [f"  {line}" for line in aligned(rows)]


def counted(count: object, noun: str) -> str:
    """Return a number of things, e.g. `1 epoch` or `2 epochs`."""
    return f"{count} {noun}" if str(count) == "1" else f"{count} {noun}s"


def printable(text: str) -> str:
    """Return `text` with control characters, but not newlines, as escapes."""
    return "".join(c if c.isprintable() or c == "\n" else _escaped(c) for c in text)


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode()
