import importlib.machinery
import io
import json
import pickle
import re
import subprocess
import sys
import urllib.error
import zlib

import jax
import jax.numpy as jnp
import jaxtyping
import matrix
import numpy as np
import pytest

import ctep
from ctep import _checks as checks
from ctep.data import (
    ArrayRecords,
    Dataset,
    cache,
    images,
    load,
    prepared,
)
from ctep.data.images import ImageRecords
from ctep.data.selection import hold_out

VERSIONS = "3.0.1", "3.0.9", "3.0.10", "3.1.0", "4.0.0"
X = np.linspace(0, 1, 12, dtype=np.float32).reshape(4, 3)
Y = np.array([0, 1, 2, 1])


@pytest.fixture(autouse=True)
def folders(tmp_path, monkeypatch):
    """Keep every test away from the real cache, data and network."""
    monkeypatch.setenv("CTEP_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(images, "_online", lambda: False)


@pytest.fixture
def root(tmp_path, monkeypatch):
    """An empty folder in which TFDS may look for prepared datasets."""
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "tfds"))
    (tmp_path / "tfds").mkdir()
    return tmp_path / "tfds"


def write_tiny(
    root, version="1.0.0", *, test="test", info=None, image=None, key=0, counts=(5, 3),
    shift=0,
):  # fmt: skip
    """Write what TFDS would: random images, 5 and 3; return them with their labels."""
    from array_record.python import array_record_module
    from PIL import Image
    from tensorflow_datasets.proto import tf_example_pb2

    folder = root / "tiny" / version
    folder.mkdir(parents=True)
    rng = np.random.default_rng(key)
    splits, arrays = [], []
    for name, count in zip(("train", test), counts, strict=True):
        x = rng.integers(0, 256, (count, 4, 3, 1), dtype=np.uint8)
        y = rng.integers(0, 7, count) + shift
        file = folder / f"tiny-{name}.array_record-00000-of-00001"
        writer = array_record_module.ArrayRecordWriter(str(file), "group_size:1")
        for pixels, label in zip(x, y, strict=True):
            png, example = io.BytesIO(), tf_example_pb2.Example()
            Image.fromarray(pixels[..., 0]).save(png, "png")
            feature = example.features.feature
            feature["image"].bytes_list.value.append(png.getvalue())
            feature["label"].int64_list.value.append(int(label))
            writer.write(example.SerializeToString())
        writer.close()
        splits.append(
            {
                "name": name,
                "shardLengths": [str(count)],
                "numBytes": str(file.stat().st_size),
                "filepathTemplate": "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}",
            }
        )
        arrays += [x, y]
    keys = [{"featureKey": "image"}, {"featureKey": "label"}]
    content = {
        "name": "tiny",
        "version": version,
        "fileFormat": "array_record",
        "splits": splits,
        "supervisedKeys": {"tuple": {"items": keys}},
    }
    (folder / "dataset_info.json").write_text(json.dumps(content | (info or {})))
    shape = {"dimensions": ["4", "3", "1"]}
    feature = "tensorflow_datasets.core.features"
    features = {
        "image": {
            "pythonClassName": f"{feature}.image_feature.Image",
            "image": {"dtype": "uint8", "shape": shape} | (image or {}),
        },
        "label": {
            "pythonClassName": f"{feature}.class_label_feature.ClassLabel",
            "classLabel": {"numClasses": "7"},
        },
    }
    content = {
        "pythonClassName": f"{feature}.features_dict.FeaturesDict",
        "featuresDict": {"features": features},
    }
    (folder / "features.json").write_text(json.dumps(content))
    return arrays


def arrays_of(dataset):
    return [dataset.x_train, dataset.y_train, dataset.x_test, dataset.y_test]


def assert_holds(dataset, arrays):
    for got, wanted in zip(arrays_of(dataset), arrays, strict=True):
        np.testing.assert_array_equal(got, wanted)


def never(*args):
    raise AssertionError("decoded again")


# Arrays.


