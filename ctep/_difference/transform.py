"""`ctep.difference`: finite differences that do not cancel, of any JAX function."""

from collections import Counter
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, PyTree

from .. import _checks as checks
from .calls import programs
from .program import evaluate, replay, still
from .site import RULES, is_inexact


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
    value, tape = evaluate(jaxpr, closed.consts, flat)

    def push(*e: PyTree, scale: ArrayLike = 1.0) -> PyTree:
        a = _scale(scale, flat)
        # Distances over a are ordered as the distances are: a is not negative in there.
        sign = jnp.where(a < 0, -1, 1)
        changes = [_signed(sign, v) for v in _changes(tree, flat, e)]
        out = replay(jaxpr, tape, changes, sign * a)
        pairs = zip(value, out, strict=True)
        found = [still(x) if v is None else _signed(sign, v) for x, v in pairs]
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
            name, inner = equation.primitive.name, programs(equation)
            todo += inner
            floats = any(is_inexact(v.aval) for v in equation.outvars)
            if floats and equation.invars and name not in RULES and not inner:
                found[name] += 1
    return dict(found)


difference.explain = explain  # pyright: ignore[reportFunctionMemberAccess]


def _scale(scale, flat) -> Float[Array, ""]:
    dtypes = [jnp.finfo(x.dtype).dtype for x in flat if is_inexact(x)]
    # Not a narrow one: it would hold no scale that is small.
    return jnp.asarray(scale, jnp.result_type(*dtypes, jnp.float32))


def _signed(sign, v):
    return v if v is None or not is_inexact(v) else sign.astype(v.real.dtype) * v


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
