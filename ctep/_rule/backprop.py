"""Rules of feed-forward networks: backpropagation and feedback alignment."""

import jax
import jax.numpy as jnp

from .._arrays import along
from .._network import Network, closure
from .._solver import judge, usable
from .base import AbstractRule, Estimate, differentiate, only


class AbstractFeedforward(AbstractRule):
    """A rule that trains the feed-forward twin: the same layers without feedback."""

    def check(self, network, nudge, example=None):
        # Called for its error: not every graph has a feed-forward twin.
        network.without_feedback()

    def subject(self, network):
        return network.without_feedback()

    def loss(self, network, task, estimate):
        task = task.of(usable(estimate.result))
        return task.cost(network, task.nudge, network.feedforward(task.x))


class Backprop(AbstractFeedforward):
    r"""The gradient of the feed-forward twin, by reverse-mode differentiation.

    $$s_n = \rho_n\Big(b_n + \sum_{c: i \to n} c(s_i)\Big), \qquad
    \frac{dL}{d\theta} = \frac{d}{d\theta} C(s(\theta), y)$$

    Twins share initial weights, data and optimiser with the network that settles, so
    the two can be compared loss by loss. It also trains any `ctep.Module`.

    ```python
    import ctep, jax

    network = ctep.mlp((64, 32, 32, 10), feedback=0.1, key=jax.random.key(0))
    twin = ctep.fit(network, "digits", rule=ctep.Backprop(), epochs=1, progress=False)
    ```

    Cost: one forward and one backward pass, memory in proportion to the layers. No
    bias, as the gradient of the twin.

    References:
        Rumelhart, Hinton and Williams, 1986, doi:10.1038/323533a0.
    """

    def exact(self, network, nudge):
        return True

    def estimate(self, network, task):
        free, task, _ = _passed(network, task)

        def objective(network, nudge):
            return task.cost(network, nudge, network.feedforward(task.x))

        return _estimate(network, task, free, objective)


class FeedbackAlignment(AbstractFeedforward):
    r"""Backpropagation with the fixed random feedback in place of the transpose.

    $$\delta_n = \rho_n'(h_n) \Big(-\frac{\partial C}{\partial s_n}
    + \sum_{c: n \to j} B_c^\top \delta_j\Big), \qquad
    \frac{dL}{d\theta} \approx \frac{\partial C}{\partial\theta}
    - \sum_n \Big\langle \delta_n, \frac{\partial h_n}{\partial\theta}
    \Big\rangle$$

    The feedback scales play no part. It is the baseline of networks with `Fixed`
    feedback.

    Raises:
        ValueError: if a layer gets tied feedback.

    Cost: as `Backprop`. Its bias does not vanish with anything: forward weights must
    come to align with the feedback.

    References:
        Lillicrap et al., 2016, doi:10.1038/ncomms13276.
    """

    def check(self, network, nudge, example=None):
        super().check(network, nudge, example)
        if not isinstance(network, Network):
            raise ValueError(
                f"`network` is a {type(network).__name__}, which has no feedback to be "
                "aligned with: pass `rule=ctep.Backprop()`."
            )
        for c in network.couplings:
            if c.returning is not None and c.tied:
                raise ValueError(
                    f"`network` has tied feedback from layer {c.target} to {c.source}, "
                    "but feedback alignment needs fixed weights: pass "
                    "`feedback=ctep.Fixed()`, or `rule=ctep.Backprop()`."
                )

    def reached(self, network, nudge):
        # Errors come back along what the twin lacks, and along nothing else.
        back = network.influences - self.subject(network).influences
        return closure(nudge.blocks(network), back)

    def estimate(self, network, task):
        free, task, state = _passed(network, task)
        deltas, totals, memory = _deltas(network, task, state)

        def weighted(values):
            return along(task.weight, values.ndim) * values

        tangent = tuple(map(weighted, deltas))

        def objective(network, nudge):
            total = task.cost(network, nudge, state)
            total = total + self.subject(network).field_contrast(task.x, state, tangent)
            for layer, h, e in zip(network.layers, memory[1], totals, strict=True):
                # They move the state at a fixed drive: by the error before the slope.
                if layer.learns:
                    total = total - jnp.sum(weighted(e) * layer.activation(h))
            return total

        return _estimate(network, task, free, objective)


def _deltas(network, task, state):
    """Return the errors of all layers' drives and states, and the twin's memory."""
    problem = network.without_feedback().free(task.x)
    start = memory = problem.recall(state)
    own = task.nudge.context(network, state, task.target)
    # Tapes of the forward maps, for pooled feedback.
    ends = [(c.source, c.target) for c in problem.network.couplings]
    tapes = dict(zip(ends, start[0], strict=True))
    deltas: list = [None] * len(state)
    totals: list = [None] * len(state)
    for n in reversed(range(len(state))):
        # For the memory alone: the state is that of the forward pass, and stays.
        _, memory = problem.update(n, state, memory)
        error = task.nudge.force(n, network, state, own)
        total = jnp.zeros_like(state[n]) if error is None else error
        for c in network.couplings:
            if c.source == n + 1 and c.returning is not None:
                tape = tapes.get((c.source, c.target))
                total = total + c.returning.adjoint(deltas[c.target - 1], tape)
        slope = network.layers[n].activation.derivative(memory[1][n])
        deltas[n], totals[n] = slope * total, total
    return deltas, totals, memory


def _passed(network, task):
    """Return one forward pass, judged; the task of what is finite, and its states."""
    state = jax.lax.stop_gradient(network.feedforward(task.x))
    lead = state[0].shape[:1]
    nothing = jnp.zeros(lead, state[0].dtype)
    # One pass is at rest by construction: only what is not finite can have failed.
    free = judge(state, nothing, nothing, jnp.ones(lead, jnp.int32), (), task.throw)
    used = usable(free.result)
    return free, task.of(used), only(used, state)


def _estimate(network, task, free, objective):
    state = only(usable(free.result), free.state)
    return Estimate(
        loss=task.cost(network, task.nudge, state),
        gradient=differentiate(objective, network, task.nudge),
        free=free,
        sweeps=free.steps,
        result=free.result,
        nudged=state,
    )
