"""Text for a terminal, of which no part can command it."""


def printable(text: str) -> str:
    """Return `text` with control characters, but not newlines, as escapes."""
    return "".join(c if c.isprintable() or c == "\n" else _escaped(c) for c in text)


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode()
