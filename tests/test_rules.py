import dataclasses
import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import matrix
import numpy as np
import optax
import oracles
import pytest

import ctep
from ctep._rule import Task

TIGHT = ctep.Sweeps(1000, rtol=1e-12, atol=1e-12)


@oracles.FAST
def _gradients(p, rules, nudges, epoch):
    """Return the gradients of several rules and nudges from one compilation."""

    def one(rule, nudge):
        task = Task.mean(p.x, p.y, nudge.at(epoch), TIGHT, throw=False)
        return rule.estimate(p.network, task).gradient[0]

    return [one(rule, nudge) for rule in rules for nudge in nudges]


def gradients(p, rules, nudges=None, epoch=0):
    found = _gradients(p, rules, nudges or (p.nudge,), epoch)
    return [oracles.vector(gradient) for gradient in found]


def exact(p):
    return oracles.vector(eqx.filter(oracles.exact(p), p.network.trainable()))


# ------------------------------------------------------------ stencils


def test_rules_tell_how_far_they_nudge_and_how_their_bias_falls():
    """Oracle: written out."""
    known = {
        ctep.OneSided(0.02): (0.02, 1),
        ctep.Centered(0.2): (0.2, 2),
        ctep.Holomorphic(0.3, 6): (0.3, 6),
        ctep.RandomSign(0.2): (0.2, None),
        ctep.Ramped(0.1, 5): (0.5, None),
        ctep.Implicit(): (0.0, None),
    }
    for rule, (size, order) in known.items():
        assert rule.size == pytest.approx(size)
        assert rule.order == order


@pytest.mark.usefixtures("x64")
@matrix.product(
    ("biased", "feedback"), [(ctep.OneSided, 1), (ctep.Centered, 2)], [1.0, 0.3]
)
def test_bias_shrinks_at_its_order(biased, feedback):
    """Oracle: dense implicit differentiation; the documented order in beta."""
    rule, order = biased
    p = oracles.chain(init=oracles.centred(0.5), feedback=feedback)
    betas = np.array([0.1, 0.05, 0.025])
    truth = exact(p)
    found = gradients(p, tuple(rule(float(beta)) for beta in betas))
    errors = [np.linalg.norm(g - truth) for g in found]
    slope = np.polyfit(np.log(betas), np.log(errors), 1)[0]
    assert abs(slope - order) < 0.1


@pytest.mark.parametrize("beta", [1e-3, 0.1, 2.0])
def test_stencils_are_consistent(beta):
    """Oracle: a derivative of a constant is 0, of a line its slope; of a parabola, 0.

    The free phase has the nudge 0 and whatever weight is left.
    """
    for rule in (ctep.OneSided(beta), ctep.Centered(beta)):
        nudges, weights = rule.stencil()
        assert np.sum(weights * nudges) == pytest.approx(1)
    assert np.sum(weights) == pytest.approx(0)
    assert np.sum(weights * nudges**2) == pytest.approx(0)
    assert sorted(nudges) == [-beta, beta]


@pytest.mark.usefixtures("x64")
def test_without_rescaling_layers_keep_their_attenuation():
    r"""Oracle: the rescaled gradient times $\gamma^k$, k layers below the output.

    Biases and input weights occur in one drive and are exact; a tied weight occurs in
    two, which are attenuated differently, and agrees to leading order in gamma.
    """
    scale = 0.01
    p = oracles.chain((6, 5, 5, 4, 3), feedback=scale)
    rules = ctep.OneSided(1e-6), ctep.OneSided(1e-6, rescale=False)
    scaled, raw = _gradients(p, rules, (p.nudge,), 0)
    for n, attenuation in enumerate((scale**2, scale, 1.0)):
        got, want = raw.layers[n].bias, attenuation * scaled.layers[n].bias
        np.testing.assert_allclose(got, want, rtol=1e-4)
        weight = lambda g, n=n: g.couplings[n].forward.weight  # noqa: E731
        error = np.linalg.norm(weight(raw) - attenuation * weight(scaled))
        bound = 1e-4 if n == 0 else 5 * scale
        assert error < bound * attenuation * np.linalg.norm(weight(scaled))


@pytest.mark.usefixtures("x64")
def test_rescaling_does_nothing_to_a_symmetric_network():
    """Oracle: an attenuation of 1; both contrasts agree to first order in beta."""
    p = oracles.NETWORKS["tanh symmetric"]()
    scaled, raw = gradients(p, (ctep.Centered(1e-3), ctep.Centered(1e-3, False)))
    assert np.linalg.norm(scaled - raw) < 1e-5 * np.linalg.norm(scaled)
    assert np.any(scaled != raw)


