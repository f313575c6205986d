"""Public functions within what a caller has set: a trace, a guard, strict dtypes."""

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
    own, signature = lenient(function), inspect.signature(function)

    @functools.wraps(function)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            given = signature.bind(*args, **kwargs).arguments
        except TypeError:
            if "optimizer" in signature.parameters:
                checks.no_rate(kwargs)
            return function(*args, **kwargs)  # whose own error has its name
        for name, value in given.items():
            leaves = jax.tree_util.tree_leaves(value)
            if any(isinstance(leaf, Tracer) for leaf in leaves):
                raise TypeError(
                    f"`{name}` is traced, but `{function.__name__}` needs its values "
                    "and returns plain numbers: call it outside of `jit`, `grad`, "
                    "`vmap` and `scan`."
                )
        if not checks.traced():
            return own(*args, **kwargs)
        with jax.ensure_compile_time_eval():
            return own(*args, **kwargs)

    return wrapped


def lenient(function: Callable[P, R]) -> Callable[P, R]:
    """Let a function run where the caller is strict.

    About transfers to the device, of which it makes a few numbers and puts there what
    it is given; and about the promotion of dtypes, which optax and it rely on.
    """

    @functools.wraps(function)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        with jax.transfer_guard("allow"), jax.numpy_dtype_promotion("standard"):
            return function(*args, **kwargs)

    return wrapped
