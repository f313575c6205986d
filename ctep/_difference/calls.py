"""Equations that call a program, and calls that have a rule of their own."""

import functools
import itertools
from collections.abc import Callable
from typing import Any

import jax
from jaxtyping import Array

# Where a primitive keeps the program that it calls.
CALLS = {
    "jit": "jaxpr",
    "pjit": "jaxpr",
    "closed_call": "call_jaxpr",
    "core_call": "call_jaxpr",
    "remat": "jaxpr",
    "remat2": "jaxpr",
    "checkpoint": "jaxpr",
    "custom_jvp_call": "call_jaxpr",
    "custom_vjp_call": "call_jaxpr",
    "custom_vjp_call_jaxpr": "fun_jaxpr",
}


def programs(equation) -> list:
    """Return the programs that an equation calls."""
    name = equation.primitive.name
    if name in CALLS:
        inner = [equation.params[CALLS[name]]]
    elif name == "cond":
        inner = list(equation.params["branches"])
    elif name == "scan":
        inner = [equation.params["jaxpr"]]
    elif name == "while":
        inner = [equation.params["cond_jaxpr"], equation.params["body_jaxpr"]]
    elif name == "custom_linear_solve":
        inner = [equation.params["jaxprs"].matvec]
    else:
        inner = []
    return [getattr(program, "jaxpr", program) for program in inner]


def constants(equation) -> list:
    return list(getattr(equation.params[CALLS[equation.primitive.name]], "consts", ()))


class custom_difference:
    r"""Give a whole function a rule of its own, as `jax.custom_jvp` does.

    ```python
    import ctep
    import jax.numpy as jnp

    @ctep.custom_difference
    def half_square(s):
        return 0.5 * s * s

    @half_square.defdifference
    def rule(s, out, e, scale):
        return e * (s + 0.5 * scale * e)
    ```

    Args:
        function: takes arrays and returns one array. Whatever it is part of, it is one
            call to `ctep.difference`. Within `jax.vmap` of a part of a program its own
            equations are used, and its rule is not.
    """

    _made = itertools.count()

    def __init__(self, function: Callable):
        self._function = function
        functools.update_wrapper(self, function)

        def named(*args):
            return function(*args)

        # Under this name a program keeps the call as one equation.
        name = getattr(function, "__name__", "function")
        self.name = named.__name__ = f"{name}#{next(self._made)}"
        self._call = jax.jit(named, inline=False)

    def __call__(self, *args: Any) -> Array:
        return self._call(*args)

    def defdifference(self, rule: Callable) -> Callable:
        """Register `rule(*s, out, *e, scale)`, which returns the increment of `out`."""
        _CUSTOM[self.name] = self._function, rule
        return rule


_CUSTOM: dict[str, tuple[Callable, Callable]] = {}


def own_rule(equation):
    """Return the rule of a user's own, if the call is still that of its function."""
    name = equation.params.get("name")
    if equation.primitive.name not in ("jit", "pjit") or name not in _CUSTOM:
        return None
    function, rule = _CUSTOM[name]
    shapes = [jax.ShapeDtypeStruct(v.aval.shape, v.aval.dtype) for v in equation.invars]
    try:
        same = str(jax.make_jaxpr(function)(*shapes).jaxpr)
    except Exception:  # of any kind: what was batched may have any shapes
        return None
    # JAX keeps the name when it maps or differentiates a call.
    return rule if same == str(programs(equation)[0]) else None
