"""Networks and the rest of a run, built from what its folder says of them."""

import inspect
import itertools
import json
from typing import Any

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import optax
import pytest

import ctep
from ctep._train.loop import Loop
from ctep._train.restore import part
from ctep._train.store import checkpoint
from ctep._train.store.identity import described

ONE, TWO = jax.random.split(jax.random.key(0))
ADAM = optax.adam(1e-3)
PARTS = {
    "nudge": ctep.OutputError(),
    "rule": ctep.OneSided(),
    "solver": ctep.Sweeps(),
    "pipeline": ctep.data.Pipeline(),
}


def keep(folder, network, **changes):
    """Write the folder of a run as `fit` does; return its network and its nudge."""
    parts = PARTS | changes
    nudge = parts["nudge"].drawn(network, ONE)
    moving = parts["rule"], parts["solver"], ADAM
    _, state = Loop.start(network, nudge, *moving, 2, carry_state=True)
    who = described(network, parts, ADAM, {"dataset": "digits, 9 examples"}, {})
    folder.mkdir()
    (folder / "run.json").write_text(json.dumps(who))
    config = {"epoch": 1, "batch": 0, "seconds": 0.0, "history": []}
    checkpoint.save(folder, state, config, epoch=1)
    return network, nudge


def mlp(sizes=(4, 3, 3, 2), feedback: Any = 0.3, **options):
    return ctep.mlp(sizes, feedback=feedback, key=ONE, **options)


def vgg(**options):
    options = {"input_shape": (8, 8, 3), "classes": 2, "feedback": 0.1} | options
    return ctep.vgg((2, 3), key=ONE, **options)


def chained():
    """Convolutions of every kind, pooled in every way, behind one another."""
    first = ctep.Conv((9, 8, 1), 2, kernel=(2, 1), stride=(2, 1), padding=1, key=ONE)
    pools = [ctep.AveragePool(first.out_shape, (1, 2))]
    second = ctep.Conv(pools[0].out_shape, 2, padding="valid", key=TWO)
    pools.append(ctep.SoftmaxPool(second.out_shape, 2, temperature=0.5))
    chain = ctep.Chain((ctep.Chain((first, pools[0])), second, pools[1]))
    layer = ctep.Layer(chain.out_shape, ctep.Clip(-1.0, float("inf")), tau=2.0)
    readout = ctep.Readout(ctep.Dense(layer.shape, (3,), key=TWO, precision="bfloat16"))
    return ctep.Network((9, 8, 1), [layer], [ctep.Coupling(0, 1, chain)], readout)


def half():
    return jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), mlp())


NETWORKS = {
    "tied": lambda: mlp(activation=ctep.Tanh()),
    "fixed": lambda: mlp(feedback=ctep.Fixed(0.2), bias=False),
    "none": lambda: mlp(feedback=None, activation=ctep.Sigmoid(4.0, 0.5)),
    "rectified": lambda: mlp(activation=ctep.ReLU(), output_activation=ctep.Identity()),
    "without a readout": lambda: mlp(readout=False),
    "graph": lambda: ctep.graph(
        (4, 3, 3, 3, 2), [(0, 1), (1, 2), (2, 3), (1, 3)], feedback=0.3, key=ONE
    ),
    "images": vgg,
    "resnet": lambda: ctep.hopfield_resnet(
        (2, 3), input_shape=(8, 8, 3), classes=2, key=ONE
    ),
    "residual": lambda: ctep.residual((2, 3), 2, input_shape=(8, 8, 3), key=ONE),
    "chained": chained,
    "half": half,
    "stack": lambda: mlp((4, 3, 3, 3, 2), stack=True),
    "stack of images": lambda: ctep.vgg(
        (2, 2, 2), input_shape=(8, 8, 1), pooled=(1,), feedback=0.1, key=ONE
    ).stacked(),
}


def by(schedule):
    return ctep.OutputError() + schedule * ctep.LocalError((1,))


