"""Valid calls of everything public, and the values that spoil them."""

import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import diffrax as dfx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import optimistix as optx
from hypothesis import strategies as st

import ctep
from ctep import analysis

KEY = jax.random.key(0)
NETWORK = ctep.mlp((4, 3, 3, 2), feedback=0.3, key=KEY)
IMAGES = ctep.vgg(
    (2,), classes=2, input_shape=(4, 4, 1), feedback=0.3, key=KEY
)  # fmt: skip
X = np.linspace(-1, 1, 8, dtype=np.float32).reshape(2, 4)
Y = np.array([0, 1])
MANY = np.tile(X, (6, 1)), np.tile(Y, 6)
ADAM = optax.adam(1e-3)


class Target(NamedTuple):
    """A valid call.

    Fields:
        family: of the table.
        name: as code.
        function: to call.
        wanted: its arguments; those that it has by default are left out.
        use: what is done with what it returns, if anything.
        skip: arguments that are left alone.
        slow: arguments whose large values are legal and only take long.
    """

    family: str
    name: str
    function: Callable
    wanted: dict[str, Any]
    use: Callable | None = None
    skip: tuple[str, ...] = ()
    slow: tuple[str, ...] = ()

    def arguments(self) -> dict[str, Any]:
        """Return every argument that can be replaced, with its valid value."""
        found = {}
        for p in inspect.signature(self.function).parameters.values():
            if p.name not in self.skip and p.kind not in (p.VAR_KEYWORD,):
                found[p.name] = self.wanted.get(p.name, p.default)
        return found


# ------------------------------------------------------------ valid calls


def traced(network=NETWORK, **options):
    """Follow a gradient up to where it would be compiled."""
    x = jax.ShapeDtypeStruct((2, *network.input_shape), network.dtype)
    options.setdefault("key", KEY)
    jax.eval_shape(lambda x: ctep.gradient(network, x, Y, **options)[0], x)


def applied(operator):
    v = jnp.zeros((2, *operator.in_shape))
    jax.eval_shape(lambda v: operator.adjoint(*operator.apply(v)), v)


def activated(activation):
    traced(ctep.mlp((4, 3, 2), activation=activation, key=KEY))


def layered(layer):
    forward = ctep.Dense((4,), layer.shape, key=KEY)
    out = ctep.Readout(ctep.Dense(layer.shape, (2,), key=KEY))
    traced(ctep.Network((4,), [layer], [ctep.Coupling(0, 1, forward)], out))


def coupled(coupling):
    layers = [ctep.Layer((3,), ctep.Tanh())] * 2
    first = ctep.Coupling(0, 1, ctep.Dense((4,), (3,), key=KEY))
    traced(ctep.Network((4,), layers, [first, coupling]))


def fed_back(feedback):
    coupled(ctep.Coupling(1, 2, ctep.Dense((3,), (3,), key=KEY), feedback))


def read_out(readout):
    traced(
        ctep.Network(NETWORK.input_shape, NETWORK.layers, NETWORK.couplings, readout)
    )


def pulled(nudge):
    traced(nudge=nudge.drawn(NETWORK, KEY))


def ruled(rule):
    held = isinstance(rule, ctep.Coupled)
    network = ctep.mlp((4, 3, 2), readout=not held, key=KEY)
    x = jax.ShapeDtypeStruct((2, 4), jnp.float32)
    y = np.zeros((2, 2), np.float32) if held else Y
    nudge = ctep.OutputError(ctep.SquaredError()) if held else None
    jax.eval_shape(
        lambda x: ctep.gradient(network, x, y, rule=rule, nudge=nudge, key=KEY)[0], x
    )


def solved(solver):
    traced(solver=solver)


def weighted(weight):
    traced(nudge=weight * ctep.OutputError())


def piped(pipeline):
    for shape in ((8, 8, 3), (4,)):
        try:
            pipeline.check(shape)
        except ValueError:
            continue
        x = jax.ShapeDtypeStruct((2, *shape), jnp.uint8)
        keys = jax.random.split(KEY, 2)
        jax.eval_shape(lambda x, keys=keys: pipeline(x, jnp.float32, keys), x)


def reduced(tree):
    if isinstance(tree, ctep.AbstractNetwork):
        traced(tree)


def nothing(result):
    """A result that is complete as it is."""


def scale(weight):
    return weight * ctep.OutputError()


def _dense(*shapes):
    return ctep.Dense(*((n,) for n in shapes), key=KEY)


