"""All analyses of a network in a folder."""

import json

import jax
import jax.numpy as jnp
import numpy as np

import ctep
from ctep.analysis._report import plain

NAMES = {
    "spectral_radius", "lyapunov", "convergence_time", "contraction", "gradient_check",
    "gradient_curve", "depth_profile", "weight_statistics", "energy_trace",
    "nudge_plane", "history",
}  # fmt: skip
RECORD = {"epoch": 1, "loss": 1.0, "train_accuracy": 0.5, "test_accuracy": None}


def analyse(network, folder):
    x = jax.random.uniform(jax.random.key(1), (3, *network.input_shape))
    said = []
    found = ctep.analysis.analyse(
        network,
        x,
        jnp.arange(3) % 2,
        folder,
        nudge=ctep.OutputError(),
        rule=ctep.OneSided(0.01),
        history=[RECORD],
        say=said.append,
    )
    # What is written is what is returned, and knows neither NaN nor infinity.
    text = (folder / "analysis.json").read_text()
    assert json.loads(text, parse_constant=lambda name: 1 / 0) == found
    return found, said


def test_every_analysis_leaves_numbers_and_figures(tmp_path):
    """Oracle: the functions that have a figure; those that cannot apply here.

    The network has no energy, and its activation has kinks.
    """
    network = ctep.mlp(
        (6, 4, 4, 2),
        feedback=ctep.Fixed(0.1),
        activation=ctep.ReLU6(),
        key=jax.random.key(0),
    )
    found, said = analyse(network, tmp_path / "new" / "folder")
    assert set(found) == NAMES | {"spectral_radius_of_weights", "recommended_beta"}
    assert len(said) == len(found)
    refused = [line.split(":")[0] for line in said if ": not here. " in line]
    assert refused == ["energy_trace", "nudge_plane"]
    assert "does not extend to complex states" in found["nudge_plane"]["refused"]
    files = {path.name for path in (tmp_path / "new" / "folder").iterdir()}
    drawn = NAMES - set(refused)
    figures = {f"{name}.{kind}" for name in drawn for kind in ("svg", "png")}
    assert files == figures | {"analysis.json"}
    cosine = found["gradient_check"]["cosine"]
    assert np.all(np.array(cosine, float)[:, -1] > 0.9)


def test_numbers_become_plain():
    """Oracle: JSON."""
    values = {1: (np.float32(0.5), jnp.array([1, 2])), "a": [np.nan, -np.inf, 1 + 2j]}
    want = {"1": [0.5, [1, 2]], "a": ["nan", "-inf", [1.0, 2.0]]}
    assert plain(values) == want