def test_pair_of_arrays():
    data = load((X, Y))
    assert data.classes == 3
    assert data.shape == (3,)
    assert data.x_test is None
    assert data.y_test is None
    assert data.y_train.dtype == np.int32
    np.testing.assert_array_equal(data.x_train, X)


def test_two_pairs_of_jax_arrays():
    data = load(((jnp.array(X), jnp.array(Y)), (jnp.array(X[:2]), jnp.array(Y[:2]))))
    assert all(type(array) is np.ndarray for array in arrays_of(data))
    assert_holds(data, [X, Y, X[:2], Y[:2]])


def test_dataset_is_returned_as_is():
    data = load((X, Y), classes=5)
    assert data.classes == 5
    assert load(data) is data
    assert load(data, classes=5) is data


def test_repr_is_readable():
    assert repr(load((X, Y))) == (
        "Dataset('arrays': 4 training and no test examples, float32[3], 3 classes, "
        "source: arrays in memory)"
    )


def test_pixels_stay_uint8():
    pixels = (X * 255).astype(np.uint8)
    np.testing.assert_array_equal(load((pixels, Y)).x_train, pixels)
    assert load((pixels, Y)).x_train.dtype == np.uint8


@pytest.mark.parametrize(("largest", "warns"), [(16, True), (17, False)])
def test_bytes_that_are_no_pixels_draw_a_warning(largest, warns):
    """Oracle: the largest of them; a warning is an error where none is expected."""
    x = np.zeros((len(Y), 3), np.uint8)
    x[1, 2] = largest
    if warns:
        match = r"`x` holds bytes of at most 16, .* as floats, for example `x / 16`"
        with pytest.warns(UserWarning, match=match) as told:
            load((x, Y))
        assert len(told) == 1
    else:
        load((x, Y))


@pytest.mark.parametrize("dtype", ["float16", "float64", jnp.bfloat16])
def test_floats_become_float32(dtype):
    assert load((X.astype(dtype), Y)).x_train.dtype == np.float32


def test_float64_stays_with_x64(x64):
    assert load((X.astype(np.float64), Y)).x_train.dtype == np.float64


