"""A resumed run is the same run: whatever decides its weights is compared by name."""

import dataclasses
import functools
import json
import os
import shutil
import subprocess
import sys
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import matrix
import numpy as np
import optax
import pytest

import ctep
from ctep._train.store.folder import compared
from ctep._train.store.identity import described

KEY = jax.random.key(0)
RATE = 0.01
X = np.random.default_rng(0).uniform(size=(12, 4, 4, 1)).astype(np.float32)
Y = np.arange(12) % 3


def falling(step):
    return RATE / (1 + step)


def rising(step):
    return RATE * (1 + step)


class Weighted(ctep.AbstractLoss):
    """A loss with constants of its own, and code of its own."""

    weights: jax.Array
    power: float = 1.0

    def __call__(self, output, target):
        return jnp.sum(self.weights * (output - jax.nn.one_hot(target, 3)) ** 2, -1)


class Cubic(Weighted):
    def __call__(self, output, target):
        return jnp.sum(jnp.abs(output - jax.nn.one_hot(target, 3)) ** 3, -1)


def network(feedback=0.3, activation=ctep.Tanh(), bias=True, sizes=(16, 5, 4, 3)):
    return ctep.mlp(sizes, feedback=feedback, activation=activation, bias=bias, key=KEY)


def adam(bound=1.0, rate=falling, **options):
    return optax.chain(optax.clip_by_global_norm(bound), optax.adam(rate, **options))


WEIGHTS = jnp.array([1.0, 2.0, 3.0])
BASE = {
    "network": network(),
    "nudge": ctep.OutputError(Weighted(WEIGHTS)),
    "rule": ctep.OneSided(0.01),
    "solver": ctep.Sweeps(50),
    "optimizer": adam(),
    "pipeline": ctep.data.Pipeline(crop=1),
    "batch_size": 4,
    "validation": 0.25,
    "carry_state": False,
    "key": KEY,
    "dataset": (X, Y),
}


def fit(out, resume=False, **changes):
    options = {"epochs": 1, "progress": False, "probe": 0, **BASE, **changes}
    return ctep.fit(**options, out=out, resume=resume)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "run"
    fit(out)
    return out


def slower(network):
    layers = tuple(dataclasses.replace(layer, tau=7.0) for layer in network.layers)
    return eqx.tree_at(lambda n: n.layers, network, layers)


def of_loss(loss):
    return {"nudge": ctep.OutputError(loss)}


# What changes: the new argument, what the sentence names, and both values.
CHANGES = {
    "precision": (
        {"network": ctep.with_precision(network(), "bfloat16")},
        "precision",
        '"float32", not "bfloat16"',
    ),
    "tau": ({"network": slower(network())}, "tau", "1.0, not 7.0"),
    "feedback": ({"network": network(0.2)}, "scale", "0.3, not 0.2"),
    "kind of feedback": ({"network": network(ctep.Fixed(0.3))}, "feedback", "not"),
    "activation": (
        {"network": network(activation=ctep.Sigmoid())},
        "activation",
        '"ctep.Tanh", not "ctep.Sigmoid"',
    ),
    "bias": ({"network": network(bias=False)}, "bias", "not null"),
    "width": ({"network": network(sizes=(16, 6, 4, 3))}, "network", "not"),
    "depth": ({"network": network(sizes=(16, 5, 4, 4, 3))}, "network", "not"),
    "input shape": (
        {"network": network(sizes=((4, 4, 1), 5, 4, 3))},
        "network",
        "not",
    ),
    "loss": (of_loss(ctep.SquaredError()), "loss", "not"),
    "class weights": (
        of_loss(Weighted(jnp.array([1.0, 2.0, 4.0]))),
        "weights",
        r"1.0, 2.0, 3.0\].*, not .*1.0, 2.0, 4.0",
    ),
    "number of a loss": (of_loss(Weighted(WEIGHTS, 2.0)), "power", "1.0, not 2.0"),
    "code of a loss": (of_loss(Cubic(WEIGHTS)), "loss", "not"),
    "nudge": (
        {"nudge": BASE["nudge"] + 0.5 * ctep.LocalError((1,))},
        "nudge",
        "not",
    ),
    "beta": ({"rule": ctep.OneSided(0.02)}, "rule.beta", "0.01, not 0.02"),
    "rule": (
        {"rule": ctep.Centered(0.01)},
        "rule.class",
        '"ctep.OneSided", not "ctep.Centered"',
    ),
    "rescale": (
        {"rule": ctep.OneSided(0.01, rescale=False)},
        "rule.rescale",
        "true, not false",
    ),
    "max_sweeps": ({"solver": ctep.Sweeps(60)}, "max_sweeps", "50, not 60"),
    "rtol": ({"solver": ctep.Sweeps(50, rtol=1e-4)}, "rtol", "0.001, not 0.0001"),
    "order": (
        {"solver": ctep.Sweeps(50, order=ctep.Synchronous())},
        "order",
        "not",
    ),
    "relaxation": (
        {"solver": ctep.Sweeps(50, relaxation=0.9)},
        "relaxation",
        "1.0, not 0.9",
    ),
    "solver": ({"solver": ctep.FixedPoint()}, "solver", "not"),
    "optimizer": ({"optimizer": optax.sgd(0.1)}, "optimizer", "not"),
    "clipping": ({"optimizer": adam(2.0)}, "optimizer.*max_norm", "1.0, not 2.0"),
    "momentum": ({"optimizer": adam(b1=0.8)}, "optimizer.*b1", "0.9, not 0.8"),
    "schedule": ({"optimizer": adam(rate=rising)}, "optimizer.*learning_rate", "not"),
    "rate": ({"optimizer": adam(rate=0.1)}, "optimizer", "not"),
    "crop": ({"pipeline": ctep.data.Pipeline()}, "pipeline.crop", "1, not 0"),
    "mean": (
        {"pipeline": ctep.data.Pipeline(crop=1, mean=0.5)},
        "pipeline.mean",
        "0.0, not 0.5",
    ),
    "batch size": ({"batch_size": 3}, "batch_size", "4, not 3"),
    "validation": ({"validation": 0.5}, "", "not"),
    "carry_state": ({"carry_state": True}, "carry_state", "false, not true"),
    "key": ({"key": jax.random.key(1)}, "key", r"\[0, 0\], not \[0, 1\]"),
    "labels": ({"dataset": (X, (Y + 1) % 3)}, "data_digest", "not"),
    "test set": ({"dataset": ((X, Y), (X, Y))}, "data_digest", "not"),
}