TEACHER = mlp((4, 5, 3, 2), feedback=None)
NUDGES = {
    "squares": ctep.OutputError(ctep.SquaredError()),
    "smoothed": ctep.OutputError(ctep.CrossEntropy(label_smoothing=0.1)),
    "number": by(0.5),
    "array": by(0.5).drawn(mlp(), TWO),
    "linear": by(ctep.linear(1.0, 5)),
    "exponential": by(ctep.exponential(1.0)),
    "cosine": by(ctep.cosine(1.0, 5)),
    "frozen": ctep.Frozen(ctep.OutputError()) + ctep.OutputError(),
    "teacher": ctep.Distillation(TEACHER, ((1, 1), (2, 2)), mapping="linear"),
}
OTHERS = {
    "rule": [
        *(ctep.OneSided(0.02), ctep.Centered(rescale=False), ctep.RandomSign()),
        *(ctep.Ramped(), ctep.Holomorphic(), ctep.Oscillating(), ctep.Coupled()),
        *(ctep.Implicit(1e-5), ctep.Unrolled(9, truncate=3), ctep.Backprop()),
        ctep.FeedbackAlignment(),
    ],
    "solver": [
        ctep.Sweeps(50, gather=(0.5,), order=ctep.Forward()),
        ctep.Sweeps(order=ctep.Backward()),
        ctep.Sweeps(order=ctep.Synchronous()),
        ctep.FixedSweeps(3, 2, order=ctep.Alternating()),
        ctep.Phases(ctep.Sweeps(20), ctep.FixedSweeps(nudged=3)),
        ctep.ODE(interval=5.0),
        ctep.FixedPoint(),
    ],
    "pipeline": [
        ctep.data.Pipeline(crop=1, fill="edge", mean=(0.1, 0.2), std=2.0),
        ctep.data.Pipeline(cutout=2, randaugment=(3, 9)),
    ],
}


def same(found, wanted):
    assert jax.tree.structure(found) == jax.tree.structure(wanted)
    assert eqx.tree_equal(found, wanted)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_comes_back(name, tmp_path):
    """Oracle: the network itself, structure and bits, without its optimiser."""
    wanted = keep(tmp_path / "run", NETWORKS[name]())
    same(ctep.restore(tmp_path / "run"), wanted)


@pytest.mark.parametrize("name", NUDGES)
def test_a_nudge_comes_back(name, tmp_path):
    """Oracle: the nudge itself, with what was drawn for it and what teaches it."""
    wanted = keep(tmp_path / "run", mlp(), nudge=NUDGES[name])
    same(ctep.restore(tmp_path / "run"), wanted)


CASES = [(name, value) for name, values in OTHERS.items() for value in values]


@pytest.mark.parametrize(("name", "value"), CASES)
def test_every_other_part_comes_back(name, value, tmp_path):
    """Oracle: the object itself."""
    keep(tmp_path / "run", mlp(), **{name: value})
    same(part(tmp_path / "run", name), value)


def test_no_public_class_is_forgotten():
    """Oracle: what `ctep` exports; but for code of one's own, which no file holds."""
    kinds = [kind for kind in vars(ctep).values() if inspect.isclass(kind)]
    moving = ctep.AbstractNetwork, ctep.AbstractNudge, ctep.AbstractRule
    moving += ctep.AbstractSolver, ctep.AbstractOrder, ctep.AbstractOperator
    moving += ctep.AbstractActivation, ctep.AbstractLoss, ctep.Layer, ctep.Coupling
    public = {
        kind
        for kind in kinds
        if issubclass(kind, moving) and not inspect.isabstract(kind)
    }
    tested = [build() for build in NETWORKS.values()]
    tested += [*NUDGES.values(), *itertools.chain(*OTHERS.values())]
    seen = set()

    def look(value):
        for node in jax.tree.leaves(value, is_leaf=lambda v: v is not value):
            if isinstance(node, eqx.Module | tuple):
                seen.add(type(node))
                look(node)

    look(tuple(tested))
    assert public - seen == {ctep.Module}


