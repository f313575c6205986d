"""`ctep.difference`: finite differences that do not cancel, of any JAX function."""

import functools
import itertools
from collections import Counter
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import Literal
from jaxtyping import Array, ArrayLike, Float, PyTree

from .. import _checks as checks
from .rules import RULES, Site, fallback, is_inexact, outputs, over

# Where a primitive keeps the program that it calls.
_CALLS = {
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
_LOOPS = ("cond", "scan", "while")


def difference(function: Callable, *s: PyTree) -> tuple[PyTree, Callable]:
    r"""Return $f(s)$, and a function that returns $[f(s + a e) - f(s)] / a$.

    $$\mathrm{push}(e; a) = \frac{f(s + a e) - f(s)}{a}, \qquad
    \mathrm{push}(e; 0) = \frac{\partial f}{\partial s}\, e$$

    with the relative precision of the dtype for every scale $a$, however small, since
    no number of order one is ever taken from another. The function is evaluated once,
    and `push` walks through its equations with a rule for each primitive: linear ones
    act on the increment, products add up, elementary functions have closed forms,
    losers of a maximum stand below the winner by their distance over $a$ and may
    overtake, comparisons and indices carry where they were and where they are. What has
    no rule is the mean of its derivative along the path, by quadrature;
    `difference.explain` names it. A whole function may be given a rule by
    `ctep.custom_difference`.

    ```python
    import ctep, jax
    import jax.numpy as jnp

    s, e = jnp.array([0.3, -1.2, 2.0]), jnp.array([1.0, 0.5, -1.0])
    value, push = ctep.difference(jax.nn.softmax, s)
    print(push(e, scale=1e-30))  # all digits, where s + 1e-30 e is s in float32
    ```

    Args:
        function: of JAX arrays, without side effects. `jax.lax.stop_gradient` is the
            identity, since this is about values.
        s: its arguments, trees of arrays.

    Returns:
        `function(*s)`, and `push(*e, scale=1.0)`: it takes trees like `s`, with
        increments in place of floating or complex arrays and new values, or `None` for
        no change, in place of others, and returns a tree like the value: increments of
        floating arrays, new values of others. It may be transformed by JAX and called
        often. `scale` may be traced.

    Raises:
        TypeError: if `function` cannot be called.
        ValueError: if `e` does not have the structure and the shapes of `s`.
        NotImplementedError: if the function has a primitive without rule and
            derivative; it is named.

    Cost: the function, and about twice as much for `push`; nine evaluations and eight
    derivatives of what has no rule. Of a program with loops `push` runs them again.
    """
    checks.function("function", function, "jax.nn.softmax")
    flat, tree = jax.tree.flatten(s)
    flat = [jnp.asarray(x) for x in flat]
    closed, shape = jax.make_jaxpr(
        lambda *values: function(*jax.tree.unflatten(tree, values)), return_shape=True
    )(*flat)
    jaxpr, form = closed.jaxpr, jax.tree.structure(shape)
    value, tape = _evaluate(jaxpr, closed.consts, flat)

    def push(*e: PyTree, scale: ArrayLike = 1.0) -> PyTree:
        a = _scale(scale, flat)
        # Distances over a are ordered as the distances are: a is not negative in there.
        sign = jnp.where(a < 0, -1, 1)
        changes = [_signed(sign, v) for v in _changes(tree, flat, e)]
        out = _replay(jaxpr, tape, changes, sign * a)
        pairs = zip(value, out, strict=True)
        found = [_still(x) if v is None else _signed(sign, v) for x, v in pairs]
        return jax.tree.unflatten(form, found)

    return jax.tree.unflatten(form, value), push


def explain(function: Callable, *s: PyTree) -> dict[str, int]:
    """Return the primitives of a function that have no rule, and how often they occur.

    ```python
    import ctep, jax
    import jax.numpy as jnp

    print(ctep.difference.explain(jnp.linalg.cholesky, jnp.eye(3)))  # {'cholesky': 1}
    ```

    Args:
        function: as in `ctep.difference`.
        s: its arguments.
    """
    found: Counter[str] = Counter()
    todo = [jax.make_jaxpr(function)(*s).jaxpr]
    while todo:
        for equation in todo.pop().eqns:
            name, inner = equation.primitive.name, _programs(equation)
            todo += inner
            floats = any(is_inexact(v.aval) for v in equation.outvars)
            if floats and equation.invars and name not in RULES and not inner:
                found[name] += 1
    return dict(found)


difference.explain = explain  # pyright: ignore[reportFunctionMemberAccess]


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


def _scale(scale, flat) -> Float[Array, ""]:
    dtypes = [jnp.finfo(x.dtype).dtype for x in flat if is_inexact(x)]
    # Not a narrow one: it would hold no scale that is small.
    return jnp.asarray(scale, jnp.result_type(*dtypes, jnp.float32))


def _signed(sign, v):
    return v if v is None or not is_inexact(v) else sign.astype(v.real.dtype) * v


def _still(x):
    return jnp.zeros_like(x) if is_inexact(x) else x


def _changes(tree, flat, e) -> list:
    """Return increments in the order of the arguments, checked."""
    given, form = jax.tree.flatten(e, is_leaf=lambda x: x is None)
    if form != tree:
        raise ValueError(
            f"`e` has the structure {form}, but the arguments have {tree}: give each "
            "array an increment, or None."
        )
    out = []
    for x, v in zip(flat, given, strict=True):
        if v is not None:
            v = jnp.asarray(v, x.dtype)
            if v.shape != x.shape:
                raise ValueError(
                    f"`e` holds an increment of shape {v.shape}, but its argument has "
                    f"shape {x.shape}: make them agree."
                )
        out.append(v)
    return out


def _programs(equation) -> list:
    """Return the programs that an equation calls."""
    name = equation.primitive.name
    if name in _CALLS:
        inner = [equation.params[_CALLS[name]]]
    elif name == "cond":
        inner = list(equation.params["branches"])
    elif name == "scan":
        inner = [equation.params["jaxpr"]]
    elif name == "while":
        inner = [equation.params["cond_jaxpr"], equation.params["body_jaxpr"]]
    else:
        inner = []
    return [getattr(program, "jaxpr", program) for program in inner]


def _consts(equation) -> list:
    return list(getattr(equation.params[_CALLS[equation.primitive.name]], "consts", ()))


def _custom(equation):
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
    return rule if same == str(_programs(equation)[0]) else None


def _evaluate(jaxpr, consts, args):
    """Return the values of a program, and of each equation what increments need."""
    env, tape = {}, []
    env |= dict(zip(jaxpr.constvars, consts, strict=True))
    env |= dict(zip(jaxpr.invars, args, strict=True))

    def read(v):
        return v.val if isinstance(v, Literal) else env[v]

    for equation in jaxpr.eqns:
        p, inner = [jnp.asarray(read(v)) for v in equation.invars], None
        if equation.primitive.name in _CALLS and _custom(equation) is None:
            q, inner = _evaluate(_programs(equation)[0], _consts(equation), p)
        else:
            q = outputs(None, equation.primitive.bind(*p, **equation.params))
        tape.append((p, q, inner))
        env |= dict(zip(equation.outvars, q, strict=True))
    return [jnp.asarray(read(v)) for v in jaxpr.outvars], tape


def _replay(jaxpr, tape, changes, a):
    """Return the increments of a program's results, None where there is none."""
    env = dict(zip(jaxpr.invars, changes, strict=True))

    def read(v):
        return None if isinstance(v, Literal) else env.get(v)

    for equation, (p, q, inner) in zip(jaxpr.eqns, tape, strict=True):
        d = [read(v) for v in equation.invars]
        if all(v is None for v in d):
            out = [None] * len(q)
        elif inner is not None:
            out = _replay(_programs(equation)[0], inner, d, a)
        else:
            out = _step(equation, p, q, d, a)
        env |= dict(zip(equation.outvars, out, strict=True))
    return [read(v) for v in jaxpr.outvars]


def _step(equation, p, q, d, a):
    name = equation.primitive.name
    bind = functools.partial(equation.primitive.bind, **equation.params)
    at = Site(name, equation.params, bind, p, q, d, a)
    if name in _LOOPS:
        return {"cond": _cond, "scan": _scan, "while": _while}[name](equation, at)
    if name in _CALLS:
        return [_custom(equation)(*p, q[0], *at.full, a)]  # pyright: ignore[reportOptionalCall]
    if name in RULES:
        if name not in ("argmax", "argmin") and not any(map(is_inexact, (*p, *q))):
            return outputs(at, bind(*at.moved))
        return outputs(at, RULES[name](at))
    try:
        return fallback(at)
    except (NotImplementedError, ValueError) as error:  # of what cannot be derived
        raise NotImplementedError(
            f"`function` uses the primitive `{name}`, which has neither a rule nor a "
            "derivative: put it into a function with `ctep.custom_difference`."
        ) from error


def _within(program, p, d, a):
    """Return values and increments of a program that a loop calls."""
    q, tape = _evaluate(program.jaxpr, program.consts, p)
    out = _replay(program.jaxpr, tape, d, a)
    return q, [_still(x) if v is None else v for x, v in zip(q, out, strict=True)]


def _cond(equation, at):
    """Increments of the branch that is taken now; another one than before jumps."""
    which, *d = at.full
    branches = [
        functools.partial(_within, branch) for branch in equation.params["branches"]
    ]
    index = jnp.clip(which, 0, len(branches) - 1).astype(jnp.int32)
    new, out = jax.lax.switch(index, branches, at.p[1:], d, at.a)
    if at.d[0] is None:
        return out
    return [
        v + over(n - x, at.a) if is_inexact(x) else v
        for v, n, x in zip(out, new, at.q, strict=True)
    ]


def _scan(equation, at):
    params = equation.params
    fixed, carried = params["num_consts"], params["num_carry"]
    parts = [fixed, fixed + carried]
    pairs = [(list(x[: parts[0]]), list(x[parts[0] : parts[1]]), list(x[parts[1] :]))
             for x in (at.p, at.full)]  # fmt: skip
    (consts, first, xs), (d_consts, d_first, d_xs) = pairs

    def body(carry, x):
        (state, d_state), (own, d_own) = carry, x
        q, d = _within(
            params["jaxpr"],
            [*consts, *state, *own],
            [*d_consts, *d_state, *d_own],
            at.a,
        )
        return (q[:carried], d[:carried]), d[carried:]

    options = {"length": params["length"], "reverse": params["reverse"]}
    (_, last), ys = jax.lax.scan(body, (first, d_first), (xs, d_xs), **options)
    return [*last, *ys]


def _while(equation, at):
    """A loop whose end knows nothing of increments: it ends where it ended before."""
    params = equation.params
    asked, own = params["cond_nconsts"], params["body_nconsts"]
    ends, body = params["cond_jaxpr"], params["body_jaxpr"]
    asks, fixed, first = (
        list(at.p[:asked]),
        list(at.p[asked : asked + own]),
        list(at.p[asked + own :]),
    )
    known = [v is not None for v in at.d]
    moving = known[asked + own :]
    for _ in moving:  # what moves in one round may move more in the next
        reached = _reached(body.jaxpr, [*known[asked : asked + own], *moving])
        moving = [x or y for x, y in zip(moving, reached, strict=True)]
    if any(_reached(ends.jaxpr, [*known[:asked], *moving])):
        return fallback(at)  # as many rounds as the state asks for, at every node
    changes = at.full[asked + own :]
    d_fixed = at.d[asked : asked + own]

    def goes_on(carry):
        out, _ = _evaluate(ends.jaxpr, ends.consts, [*asks, *carry[0]])
        return out[0]

    def step(carry):
        state, d = carry
        own = [v if moves else None for v, moves in zip(d, moving, strict=True)]
        return _within(body, [*fixed, *state], [*d_fixed, *own], at.a)

    return jax.lax.while_loop(goes_on, step, (first, changes))[1]


def _reached(jaxpr, known) -> list[bool]:
    """Return which results of a program depend on what is marked."""
    found = {v for v, mark in zip(jaxpr.invars, known, strict=True) if mark}
    for equation in jaxpr.eqns:
        if any(not isinstance(v, Literal) and v in found for v in equation.invars):
            found |= set(equation.outvars)
    return [not isinstance(v, Literal) and v in found for v in jaxpr.outvars]