TEST = (X, Y)
REFUSED = {
    "list": ([X, Y], {}, TypeError, "`dataset` must be a name.*but got list; pass"),
    "none": (None, {}, TypeError, "`dataset` must be a name.*but got NoneType"),
    "four": ((X, Y, X, Y), {}, TypeError, r"tuple of \(ndarray, ndarray, ndarray,"),
    "mixed": ((TEST, None), {}, TypeError, r"got a tuple of \(tuple, NoneType\)"),
    "long": ((TEST, (X, Y, X)), {}, TypeError, "one part is a tuple of 3; regroup"),
    "x list": ((X.tolist(), Y), {}, TypeError, "`x` must be.*got list; convert it"),
    "y list": ((X, Y.tolist()), {}, TypeError, "`y` must be.*got list; convert it"),
    "x empty": ((X[:0], Y), {}, ValueError, r"`x` must hold.*shape \(0, 3\); check"),
    "y empty": ((X, Y[:0]), {}, ValueError, r"`y` must hold at least.*\(0,\); check"),
    "lengths": ((X[:3], Y), {}, ValueError, "`x` has 3 examples, but `y` has 4 t"),
    "nan": ((X * np.nan, Y), {}, ValueError, "`x` must be finite.*holds 12 NaN or"),
    "inf": (
        (np.full_like(X, np.inf), Y),
        {},
        ValueError,
        "`x` must be finite in float",
    ),
    "overflow": (
        (X.astype(float) * 1e300, Y),
        {},
        ValueError,
        "`x` must be finite in float32, but holds 11 NaN or infinite values; drop",
    ),
    "test nan": ((TEST, (X * np.nan, Y)), {}, ValueError, "`x_test` must be finite"),
    "flat": ((X[:, 0], Y), {}, ValueError, r"`x` must have shape.*`x\[:, None\]`"),
    "column": ((X, Y[:, None]), {}, ValueError, r"column pass `y.reshape\(-1\)`"),
    "complex y": ((X, Y * 1j), {}, TypeError, "`y` must hold class.*got complex128"),
    "low y": ((X, Y - 1), {}, ValueError, "from 0, but got labels from -1 to 1; num"),
    "high y": ((X, Y + 2**31), {}, ValueError, "`y` must hold class numbers from 0"),
    "above": ((X, Y), {"classes": 2}, ValueError, "`y`.*below.*, 2, but got 2;"),
    "test above": (
        (TEST, (X, Y + 1)),
        {},
        ValueError,
        "`y_test` must hold labels below the number of classes, 3, but got 3; .*"
        "pass `classes=4`",
    ),
    "train": (((X, Y - 1), TEST), {}, ValueError, "`y_train` must hold class"),
    "shape": ((TEST, (X[:, :2], Y)), {}, ValueError, r"`x_test`.*\(2,\).*\(3,\); res"),
    "dtypes": (
        (TEST, (X.astype(np.uint8), Y)),
        {},
        TypeError,
        "`x_test` is uint8, but `x_train` is float32.*convert both",
    ),
    "masked": (
        (np.ma.array(X, mask=X > 0.9), Y),
        {},
        ValueError,
        "`x` is a masked array, but a mask would be dropped: leave",
    ),
    "masked y": (
        (TEST, (X, np.ma.array(Y, mask=Y > 1))),
        {},
        ValueError,
        "`y_test` is a masked array",
    ),
    "wrapped y": ((X, Y + 2**32), {}, ValueError, "`y` must hold.*to 4294967298; num"),
    "unsigned y": (
        (X, Y.astype("u8") + np.uint64(2**63)),
        {},
        ValueError,
        "`y` must hold cl",
    ),
    "durations": ((X, Y.astype("m8[s]")), {}, TypeError, r"got timedelta64\[s\]"),
    "zero classes": ((X, Y), {"classes": 0}, ValueError, "`classes`.*got 0; leave it"),
    "true classes": ((X, Y), {"classes": True}, ValueError, "`classes`.*got True;"),
    "digits": ("digits", {"classes": 5}, ValueError, "`classes` is 5.*has 10 classes"),
}


@pytest.mark.parametrize(("data", "options", "error", "match"), REFUSED.values())
def test_refuses(data, options, error, match):
    with pytest.raises(error, match=match) as caught:
        load(data, **options)
    assert "\n" not in str(caught.value)


# Values that float32 and float64 hold alike, and labels.
ORDERS = [">f2", ">f4", ">f8", "g", ">g", "<f4"], ["i8", ">i8", ">i2", ">u4", "<u2"]


@pytest.mark.parametrize("x", ORDERS[0])
@pytest.mark.parametrize("y", ORDERS[1])
def test_any_order_of_bytes_and_long_doubles(x, y):
    """Oracle: the dataset of the same numbers in this machine's own dtypes."""
    numbers = np.array([[0.5, -2.0, 3.25]] * 4)
    data, plain = load((numbers.astype(x), Y.astype(y))), load((numbers, Y))
    assert data.digest == plain.digest
    assert_holds(data, arrays_of(plain))
    assert jnp.asarray(data.x_train).dtype == jnp.float32
    values = load((numbers, numbers.astype(x)))
    assert values.digest == load((numbers, numbers)).digest


@pytest.mark.parametrize("dtype", [">f8", "g"])
def test_float64_of_any_kind_stays_with_x64(x64, dtype):
    """Oracle: a third, which 32 bits round."""
    data = load((np.full((2, 2), 1 / 3).astype(dtype), Y[:2]))
    assert data.x_train.dtype == np.float64
    np.testing.assert_array_equal(data.x_train, 1 / 3)


def test_a_long_double_beyond_any_float_is_told():
    if np.finfo("g").max > np.finfo("f8").max:
        with pytest.raises(ValueError, match="`x` must be finite in float32"):
            load((np.full((4, 3), np.longdouble("1e4000")), Y))