# ------------------------------------------------------------ nudges


@pytest.mark.usefixtures("x64")
def test_frozen_nudges_have_the_same_limit():
    """Oracle: dense implicit differentiation; the frozen bias is of first order."""
    p = oracles.NETWORKS["tanh regulated"]()
    rules = ctep.OneSided(1e-1), ctep.OneSided(1e-4)
    frozen = (ctep.Frozen(p.nudge), p.nudge)
    large, plain, small, _ = gradients(p, rules, frozen)
    truth = exact(p)
    size = np.linalg.norm(truth)
    assert np.linalg.norm(small - truth) < 1e-3 * size
    assert np.linalg.norm(large - plain) > 1e-3 * size


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(
    "rule",
    [ctep.Centered(1e-5), pytest.param(ctep.Implicit(1e-11), marks=matrix.campaign)],
)
def test_gradient_is_linear_in_the_nudges(rule):
    """Oracle: the weighted sum of the gradients of the parts."""
    p = oracles.chain(feedback=0.3)
    a, b = p.nudge, ctep.OutputError(ctep.SquaredError())
    first, last, both, scaled = gradients(p, (rule,), (a, b, a + 0.65 * b, 3.0 * a))
    np.testing.assert_allclose(both, first + 0.65 * last, atol=1e-6)
    np.testing.assert_allclose(scaled, 3 * first, atol=1e-6)
    assert np.linalg.norm(first - last) > 1e-2


def test_a_weight_may_be_a_whole_number():
    """Oracle: the cost of the unscaled nudge."""
    p = oracles.chain()
    state = (jnp.ones((3, 4)),) * 2
    cost = p.nudge.cost(p.network, state, p.y)
    tripled = (3 * p.nudge).cost(p.network, state, p.y)
    np.testing.assert_allclose(tripled, 3 * cost, rtol=1e-6)


def halving(epoch):
    return 0.5**epoch


@pytest.mark.usefixtures("x64")
def test_a_weight_may_follow_the_epoch():
    """Oracle: the unscheduled gradient times the weight at that epoch."""
    p = oracles.chain(feedback=0.3)
    nudges = p.nudge, halving * p.nudge
    for epoch in (0, 3):
        # The size of the nudge is scheduled as well, so beta is small.
        plain, late = gradients(p, (ctep.OneSided(1e-5),), nudges, jnp.asarray(epoch))
        np.testing.assert_allclose(late, 0.5**epoch * plain, rtol=1e-3, atol=1e-6)
    assert np.linalg.norm(plain) > 5 * np.linalg.norm(late)


# ------------------------------------------------------------ published numbers


def published(depth, feedback):
    """Return a published set-up: tanh, 64 wide, Glorot, no biases, sparse inputs."""
    network = ctep.mlp(
        (784, *[64] * depth, 10), feedback=feedback, bias=False, key=jax.random.key(0)
    )
    rng = np.random.default_rng(0)
    x = rng.uniform(0, 1, (16, 784)) * (rng.uniform(0, 1, (16, 784)) < 0.2)
    y = jnp.asarray(rng.integers(0, 10, 16))
    nudge = ctep.Frozen(ctep.OutputError())
    return oracles.Problem(network, jnp.asarray(x), y, nudge, oracles.cross_entropy)


@pytest.mark.usefixtures("x64")
@matrix.parametrize(
    ("depth", "feedback", "cosines", "ratios"),
    PUBLISHED := [
        (3, 0.001, (0.9999, 1.0), (1.001, 1.006)),  # published 1.0000, 1.003
        (3, 0.01, (0.999, 1.0), (1.015, 1.05)),  # published .9998, 1.027
        (3, 0.1, (0.965, 0.985), (1.22, 1.41)),  # published .974 to .976, 1.30 to 1.33
        (5, 0.1, (0.91, 0.97), (1.5, 1.8)),  # published .94, 1.6
    ],
    PUBLISHED[2:3],
)
def test_published_scaling_law(depth, feedback, cosines, ratios):
    r"""Oracle: backpropagation through the same layers without feedback.

    At the first layer $g_{EP} \approx \gamma^{L-1} g_{BP}$ with one nudge of 0.1, a
    frozen force and no rescaling, as published.
    """
    p = published(depth, feedback)
    rule = ctep.OneSided(0.1, rescale=False)
    (gradient,) = _gradients(p, (rule,), (p.nudge,), 0)
    first = lambda g: np.ravel(g.couplings[0].forward.weight)  # noqa: E731
    ours, backprop = first(gradient), first(oracles.backprop(p))
    ratio = np.linalg.norm(ours) / np.linalg.norm(backprop) / feedback ** (depth - 1)
    cosine = oracles.cosine(ours, backprop)
    assert cosines[0] < cosine < cosines[1] + 1e-9
    assert ratios[0] < ratio < ratios[1]


