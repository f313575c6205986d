"""Published systems by name: `ctep.recipes.get("fre-2x512")`."""

import difflib

from .. import _checks as checks
from . import (
    digits,
    fre_2x512,
    fre_3x512,
    fre_5x64,
    fre_5x64_asymmetric,
    fre_10x64,
    fre_10x64_agt,
    fre_10x64_residual,
    fre_20x64,
    fre_20x64_residual,
    fre_conv_cifar10,
    fre_conv_mnist,
    fre_resnet13,
    fre_vgg11,
    fre_vgg13,
    hopfield_resnet13,
    p_ep_2x512,
    vgg5,
    vgg7,
    vgg7_kd,
    vgg7_kdw,
    vgg7_le,
    vgg10_kd,
    vgg11_le,
    vgg12_kd,
    vgg13_le,
    vgg15_teacher,
    vgg16_teacher,
    vgg19_teacher,
)
from .base import Recipe as Recipe

# In the order of a list: examples, then system by system.
_MODULES = (
    digits,
    fre_10x64,
    fre_10x64_agt,
    fre_10x64_residual,
    fre_20x64,
    fre_20x64_residual,
    fre_2x512,
    fre_3x512,
    fre_5x64,
    fre_5x64_asymmetric,
    fre_conv_cifar10,
    fre_conv_mnist,
    p_ep_2x512,
    fre_vgg11,
    fre_vgg13,
    fre_resnet13,
    vgg7,
    vgg7_le,
    vgg7_kd,
    vgg7_kdw,
    vgg11_le,
    vgg13_le,
    vgg10_kd,
    vgg12_kd,
    vgg5,
    hopfield_resnet13,
    vgg19_teacher,
    vgg16_teacher,
    vgg15_teacher,
)
RECIPES: dict[str, Recipe] = {m.RECIPE.name: m.RECIPE for m in _MODULES}


def get(name: str) -> Recipe:
    """Return a recipe by its name.

    Raises:
        ValueError: if there is none, with the nearest names.
    """
    checks.instance("recipe", name, str, "a name", "fre-2x512")
    if name in RECIPES:
        return RECIPES[name]
    near = difflib.get_close_matches(name, RECIPES, n=3, cutoff=0.4) or list(RECIPES)
    raise ValueError(
        f"`recipe` is {name!r}, which is not known: did you mean {' or '.join(near)}?"
    )
