"""Products by platform and precision: values by NumPy, and what CUDA would be given."""

import collections
import functools
import itertools
import re

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import ClosedJaxpr, Jaxpr

import ctep
from ctep._network.product import OUTPUT, SOURCE, WEIGHT, _elsewhere, _processor

KEY = jax.random.key(0)
WAYS = {"processor": _processor, "elsewhere": _elsewhere}

CONVOLUTIONS = {
    "same": ((5, 4, 2), {}),
    "stride": ((7, 6, 2), {"stride": 2}),
    "uneven": (
        (7, 9, 3),
        {"kernel": (4, 3), "stride": (3, 2), "padding": ((2, 1), (0, 2))},
    ),
    "stride longer than the kernel": ((6, 6, 2), {"kernel": 1, "stride": 2}),
    "valid": ((5, 6, 2), {"kernel": 3, "padding": "valid"}),
    "wide padding": ((3, 3, 2), {"padding": 4}),
    "tiny image": ((2, 1, 3), {}),
}


def made(name, precision="float32"):
    shape, options = CONVOLUTIONS[name]
    return ctep.Conv(shape, 3, key=KEY, precision=precision, **options)


def tensor(conv):
    """Return the numbers of <u, c(v; W)>, `(*out_shape, *in_shape, *weight_shape)`."""
    (height, width, channels), sources = conv.out_shape, conv.in_shape[2]
    (kh, kw), (a, b) = conv.weight.shape[:2], conv.stride
    out = np.zeros((*conv.out_shape, *conv.in_shape, *conv.weight.shape))
    for h, w, i, j in itertools.product(*map(range, (height, width, kh, kw))):
        y, x = h * a + i - conv.padding[0][0], w * b + j - conv.padding[1][0]
        if 0 <= y < conv.in_shape[0] and 0 <= x < conv.in_shape[1]:
            for c, o in itertools.product(range(sources), range(channels)):
                out[h, w, o, y, x, c, i, j, c, o] = 1
    return out


def drawn(conv, lead=(2,), seed=0):
    """Return a `u`, a `v` and a `W`."""
    rng = np.random.default_rng(seed)
    shapes = (*lead, *conv.out_shape), (*lead, *conv.in_shape), conv.weight.shape
    return [jnp.asarray(rng.normal(size=shape)) for shape in shapes]


def products(way, form, u, v, weight):
    """Return the three of them in one way."""
    given = {OUTPUT: (v, weight), SOURCE: (u, weight), WEIGHT: (u, v)}
    return [way(*given[n], form=form, place=n) for n in (OUTPUT, SOURCE, WEIGHT)]


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_both_ways_against_the_tensor(name):
    """Oracle: the sum of the definition as a tensor of zeros and ones, by NumPy."""
    conv = made(name)
    u, v, weight = drawn(conv)
    table = tensor(conv)
    wanted = (
        np.einsum("abcdefghij,ndef,ghij->nabc", table, v, weight, optimize=True),
        np.einsum("abcdefghij,nabc,ghij->ndef", table, u, weight, optimize=True),
        np.einsum("abcdefghij,nabc,ndef->ghij", table, u, v, optimize=True),
    )
    for way in WAYS.values():
        found = jax.jit(functools.partial(products, way, conv._form))(u, v, weight)
        for a, b in zip(found, wanted, strict=True):
            np.testing.assert_allclose(a, b, atol=1e-12)


@pytest.mark.usefixtures("x64")
def test_derivatives_of_any_order():
    """Oracle: the same map as a sum of products of arrays, differentiated by JAX.

    A second derivative, mapped over states, over weights, and over both.
    """
    conv = made("stride")
    table = jnp.asarray(tensor(conv))
    _, v, weight = drawn(conv)
    _, dv, dweight = drawn(conv, seed=1)
    form = conv._form

    def dense(v, weight):
        return jnp.einsum("abcdefghij,ndef,ghij->nabc", table, v, weight)

    def second(image):
        def slope(v, weight):
            return jax.grad(lambda *x: jnp.sum(jnp.sin(image(*x))), (0, 1))(v, weight)

        def moved(v, weight):
            return jax.jvp(slope, (v, weight), (dv, dweight))[1]

        each = functools.partial(jax.tree.map, lambda x: jnp.stack([x, 2 * x]))
        return jax.jit(
            lambda v, weight: (
                moved(v, weight),
                jax.vmap(moved, (0, None))(each(v), weight),
                jax.vmap(moved, (None, 0))(v, each(weight)),
                jax.vmap(moved)(each(v), each(weight)),
            )
        )(v, weight)

    found, wanted = second(form.image), second(dense)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-9)