@pytest.mark.usefixtures("x64")
def test_scaling_law_of_every_layer():
    r"""Oracle: backpropagation; $\gamma^{L-k}$ per layer, to the order of gamma.

    A weight between layers differs from the published update, $s_k^\top ds_{k+1}$, by
    its occurrence in the feedback, which is smaller by about gamma.
    """
    scale = 1e-3
    p = published(3, scale)
    rule = ctep.OneSided(1e-3, rescale=False)
    (gradient,) = _gradients(p, (rule,), (p.nudge,), 0)
    exact = oracles.backprop(p)
    for k in range(3):
        weight = lambda g, k=k: np.ravel(g.couplings[k].forward.weight)  # noqa: E731
        ours, backprop = weight(gradient), weight(exact)
        ratio = np.linalg.norm(ours) / np.linalg.norm(backprop) / scale ** (2 - k)
        assert oracles.cosine(ours, backprop) > 0.9999
        assert ratio == pytest.approx(1, abs=0.01)


# ------------------------------------------------------------ backpropagation in time


@pytest.mark.usefixtures("x64")
@matrix.product(("rematerialise", "truncate"), [False, True], [None, 3])
def test_unrolled_is_the_derivative_of_its_own_steps(rematerialise, truncate):
    """Oracle: the steps written out, and reverse-mode differentiation of the last ones.

    Seven steps are far from rest, so that each of them counts.
    """
    p = oracles.chain(init=oracles.centred(0.5))

    def objective(network):
        state = network.zeros(p.x)
        for t in range(7):
            if truncate and t == 7 - truncate:
                state = jax.lax.stop_gradient(state)
            problem = network.free(p.x)
            state = tuple(problem.update(n, state, problem.recall(state))[0]
                          for n in range(len(state)))  # fmt: skip
        return jnp.mean(jax.vmap(p.loss)(network.output(state), p.y))

    want = eqx.filter_jit(eqx.filter_grad(objective))(p.network)
    rule = ctep.Unrolled(7, truncate, rematerialise)
    (found,) = gradients(p, (rule,))
    np.testing.assert_allclose(found, oracles.vector(want), rtol=1e-10, atol=1e-14)


@pytest.mark.usefixtures("x64")
def test_unrolled_without_feedback_is_backprop():
    """Oracle: `Backprop`; a chain of three layers is at rest after three steps."""
    p = oracles.chain(feedback=None)
    found, want = gradients(p, (ctep.Unrolled(3), ctep.Backprop()))
    np.testing.assert_allclose(found, want, rtol=1e-10, atol=1e-14)


@pytest.mark.usefixtures("x64")
def test_unrolled_says_whether_it_has_settled():
    """Oracle: the same network, which needs more than two steps and less than 300."""
    p = oracles.chain(init=oracles.centred(0.5))
    task = Task.mean(p.x, p.y, p.nudge, TIGHT, throw=False)
    for steps, settled in ((2, False), (300, True)):
        estimate = eqx.filter_jit(ctep.Unrolled(steps).estimate)(p.network, task)
        assert np.all(estimate.free.settled == settled)


# ------------------------------------------------------------ random signs


@pytest.mark.usefixtures("x64")
def test_random_signs_are_both_one_sided_rules():
    """Oracle: `OneSided` forwards; backwards, what `Centered` has beyond its half."""
    p = oracles.chain(init=oracles.centred(0.5), batch=1)
    plus, both = gradients(p, (ctep.OneSided(0.3), ctep.Centered(0.3)))
    minus = 2 * both - plus
    signs = set()
    for seed in range(8):
        key, rule = jax.random.key(seed), ctep.RandomSign(0.3)
        _, gradient = p.gradient(rule=rule, solver=TIGHT, key=key)
        found = oracles.vector(gradient)
        errors = [np.linalg.norm(found - v) for v in (plus, minus)]
        assert min(errors) < 1e-9
        signs.add(int(np.argmin(errors)))
    assert signs == {0, 1}
    assert np.linalg.norm(plus - minus) > 1e-3