@pytest.mark.parametrize("field", ["dtype", "target"])
@pytest.mark.parametrize("dtype", [np.dtype("float32").newbyteorder(), np.dtype("g")])
def test_records_that_no_device_holds(field, dtype):
    records = ArrayRecords(X, Y)
    setattr(records, field, dtype)
    match = f"^`train` has the `{field}` {dtype.str}, but devices hold .*: convert what"
    with pytest.raises(TypeError, match=match):
        Dataset("own", records, None, "")


@pytest.mark.parametrize("dtype", [">f4", ">i4", "g", ">c8", "G"])
def test_arguments_in_any_order_of_bytes(dtype):
    """Oracle: the same numbers, cast by NumPy."""
    given = np.array([[0.5, 2.0]]).astype(dtype)
    if given.dtype.kind == "c":
        with pytest.raises(TypeError, match="`x` has dtype complex64, but"):
            checks.array("x", given)
    else:
        found = checks.array("x", given)
        np.testing.assert_array_equal(found, given.astype(found.dtype))
    if dtype == "g" and given.dtype.itemsize > 8:
        with pytest.raises(ValueError, match="`x`"):
            checks.array("x", np.array([np.longdouble("1e4000")]))


@pytest.mark.parametrize("dtype", ["bool", "object", "complex64", "str", "int32"])
def test_refuses_dtype(dtype):
    match = r"`x` must be uint8.*; convert it, for example with `x.astype\('float32'\)`"
    with pytest.raises(TypeError, match=match):
        load((X.astype(dtype), Y))


def test_a_mask_that_masks_nothing_is_dropped():
    assert type(load((np.ma.array(X), Y)).x_train) is np.ndarray


def test_a_dataset_of_a_users_own_is_checked(monkeypatch):
    """Oracle: labels, mask, kinds; types go unchecked where users run it."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    masked, records = np.ma.array(X, mask=X > 0.9), ArrayRecords(X, Y)
    for call, error, match in [
        (lambda: ArrayRecords(X, Y + 2**32), ValueError, "^`y` must hold.*4294967298"),
        (lambda: ArrayRecords(masked, Y), ValueError, "^`x` is a masked array"),
        (lambda: ArrayRecords(X, Y, 2), ValueError, "^`y`.*below.* 2, but got 2;.*=3`"),
        (lambda: Dataset("own", X, None, ""), TypeError, r"^`train` is an array.*pass"),
        (lambda: Dataset("own", records, (X, Y), ""), TypeError, "^`test` is .*pass"),
        (
            lambda: Dataset("own", records, ArrayRecords(X, Y + 1), ""),
            ValueError,
            "^`test` has 4 classes, but `train` has 3; pass the same `classes` to both",
        ),
    ]:
        with pytest.raises(error, match=match) as caught:
            call()
        assert "\n" not in str(caught.value)
    assert load((X, Y), classes=np.int64(4)).classes == 4


def own(arrays, source="", content=""):
    x, y, x_test, y_test = arrays
    parts = ArrayRecords(x, y, 3), ArrayRecords(x_test, y_test, 3)
    return Dataset("own", *parts, source, content)


def test_the_digest_covers_all_arrays():
    """Oracle: any change of any array, and what runs of 0.1.0 kept."""
    arrays = [X, Y.astype(np.int32), X[:3], Y[:3].astype(np.int32)]
    first = own(arrays).digest
    assert own([a.copy() for a in arrays], "x").digest == first
    assert first == f"{zlib.crc32(X.tobytes()):08x}-c75edd81" == "ea698bd0-c75edd81"
    changed = {first, load((X, Y)).digest, load((X.reshape(4, 1, 3), Y)).digest}
    for i, array in enumerate(arrays):
        parts = [*arrays[:i], np.roll(array, 1, 0), *arrays[i + 1 :]]
        changed.add(own(parts).digest)
    assert len(changed) == 3 + 4
    assert own(arrays, "", "content").digest == "content"


# Digits.


def test_digits():
    """Oracle: the published counts of scikit-learn's digits."""
    data = load("digits")
    assert data.x_train.shape == (1437, 8, 8)
    assert data.x_test.shape == (360, 8, 8)
    assert data.x_train.dtype == np.float32
    assert data.x_train.min() == 0
    assert data.x_train.max() == 1
    assert data.source == "digits (scikit-learn)"