@matrix.parametrize("name", CHANGES, list(CHANGES)[::4])
def test_another_argument_is_another_run(run, name):
    """One argument of 35 at a time: the sentence names it and both values."""
    changes, field, values = CHANGES[name]
    before = {path: path.read_bytes() for path in run.iterdir()}
    match = rf"holds a run with \S*{field}\S* = .*{values}"
    with pytest.raises(ValueError, match=match):
        fit(run, resume=True, **changes)
    assert {path: path.read_bytes() for path in run.iterdir()} == before


def test_a_global_that_a_schedule_reads(run, monkeypatch):
    """The same function with another number behind it."""
    monkeypatch.setattr(sys.modules[__name__], "RATE", 0.02)
    with pytest.raises(ValueError, match=r"reads.RATE = 0.01, not 0.02"):
        fit(run, resume=True)


class Fall:
    """A schedule that is an object."""

    def __init__(self, rate):
        self.rate = rate

    def __call__(self, step):
        return self.rate / (1 + step)


HELPERS = {
    "partial": lambda rate: functools.partial(jnp.multiply, rate),
    "jitted": lambda rate: jax.jit(lambda step: rate * step),
    "object": Fall,
}
HELPER: Any = None


def by_helper(step):
    return HELPER(step)


@pytest.mark.parametrize("name", HELPERS)
def test_globals_that_can_be_called_are_read(name, monkeypatch):
    """Oracle: the number in it; of the same number it is the same, wherever it lies."""

    def told(rate):
        monkeypatch.setattr(sys.modules[__name__], "HELPER", HELPERS[name](rate))
        parts = {"nudge": ctep.OutputError()}
        network = ctep.mlp((4, 3, 2), key=jax.random.key(0))
        found = described(network, parts, optax.sgd(by_helper), {}, {})
        return json.dumps(found, sort_keys=True)

    one, again, other = told(0.1), told(0.1), told(0.2)
    assert one == again
    assert one != other
    assert "0x" not in one


def test_an_optimiser_that_was_used_is_the_same(tmp_path):
    """Its closure has changed: optax keeps 29 steps as 29.0 once it has taken one."""
    optimizer = optax.adam(optax.cosine_decay_schedule(0.01, 29))
    for epochs in (1, 2):
        result = fit(
            tmp_path / "run", optimizer=optimizer, epochs=epochs, resume=epochs > 1
        )
    assert len(result.history) == 2
    other = optax.adam(optax.cosine_decay_schedule(0.01, 28))
    with pytest.raises(ValueError, match=r"decay_steps = 29.*, not 28"):
        fit(tmp_path / "run", optimizer=other, epochs=3, resume=True)


