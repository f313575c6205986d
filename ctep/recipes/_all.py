"""All recipes by name, in the order of a list: examples, then system by system."""

import difflib

from .. import _checks as checks
from . import _augmented, _fre, _hopfield, _own, _prototype, _unnormalised
from .base import Recipe

RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        _own.DIGITS,
        *_fre.RECIPES,
        *_prototype.RECIPES,
        *_own.DEEP,
        *_unnormalised.RECIPES,
        *_augmented.RECIPES,
        *_hopfield.RECIPES,
        *_augmented.TEACHERS,
    )
}


def get(name: str) -> Recipe:
    """Return a recipe by its name.

    Raises:
        ValueError: if there is none, with the nearest names.
    """
    checks.instance("recipe", name, str, "a name", "fre-2x512")
    if name in RECIPES:
        return RECIPES[name]
    near = difflib.get_close_matches(name, RECIPES, n=3, cutoff=0.4)
    remedy = f"did you mean {' or '.join(near)}?" if near else "see `ctep recipes`."
    raise ValueError(f"`recipe` is {checks.shown(name)}, which is not known: {remedy}")