def test_digits_split_is_fixed_stratified_and_complete():
    """Oracle: scikit-learn's own arrays, divided without a random number."""
    from sklearn.datasets import load_digits

    data = load("digits")
    assert_holds(data, arrays_of(load("digits")))
    train, test = np.bincount(data.y_train), np.bincount(data.y_test)
    assert np.abs(test - (train + test) / 5).max() < 1
    x = np.concatenate([data.x_train, data.x_test]).reshape(-1, 64)
    y = np.concatenate([data.y_train, data.y_test])
    both, all_digits = np.c_[16 * x, y], np.c_[load_digits().data, load_digits().target]
    assert sorted(both.tolist()) == sorted(all_digits.tolist())


# Images of TFDS.


def test_images_equal_what_was_written(root):
    """Oracle: the pixels before they became PNG in records."""
    arrays = write_tiny(root)
    data = load("tiny")
    assert_holds(data, arrays)
    assert data.x_train.dtype == np.uint8
    assert (data.name, data.classes, data.shape) == ("tiny", 7, (4, 3, 1))
    assert data.source == "tiny 1.0.0 (TFDS)"


def test_nothing_is_read_before_it_is_asked_for(root, monkeypatch):
    """Oracle: which splits have been decoded."""
    arrays, decoded, decode = write_tiny(root), [], images.decode

    def spy(records):
        decoded.append(records.split)
        return decode(records)

    monkeypatch.setattr(images, "decode", spy)
    data = load(load("tiny"), classes=7)
    assert repr(data) == (
        "Dataset('tiny': 5 training and 3 test examples, uint8[4, 3, 1], 7 classes, "
        "source: tiny 1.0.0 (TFDS))"
    )
    assert (data.examples, len(data.digest), decoded) == (5, 16, [])
    np.testing.assert_array_equal(data.y_test, arrays[3])
    assert data.x_test is data.x_test
    assert decoded == ["test"]
    assert_holds(data, arrays)
    assert decoded == ["test", "train"]
    again = pickle.loads(pickle.dumps(data.train))
    assert vars(again).keys() == vars(ImageRecords(again.prepared, "train")).keys()
    np.testing.assert_array_equal(again.read(np.array([4, 0]))[0], arrays[0][[4, 0]])


@pytest.mark.parametrize(
    ("shift", "match"), [(-7, "from 0, but"), (7, "below .* 7, b")]
)
def test_images_of_no_class_are_named(root, shift, match):
    """Oracle: the labels, some of which name no class, as in sets without labels."""
    write_tiny(root, shift=shift)
    with pytest.raises(ValueError, match=f"^`y_train` must hold .*{match}"):
        load("tiny").x_train  # noqa: B018
    with pytest.raises(ValueError, match=f"^`y_test` must hold .*{match}"):
        load("tiny").y_test  # noqa: B018


def test_data_dir_comes_before_the_variable(tmp_path, root):
    write_tiny(root)
    arrays = write_tiny(tmp_path / "other", key=1)
    assert_holds(load("tiny", data_dir=tmp_path / "other"), arrays)


