"""All analyses of a network in a folder."""

import base64
import html
import json
import re
import xml.etree.ElementTree

import jax
import jax.numpy as jnp
import jaxtyping
import matrix
import numpy as np
import oracles
import pytest

import ctep
from ctep.analysis import _report

NAMES = {
    "spectral_radius", "spectral_radius_of_weights", "lyapunov", "convergence_time",
    "contraction", "gradient_check", "gradient_curve", "recommended_beta",
    "depth_profile", "weight_statistics", "energy_trace", "nudge_plane", "history",
}  # fmt: skip
RECORD = {"epoch": 1, "loss": 1.0, "train_accuracy": 0.5, "test_accuracy": None}


def analyse(network, folder, **kwargs):
    x = jax.random.uniform(jax.random.key(1), (3, *network.input_shape))
    rule = kwargs.pop("rule", ctep.OneSided(0.01))
    options = {"nudge": ctep.OutputError(), "rule": rule, **kwargs}
    return ctep.analysis.analyse(network, x, jnp.arange(3) % 2, folder, **options)


def only(names, monkeypatch, **tasks):
    """Run a selection of the analyses alone, and functions beside them."""
    every = _report._tasks

    def some(*args):
        found = every(*args)
        return {name: found[name] for name in names} | tasks

    monkeypatch.setattr(_report, "_tasks", some)


@matrix.campaign
def test_every_analysis_leaves_numbers_and_figures(tmp_path):
    """Oracle: the functions there are, all of which apply to a symmetric tanh chain."""
    network = ctep.mlp((4, 3, 2), feedback=0.3, readout=False, key=jax.random.key(0))
    folder, said = tmp_path / "new" / "folder", []
    options = {"rule": ctep.Centered(), "history": [RECORD], "say": said.append}
    found = analyse(network, str(folder), **options)
    assert set(found) == NAMES
    assert [line.split(":")[0] for line in said] == list(found)
    assert not any("not here" in line for line in said)
    # What is written is what is returned, and knows neither NaN nor infinity.
    text = (folder / "analysis.json").read_text()
    assert json.loads(text, parse_constant=lambda name: 1 / 0) == found
    drawn = NAMES - {"spectral_radius_of_weights"}
    figures = {f"{name}.{kind}" for name in drawn for kind in ("svg", "png")}
    written = figures | {"analysis.json", "report.html"}
    assert {path.name for path in folder.iterdir()} == written
    page = (folder / "report.html").read_text()
    assert page.count("<section") == len(NAMES)
    assert page.count("<img") == len(drawn)
    check = found["gradient_check"]
    assert check["rules"] == [str(ctep.Centered())]
    assert np.all(np.array(check["cosine"], float)[:, -1] > 0.99)


@pytest.mark.parametrize(
    ("build", "refusals"),
    [
        (
            lambda: ctep.mlp(
                (6, 4, 4, 2), feedback=ctep.Fixed(0.1), activation=ctep.ReLU6(),
                key=jax.random.key(0),
            ),
            {"energy_trace": "no energy", "nudge_plane": "complex states"},
        ),
        (
            lambda: oracles.NETWORKS["energy"]().network,
            {
                "depth_profile": "has no layers",
                "weight_statistics": "has no layers",
                "spectral_radius_of_weights": "has no layers",
            },
        ),
    ],
)  # fmt: skip
def test_what_does_not_apply_is_refused(build, refusals, tmp_path, monkeypatch):
    """Oracle: no energy and an activation with kinks; no layers."""
    only(refusals, monkeypatch)
    said = []
    found = analyse(build(), tmp_path, say=said.append)
    assert set(found) == set(refusals)
    for name, why in refusals.items():
        assert why in found[name]["refused"]
        assert f"{name}: not here. {found[name]['refused']}" in said
    assert {path.name for path in tmp_path.iterdir()} == {
        "analysis.json",
        "report.html",
    }
    page = html.unescape((tmp_path / "report.html").read_text())
    assert all(f"Not here. {found[name]['refused']}" in page for name in refusals)


def test_the_page_needs_no_other_file(tmp_path, monkeypatch):
    """Oracle: its addresses, all of them data; the figure, as XML; the caption."""
    only(["convergence_time"], monkeypatch)
    network = ctep.mlp((4, 3, 2), feedback=0.3, key=jax.random.key(0))
    analyse(network, tmp_path, history=[RECORD], say=lambda _: None)
    page = (tmp_path / "report.html").read_text()
    addresses = re.findall(r'(?:src|href)="([^"]*)"', page)
    outside = [a for a in addresses if not a.startswith(("data:", "#"))]
    assert (len(addresses), outside, "url(" in page) == (5, [], False)
    for part in re.findall(r'base64,([^"]*)"', page):
        figure = xml.etree.ElementTree.fromstring(base64.b64decode(part))
        assert figure.tag.endswith("svg")
    for name in ("convergence_time", "history"):
        assert ctep.analysis.plot.CAPTIONS[name] in html.unescape(page)
    assert "tanh(W0_1 x + b1)" in page
    # A figure by itself has its caption too: it is taller than that of the page.
    alone = xml.etree.ElementTree.parse(tmp_path / "history.svg").getroot()
    assert float(alone.get("height")[:-2]) > float(figure.get("height")[:-2])


def test_a_mistake_in_an_analysis_is_no_refusal(tmp_path, monkeypatch):
    """Oracle: an error of Python's own comes through."""
    only([], monkeypatch, broken=lambda: len(3))
    with pytest.raises(TypeError, match="has no len"):
        analyse(ctep.mlp((4, 3, 2), key=jax.random.key(0)), tmp_path)


def test_wrong_input_is_answered_before_anything_is_written(tmp_path, monkeypatch):
    """Oracle: the documented errors, as a user without type checks sees them."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    network = ctep.mlp((4, 3, 2), key=jax.random.key(0))
    folder = tmp_path / "new"
    for wrong in ({"rule": "ep"}, {"nudge": 3}, {"key": 7}):
        ((name, value),) = wrong.items()
        with pytest.raises(TypeError, match=f"`{name}` is {value!r}"):
            analyse(network, folder, **wrong)
    with pytest.raises(TypeError, match="`network` is 'net'"):
        ctep.analysis.analyse(
            "net", [[1.0]], [0], folder, nudge=ctep.OutputError(), rule=ctep.Centered()
        )
    with pytest.raises(ValueError, match="`y` holds the label 1"):
        analyse(ctep.mlp((4, 3, 1), key=jax.random.key(0)), folder)
    assert not folder.exists()


def test_rules_are_checked_once_and_random_ones_not_at_all(monkeypatch):
    """Oracle: the rules that the check is given."""
    given = []
    monkeypatch.setattr(
        _report, "gradient_check", lambda n, x, y, r, **_: given.append(r)
    )
    network = ctep.mlp((4, 3, 2), key=jax.random.key(0))
    other = ctep.OneSided(0.3)
    for rule in (ctep.RandomSign(), ctep.Centered(), other):
        _report._tasks(network, None, None, None, rule, None)["gradient_check"]()
    alone = [ctep.Centered()]
    assert [list(r.values()) for r in given] == [alone, alone, [*alone, other]]


def test_numbers_become_plain():
    """Oracle: JSON."""
    values = {1: (np.float32(0.5), jnp.array([1, 2])), "a": [np.nan, -np.inf, 1 + 2j]}
    want = {"1": [0.5, [1, 2]], "a": ["nan", "-inf", [1.0, 2.0]]}
    assert _report.plain(values) == want