@pytest.mark.usefixtures("x64")
def test_64_bits_come_back_or_are_named(tmp_path):
    """Oracle: the network itself; without them a sentence."""
    wanted = keep(tmp_path / "run", mlp())
    same(ctep.restore(tmp_path / "run"), wanted)
    with jax.enable_x64(False), pytest.raises(ValueError, match=r"float64.*float32"):
        ctep.restore(tmp_path / "run")


def test_a_nudge_of_ones_own_is_passed_alone(tmp_path):
    """Oracle: the nudge itself; `network` is not asked for."""
    nudge = by(optax.linear_schedule(1.0, 0.0, 3))
    wanted = keep(tmp_path / "run", mlp(), nudge=nudge)
    found = ctep.restore(tmp_path / "run", nudge=nudge)
    assert eqx.tree_equal(found[0], wanted[0])
    assert eqx.tree_equal(*(eqx.filter(n, eqx.is_array) for n in (found[1], wanted[1])))


# ------------------------------------------------------------ what cannot be built


class Tanh(ctep.AbstractActivation):
    """A class of one's own, of a name that is taken."""

    lipschitz = 1.0

    def __call__(self, h):
        return jnp.tanh(h)


class Huber(ctep.AbstractLoss):
    def __call__(self, output, target):
        return jnp.sum(output, -1)


