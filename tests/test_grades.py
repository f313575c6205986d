"""How strongly feedback reaches each layer of a graph, and where it does not."""

import itertools
import math
import subprocess
import sys

import equinox as eqx
import jax
import jax.numpy as jnp
import matrix
import numpy as np
import pytest

import ctep

KEY = jax.random.key
TIGHT = ctep.Sweeps(5000, 1e-12, 1e-12)


def _graphs():
    """Yield graphs of three to five layers, and the scale of each inner edge."""
    rng = np.random.default_rng(0)
    for _ in range(60):
        count = int(rng.integers(3, 6))
        edges = {(0, 1)} | {(int(rng.integers(0, j)), j) for j in range(2, count + 1)}
        pairs = itertools.combinations(range(1, count + 1), 2)
        edges |= {pair for pair in pairs if rng.random() < 0.25}
        if rng.random() < 0.6:
            level = rng.integers(0, 5, count + 1)
            scales = {(i, j): 0.5 ** float(level[j] - level[i]) for i, j in edges}
        else:
            scales = {edge: float(rng.choice([0.5, 0.25, 1.0])) for edge in edges}
        yield count, sorted(edges), scales


def test_an_energy_exists_where_the_scales_can_be_graded():
    """Oracle: least squares on the logarithms of the ratios, c_i gamma = c_j."""
    seen = []
    for count, edges, scales in _graphs():
        network = ctep.graph(
            (1, *[1] * count, 1), edges, feedback=lambda i, j, s=scales: s[i, j],
            key=KEY(0),
        )  # fmt: skip
        rows, right = [np.eye(count)[count - 1]], [0.0]  # 1 at the output
        for i, j in edges:
            if i:
                rows.append(np.eye(count)[i - 1] - np.eye(count)[j - 1])
                right.append(math.log(scales[i, j]))
        rows, right = np.array(rows), np.array(right)
        grades = np.linalg.lstsq(rows, right, rcond=None)[0]
        exists = np.abs(rows @ grades - right).max() < 1e-9
        assert network.has_energy == exists, (edges, scales)
        if exists:
            found = np.log(network.attenuation)
            assert np.abs(rows @ found - right).max() < 1e-9
        seen.append(exists)
    assert 10 < sum(seen) < 58


@matrix.parametrize(
    "edges",
    EDGES := [
        [(0, 1), (1, 2), (2, 4), (1, 3)],  # a leaf
        [(0, 1), (1, 2), (2, 5), (1, 3), (3, 4)],  # two in a row
        [(0, 1), (0, 2), (1, 3), (2, 3), (2, 4), (3, 5)],
    ],
    EDGES[:1],
)
def test_layers_without_a_way_of_feedback_from_the_output_are_exact(edges, x64):
    """Oracle: implicit differentiation, for a nudge of 1e-4."""
    count = max(j for _, j in edges)
    sizes = (5, *[6] * count, 4)
    network = ctep.graph(sizes, edges, feedback=0.1, key=KEY(3))
    assert network.has_energy
    x, y = jax.random.normal(KEY(1), (6, 5)), jnp.arange(6) % 4
    found, want = (
        ctep.gradient(network, x, y, rule=rule, solver=TIGHT)[1]
        for rule in (ctep.Centered(1e-4), ctep.Implicit())
    )
    for a, b in zip(*map(jax.tree_util.tree_leaves, (found, want)), strict=True):
        assert jnp.linalg.norm(a - b) < 1e-5 * jnp.linalg.norm(b)


@matrix.parametrize(
    ("feedback", "layers", "activation"),
    CHAINS := [
        (0.01, 20, ctep.Tanh()), (1e-6, 8, ctep.HardSigmoid()),
        (1e-3, 16, ctep.HardSigmoid()), (1e-9, 36, ctep.Tanh()),
    ],
    CHAINS[:2],
)  # fmt: skip
def test_depth_has_no_end(feedback, layers, activation):
    """Oracle: the same network in float64, layer by layer.

    In float32 the feedback of all of them ends on the way, and that of the last one in
    float64 as well.
    """
    rng = np.random.default_rng(1)
    x, y = np.float32(rng.normal(size=(5, 6))), np.arange(5, dtype=np.int32) % 4
    network = ctep.mlp(
        (6, *[7] * layers, 4), activation=activation, feedback=feedback,
        init=jax.nn.initializers.orthogonal(), key=KEY(0),
    )  # fmt: skip

    def gradient(dtype):
        exact = jax.tree_util.tree_map(
            lambda v: v.astype(dtype) if eqx.is_inexact_array(v) else v, network
        )
        solver = ctep.Sweeps(100, 1e-6, 1e-6)
        _, out = ctep.gradient(exact, jnp.asarray(x, dtype), y, solver=solver)
        return [np.asarray(c.forward.weight) for c in out.couplings]

    found = gradient(jnp.float32)
    with jax.enable_x64(True):
        want = gradient(jnp.float64)
    for a, b in zip(found, want, strict=True):
        assert np.linalg.norm(b) > 0  # of hard sigmoids 1e-17, but not lost
        assert np.linalg.norm(a - b) < 2e-4 * np.linalg.norm(b)


