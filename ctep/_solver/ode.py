"""Continuous time: Diffrax follows the dynamics until it rests."""

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp

from .. import _checks as checks
from .._custom_types import Number
from .base import AbstractSolver
from .units import Rescaled


def check_solver(solver: dfx.AbstractSolver) -> None:
    """Raise unless a Diffrax solver is for one vector field."""
    kind, example = dfx.AbstractSolver, "diffrax.Tsit5()"
    checks.instance("solver", solver, kind, "a Diffrax solver", example)
    terms = solver.term_structure
    if not (isinstance(terms, type) and issubclass(dfx.ODETerm, terms)):
        raise ValueError(
            f"`solver` is a {type(solver).__name__}, which is for equations of several "
            "terms (implicit and explicit, or with noise), but the dynamics is one "
            "vector field: pass for example `diffrax.Tsit5()` or `diffrax.Kvaerno5()`."
        )


class ODE(AbstractSolver):
    r"""Integrate $\tau_n \dot s_n = -s_n + T_n(s)$ with Diffrax, example by example.

    The state is looked at every `interval`: an example whose velocity is within the
    tolerances stops there. (Diffrax's own steady-state event compares norms of whole
    states, in which one large unit hides all others, and evaluates the field once
    more per step.) Accuracy of the path and of the rest are separate: the step size
    controller has its own tolerances.

    ```python
    import ctep, diffrax, jax

    network = ctep.mlp((4, 8, 3), key=jax.random.key(0))
    solver = ctep.ODE(diffrax.Heun(), t1=100.0)
    rest = ctep.settle(network, jax.numpy.ones((2, 4)), solver=solver)
    ```

    Args:
        solver: a Diffrax solver; with `diffrax.Euler()`, a constant step and `dt0`
            equal to every `tau` it does synchronous sweeps.
        stepsize_controller: a Diffrax controller; by default with a tenth of the
            tolerances below, or errors of the path would keep a state from its rest.
        dt0: first step; constant steps need it.
        t1: time at which to give up, in the unit of the layers' `tau`.
        interval: time between two looks, in the same unit.
        max_steps: largest number of steps between two looks; more end the solve, as
            when a state that is not finite has every step rejected.
        rtol: relative tolerance on $|T(s) - s|$, element by element.
        atol: absolute tolerance, in units of the block's largest element for
            increments. With both 0 the dynamics is followed until `t1`.

    Raises:
        ValueError: if `t1` or `interval` is not positive, a tolerance is negative, a
            constant step has no `dt0`, or the solver is for equations of several terms.

    Cost: the solver's evaluations of the field, plus one per `interval`. Euler steps
    were measured at 0.88 of the time of as many synchronous sweeps.
    """

    solver: dfx.AbstractSolver = dfx.Tsit5()
    stepsize_controller: dfx.AbstractStepSizeController = dfx.PIDController(1e-4, 1e-6)
    dt0: float | None = eqx.field(default=None, converter=checks.number)
    t1: float = eqx.field(default=200.0, converter=checks.number)
    interval: float = eqx.field(default=10.0, converter=checks.number)
    max_steps: int = eqx.field(default=10_000, converter=checks.number)
    rtol: Number = eqx.field(default=1e-3, converter=checks.number)
    atol: Number = eqx.field(default=1e-3, converter=checks.number)

    def __check_init__(self):
        check_solver(self.solver)
        kind, example = dfx.AbstractStepSizeController, "diffrax.ConstantStepSize()"
        name, value = "stepsize_controller", self.stepsize_controller
        checks.instance(name, value, kind, "a Diffrax controller", example)
        if isinstance(value, dfx.StepTo):
            raise ValueError(
                "`stepsize_controller` is a StepTo, whose times are fixed, but every "
                "look begins a new integration: pass `diffrax.ConstantStepSize()` with "
                "`dt0=`, or a PIDController."
            )
        if self.dt0 is not None:
            checks.positive("dt0", self.dt0, "0.5")
        checks.count("max_steps", self.max_steps, "10_000")
        for name in ("t1", "interval"):
            checks.real(name, getattr(self, name), "10.0")
            if not getattr(self, name) > 0:
                raise ValueError(
                    f"`{name}` is {getattr(self, name)}, but a time must be positive: "
                    "pass it in the unit of the layers' `tau`."
                )
        constant = isinstance(self.stepsize_controller, dfx.ConstantStepSize)
        if constant and self.dt0 is None:
            raise ValueError(
                "`dt0` is None, but a constant step size needs it: pass for example "
                "`dt0=0.5`."
            )

    def solve(self, problem, state, *, zeros=False, throw=True):
        state, steps = problem.per_example(self._follow, state)
        return self.verdict(problem, state, steps, throw)

    def _follow(self, problem, state):
        """Integrate one example until it rests; return its state and steps."""
        scaled, start = Rescaled.of(problem, state)
        term = dfx.ODETerm(lambda t, s, args: scaled.velocity(s))

        def body(carry):
            t, state, steps, _ = carry
            t_next = jnp.minimum(t + self.interval, self.t1)
            solution = dfx.diffeqsolve(
                term,
                self.solver,
                t,
                t_next,
                self.dt0,
                state,
                stepsize_controller=self.stepsize_controller,
                saveat=dfx.SaveAt(t1=True),
                # Nothing is differentiated along the path. Diffrax's default, made for
                # that, costs tracing and forbids forward mode.
                adjoint=dfx.ForwardMode(),
                max_steps=self.max_steps,
                throw=False,
            )
            state = tuple(leaf[0] for leaf in solution.ys)  # pyright: ignore[reportOptionalIterable]
            # A failed step ends the solve here; the verdict then finds it moving.
            steps = steps + jnp.asarray(solution.stats["num_steps"], jnp.int32)
            moving = ~(solution.result != dfx.RESULTS.successful)
            tolerances = self.rtol, self.atol
            if any(checks.traced_number(t) or t > 0 for t in tolerances):
                own = scaled.from_units(state)
                image = problem.map(own)
                change = tuple(a - b for a, b in zip(image, own, strict=True))
                moving &= problem.residual(change, own, *tolerances)[1] > 0
            return t_next, state, steps, moving

        def unfinished(carry):
            return carry[3] & (carry[0] < self.t1)

        begin = jnp.zeros((), start[0].dtype)
        carry = begin, start, jnp.zeros((), jnp.int32), jnp.ones((), bool)
        _, state, steps, _ = jax.lax.while_loop(unfinished, body, carry)
        return scaled.from_units(state), steps