def test_data_root_defaults_to_home(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("TFDS_DATA_DIR", raising=False)
    assert prepared.data_root(None) == tmp_path / "tensorflow_datasets"


def test_highest_version_is_read(root):
    write_tiny(root, "9.0.0")
    arrays = write_tiny(root, "10.0.0", key=1)
    (root / "tiny" / "incomplete.X_11.0.0").mkdir()
    (root / "tiny" / "11.0.0").mkdir()
    data = load("tiny")
    assert data.source == "tiny 10.0.0 (TFDS)"
    assert_holds(data, arrays)


def test_a_version_is_read_by_name(root):
    """Oracle: what was written as each version; names are spelt as TFDS does."""
    written = {v: write_tiny(root, v, key=i) for i, v in enumerate(VERSIONS)}
    for name, version in {
        "tiny:3.0.1": "3.0.1",
        "tiny:3.0.*": "3.0.10",
        "tiny:3.*.*": "3.1.0",
        "tiny:*.*.*": "4.0.0",
        "tiny": "4.0.0",
    }.items():
        data = load(name)
        assert data.source == f"tiny {version} (TFDS)"
        assert_holds(data, written[version])
    with pytest.raises(ValueError, match=r"got 'tinny:3.0.1'; did you mean 'tiny'"):
        load("tinny:3.0.1")
    for name in ("tiny:", "tiny:3", "tiny:3.0", "tiny:../x", "tiny:3.0.1/x"):
        with pytest.raises(ValueError, match="must be a name such as 'mnist', not a"):
            load(name)


def test_a_version_that_is_not_prepared(root, monkeypatch):
    write_tiny(root)
    monkeypatch.setattr(images.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(FileNotFoundError, match=r"'mnist:3.0.1', which is not prep"):
        load("mnist:3.0.1")


def test_validation_stands_in_for_test(root):
    arrays = write_tiny(root, test="validation")
    assert_holds(load("tiny"), arrays)


@pytest.mark.parametrize(
    ("info", "image", "source"),
    [
        ({"description": "A JPEG copy."}, {}, "tiny 1.0.0 (TFDS, JPEG copy)"),
        ({}, {"encodingFormat": "jpeg"}, "tiny 1.0.0 (TFDS, JPEG)"),
    ],
)
def test_source_says_lossy(root, info, image, source):
    write_tiny(root, info=info, image=image)
    assert prepared.find(root, "tiny").source == source


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"test": "extra"}, r"splits \['train', 'extra'\], but.*split it yourself"),
        ({"info": {"supervisedKeys": {}}}, "not one uint8 image.*convert it yourself"),
        ({"image": {"dtype": "float32"}}, "not one uint8 image of a fixed size"),
        (
            {"image": {"shape": {"dimensions": ["-1", "-1", "3"]}}},
            "not one uint8 image of a fixed size",
        ),
        ({"info": {"fileFormat": "tfrecord"}}, "as 'tfrecord', but.*`tfds build tiny"),
    ],
)
def test_refuses_other_kinds_of_data(root, options, match):
    write_tiny(root, **options)
    with pytest.raises(ValueError, match=match):
        load("tiny")


@pytest.mark.parametrize("name", ["../tiny", "/tiny", "tiny/..", "tiny/../tiny", ""])
def test_refuses_paths(root, name):
    write_tiny(root)
    match = (
        f"must be a name such as 'mnist', not a path, but got {re.escape(f'{name!r}')}"
    )
    with pytest.raises(ValueError, match=match):
        load(name, data_dir=root / "tiny")


@pytest.mark.parametrize(
    ("name", "match"),
    [
        ("MNIST", "got 'MNIST'; did you mean 'mnist'"),
        ("digit", "got 'digit'; did you mean 'digits'"),
        ("tinny", "did you mean 'tiny'"),
        ("qqqqqq", "got 'qqqqqq'; try 'digits' or 'tiny'."),
    ],
)
def test_unknown_name_suggests(root, name, match):
    write_tiny(root)
    with pytest.raises(ValueError, match=match):
        load(name)


def test_unprepared_without_tensorflow(root, monkeypatch):
    monkeypatch.setattr(images.importlib.util, "find_spec", lambda name: None)
    match = f"'mnist', which is not prepared in {root}, and TensorFlow is not installed"
    with pytest.raises(FileNotFoundError, match=match):
        load("mnist")