def test_what_may_change(run, tmp_path):
    """More epochs, other evidence: the run goes on."""
    out = shutil.copytree(run, tmp_path / "run")
    free = {"epochs": 2, "probe": 4, "keep": 1, "watch": ctep.Watch(unsettled=0.5)}
    result = fit(out, resume=True, **free)
    assert result.status == "completed"
    assert len(result.history) == 2


def test_other_weights_to_begin_with(run, tmp_path):
    """Oracle: the run's own weights, which it goes on with, whatever it is given."""
    out = shutil.copytree(run, tmp_path / "run")
    own = fit(out, resume=True).network

    def scaled(factor):
        arrays, rest = eqx.partition(network(), eqx.is_array)
        return eqx.combine(jax.tree.map(lambda leaf: leaf * factor, arrays), rest)

    # As of another device, and what the run itself has made: no warning, an error here.
    for same in (network(), scaled(1 + 1e-6), own):
        assert eqx.tree_equal(fit(out, resume=True, network=same).network, own)
    others = [ctep.mlp((16, 5, 4, 3), feedback=0.3, key=jax.random.key(9))]
    # A reflection has the same norms.
    for other in [*others, scaled(1.01), scaled(-1.0)]:
        with pytest.warns(UserWarning, match="other weights than the run in"):
            result = fit(out, resume=True, network=other)
        assert eqx.tree_equal(result.network, own)
    path = out / "run.json"
    who = json.loads(path.read_text())
    del who["initial_weights"]  # as of a run of an earlier version
    path.write_text(json.dumps(who))
    assert eqx.tree_equal(fit(out, resume=True, network=others[0]).network, own)


@pytest.mark.parametrize(("module", "goes_on"), [("optax", True), ("jax", False)])
def test_what_another_version_describes_otherwise(run, tmp_path, module, goes_on):
    """Closures of optax are its own affair: a warning, if there is another of it."""
    out = shutil.copytree(run, tmp_path / "run")
    who = json.loads((out / "run.json").read_text())
    who["versions"][module] = "0.0.1"
    who["content"]["optimizer"]["update"]["old_name"] = 3
    (out / "run.json").write_text(json.dumps(who))
    if goes_on:
        with pytest.warns(UserWarning, match="goes on, but perhaps not bit for bit"):
            assert fit(out, resume=True).status == "completed"
    else:
        with pytest.raises(ValueError, match=r"update.old_name = 3, not abs"):
            fit(out, resume=True)


def test_a_run_of_the_first_release_goes_on(run, tmp_path):
    """It kept what it prints, with other brackets, and a checksum of inputs alone."""
    out = shutil.copytree(run, tmp_path / "run")
    who = json.loads((out / "run.json").read_text())
    del who["content"], who["initial_weights"]
    kept = ("ctep", "jax", "equinox", "optax")
    who["versions"] = {k: who["versions"][k] for k in kept}
    who["data_digest"] = who["data_digest"].split("-")[0]
    who["network"] = [line.replace("tanh(", "tanh((") for line in who["network"]]
    (out / "run.json").write_text(json.dumps(who))
    with pytest.warns(UserWarning, match=r"of ctep 0.1.0, which kept less of what it"):
        assert fit(out, resume=True).status == "completed"
    with pytest.raises(ValueError, match=r"holds a run with rule = "):
        fit(out, resume=True, rule=ctep.Centered())


@matrix.campaign
def test_the_same_everywhere(run):
    """Oracle: another process, with another seed of hashes, describes it alike."""
    code = """
import json, sys
sys.path[:0] = sys.argv[1:]
from test_identity import BASE
from ctep._train.store.identity import content
parts = {k: BASE[k] for k in ("nudge", "rule", "solver", "pipeline", "optimizer")}
print(json.dumps(content(BASE["network"], **parts)))
"""
    folders = [
        os.path.dirname(__file__),
        os.path.dirname(os.path.dirname(ctep.__file__)),
    ]
    done = subprocess.run(
        [sys.executable, "-c", code, *folders],
        env={**os.environ, "PYTHONHASHSEED": "7"},
        capture_output=True,
        text=True,
        check=True,
    )
    told = json.loads(done.stdout.splitlines()[-1])
    assert told == json.loads((run / "run.json").read_text())["content"]