FOREIGN = {
    "activation": (
        lambda: {"network": mlp(activation=Tanh())},
        "'Tanh' at `network.layers.0.activation`, which cannot .* as `network`",
    ),
    "module": (
        lambda: {"network": ctep.Module(jnp.tanh, (3,))},
        "at `network.module`, which cannot be built from a file: build it",
    ),
    "loss": (
        lambda: {"network": mlp(), "nudge": ctep.OutputError(Huber())},
        "'Huber' at `nudge.loss`, which .* to `ctep.restore` as `nudge`",
    ),
    "schedule": (
        lambda: {"network": mlp(), "nudge": by(optax.linear_schedule(1.0, 0.0, 3))},
        "'optax.* at `nudge.nudges.1.weight`",
    ),
    "solver": (
        lambda: {"network": mlp(), "solver": ctep.ODE(solver=dfx.Euler())},
        "'diffrax.Euler' at `solver.solver`, .* pass it to `ctep.evaluate`",
    ),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_what_is_not_the_librarys_own_is_named(name, tmp_path):
    """Oracle: the sentence, which says what to pass instead."""
    build, match = FOREIGN[name]
    out = tmp_path / "run"
    keep(out, **build())
    with pytest.raises(ValueError, match=match) as caught:
        [ctep.restore(out), *(part(out, name) for name in OTHERS)]
    assert "\n" not in str(caught.value)


def test_a_network_that_is_passed_is_taken(tmp_path):
    """As ever: what the file says of it does not count."""
    network, nudge = keep(tmp_path / "run", mlp(activation=Tanh()))
    (tmp_path / "run" / "run.json").write_text("{}")
    fresh = jax.tree.map(jnp.zeros_like, network)
    found = ctep.restore(tmp_path / "run", fresh, batch_size=2)
    assert eqx.tree_equal(found, (network, nudge))
    with pytest.raises(ValueError, match="does not describe the network as this vers"):
        ctep.restore(tmp_path / "run")
    with pytest.raises(FileNotFoundError, match=r"which holds no run\.json"):
        ctep.restore(tmp_path / "none")


# ------------------------------------------------------------ hostile files

LAYER = "content", "network", "layers", 0
WEIGHT = "content", "network", "couplings", 0, "forward"
HARMS = {
    "other widths": ((*WEIGHT, "weight"), "float32[4,9]"),
    "more than there is": ((*LAYER, "bias"), "float32[4]"),
    "as much as no machine has": ((*WEIGHT, "weight"), "float32[999999999,99999999]"),
    "wide, and nothing else": ((*LAYER, "shape"), [2000000000]),
    "a number that no array has": ((*LAYER, "bias"), f"float32[{10**40}]"),
    "no dtype": ((*LAYER, "bias"), "float77[3]"),
    "objects": ((*LAYER, "bias"), "object[3]"),
    "less than it needs": ((*LAYER, "bias"), None),
    "an unknown class": ((*LAYER, "activation"), {"class": "os.system"}),
    "an unknown field": ((*LAYER, "activation"), {"class": "ctep.Tanh", "a": 1}),
    "no class": ((*LAYER, "activation"), {}),
    "a number for a class": ((*LAYER, "activation", "class"), 3),
    "another class": ((*LAYER, "activation"), {"class": "ctep.SquaredError"}),
    "an abstract class": ((*LAYER, "activation"), {"class": "ctep.AbstractActivation"}),
    "something else than a network": (("content", "network"), {"class": "ctep.Tanh"}),
    "something else than a nudge": (("content", "nudge"), 3),
    "no nudge": (("content", "nudge"), None),
    "another version": (("content", "version"), 1),
    "no version": (("content",), {"version": 2}),
    "nothing": (("content",), []),
    "a text for a shape": ((*WEIGHT, "in_shape"), "four"),
    "another shape": ((*WEIGHT, "in_shape"), [2]),
    "no layers": (("content", "network", "layers"), []),
    "a layer that is not there": (("content", "network", "couplings", 0, "target"), 9),
    "two lines": ((*LAYER, "activation"), {"class": "two\nlines\x1b]0;"}),
}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    out = tmp_path_factory.mktemp("hostile") / "run"
    keep(out, mlp((4, 3, 2)))
    return out, (out / "run.json").read_text()


def refused(run, text):
    out, _ = run
    (out / "run.json").write_text(text)
    with pytest.raises(ValueError, match=r"run\.json") as caught:
        ctep.restore(out)
    sentence = str(caught.value)
    assert sentence.isprintable()
    assert sentence.endswith(".")
    return sentence


@pytest.mark.parametrize("name", HARMS)
def test_a_hostile_description_is_refused(name, run, monkeypatch):
    """In a sentence, with the library's checks alone: users run without type hints."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    (*path, last), value = HARMS[name]
    kept = json.loads(run[1])
    node = kept
    for key in path:
        node = node[key]
    node[last] = value
    refused(run, json.dumps(kept))


@pytest.mark.parametrize("text", ["", "[]", "{}", "\xff", "[" * 10**5, '{"a":' * 10**5])
def test_a_damaged_description_is_refused(text, run):
    refused(run, text)


def test_an_array_that_no_checkpoint_holds_is_refused(run):
    """However large: nothing of it is made."""
    kept = json.loads(run[1])
    kept["content"]["solver"]["rtol"] = "float64[999999999999]"
    (run[0] / "run.json").write_text(json.dumps(kept))
    with pytest.raises(ValueError, match=r"an array at `solver\.rtol`, which cannot"):
        part(run[0], "solver")


def test_depth_is_refused(run):
    """Chains of chains, as deep as JSON itself can be read."""
    kept = json.loads(run[1])
    kept["content"]["network"]["couplings"][0]["forward"] = "DEEP"
    one = '{"class": "ctep.Chain", "operators": ['
    deep = one * 150 + "]}" * 150
    refused(run, json.dumps(kept).replace('"DEEP"', deep))


def test_whatever_a_file_says_is_built_or_refused(run, monkeypatch):
    """Any value in place of any other: an error is a sentence, a network is whole."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    values = [None, True, -1, 10**30, 1e308, "", "inf", "itself", [], {}, [[]], "x[1]"]
    out, text = run
    places = list(jax.tree_util.tree_leaves_with_path(json.loads(text)["content"]))
    places = [path for path, _ in places if path[0].key in ("network", "nudge")]
    random = np.random.default_rng(0)
    for path in places:
        kept = json.loads(text)
        node = kept["content"]
        for key in path[:-1]:
            node = node[getattr(key, "key", getattr(key, "idx", None))]
        key = getattr(path[-1], "key", getattr(path[-1], "idx", None))
        node[key] = values[random.integers(len(values))]
        (out / "run.json").write_text(json.dumps(kept))
        try:
            said = str(ctep.restore(out)[0].output_shape)
        except ValueError as error:
            said = str(error)
        assert said.isprintable(), path
