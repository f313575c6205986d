"""Published systems by name: `ctep.recipes.get("fre-2x512")`."""

import difflib

from . import digits, fre_2x512, fre_3x512, fre_10x64, fre_20x64
from .base import Recipe as Recipe

_MODULES = (digits, fre_2x512, fre_3x512, fre_10x64, fre_20x64)
RECIPES: dict[str, Recipe] = {m.RECIPE.name: m.RECIPE for m in _MODULES}


def get(name: str) -> Recipe:
    """Return a recipe by its name.

    Raises:
        ValueError: if there is none, with the nearest names.
    """
    if name in RECIPES:
        return RECIPES[name]
    near = difflib.get_close_matches(name, RECIPES, n=3, cutoff=0.4) or list(RECIPES)
    raise ValueError(
        f"`recipe` is {name!r}, which is not known: did you mean {' or '.join(near)}?"
    )