@pytest.mark.usefixtures("x64")
def test_differences_of_products():
    """Oracle: plain subtraction in float64; state and weight move both."""
    conv = made("same")
    _, v, weight = drawn(conv)
    _, dv, dweight = drawn(conv, seed=1)
    assert ctep.difference.explain(conv._form.image, v, weight) == {}

    @jax.jit
    def both(v, weight, dv, dweight):
        value, push = ctep.difference(conv._form.image, v, weight)
        moved = conv._form.image(v + 0.5 * dv, weight + 0.5 * dweight)
        return push(dv, dweight, scale=0.5), (moved - value) / 0.5

    found, wanted = both(v, weight, dv, dweight)
    np.testing.assert_allclose(found, wanted, atol=1e-12)


@pytest.mark.parametrize("name", ["stride", "tiny image"])
def test_bfloat16_is_the_same_in_both_ways(name):
    """Oracle: products of rounded factors in float64; their sums have float32's error.

    The weight's gradient too: none of its two factors has more than 8 bits.
    """
    conv = made(name, "bfloat16")
    arrays = [jnp.asarray(x, jnp.float32) for x in drawn(conv)]
    with jax.enable_x64(True):
        rounded = [jnp.float64(x.astype(jnp.bfloat16)) for x in arrays]
        wanted = products(_elsewhere, made(name)._form, *rounded)
    for way in WAYS.values():
        found = jax.jit(functools.partial(products, way, conv._form))(*arrays)
        for a, b in zip(found, wanted, strict=True):
            assert a.dtype == jnp.float32
            np.testing.assert_allclose(a, b, atol=2e-6 * np.abs(b).max())


def test_sums_of_a_weight_gradient_are_not_rounded():
    """Oracle: by hand, 1 + 1/512 needs ten bits, where factors have eight."""
    dense = ctep.Dense((1,), (1,), key=KEY, precision="bfloat16")
    v, u = jnp.array([[1.0], [1.0]]), jnp.array([[1.0], [1 / 512]])
    slope = jax.grad(lambda w: jnp.sum(u * dense._form.image(v, w)))(dense.weight)
    np.testing.assert_array_equal(slope, [[1 + 1 / 512]])


# ------------------------------------------------------------ lowered programs


def lowered(function, *args):
    """Return the program that CUDA would be given, as text."""
    exported = jax.export.export(jax.jit(function), platforms=["cuda"])(*args)
    return exported.mlir_module()


def operations(text):
    """Return the lines of a program, those of a function as often as it is called."""
    parts = re.split(r"func\.func [^@]*@(\w+)", text)
    bodies = dict(zip(parts[1::2], map(str.splitlines, parts[2::2]), strict=True))

    def lines(name):
        for line in bodies[name]:
            called = re.search(r"call @(\w+)", line)
            yield from lines(called[1]) if called else [line]

    return list(lines("main"))


def counted(lines):
    """Return how often each operation occurs."""
    found = (re.search(r"stablehlo\.(\w+)", line) for line in lines)
    return collections.Counter(match[1] for match in found if match)


def equations(jaxpr, form):
    """Return the number of products of a form in a traced program that it makes use of.

    A contrast is traced with images that only its value is made of, not its gradient.
    """
    total, wanted = 0, set(map(id, jaxpr.outvars))
    for equation in reversed(jaxpr.eqns):
        if not wanted.intersection(map(id, equation.outvars)):
            continue
        wanted.update(map(id, equation.invars))
        params = equation.params
        if equation.primitive.name == "product":
            total += type(params["form"]).__name__ == form
        programs = jax.tree.leaves(params, is_leaf=_is_program)
        for inner in filter(_is_program, programs):
            total += equations(getattr(inner, "jaxpr", inner), form)
    return total


def _is_program(value):
    return isinstance(value, ClosedJaxpr | Jaxpr)