def with_tensorflow(monkeypatch):
    spec = importlib.machinery.ModuleSpec("tensorflow", None)
    monkeypatch.setattr(images.importlib.util, "find_spec", lambda name: spec)


def test_unprepared_without_network(root, monkeypatch):
    with_tensorflow(monkeypatch)
    match = "there is no network; point.*TFDS_DATA_DIR.*`pip install tensorflow`"
    with pytest.raises(FileNotFoundError, match=match):
        load("mnist")


class Builder:
    def __init__(self, action):
        self.download_and_prepare = action


def test_prepares_with_tensorflow_and_network(root, monkeypatch):
    """Oracle: a builder that writes the pixels we know."""
    import tensorflow_datasets as tfds

    arrays = []
    with_tensorflow(monkeypatch)
    monkeypatch.setattr(images, "_online", lambda: True)
    builder = Builder(lambda: arrays.extend(write_tiny(root)))
    monkeypatch.setattr(tfds, "builder", lambda name, **options: builder)
    monkeypatch.setattr(tfds, "list_builders", lambda **options: ["tiny"])
    data = load("tiny")
    assert_holds(data, arrays)


def test_failure_to_prepare_is_reported(root, monkeypatch):
    import tensorflow_datasets as tfds

    def fail():
        raise RuntimeError("the server is tired")

    with_tensorflow(monkeypatch)
    monkeypatch.setattr(images, "_online", lambda: True)
    monkeypatch.setattr(tfds, "builder", lambda name, **options: Builder(fail))
    with pytest.raises(FileNotFoundError, match=r"TFDS failed \(the server is tired"):
        load("mnist")


@pytest.mark.parametrize(
    ("answer", "online"),
    [
        (urllib.error.HTTPError("", 403, "no", None, io.BytesIO()), True),
        (urllib.error.URLError("no route"), False),
        (TimeoutError(), False),
    ],
)
def test_online(monkeypatch, answer, online):
    def ask(*args, **options):
        raise answer

    monkeypatch.undo()
    monkeypatch.setattr(images.urllib.request, "urlopen", ask)
    assert images._online() is online


# The cache.


def test_second_load_reads_the_cache(root, monkeypatch):
    arrays = write_tiny(root)
    arrays_of(load("tiny"))
    monkeypatch.setattr(images, "decode", never)
    assert_holds(load("tiny"), arrays)


def test_a_version_that_was_read_is_the_same_run(root, tmp_path):
    """Oracle: the examples; another version holds others, and is another run."""
    write_tiny(root)
    network = ctep.mlp((12, 4, 10), key=jax.random.key(0))
    how = {"out": tmp_path / "run", "batch_size": 5, "progress": False}
    ctep.fit(network, "tiny", epochs=1, **how)
    result = ctep.fit(network, "tiny:1.0.0", epochs=2, resume=True, **how)
    assert (result.status, len(result.history)) == ("completed", 2)
    write_tiny(root, "2.0.0", key=1)
    with pytest.raises(ValueError, match="holds a run with data_digest = "):
        ctep.fit(network, "tiny:2.0.0", epochs=3, resume=True, **how)