def test_a_gradient_that_no_number_can_hold_is_refused():
    """Oracle: 0.1 to the power of 49 is no float32; rescaled it needs none."""
    network = ctep.mlp((2, *[2] * 50, 2), feedback=0.1, key=KEY(0))
    x, y = jnp.ones((2, 2)), jnp.arange(2)
    with pytest.raises(ValueError, match="attenuated, but that is by 1e-49"):
        ctep.gradient(network, x, y, rule=ctep.Centered(rescale=False))


def test_a_network_without_feedback_is_refused_by_rules_that_need_it():
    """Its hidden weights would stay as they were drawn."""
    network = ctep.mlp((3, 4, 4, 2), feedback=None, key=KEY(0))
    x, y = jnp.ones((2, 3)), jnp.arange(2)
    for rule in (ctep.OneSided(), ctep.Centered(), ctep.Ramped()):
        with pytest.raises(ValueError, match="`network` has no feedback, so no nudge"):
            ctep.gradient(network, x, y, rule=rule)
    with pytest.raises(ValueError, match=r"pass `rule=ctep\.Backprop\(\)`"):
        ctep.fit(network, (np.ones((4, 3)), np.arange(4) % 2), progress=False)
    exact = ctep.gradient(network, x, y, rule=ctep.Implicit())[1]
    assert jnp.abs(exact.couplings[0].forward.weight).max() > 0


UNREACHED = {
    "no way back": (
        [(0, 1), (1, 2), (0, 3), (2, 3)], [(3, 2)], ctep.OneSided(), "b1, W0_1"
    ),
    "no way ahead": (
        [(0, 1), (1, 3), (1, 2)], [(3, 1)], ctep.Implicit(), "b2, W1_2"
    ),
    "no way ahead of the twin": (
        [(0, 1), (1, 3), (1, 2)], [(3, 1), (2, 1)], ctep.Backprop(), "b2, W1_2"
    ),
    "nothing comes back": (
        [(0, 1), (1, 2), (2, 3)], [(3, 2)], ctep.FeedbackAlignment(), "b1, W0_1"
    ),
}  # fmt: skip


@matrix.parametrize("case", UNREACHED, ["no way back", "no way ahead of the twin"])
def test_arrays_that_no_gradient_reaches_are_named(case):
    """Oracle: a gradient that is zero for these arrays, and for no other."""
    edges, back, rule, names = UNREACHED[case]
    network = ctep.graph(
        (3, 4, 4, 4, 2), edges, feedback_edges=back, feedback=ctep.Fixed(0.3),
        key=KEY(0),
    )  # fmt: skip
    x = np.random.default_rng(0).standard_normal((8, 3)).astype(np.float32)
    data = x, np.arange(8) % 2
    gradient = ctep.gradient(network, *data, rule=rule)[1]
    layer = 0 if "b1" in names else 1
    assert jnp.abs(gradient.layers[layer].bias).max() == 0
    assert jnp.abs(gradient.layers[1 - layer].bias).max() > 0
    with pytest.warns(UserWarning, match=f"No gradient ever reaches {names}: "):
        ctep.fit(network, data, rule=rule, epochs=1, probe=0, progress=False)


SCRIPT = """
import sys, warnings
import jax, numpy as np
import ctep

def shown(text, category, file, line, *_):
    print(file, line)
    sys.exit()

warnings.showwarning = shown
network = ctep.graph(
    (3, 4, 4, 4, 2), [(0, 1), (1, 2), (0, 3), (2, 3)], feedback_edges=[(3, 2)],
    feedback=ctep.Fixed(0.3), key=jax.random.key(0),
)
data = np.ones((8, 3), np.float32), np.arange(8) % 2
ctep.fit(network, data, progress=False)
"""


def test_a_warning_shows_the_line_that_it_is_about(tmp_path):
    """Apart, since here each function has a frame of jaxtyping around it."""
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    run = [sys.executable, script]
    done = subprocess.run(run, capture_output=True, text=True, check=True)
    line = SCRIPT.splitlines().index("ctep.fit(network, data, progress=False)") + 1
    assert done.stdout == f"{script} {line}\n"
