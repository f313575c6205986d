"""Link a word of the glossary where a page first uses it, as an MkDocs hook.

The glossary is the table in docs/notation.md under that heading, the words' one home.
"""

import html
import re
from pathlib import Path

NOTATION = Path(__file__).resolve().parent.parent / "notation.md"
# How the words appear in sentences. "The rest of them" is not at rest.
FORMS = {
    "nudge": r"nudg(?:e|es|ed)",
    "rest": r"(?:at|to) rest|rests",
    "sweep": r"sweeps?",
    "twin": r"twins?",
    "attenuation": r"attenuat(?:ion|ed|es)",
    "increment": r"increments?",
    "unsettled": r"unsettled",
    "probe": r"probe batch",
}
# Where no link belongs.
_CLOSED = {"a", "code", "pre", "script", "style", "button", "figcaption"}
_CLOSED |= {f"h{n}" for n in range(1, 7)}


def meanings():
    """Return the meaning of each word, as plain text."""
    section = NOTATION.read_text().split("## Glossary\n", 1)[1].split("\n## ", 1)[0]
    rows = re.findall(
        r'^\| <span id="term-(\w+)">.*?</span> \| (.*) \|$', section, re.M
    )
    return {word: re.sub(r"[$`\\]", "", text) for word, text in rows}


def linked(content, prefix, words):
    """Return a page with the first use of each word in a paragraph as a link."""
    missing, closed, inside, out = dict(words), [], 0, []
    for piece in re.split(r"(<[^>]+>)", content):
        tag = re.match(r"<(/?)(\w+)([^>]*)>", piece)
        if tag:
            end, name, rest = tag.groups()
            formula = name in ("span", "div") and "arithmatex" in rest
            if not end and not rest.endswith("/") and (name in _CLOSED or formula):
                closed.append(name)
            elif end and closed and closed[-1] == name:
                closed.pop()
            if name == "p":
                inside += -1 if end else 1
        elif inside > 0 and not closed:
            for word in list(missing):
                pattern = rf"\b(?:{FORMS[word]})\b"
                title = html.escape(missing[word])
                link = rf'<a class="term" href="{prefix}#term-{word}" title="{title}">'
                piece, count = re.subn(
                    # Not within a link that was just made.
                    rf"{pattern}(?![^<]*</a>)",
                    lambda found, link=link: f"{link}{found[0]}</a>",
                    piece,
                    count=1,
                )
                if count:
                    del missing[word]
        out.append(piece)
    return "".join(out)


def on_page_content(content, page, files, **_):
    """Link the words of a page, but not in the reference and the glossary itself."""
    if page.file.src_uri == "notation.md" or page.file.src_uri.startswith("api/"):
        return content
    where = files.get_file_from_path("notation.md")
    return linked(content, where.url_relative_to(page.file), meanings())