@matrix.campaign
def test_cached_load_does_not_import_tfds(root):
    arrays = write_tiny(root)
    arrays_of(load("tiny"))
    code = (
        "import sys, ctep.data; print(ctep.data.load('tiny').x_train.sum());"
        "assert 'tensorflow_datasets' not in sys.modules"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert int(run.stdout) == arrays[0].sum()


@pytest.mark.parametrize("harm", ["truncate", "flip", "shape", "delete", "index"])
def test_damaged_cache_is_rebuilt(root, tmp_path, monkeypatch, harm):
    arrays = write_tiny(root)
    arrays_of(load("tiny"))
    (file,) = (tmp_path / "cache").glob("*-train/x.npy")
    content = file.read_bytes()
    if harm == "truncate":
        file.write_bytes(content[:-7])
    elif harm == "flip":
        file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    elif harm == "shape":
        np.save(file, arrays[0].reshape(5, 3, 4, 1))
    elif harm == "delete":
        file.unlink()
    else:
        index = file.with_name("index.json")
        index.write_text(index.read_text()[:-3])
    assert_holds(load("tiny"), arrays)
    monkeypatch.setattr(images, "decode", never)
    assert_holds(load("tiny"), arrays)
    assert len(list((tmp_path / "cache").iterdir())) == 2  # of train and test


def test_new_records_are_decoded(root):
    write_tiny(root)
    arrays_of(load("tiny"))
    (root / "tiny").rename(root / "old")
    arrays = write_tiny(root, key=1)
    assert_holds(load("tiny"), arrays)


def test_unwritable_cache_warns(root, tmp_path):
    arrays = write_tiny(root)
    (tmp_path / "cache").write_text("a file where the folder should be")
    with pytest.warns(UserWarning, match="could not be kept in.*`CTEP_CACHE_DIR`"):
        assert_holds(load("tiny"), arrays)


def test_full_cache_warns_and_leaves_nothing(root, tmp_path, monkeypatch):
    def full(*args):
        raise OSError(28, "No space left on device")

    arrays = write_tiny(root)
    monkeypatch.setattr(cache.os, "replace", full)
    with pytest.warns(UserWarning, match="No space left on device"):
        assert_holds(load("tiny"), arrays)
    assert list((tmp_path / "cache").iterdir()) == []


def test_cache_dir(monkeypatch, tmp_path):
    monkeypatch.delenv("CTEP_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache.cache_dir() == tmp_path / "xdg" / "ctep"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache.cache_dir() == tmp_path / ".cache" / "ctep"


# MNIST itself.


@matrix.campaign
@pytest.mark.mnist
def test_mnist_equals_tfds(mnist, monkeypatch):
    """Oracle: the published counts, and TFDS's own decoding of 300 records."""
    import tensorflow_datasets as tfds

    data = load("mnist")
    arrays = arrays_of(data)
    monkeypatch.setattr(images, "decode", never)
    assert_holds(load("mnist"), arrays)
    assert data.x_train.shape == (60000, 28, 28, 1)
    assert data.x_test.shape == (10000, 28, 28, 1)
    np.testing.assert_array_equal(np.bincount(data.y_test)[:3], [980, 1135, 1032])
    for split, x, y in (
        ("train", data.x_train, data.y_train),
        ("test", data.x_test, data.y_test),
    ):
        rows = list(range(0, len(x), len(x) // 150))
        records = tfds.data_source("mnist", split=split, data_dir=mnist)
        for row, record in zip(rows, records.__getitems__(rows), strict=True):
            np.testing.assert_array_equal(x[row], record["image"])
            assert y[row] == record["label"]


# Holding out.


def test_hold_out_divides():
    train, held = hold_out(97, 0.1, jax.random.key(0))
    assert (len(train), len(held)) == (87, 10)
    assert train.dtype == held.dtype == np.int32
    np.testing.assert_array_equal(np.sort(np.append(train, held)), np.arange(97))


def test_hold_out_follows_the_key():
    first, again, other = (hold_out(97, 0.2, jax.random.key(k))[1] for k in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("fraction", [-0.1, 1.0, float("nan")])
def test_hold_out_refuses_fraction(fraction):
    with pytest.raises(ValueError, match=f"`validation` is {fraction}, but.*: pass"):
        hold_out(9, fraction, jax.random.key(0))


@pytest.mark.parametrize(("fraction", "held"), [(0.0, 0), (0.05, 0), (0.95, 9)])
def test_hold_out_refuses_an_empty_side(fraction, held):
    match = f"`validation` is {fraction}, which holds out {held} of 9 examples: choose"
    with pytest.raises(ValueError, match=match):
        hold_out(9, fraction, jax.random.key(0))


def test_dataset_is_frozen():
    with pytest.raises(AttributeError, match="cannot assign"):
        load((X, Y)).name = "other"
    assert isinstance(load((X, Y)), Dataset)
