"""A program, equation by equation: first its values, then their increments."""

import functools

import jax
import jax.numpy as jnp
from jax.extend.core import Literal

# Their rules are registered where they are written.
from . import kinks as kinks, smooth as smooth
from .calls import CALLS, constants, own_rule, programs
from .site import RULES, Site, apart, fallback, is_inexact, outputs


def evaluate(jaxpr, consts, args):
    """Return the values of a program, and of each equation what increments need."""
    env, tape = {}, []
    env |= dict(zip(jaxpr.constvars, consts, strict=True))
    env |= dict(zip(jaxpr.invars, args, strict=True))

    def read(v):
        return v.val if isinstance(v, Literal) else env[v]

    for equation in jaxpr.eqns:
        p, inner = [jnp.asarray(read(v)) for v in equation.invars], None
        if equation.primitive.name in CALLS and own_rule(equation) is None:
            q, inner = evaluate(programs(equation)[0], constants(equation), p)
        else:
            q = outputs(None, equation.primitive.bind(*p, **equation.params))
        tape.append((p, q, inner))
        env |= dict(zip(equation.outvars, q, strict=True))
    return [jnp.asarray(read(v)) for v in jaxpr.outvars], tape


def replay(jaxpr, tape, changes, a):
    """Return the increments of a program's results, None where there is none."""
    env = dict(zip(jaxpr.invars, changes, strict=True))

    def read(v):
        return None if isinstance(v, Literal) else env.get(v)

    for equation, (p, q, inner) in zip(jaxpr.eqns, tape, strict=True):
        d = [read(v) for v in equation.invars]
        if all(v is None for v in d):
            out = [None] * len(q)
        elif inner is not None:
            out = replay(programs(equation)[0], inner, d, a)
        else:
            out = _step(equation, p, q, d, a)
        env |= dict(zip(equation.outvars, out, strict=True))
    return [read(v) for v in jaxpr.outvars]


def _step(equation, p, q, d, a):
    name = equation.primitive.name
    bind = functools.partial(equation.primitive.bind, **equation.params)
    at = Site(name, equation.params, bind, p, q, d, a)
    if name in _CALLERS:
        return _CALLERS[name](equation, at)
    if name in CALLS:
        return [own_rule(equation)(*p, q[0], *at.full, a)]  # pyright: ignore[reportOptionalCall]
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


def still(x):
    """Return the increment of what stays: zero, or the value of a discrete array."""
    return jnp.zeros_like(x) if is_inexact(x) else x


def _within(program, p, d, a):
    """Return values and increments of a program that a loop calls."""
    q, tape = evaluate(program.jaxpr, program.consts, p)
    out = replay(program.jaxpr, tape, d, a)
    return q, [still(x) if v is None else v for x, v in zip(q, out, strict=True)]


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
        v + apart(n, x, at.a) if is_inexact(x) else v
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
        out, _ = evaluate(ends.jaxpr, ends.consts, [*asks, *carry[0]])
        return out[0]

    def step(carry):
        state, d = carry
        own = [v if moves else None for v, moves in zip(d, moving, strict=True)]
        return _within(body, [*fixed, *state], [*d_fixed, *own], at.a)

    return jax.lax.while_loop(goes_on, step, (first, changes))[1]


def _solve(equation, at):
    """A x = b: the new matrix, with what its change makes of the old solution."""
    lengths, matvec = equation.params["const_lengths"], equation.params["jaxprs"].matvec
    own, consts = lengths.matvec, sum(lengths)
    stay = [None] * len(at.q)
    _, tape = evaluate(matvec.jaxpr, matvec.consts, [*at.p[:own], *at.q])
    changes = replay(matvec.jaxpr, tape, [*at.d[:own], *stay], at.a)
    pairs = zip(at.full[consts:], changes, strict=True)
    return at.bind(*at.moved[:consts], *(v if u is None else v - u for v, u in pairs))


_CALLERS = {
    "cond": _cond,
    "scan": _scan,
    "while": _while,
    "custom_linear_solve": _solve,
}


def _reached(jaxpr, known) -> list[bool]:
    """Return which results of a program depend on what is marked."""
    found = {v for v, mark in zip(jaxpr.invars, known, strict=True) if mark}
    for equation in jaxpr.eqns:
        if any(not isinstance(v, Literal) and v in found for v in equation.invars):
            found |= set(equation.outvars)
    return [not isinstance(v, Literal) and v in found for v in jaxpr.outvars]
