"""Meshes as JAX makes them, explicit and automatic: the numbers of one device."""

import os
import subprocess
import sys

import matrix
import pytest

BEGIN = """
import contextlib, warnings
import ctep, jax, optax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec as P

network = ctep.mlp((6, 8, 3), feedback=0.1, key=jax.random.key(0))
x = np.random.default_rng(0).uniform(-1, 1, (24, 6)).astype(np.float32)
y = np.argmax(x[:, :3], 1)
explicit = jax.make_mesh((4,), ("batch",))
axes = (jax.sharding.AxisType.Auto,) * 2
meshes = {
    "explicit": explicit,
    "two axes": jax.make_mesh((2, 2), ("a", "b")),
    "automatic": jax.make_mesh((2, 2), ("a", "b"), axis_types=axes),
}
settings = dict(epochs=1, batch_size=8, probe=4, progress=False, average=0.9)

def spread(mesh):
    return jax.device_put((x, y), NamedSharding(mesh, P(mesh.axis_names)))

def same(a, b):
    for u, v in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_allclose(u, v, rtol=1e-4, atol=1e-7)
"""

GRADIENT = """
expected, rest = ctep.gradient(network, x, y), ctep.predict(network, x)
for name, mesh in meshes.items():
    own = spread(mesh)
    same(ctep.gradient(network, *own), expected)
    same(jax.jit(ctep.gradient)(network, *own), expected)
    out = ctep.predict(network, own[0])
    same(out, rest)
    assert out.sharding.is_equivalent_to(own[0].sharding, 2), out.sharding
"""

CONTEXT = """
with jax.set_mesh(explicit):
    # Made here, weights and keys have the mesh in their types.
    inner = ctep.mlp((6, 8, 3), feedback=0.1, key=jax.random.key(0))
    same(ctep.gradient(inner, *spread(explicit)), ctep.gradient(network, x, y))
    exact = ctep.gradient(network, x, y, rule=ctep.Implicit())[1]
    own = jax.grad(lambda n: ctep.gradient(n, *spread(explicit))[0])(network)
    for u, v in zip(jax.tree.leaves(own), jax.tree.leaves(exact), strict=True):
        assert jnp.linalg.norm(u - v) <= 1e-3 * jnp.linalg.norm(v)
    _, gradient = ctep.gradient(inner, *spread(explicit))
    moved = jax.tree.map(lambda a, g: a - 0.1 * g, inner, gradient)
    assert ctep.settle(moved, x).settled.all()
"""

FIT = """
alone = Mesh(np.array(jax.devices()[:1]), ("batch",))
expected = ctep.fit(network, (x, y), mesh=alone, **settings).network
for mesh in meshes.values():
    for shard in (False, True):
        out = ctep.fit(network, (x, y), mesh=mesh, shard_parameters=shard, **settings)
        same(out.network, expected)
for mesh in (meshes["explicit"], meshes["automatic"]):
    with jax.set_mesh(mesh):
        inner = ctep.mlp((6, 8, 3), feedback=0.1, key=jax.random.key(0))
        key = jax.random.key(0)
        same(ctep.fit(inner, (x, y), key=key, **settings).network, expected)
        assert ctep.evaluate(inner, (x, y)).unsettled == 0
"""


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(GRADIENT, id="gradient", marks=matrix.campaign),
        pytest.param(CONTEXT, id="set_mesh", marks=matrix.campaign),
        pytest.param(FIT, id="fit", marks=matrix.campaign),
    ],
)
def test_four_devices(body):
    """Oracle: the same call on one device, to the rounding of other sums."""
    flags = "--xla_force_host_platform_device_count=4"
    environment = {**os.environ, "XLA_FLAGS": flags}
    done = subprocess.run(
        [sys.executable, "-c", BEGIN + body],
        env=environment,
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert done.returncode == 0, done.stderr[-2000:]
