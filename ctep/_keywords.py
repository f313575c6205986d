"""A misspelt keyword is answered with the nearest known one."""

import difflib
import functools
import inspect
from collections.abc import Callable
from typing import ParamSpec, TypeVar

_P = ParamSpec("_P")
_R = TypeVar("_R")


def suggests_keywords(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Make `function` name the nearest keyword when it is given an unknown one."""
    known = list(inspect.signature(function).parameters)

    @functools.wraps(function)
    def checked(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        for name in kwargs:
            if name not in known:
                near = difflib.get_close_matches(name, known, n=1, cutoff=0.0)[0]
                raise TypeError(
                    f"`{name}` is no argument of `{function.__name__}`: did you mean "
                    f"`{near}`?"
                )
        return function(*args, **kwargs)

    return checked