def gradient_of(network):
    """Return arrays, and a function of them that is the gradient of a step."""
    arrays, static = eqx.partition(network, eqx.is_array)
    x = jnp.ones((2, *network.input_shape))

    def step(arrays, x, y):
        network, rule = eqx.combine(arrays, static), ctep.OneSided()
        found = ctep.gradient(network, x, y, rule=rule, throw=False)
        return jax.tree.leaves(found)

    return step, (arrays, x, jnp.arange(2))


def check(network):
    """A step's convolutions are those of the mathematics, and nothing stands for one.

    Oracle: the products that were traced, one by one.
    """
    step, args = gradient_of(network)
    lines, jaxpr = operations(lowered(step, *args)), jax.make_jaxpr(step)(*args).jaxpr
    found = counted(lines)
    assert found["convolution"] == equations(jaxpr, "Convolution")
    assert found["dot_general"] == equations(jaxpr, "_Matrix")
    # A concatenation would put images between each other, or patches side by side.
    assert found["concatenate"] == 0
    products = r"stablehlo\.(dot_general|convolution)"
    return found, [line for line in lines if re.search(products, line)]


def small(precision, pool=ctep.AveragePool):
    network = ctep.vgg(
        (2, 3), (4,), 3, input_shape=(4, 4, 2), activation=ctep.ReLU6(), key=KEY,
        feedback=0.1, pool=pool,
    )  # fmt: skip
    return ctep.with_precision(network, precision)


@pytest.fixture(scope="module")
def steps():
    """Return operations and products of a step, by precision."""
    return {name: check(small(name)) for name in ("float32", "bfloat16")}


@pytest.mark.parametrize("name", ["stride", "tiny image"])
def test_one_convolution_for_each_product(name):
    """Oracle: the operations of the lowered program; each product is one of them."""
    conv = made(name)
    form, (u, v, weight) = conv._form, drawn(conv)
    given = {"image": (v, weight), "adjoint": (u, weight), "pairs": (u, v)}
    for product, arrays in given.items():
        found = counted(operations(lowered(getattr(form, product), *arrays)))
        turned = {"reverse": 1} if product == "adjoint" else {}
        assert found == {"convolution": 1, **turned}


def test_a_step_has_the_convolutions_of_its_products(steps):
    """Oracle: `check`; and a processor's program, which has slices and patches."""
    found, _ = steps["float32"]
    step, args = gradient_of(small("float32"))
    other = jax.jit(step).lower(*args).as_text()
    other = counted(operations(other))
    assert found["convolution"] > other["convolution"]
    assert found["dot_general"] < other["dot_general"]


@pytest.mark.parametrize(
    ("precision", "kind"), [("float32", "f32"), ("bfloat16", "bf16")]
)
def test_factors_of_all_products(steps, precision, kind):
    """Oracle: the types in the lowered program."""
    _, lines = steps[precision]
    for line in lines:
        factors, total = line.split(" : (")[-1].split(" -> ")
        assert re.findall(r"x(b?f\d+)>", factors) == [kind, kind]
        assert re.findall(r"x(b?f\d+)>", total) == ["f32"]
        assert ("HIGHEST" in line) == (precision == "float32")


@pytest.mark.parametrize("precision", ["float32", "tensorfloat32"])
def test_levels_of_precision(precision):
    """Oracle: JAX's names of 24 bits and of the units for 11."""
    conv = made("same", precision)
    _, v, _ = drawn(conv)
    text = lowered(lambda v: conv.image(v), jnp.float32(v))
    level = {"float32": "HIGHEST", "tensorfloat32": "HIGH"}[precision]
    assert text.count(f"precision {level}>") == 2


@pytest.mark.campaign
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", ["fre-vgg11", "vgg5", "hopfield-resnet13"])
def test_published_networks(name, precision):
    """Oracle: `check`, for networks with pools, strides and many layers."""
    pixels = np.zeros((4, 32, 32, 3), np.uint8)
    records = ctep.data.ArrayRecords(pixels, np.arange(4, dtype=np.int32), 10)
    data = ctep.data.Dataset("cifar10", records, records, "noise")
    recipe = ctep.recipes.get(name)
    network, _ = recipe.setup(data, seed=0, scale=0.05, precision=precision)
    _, lines = check(network)
    kind = {"float32": "f32", "bfloat16": "bf16"}[precision]
    for line in lines:
        factors = line.split(" : (")[-1].split(" -> ")[0]
        assert re.findall(r"x(b?f\d+)>", factors) == [kind, kind]