@pytest.mark.usefixtures("x64")
def test_each_example_has_a_sign_of_its_own():
    """Oracle: the mean of both one-sided gradients of each example, by the signs."""
    p = oracles.chain(init=oracles.centred(0.5), batch=4)
    key = jax.random.key(2)
    keys = jax.random.split(key, 4)
    signs = [int(jax.random.rademacher(k, ())) for k in keys]
    assert set(signs) == {-1, 1}
    want = 0.0
    for n, sign in enumerate(signs):
        one = dataclasses.replace(p, x=p.x[n : n + 1], y=p.y[n : n + 1])
        plus, both = gradients(one, (ctep.OneSided(0.3), ctep.Centered(0.3)))
        want = want + (plus if sign > 0 else 2 * both - plus) / 4
    _, gradient = p.gradient(rule=ctep.RandomSign(0.3), solver=TIGHT, key=key)
    np.testing.assert_allclose(oracles.vector(gradient), want, atol=1e-10)


def test_random_signs_train_and_differ_by_key():
    """Oracle: the same key gives the same weights, another one other signs.

    The batch is the whole set, so that keys matter through the signs alone.
    """
    rng = np.random.default_rng(0)
    data = rng.uniform(0, 1, (40, 6)).astype(np.float32), rng.integers(0, 3, 40)
    network = ctep.mlp((6, 5, 3), key=jax.random.key(0))

    def change(seed, rule):
        result = ctep.fit(
            network, data, rule=rule, optimizer=optax.sgd(1.0), epochs=1, probe=0,
            batch_size=40, key=jax.random.key(seed), progress=False,
        )  # fmt: skip
        return oracles.vector(result.network) - oracles.vector(network)

    one, other = (change(seed, ctep.RandomSign(1.0)) for seed in (0, 1))
    np.testing.assert_array_equal(one, change(0, ctep.RandomSign(1.0)))
    assert np.linalg.norm(one - other) > 1e-3 * np.linalg.norm(one)


# ------------------------------------------------------------ nudges that grow


@pytest.mark.usefixtures("x64")
def test_ramped_nudges_are_added_at_every_step():
    r"""Oracle: numpy; synchronous steps with the frozen error times $k\beta$."""
    beta, steps, gamma = 0.2, 7, 0.3
    p = oracles.chain(init=oracles.centred(0.5), feedback=gamma)
    weights = [np.asarray(c.forward.weight) for c in p.network.couplings]
    biases = [np.asarray(layer.bias) for layer in p.network.layers]
    x, out = np.asarray(p.x), np.asarray(p.network.readout.operator.weight)

    def step(s, push):
        below = [x, *s[:-1]]
        h = [b + v @ w for b, v, w in zip(biases, below, weights, strict=True)]
        back = [gamma * v @ w.T for v, w in zip(s[1:], weights[1:], strict=True)]
        total = [a + b for a, b in zip(h, [*back, push], strict=True)]
        return [np.tanh(h) for h in total]

    free = [np.zeros((len(x), len(b))) for b in biases]
    for _ in range(300):
        free = step(free, 0.0)
    scores = free[-1] @ out + np.asarray(p.network.readout.bias)
    scores = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    error = (np.eye(out.shape[1])[np.asarray(p.y)] - scores) @ out.T
    s = free
    for k in range(1, steps + 1):
        s = step(s, k * beta * error)
    rule = ctep.Ramped(beta, steps, rescale=False)
    p = dataclasses.replace(p, nudge=ctep.Frozen(ctep.OutputError()))
    _, gradient = p.gradient(rule=rule, solver=TIGHT, throw=False)
    for n, below in enumerate([x, *free[:-1]]):
        want = below.T @ (free[n] - s[n])
        if n:  # the feedback is tied to these weights too
            want = want + gamma * (below - s[n - 1]).T @ free[n]
        found = gradient.couplings[n].forward.weight * (steps * beta * len(x))
        np.testing.assert_allclose(found, want, atol=1e-10)


@pytest.mark.usefixtures("x64")
def test_a_ramp_lags_by_the_inverse_of_its_steps():
    """Oracle: dense implicit differentiation; the documented order in the steps."""
    p = oracles.chain(init=oracles.centred(0.5))
    counts = np.array([50, 100, 200])
    found = gradients(p, tuple(ctep.Ramped(1e-5 / int(k), int(k)) for k in counts))
    errors = [np.linalg.norm(g - exact(p)) for g in found]
    slope = np.polyfit(np.log(counts), np.log(errors), 1)[0]
    assert abs(slope + 1) < 0.05


