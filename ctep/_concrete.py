"""Functions whose results are plain numbers, called while somebody traces."""

import functools
import inspect
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import jax
from jax.core import Tracer

from . import _checks as checks

P = ParamSpec("P")
R = TypeVar("R")


def concrete(function: Callable[P, R]) -> Callable[P, R]:
    """Let a function that needs values be called within `jit`, `scan` and the like.

    There it runs at once, while the other is traced, if all that it is given has
    values. If not it raises `TypeError`.
    """

    @functools.wraps(function)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        given = inspect.signature(function).bind(*args, **kwargs).arguments
        for name, value in given.items():
            leaves = jax.tree_util.tree_leaves(value)
            if any(isinstance(leaf, Tracer) for leaf in leaves):
                raise TypeError(
                    f"`{name}` is traced, but `{function.__name__}` needs its values "
                    "and returns plain numbers: call it outside of `jit`, `grad`, "
                    "`vmap` and `scan`."
                )
        if not checks.traced():
            return function(*args, **kwargs)
        with jax.ensure_compile_time_eval():
            return function(*args, **kwargs)

    return wrapped