def constructors():
    make = functools.partial(Target, "constructors")
    image = {"in_shape": (4, 4, 1)}
    layer = ctep.Layer((3,), ctep.Tanh())
    first = ctep.Coupling(0, 1, _dense(4, 3))
    own = {"key": KEY}
    return (
        make("Dense", ctep.Dense, {"in_shape": (4,), "out_shape": (3,), **own},
             applied),
        make("Conv", ctep.Conv, {**image, "channels": 2, **own}, applied),
        make("MaxPool", ctep.MaxPool, image, applied),
        make("AveragePool", ctep.AveragePool, image, applied),
        make("SoftmaxPool", ctep.SoftmaxPool, image, applied),
        make("Skip", ctep.Skip, {**image, "out_shape": (4, 4, 2)}, applied),
        make("Multiplier", ctep.Multiplier, {**image, "value": 0.5}, applied),
        make("Chain", ctep.Chain, {"operators": (_dense(4, 3), _dense(3, 2))}, applied),
        make("Sigmoid", ctep.Sigmoid, {}, activated),
        make("Clip", ctep.Clip, {"lo": 0.0, "hi": 1.0}, activated),
        make("Layer", ctep.Layer, {"shape": (3,), "activation": ctep.Tanh()}, layered),
        make("Tied", ctep.Tied, {}, fed_back),
        make("Fixed", ctep.Fixed, {"operator": _dense(3, 3)}, fed_back),
        make("Coupling", ctep.Coupling,
             {"source": 1, "target": 2, "forward": _dense(3, 3)}, coupled),
        make("Readout", ctep.Readout, {"operator": _dense(3, 2)}, read_out),
        make("Network", ctep.Network,
             {"input_shape": (4,), "layers": (layer,), "couplings": (first,)}, traced),
        make("Module", ctep.Module, {"module": jnp.tanh, "input_shape": (4,)},
             lambda m: traced(m, rule=ctep.Backprop())),
        make("operator_norm", ctep.operator_norm,
             {"operator": _dense(4, 3), "order": 2}, nothing),
        make("with_precision", ctep.with_precision,
             {"tree": NETWORK, "precision": "bfloat16"}, reduced),
    )  # fmt: skip


def builders():
    make = functools.partial(Target, "builders", use=traced)
    own = {"key": KEY}
    return (
        make("mlp", ctep.mlp, {"sizes": (4, 3, 2), **own}),
        make("graph", ctep.graph,
             {"sizes": (4, 3, 3, 2), "edges": [(0, 1), (1, 2), (0, 2)], **own}),
        make("vgg", ctep.vgg,
             {"channels": (2,), "dense": (3,), "classes": 2, "input_shape": (4, 4, 1),
              **own}),
        make("hopfield_resnet", ctep.hopfield_resnet,
             {"channels": (2,), "classes": 2, "input_shape": (4, 4, 1), **own}),
        make("residual", ctep.residual,
             {"channels": (2,), "classes": 2, "input_shape": (4, 4, 1), **own}),
        make("whitening", ctep.whitening, {"images": np.ones((2, 4, 4, 1))}),
    )  # fmt: skip


def nudges():
    make = functools.partial(Target, "nudges and schedules")
    teacher = ctep.mlp((4, 3, 2), key=KEY)
    return (
        make("OutputError", ctep.OutputError, {}, pulled),
        make("Frozen", ctep.Frozen, {"nudge": ctep.OutputError()}, pulled),
        make("LocalError", ctep.LocalError, {"layers": (1,)}, pulled),
        make("Distillation", ctep.Distillation,
             {"teacher": teacher, "pairs": ((1, 1),)}, pulled),
        make("weight * nudge", scale, {"weight": 0.5}, pulled),
        make("linear", ctep.linear, {"start": 1.0, "epochs": 4}, weighted),
        make("exponential", ctep.exponential, {"start": 1.0}, weighted),
        make("cosine", ctep.cosine, {"start": 1.0, "epochs": 4}, weighted),
    )  # fmt: skip


def rules():
    make = functools.partial(Target, "rules", use=ruled, wanted={})
    names = (
        "OneSided Centered RandomSign Ramped Coupled Implicit Holomorphic Oscillating"
    )
    slow = "points", "periods", "steps", "truncate", "restart", "max_steps"
    return tuple(
        make(name, getattr(ctep, name), slow=slow)
        for name in (*names.split(), "Unrolled")
    )