# One line each, evaluated in processes of their own.
KINDS = {
    "partial": "functools.partial(own, 2.0)",
    "other partial": "functools.partial(own, 3.0)",
    "partial of a method": "functools.partial(Scaled(2.0).times, 1.0)",
    "lambda": "lambda x: x in {'one', 'two', 'three', 'four'}",
    "closure": "make(2.0)",
    "closure of a method": "make(Scaled(2.0).times)",
    "closure of itself": "recursive()",
    "function": "own",
    "class": "Scaled",
    "object": "Scaled(2.0)",
    "other object": "Scaled(3.0)",
    "bound method": "Scaled(2.0).times",
    "class method": "Scaled.made",
    "static function": "Scaled.still",
    "object with slots": "Slotted(2.0)",
    "other slots": "Slotted(3.0)",
    "default representation": "object()",
    "keys that are functions": "Scaled({own: 1, Scaled: 2, (own, 1): 3})",
    "set of functions": "{own, Scaled, jnp.tanh, 'one', 'two'}",
    "jitted": "jax.jit(own)",
    "jitted closure": "jax.jit(make(2.0))",
    "jitted method": "eqx.filter_jit(Scaled(2.0).times)",
    "vmapped": "jax.vmap(own)",
    "gradient": "jax.grad(own)",
    "custom derivative": "jax.custom_jvp(own)",
    "cached": "functools.lru_cache(own)",
    "schedule": "optax.cosine_decay_schedule(0.1, 100)",
    "other schedule": "optax.cosine_decay_schedule(0.1, 200)",
    "joined schedules": "optax.join_schedules([own, make(2.0)], [10])",
    "optimizer": "optax.adam(optax.linear_schedule(0.1, 0.0, 5))",
    "masked optimizer": "optax.masked(optax.sgd(0.1), lambda tree: {own: True})",
    "ufunc": "np.tanh",
    "other ufunc": "np.sin",
    "jnp function": "jnp.tanh",
    "other jnp function": "jnp.sin",
    "jnp ufunc": "jnp.add",
    "jax activation": "jax.nn.relu",
    "numpy function": "np.dot",
    "other numpy function": "np.sort",
    "builtin": "math.tanh",
    "method of a builtin": "[1, 2].index",
    "other method of a builtin": "[1, 3].index",
    "unbound method of a builtin": "str.upper",
    "operator": "operator.itemgetter(1)",
    "other operator": "operator.itemgetter(2)",
    "pattern": "re.compile('a+')",
    "other pattern": "re.compile('b+')",
    "member": "Colour.RED",
    "other member": "Colour.BLUE",
    "array of objects": "np.array([own, Scaled(2.0)], dtype=object)",
    "other array of objects": "np.array([own, Scaled(3.0)], dtype=object)",
    "array of one object": "np.array(Scaled(2.0), dtype=object)",
    "fields of an array": "np.array([(1, own)], dtype=[('a', int), ('b', object)])",
    "mesh": "jax.sharding.Mesh(np.array(jax.devices()[:1]), ('batch',))",
    "dtype": "jnp.dtype('float32')",
    "scalar type": "jnp.float32",
    "slice": "slice(1, 2)",
    "long double": "np.longdouble(2)",
    "path": "pathlib.PurePosixPath('a/b')",
    "module": "eqx.nn.Lambda(Scaled(2.0).times)",
}
KIND_SCRIPT = """
import enum, functools, json, math, operator, pathlib, re, sys
import equinox as eqx, jax, jax.numpy as jnp, numpy as np, optax
import ctep
from ctep._train.store.identity import described

class Scaled:
    def __init__(self, by): self.by, self.owner = by, self
    def times(self, x): return self.by * x
    @classmethod
    def made(cls, x): return cls(x)
    @staticmethod
    def still(x): return x

class Slotted:
    __slots__ = ("by",)
    def __init__(self, by): self.by = by

class Colour(enum.Enum):
    RED = 1
    BLUE = 2

class Loss(ctep.AbstractLoss):
    by: object = eqx.field(static=True)
    def __call__(self, output, target): return output.sum()

TABLE = {Scaled: Slotted(1.0)}
def own(x, by=object()): return x if TABLE else x
def make(by): return lambda x: (by, x)
def recursive():
    def again(x): return again(x)
    return again

network = ctep.mlp((3, 2, 2), key=jax.random.key(0))
for name, code in json.loads(sys.stdin.read()).items():
    value = eval(code)
    try:
        parts = {"nudge": ctep.OutputError(Loss(value))}
    except (TypeError, ValueError):
        parts = {"nudge": value}
    print(json.dumps([name, described(network, parts, value, {}, {})]))
"""


