"""One page with all analyses, which needs nothing beside itself."""

import base64
import dataclasses
from collections.abc import Sequence
from html import escape

# For light and dark pages alike: the figures have no ground of their own.
_STYLE = """
:root { color-scheme: light dark }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60em; margin: 2em auto;
  padding: 0 1em }
section { border-top: 1px solid #7f7f7f; margin-top: 2em }
figure { margin: 1em 0 } figure img { max-width: 100% }
figcaption { max-width: 40em }
nav a { margin-right: 1em }
div.numbers { overflow: auto; max-height: 24em; font-size: 85% }
table { border-collapse: collapse; font-variant-numeric: tabular-nums }
td, th { padding: 0 .7em }
"""


@dataclasses.dataclass(frozen=True)
class Section:
    """What the page has of one analysis.

    Fields:
        name: of the analysis.
        numbers: as HTML.
        figure: as SVG, empty if there is none.
        caption: how to read the figure.
    """

    name: str
    numbers: str
    figure: bytes = b""
    caption: str = ""

    @property
    def title(self) -> str:
        """The name in words."""
        return self.name.replace("_", " ").capitalize()

    def __str__(self):
        parts = [f'<section id="{self.name}"><h2>{escape(self.title)}</h2>']
        if self.figure:
            data = base64.b64encode(self.figure).decode()
            parts.append(
                f'<figure><img src="data:image/svg+xml;base64,{data}" '
                f'alt="{escape(self.title)}">'
                f"<figcaption>{escape(self.caption)}</figcaption></figure>"
            )
        parts.append(f'<div class="numbers">{self.numbers}</div></section>')
        return "\n".join(parts)


def page(title: str, head: str, sections: Sequence[Section]) -> str:
    """Return a page of its own.

    Args:
        title: plain text.
        head: HTML above all sections.
        sections: in order.
    """
    links = "".join(f'<a href="#{s.name}">{escape(s.title)}</a> ' for s in sections)
    parts = [
        f'<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f"<title>{escape(title)}</title>"
        # No browser then asks for an icon.
        f'<link rel="icon" href="data:,"><style>{_STYLE}</style></head><body>',
        f"<h1>{escape(title)}</h1>{head}<nav>{links}</nav>",
        *map(str, sections),
        "</body></html>",
    ]
    return "\n".join(parts) + "\n"
