"""What all results of analyses share: how they print, and how a notebook shows them."""

import abc
from collections.abc import Sequence

from .._html import Part, as_html
from .._text import indented


class Shown(abc.ABC):
    """A result that prints as lines and shows as tables."""

    @abc.abstractmethod
    def _parts(self) -> Sequence[Part]:
        """Return sentences and tables, in the order of reading."""

    def __str__(self) -> str:
        lines = ([p] if isinstance(p, str) else indented(p) for p in self._parts())
        return "\n".join(line for part in lines for line in part)

    def _repr_html_(self) -> str:
        return as_html(self._parts())
