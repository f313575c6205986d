"""What a notebook shows: text and tables as HTML, in the colours of its page."""

from collections.abc import Iterable, Sequence
from html import escape

from ._text import printable

# A sentence, or the rows of a table with its titles first.
Part = str | Sequence[Sequence[str]]


def as_html(parts: Iterable[Part], left: int = 1) -> str:
    """Return sentences and tables below each other.

    Args:
        parts: a sentence, or the rows of a table, its titles first.
        left: how many columns stand to the left, those after them to the right.
    """
    return "\n".join(
        f"<p>{_safe(part)}</p>" if isinstance(part, str) else _table(part, left)
        for part in parts
    )


def _table(rows, left):
    lines = []
    for n, row in enumerate(rows):
        cell = "td" if n else "th"
        sides = ("left" if k < left else "right" for k in range(len(row)))
        cells = (
            f'<{cell} style="text-align: {side}">{_safe(text)}</{cell}>'
            for side, text in zip(sides, row, strict=True)
        )
        lines.append(f"<tr>{''.join(cells)}</tr>")
    head, *body = lines
    return f"<table><thead>{head}</thead><tbody>{''.join(body)}</tbody></table>"


def _safe(text):
    return escape(printable(text).strip()).replace("\n", "<br>")