def told(seed):
    done = subprocess.run(
        [sys.executable, "-c", KIND_SCRIPT],
        env={**os.environ, "PYTHONHASHSEED": seed},
        input=json.dumps(KINDS),
        capture_output=True,
        text=True,
    )
    assert not done.returncode, done.stderr
    return dict(map(json.loads, done.stdout.splitlines()))


@matrix.campaign
def test_values_of_every_kind_are_told_alike_everywhere():
    """Oracle: other processes, with other addresses and other seeds of hashes."""
    one, two = told("1"), told("2")
    changed = [n for n in one if compared(one[n]) != compared(two[n])]
    assert changed == []
    assert set(one) == set(KINDS)
    assert "0x" not in json.dumps(one)
    # And told apart: what differs by its numbers alone, or by its name alone.
    said = {name: json.dumps(who["content"]["optimizer"]) for name, who in one.items()}
    pairs = [(name, name.removeprefix("other ")) for name in KINDS]
    assert [a for a, b in pairs if a != b and said.get(a) == said.get(b)] == []


def test_names_of_one_s_own(run):
    """What `run.json` says itself cannot be said otherwise."""
    with pytest.raises(ValueError, match=r"`identity` holds 'rule', which `run.json`"):
        fit(run, resume=True, identity={"rule": "mine"})


def test_another_code_of_the_same_name(run, monkeypatch):
    """A schedule, and a method of a loss, edited between two sessions."""
    with monkeypatch.context() as patch:
        patch.setattr(falling, "__code__", rising.__code__)
        with pytest.raises(ValueError, match=r"learning_rate\.code = "):
            fit(run, resume=True)


def test_another_code_of_the_same_class(run, monkeypatch):
    """The class has its name and its fields, and another formula."""
    monkeypatch.setattr(Weighted, "__call__", Cubic.__call__)
    with pytest.raises(ValueError, match=r"loss\.code = "):
        fit(run, resume=True)


def test_another_print_is_the_same_run(run, tmp_path):
    """What is printed is for people: another release may print otherwise."""
    out = shutil.copytree(run, tmp_path / "run")
    who = json.loads((out / "run.json").read_text())
    who["network"], who["rule"] = ["another print"], "one-sided"
    (out / "run.json").write_text(json.dumps(who))
    assert fit(out, resume=True).status == "completed"


CALLED = """
import functools, sys
import jax, numpy as np, optax
import ctep

class Weight:
    def __init__(self, size): self.size = size
    def __call__(self, epoch): return self.size
    def half(self, epoch): return self.size / 2 if "a" in {"a", "b", "c"} else 1.0

class Slim:
    __slots__ = ("size",)
    def __init__(self, size): self.size = size
    def __call__(self, epoch): return self.size

def local(size):
    def weight(epoch): return size
    return weight

size = float(sys.argv[2])
weights = [
    Weight(size), Weight(size).half, Slim(size), local(size),
    functools.partial(Weight(size).half), jax.jit(local(size)),
    optax.cosine_decay_schedule(size, 5), np.vectorize(local(size)),
    lambda epoch: size if "x" in {"x", "yy", "zzz"} else 0.0,
]
nudge = ctep.OutputError()
for weight in weights:
    nudge = nudge + weight * ctep.OutputError()
from ctep._train.store.identity import described
parts = {"nudge": nudge, "rule": ctep.OneSided(), "solver": ctep.Sweeps()}
network = ctep.mlp((4, 3), readout=False, key=jax.random.key(0))
import json
print(json.dumps(described(network, parts, optax.adam(1e-3), {}, {}), sort_keys=True))
"""


@matrix.campaign
def test_nothing_depends_on_where_an_object_lies(tmp_path):
    """Nor on the order of a set: two processes say the same, of callables of all kinds.

    Another number in any of them is told, in slots too.
    """
    script = tmp_path / "called.py"
    script.write_text(CALLED)

    def said(seed, size):
        env = os.environ | {"PYTHONHASHSEED": seed, "JAX_PLATFORMS": "cpu"}
        command = [sys.executable, str(script), "run", size]
        return subprocess.check_output(command, env=env, text=True)

    first = said("1", "0.5")
    assert first == said("2", "0.5")
    assert "0x" not in first
    told, other = json.loads(first), json.loads(said("1", "0.25"))
    parts = [json.dumps(found["content"]["nudge"]["nudges"]) for found in (told, other)]
    assert parts[0].count("0.5") > 5
    assert parts[1].count("0.25") > 5