@pytest.mark.usefixtures("x64")
def test_a_ramp_does_not_pass_for_a_rest():
    """Oracle: it lags through feedback; without any, a frozen nudge is at once felt."""
    rule, nudge = ctep.Ramped(0.1, 10), ctep.Frozen(ctep.OutputError())
    for feedback, rests in ((1.0, False), (None, True)):
        p = oracles.chain(init=oracles.centred(0.5), feedback=feedback)
        task = Task.mean(p.x, p.y, nudge, TIGHT, throw=False)
        result = eqx.filter_jit(rule.estimate)(p.network, task).result
        want = ctep.RESULTS.successful if rests else ctep.RESULTS.as_published
        assert bool((result == want).all())


# ------------------------------------------------------------ outputs that are held


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("eta", [0.3, 1.0])
def test_coupled_learning_is_the_contrastive_hebbian_rule(eta):
    r"""Oracle: numpy; $-(s_i s_j^\top|_{held} - s_i s_j^\top|_{free})/\eta$.

    The output is held at $s + \eta (y - s)$, all hidden layers relax.
    """
    p = oracles.chain(init=oracles.centred(0.4), readout=False, values=True)
    weights = [np.asarray(c.forward.weight) for c in p.network.couplings]
    biases = [np.asarray(layer.bias) for layer in p.network.layers]
    x, y = np.asarray(p.x), np.asarray(p.y)

    def relax(held=None):
        s = [np.zeros((len(x), w.shape[1])) for w in weights]
        for _ in range(500):
            for n in range(len(s)):
                below = x if n == 0 else s[n - 1]
                h = biases[n] + below @ weights[n]
                if n + 1 < len(s):
                    h = h + s[n + 1] @ weights[n + 1].T
                s[n] = np.tanh(h)
            if held is not None:
                s[-1] = held
        return s

    free = relax()
    held = relax(free[-1] + eta * (y - free[-1]))
    _, gradient = p.gradient(rule=ctep.Coupled(eta), solver=TIGHT)
    for n in range(len(weights)):
        below = (x, x) if n == 0 else (free[n - 1], held[n - 1])
        hebb = [b.T @ s[n] / len(x) for b, s in zip(below, (free, held), strict=True)]
        found = gradient.couplings[n].forward.weight
        np.testing.assert_allclose(found, (hebb[0] - hebb[1]) / eta, atol=1e-9)
        wanted = np.mean(free[n] - held[n], 0) / eta
        np.testing.assert_allclose(gradient.layers[n].bias, wanted, atol=1e-9)


@matrix.campaign
@pytest.mark.usefixtures("x64")
def test_coupled_learning_of_an_energy():
    """Oracle: finite differences of the energy at rest, held and free."""
    p = oracles.NETWORKS["energy"]()
    _, gradient = p.gradient(rule=ctep.Coupled(0.3), solver=TIGHT)
    last = oracles.roots(p)[:, 4:]
    targets = last + 0.3 * (p.y - last)

    def field(network, flat, x, held):
        slope = jax.grad(network.energies)(oracles.split(network, flat), x)
        slope = oracles.join(slope)
        return slope if held is None else slope.at[4:].set(flat[4:] - held)

    def energy(network, x, held):
        at_rest = functools.partial(field, network, x=x, held=held)
        step = lambda _, s: s - jnp.linalg.solve(jax.jacfwd(at_rest)(s), at_rest(s))  # noqa: E731
        flat = jax.lax.fori_loop(0, 30, step, jnp.zeros(7))
        return network.energies(oracles.split(network, flat), x)

    @oracles.FAST
    def work(h):
        network = jax.tree_util.tree_map(lambda a, b: a + h * b, p.network, direction)
        works = jax.vmap(lambda x, held: energy(network, x, held))(p.x, targets)
        return jnp.mean(works - jax.vmap(lambda x: energy(network, x, None))(p.x)) / 0.3

    direction = oracles.random_like(p.network, jax.random.key(0))
    slope = (work(jnp.asarray(1e-4)) - work(jnp.asarray(-1e-4))) / 2e-4
    along = oracles.vector(gradient) @ oracles.vector(direction)
    assert along == pytest.approx(float(slope), rel=1e-6)
