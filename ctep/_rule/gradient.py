"""`ctep.gradient`: a loss and its gradient in one call."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, PRNGKeyArray, PyTree

from .. import _checks as checks
from .._concrete import lenient
from .._network import AbstractNetwork
from .._nudge import AbstractNudge, OutputError
from .._sharding import compiler_divides, like_weights
from .._solver import AbstractSolver, Sweeps, explain, usable
from .._weights.resolution import draws, resolve, resolving
from .arguments import check_batch, check_kinds
from .base import AbstractRule, Task
from .stencil import Centered
from .underived import underived


@lenient
@compiler_divides(like_weights)
def gradient(
    network: AbstractNetwork,
    x: ArrayLike,
    y: ArrayLike,
    *,
    nudge: AbstractNudge | None = None,
    rule: AbstractRule | None = None,
    solver: AbstractSolver | None = None,
    epoch: int = 0,
    throw: bool = True,
    key: PRNGKeyArray | None = None,
) -> tuple[Float[Array, ""], PyTree]:
    r"""Return the loss at the free state and its gradient, as batch means.

    ```python
    import ctep, jax, optax

    network = ctep.mlp((4, 8, 8, 3), feedback=0.3, key=jax.random.key(0))
    x, y = jax.numpy.ones((2, 4)), jax.numpy.arange(2)
    loss, gradient = ctep.gradient(network, x, y)
    network = optax.apply_updates(network, jax.tree.map(lambda g: -0.1 * g, gradient))
    ```

    Args:
        network: the network whose parameters to differentiate by.
        x: inputs, `(batch, *input_shape)`, converted to the network's dtype.
        y: labels `(batch,)`, or values `(batch, outputs)`.
        nudge: its cost is the loss; by default `OutputError()`, cross-entropy.
        rule: makes the gradient of the rests; by default `Centered(0.1)`.
        solver: finds the rests of all phases; by default `Sweeps()`.
        epoch: number of the epoch, from 0, that scheduled weights of nudges take.
        throw: whether to raise if any example has not settled.
        key: random key of what draws at random: a rule such as `RandomSign()`, or
            weights such as those of `ctep.noisy`.

    Returns:
        The loss, and a gradient with the network's own tree; zero for fixed feedback.
        What a nudge owns is trained by `ctep.fit`, not returned here. Examples that
        have not settled take no part in either (without `throw`), and both are zero
        where none has. The loss may be differentiated by JAX itself, by the network,
        the inputs and the nudge (implicitly, with one more linear solve), so that an
        encoder in front of a network that settles can be trained; the gradient may not.

    Raises:
        TypeError: if an argument is not of its kind.
        ValueError: if `x` or `y` do not fit the network or each other, the rule does
            not fit the network or the nudge, or `key` is missing.
        RuntimeError: if `throw` and an example has not settled.

    Cost: that of the rule. Compiled once for each network, rule and shape of batch: as
    under `jax.jit`, what functions of your own read besides their arguments is read
    then. (`ctep.fit` reads it anew in each run.)
    """
    nudge = OutputError() if nudge is None else nudge
    rule = Centered() if rule is None else rule
    solver = Sweeps() if solver is None else solver
    check_kinds(network=network, nudge=nudge, rule=rule, solver=solver)
    checks.flag("throw", throw)
    checks.epoch(epoch)
    if key is not None:
        checks.key(key)
    elif rule.random or draws(network):
        drawing = type(rule).__name__ if rule.random else "network"
        raise ValueError(
            f"`key` is None, but `{drawing}` draws at random: pass for example "
            "`key=jax.random.key(0)`."
        )
    x, y = checks.array("x", x), checks.array("y", y)
    seen = resolve(network)
    check_batch(seen, nudge, x, y)
    x = x.astype(network.dtype)
    # The epoch as an array, or each one would compile a program of its own.
    inputs = (network, x, y, nudge, rule, solver, jnp.asarray(epoch), key)
    traced = checks.traced(inputs)  # then only the run itself can raise
    rule.check(seen, nudge, None if traced else (x[:1], y[:1]))
    # Outside of a trace the verdict is read below: both values of `throw` share one
    # program, and what is raised is one sentence.
    loss, gradient, result = _gradient(*inputs, throw and traced)
    if throw and not traced and (message := explain(result)):
        raise RuntimeError(message)
    return loss, gradient


@eqx.filter_jit
def _gradient(network, x, y, nudge, rule, solver, epoch, key, throw):
    def task(x, y, nudge):
        return Task.mean(x, y, nudge, solver, throw=throw, key=key)

    nudge = nudge.at(epoch)
    own = None if key is None else jax.random.fold_in(key, 1)
    plain, pull = resolving(network, own)
    given = (plain, x, y, nudge)
    # The estimate is made of values alone: no derivative may go through its solves,
    # and the loss gets its own below.
    still = jax.tree_util.tree_map(
        lambda leaf: jax.lax.stop_gradient(leaf) if eqx.is_array(leaf) else leaf, given
    )
    its_task = task(*still[1:])
    estimate = rule.estimate(still[0], its_task)
    fixed = jax.tree_util.tree_map(
        lambda leaf: jnp.zeros_like(leaf) if eqx.is_inexact_array(leaf) else None,
        network,
    )
    full = eqx.combine(pull(estimate.gradient[0]), fixed)
    loss = rule.loss(plain, task(x, y, nudge), estimate)
    # A target that no trace can refuse has no loss, and fails nudged phases alone: the
    # example must not vanish as if it had not settled.
    free = estimate.free
    costs = its_task.nudge.cost(still[0], free.state, its_task.target)
    spoilt = jnp.any(jnp.isnan(costs) & usable(free.result))
    loss, full = jax.tree_util.tree_map(
        lambda leaf: jnp.where(spoilt, jnp.nan, leaf), (loss, full)
    )
    arrays = eqx.filter((network, x, y, nudge), eqx.is_inexact_array)
    return loss, underived(full, arrays), estimate.result