def solvers():
    make = functools.partial(Target, "solvers", use=solved)
    constant = dfx.Euler(), dfx.ConstantStepSize(), 0.5
    names = "solver", "stepsize_controller", "dt0"
    return (
        make("Sweeps", ctep.Sweeps, {}),
        make("ODE", ctep.ODE, {}),
        make("ODE", ctep.ODE, dict(zip(names, constant, strict=True))),
        make("FixedPoint", ctep.FixedPoint, {}),
        make("FixedPoint", ctep.FixedPoint, {"solver": optx.Newton(1e-6, 1e-6)}),
    )


def pipelines():
    make = functools.partial(Target, "pipelines")
    options = {"pad": 1, "flip": 0.5, "crop": 1}
    return (
        make("Pipeline", ctep.data.Pipeline, options, piped, slow=("pad", "crop")),
        make("Pipeline.standard", ctep.data.Pipeline.standard,
             {"dataset": "cifar10"}, piped),
        make("recipes.get", ctep.recipes.get, {"name": "digits"}, nothing),
        make("Recipe.setup", ctep.recipes.get("digits").setup,
             {"dataset": ctep.data.load(MANY), "scale": 0.1}, nothing),
    )  # fmt: skip


def gradients():
    make = functools.partial(Target, "ctep.gradient")
    whole = {"network": NETWORK, "x": X, "y": Y}
    shaped = {"network": IMAGES, "x": X.reshape(2, 4, 1, 1).repeat(4, 2), "y": Y}
    return (
        make("gradient", ctep.gradient, whole),
        make(
            "gradient", ctep.gradient, {**whole, "rule": ctep.RandomSign(), "key": KEY}
        ),
        make("gradient", ctep.gradient, shaped),
    )


def fits():
    whole = {
        "network": ctep.mlp((4, 3, 2), key=KEY), "dataset": MANY, "optimizer": ADAM,
        "epochs": 1, "batch_size": 6, "probe": 0, "progress": False,
    }  # fmt: skip
    # `out` and `resume` are drawn by themselves, in a folder of their own.
    skip = "progress", "out", "resume", "data_dir"
    make = functools.partial(Target, "ctep.fit", "fit", ctep.fit)
    return (make(whole, skip=skip, slow=("epochs",)),)


def analyses():
    whole = {"network": NETWORK, "x": X, "y": Y}
    slow = (
        "steps iterations max_steps points dimension max_restarts draws count patience"
    )
    make = functools.partial(Target, "analysis", slow=(*slow.split(), "chunk"))
    data = {
        "network": ctep.mlp((4, 3, 2), key=KEY),
        "dataset": (MANY, MANY),
        "key": KEY,
    }
    few = {"steps": 3}
    return (
        make("contraction", analysis.contraction, {"network": NETWORK}),
        make("contraction", analysis.contraction, {**whole, **few, "iterations": 2}),
        make("convergence_time", analysis.convergence_time,
             {"network": NETWORK, "x": X}),
        make("depth_profile", analysis.depth_profile, whole),
        make("energy_trace", analysis.energy_trace,
             {"network": NETWORK, "x": X, **few}),
        make("gradient_check", analysis.gradient_check,
             {**whole, "rules": [ctep.Centered()]}),
        make("gradient_curve", analysis.gradient_curve, {**whole, **few}),
        make("lyapunov", analysis.lyapunov, {"network": NETWORK, "x": X, **few}),
        make("nudge_plane", analysis.nudge_plane, {**whole, "points": 2, "chunk": 2}),
        make("recommended_beta", analysis.recommended_beta, whole),
        make("robustness", analysis.robustness,
             {**data, "draws": 1, **few}, skip=("data_dir",)),
        make("spectral_radius", analysis.spectral_radius, {"network": NETWORK, "x": X}),
        make("weight_statistics", analysis.weight_statistics, {"network": NETWORK}),
    )  # fmt: skip


def datasets():
    make = functools.partial(Target, "datasets")
    split = {"dataset": (MANY, (X, Y))}
    return (
        make("data.load", ctep.data.load, {"dataset": MANY}, skip=("data_dir",)),
        make("data.load", ctep.data.load, split, skip=("data_dir",)),
        make("data.load", ctep.data.load, {"dataset": "digits"}, skip=("data_dir",)),
    )


def targets():
    parts = constructors, builders, nudges, rules, solvers, pipelines, gradients
    parts += fits, analyses, datasets
    return {targets[0].family: targets for targets in (part() for part in parts)}


# ------------------------------------------------------------ what spoils them

# Between what is tried and what no array can hold, memory is the limit.
WHOLE = 0, -1, -3, 1, 2, 3, 7, 2**31, 2**63, -(2**63), 10**30
REAL = np.nan, np.inf, -np.inf, 0.0, -0.5, 0.3, 2.5, 1e-320, 1e300
OBJECTS = (
    None, True, False, "", "abc", "1", "nan", b"x", 1 + 2j, (), [], {}, {"a": 1},
    (0,), [1, 2], ["a"], [None], ("same", 3), range(3), frozenset({1}), object(), type,
    Path("nowhere"), np.float32(np.nan), np.int64(-3), np.array("a"), KEY,
    ctep, ctep.Tanh, ctep.Tanh(), ctep.Tied(0.5), ctep.Fixed(), ctep.Sweeps,
    ctep.Sweeps(5), ctep.Forward(), ctep.Centered(), ctep.OutputError,
    ctep.OutputError(), ctep.SquaredError(), ctep.CrossEntropy(), NETWORK, IMAGES,
    ctep.data.Pipeline(), ADAM, dfx.Tsit5(), dfx.PIDController(1e-3, 1e-3),
    optx.Newton(1e-3, 1e-3), MANY, ctep.Layer((3,), ctep.Tanh()),
    ctep.Coupling(0, 1, ctep.Dense((4,), (3,), key=KEY)),
    ctep.MaxPool((4, 4, 1)), ctep.Dense((3,), (2,), key=KEY), jax.random.split(KEY, 2),
    ctep.Module(jnp.tanh, (4,)), ctep.LocalError((9,)), jax.ShapeDtypeStruct((2,), int),
    np.array([None, 1]), np.array([{}, "a"], object), np.ones((2, 4), "datetime64[s]"),
)  # fmt: skip
DTYPES = "float16 float32 float64 int8 uint8 int64 bool complex64 object str".split()


def filled(shape, dtype, value):
    with np.errstate(all="ignore"):
        if np.dtype(dtype).kind in "iu" and not np.isfinite(value):
            value = 0
        return np.full(shape, value).astype(dtype)


numbers = st.sampled_from((*WHOLE, *REAL))
arrays = st.builds(
    filled,
    st.sampled_from([(), (0,), (2,), (3,), (1, 3), (2, 4), (2, 3), (0, 4), (2, 4, 1)]),
    st.sampled_from(DTYPES),
    st.sampled_from([0.0, 1.0, -1.0, 5.0, np.nan, np.inf]),
)
lists = st.lists(numbers | st.sampled_from(["a", None, (), (1, 2)]), max_size=4)
anything = (
    st.sampled_from(OBJECTS) | numbers | arrays | lists | lists.map(tuple)
    | st.text(max_size=3)
)  # fmt: skip


def near(value):
    """Return values that are almost like a valid one."""
    if isinstance(value, np.ndarray | jax.Array) and not jnp.issubdtype(
        value.dtype, jax.dtypes.prng_key
    ):
        array = np.asarray(value)
        spoilt = [
            array[:-1], array[:0], array[None], array[..., :0], array[..., None],
            array.astype(complex), array.astype(object), array.astype(str), array[0],
            np.where(array > 0, np.nan, array), -1 - array, 100 + array,
            list(array), array.tolist(), array.astype(np.uint8),
        ]  # fmt: skip
        return st.sampled_from(spoilt) | arrays
    if type(value) in (tuple, list) and value:
        return st.one_of(
            st.sampled_from([value[:-1], value[:0], value * 2, (value,), list(value)]),
            st.tuples(st.integers(0, len(value) - 1), anything).map(
                lambda pair: replaced(value, *pair)
            ),
            st.integers(0, len(value) - 1).flatmap(
                lambda n: near(value[n]).map(lambda v: replaced(value, n, v))
            ),
        )
    if isinstance(value, bool) or not isinstance(value, int | float):
        return anything
    return numbers


def replaced(sequence, n, value):
    return type(sequence)((*sequence[:n], value, *sequence[n + 1 :]))


def fitting(target, name, value):
    """Return whether a value is worth a try: not merely slow."""
    if isinstance(value, bool | np.bool_) or name not in target.slow:
        return True
    return not (isinstance(value, int | float | np.number) and value > 20)


def spoilers(target, name, value):
    """Return values to put in the place of an argument's valid one."""
    values = near(value) | anything
    return values.filter(functools.partial(fitting, target, name))


def cells(targets):
    """Return each target with each of its arguments, and the values that spoil it."""
    return [
        (target, name, spoilers(target, name, value))
        for target in targets
        for name, value in target.arguments().items()
    ]
