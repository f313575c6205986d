import errno
import json
import math
import os
import re
import signal
import stat
import subprocess
import sys
import time
import warnings

import equinox as eqx
import jax
import jax.numpy as jnp
import matrix
import numpy as np
import optax
import pytest
from hypothesis import given, strategies as st

from ctep._train.store import checkpoint, folder, history
from ctep._train.store.checkpoint import CheckpointError
from ctep._train.store.folder import claim

SMALL = {"w": jnp.arange(3.0), "key": jax.random.key(1)}


def state():
    """A tree with a leaf of every kind that training may carry."""
    mlp = eqx.nn.MLP(3, 2, 4, 1, key=jax.random.key(0))
    adam = optax.inject_hyperparams(optax.adam)(1e-3)
    return {
        "network": mlp,
        "optimiser": adam.init(eqx.filter(mlp, eqx.is_array)),
        "keys": (jax.random.key(3), jax.random.split(jax.random.key(4, impl="rbg"))),
        "f32": jnp.array([jnp.nan, -0.0, 1e-42, jnp.inf]),
        "bf16": [jnp.ones((2, 1), jnp.bfloat16) / 3, jnp.bfloat16(0.3)],
        "odd": [jnp.arange(4, dtype=jnp.int4), jnp.zeros((0, 2)), jnp.array([True])],
        "i32": jnp.int32(-7),
        "weak": [jnp.asarray(0.1), jnp.asarray(2)],
        "numpy": [np.array([0.1, np.nan]), np.ones(2, jnp.bfloat16), np.float64(0.1)],
        "python": [True, 2**40, 2**63, 0.1, 1e-320, 1 + 2j, None],
        "unsaved": ["text", jnp.tanh],
    }


def assert_identical(tree, other):
    """Oracle: type, dtype, weak type, shape and bytes of each leaf."""
    leaves, treedef = jax.tree.flatten(tree)
    others, other_treedef = jax.tree.flatten(other)
    assert treedef == other_treedef
    for a, b in zip(leaves, others, strict=True):
        assert type(a) is type(b)
        if not eqx.is_array_like(a):
            assert a == b
            continue
        assert getattr(a, "weak_type", None) == getattr(b, "weak_type", None)
        if eqx.is_array(a) and jnp.issubdtype(a.dtype, jax.dtypes.prng_key):
            assert a.dtype == b.dtype
            a, b = jax.random.key_data(a), jax.random.key_data(b)
        a, b = np.asarray(a), np.asarray(b)
        assert (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes())


def other_values(tree):
    return jax.tree.map(
        lambda x: (
            jnp.zeros_like(x)
            if eqx.is_array(x) and not jnp.issubdtype(x.dtype, jax.dtypes.prng_key)
            else x
        ),
        tree,
    )


def test_round_trip_is_bit_identical(tmp_path):
    tree, config = state(), {"epoch": 3, "recipe": {"é": [1, None, 0.1]}}
    path = checkpoint.save(tmp_path, tree, config, epoch=3)
    assert path == tmp_path / "checkpoint-000003.ctep"
    for where, like in (
        (tmp_path, tree),
        (path, eqx.filter_eval_shape(lambda: tree) | {"numpy": tree["numpy"]}),
    ):
        loaded, found = checkpoint.load(where, like)
        assert_identical(loaded, tree)
        assert found == config == checkpoint.read_config(where)


def test_values_come_from_the_file_and_functions_from_the_template(tmp_path):
    checkpoint.save(tmp_path, {"w": jnp.ones(2), "n": 3, "f": jnp.sin}, {}, epoch=0)
    template = {"w": jnp.zeros(2), "n": 0, "f": jnp.cos}
    tree, _ = checkpoint.load(tmp_path, template)
    assert_identical(tree, {"w": jnp.ones(2), "n": 3, "f": jnp.cos})


def test_float64(tmp_path, x64):
    tree = {"w": jnp.array([0.1, jnp.pi]), "weak": jnp.asarray(0.1)}
    checkpoint.save(tmp_path, tree, {}, epoch=0)
    assert_identical(checkpoint.load(tmp_path, tree)[0], tree)
    template = jax.eval_shape(lambda: tree)
    with (
        jax.enable_x64(False),
        pytest.raises(ValueError, match="holds 64-bit numbers: set `jax_enable_x64`"),
    ):
        checkpoint.load(tmp_path, template)


def test_header_is_one_readable_line_before_what_equinox_reads(tmp_path):
    path = checkpoint.save(tmp_path, SMALL, {"epoch": 4}, epoch=4)
    with open(path, "rb") as file:
        header = json.loads(file.readline())
        like = [np.zeros(2, np.uint32), np.zeros(3, np.float32)]
        leaves = eqx.tree_deserialise_leaves(file, like)
    assert header["magic"] == "ctep"
    assert header["leaves"] == ["['key']: key<fry>[]", "['w']: float32[3]"]
    np.testing.assert_array_equal(leaves[1], [0, 1, 2])


def test_keep_leaves_the_newest(tmp_path):
    for epoch in range(5):
        checkpoint.save(tmp_path, SMALL, {}, epoch=epoch, keep=3)
    checkpoint.save(tmp_path, SMALL, {}, epoch=3, keep=1)  # after going back to 3
    checkpoint.save(tmp_path, SMALL, {}, epoch=999_999)
    checkpoint.save(tmp_path, SMALL, {}, epoch=1_000_000, keep=3)
    names = [path.name[11:-5] for path in checkpoint.checkpoints(tmp_path)]
    assert names == ["1000000", "999999", "000004"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"w": jnp.zeros((3, 2))},
            r"another network: it first differs by `\['w'\]: float32\[3\]` in the file "
            r"against `\['w'\]: float32\[3,2\]` in `template` \(2 leaves against 2\)",
        ),
        ({"w": jnp.arange(3)}, r"`\['w'\]: float32\[3\]`.*`\['w'\]: int32\[3\]`"),
        ({"z": 1}, r"`nothing` in the file against `\['z'\]: int\[\]`.*\(2 .* 3\)"),
        (
            {"key": jax.random.PRNGKey(0)},
            r"key<fry>\[\]` in .*`\['key'\]: uint32\[2\]`",
        ),
    ],
)
def test_another_network_is_described(tmp_path, change, message):
    checkpoint.save(tmp_path, SMALL, {}, epoch=0)
    with pytest.raises(ValueError, match=message):
        checkpoint.load(tmp_path, SMALL | change)


@pytest.fixture(scope="module")
def damage(tmp_path_factory):
    """A folder with two checkpoints, and the bytes of the newer."""
    folder = tmp_path_factory.mktemp("damage")
    checkpoint.save(folder, SMALL, {"epoch": 1}, epoch=1)
    newer = checkpoint.save(folder, other_values(SMALL), {"epoch": 2}, epoch=2)
    return folder, newer, newer.read_bytes()


def assert_falls_back(damage, data, fault):
    folder, newer, whole = damage
    newer.write_bytes(data)
    with pytest.warns(UserWarning, match=f"{newer.name} .*{fault}.*: going back to"):
        tree, config = checkpoint.load(folder, SMALL)
    assert_identical(tree, SMALL)
    assert config == {"epoch": 1}
    with pytest.raises(CheckpointError, match=f"{fault}.*: with no whole checkpoint"):
        checkpoint.load(newer, SMALL)
    newer.write_bytes(whole)
    assert checkpoint.load(folder, SMALL)[1] == {"epoch": 2}


@given(st.data())
def test_truncation_is_noticed(damage, data):
    size = data.draw(st.integers(0, len(damage[2]) - 1))
    fault = "is empty|is no ctep checkpoint|is cut or overlong"
    assert_falls_back(damage, damage[2][:size], f"({fault})")


@given(st.data())
def test_flipped_bits_are_noticed_or_change_nothing(damage, data):
    """A flip may also change the spelling of the header and not what it says."""
    folder, newer, whole = damage
    flipped = bytearray(whole)
    flipped[data.draw(st.integers(0, len(whole) - 1))] ^= 1 << data.draw(
        st.integers(0, 7)
    )
    newer.write_bytes(flipped)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tree, config = checkpoint.load(folder, SMALL)
    newer.write_bytes(whole)
    assert config in ({"epoch": 1}, {"epoch": 2})
    assert_identical(tree, SMALL if config["epoch"] == 1 else other_values(SMALL))


def test_every_flip_in_the_payload_is_noticed(damage):
    start = damage[2].index(b"\n") + 1
    for offset in range(start, len(damage[2]), 37):
        flipped = bytearray(damage[2])
        flipped[offset] ^= 1 << offset % 8
        assert_falls_back(damage, flipped, "is damaged")


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        (b"PK\3\4", "is no ctep checkpoint, or too short for one"),
        (b"[" * 100_000, "is no ctep checkpoint"),
        (b'{"magic": "ctep", "format": 9}\n', "has format 9, not 1"),
        (b'{"magic": "ctep", "format": 1, "bytes": 0}\n', "is damaged"),
    ],
)
def test_foreign_files_are_refused(damage, data, fault):
    assert_falls_back(damage, data, fault)


@pytest.mark.parametrize("epoch", [2, 3])
def test_a_later_format_is_no_damage(tmp_path, epoch):
    """Oracle: the bytes on disk before; a later release is one that says so itself."""
    checkpoint.save(tmp_path, SMALL, {"epoch": 1}, epoch=1)
    path = checkpoint.save(tmp_path, SMALL, {}, epoch=epoch)
    line, _, payload = path.read_bytes().partition(b"\n")
    header = json.loads(line) | {"format": 2, "more": [1]}
    del header["sha256"]
    header["sha256"] = checkpoint._digest(header, payload)
    path.write_bytes(json.dumps(header).encode() + b"\n" + payload)
    before = path.read_bytes()
    for where in (tmp_path, path):
        with pytest.raises(CheckpointError, match=r"a later release \(format 2, not"):
            checkpoint.load(where, SMALL)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("narrow", "wide"),
    [("float32", "float64"), ("int32", "int64"), ("complex64", "complex128")],
)
def test_the_other_width_is_named_with_what_sets_it(tmp_path, x64, narrow, wide):
    """Oracle: both dtypes as NumPy spells them; what JAX is set to is the remedy."""
    trees = {dtype: {"w": np.zeros(64, dtype)} for dtype in (narrow, wide)}
    checkpoint.save(tmp_path, trees[narrow], {}, epoch=0)
    text = rf"`\['w'\]: {narrow}\[64\]`, where .*{wide}\[64\]` is .* to False, as it"
    with pytest.raises(ValueError, match=text):
        checkpoint.load(tmp_path, trees[wide])
    checkpoint.save(tmp_path, trees[wide], {}, epoch=0)
    # Set as it was: the difference is somebody's own.
    with pytest.raises(ValueError, match="a checkpoint of another network"):
        checkpoint.load(tmp_path, trees[narrow])
    match = rf"{wide}.*{narrow}.* to True, as it was"
    with jax.enable_x64(False), pytest.raises(ValueError, match=match):
        checkpoint.load(tmp_path, trees[narrow])


def test_no_checkpoint_is_an_error_that_names_each_fault(tmp_path):
    with pytest.raises(CheckpointError, match="holds no file `checkpoint-"):
        checkpoint.load(tmp_path / "nowhere", SMALL)
    (tmp_path / "checkpoint-000001.ctep").write_bytes(b"")
    (tmp_path / "checkpoint-000002.ctep").mkdir()
    message = r"000002.ctep cannot be read \(Is a directory\); .*000001.ctep is empty: "
    with pytest.raises(CheckpointError, match=message):
        checkpoint.read_config(tmp_path)


def test_pickles_are_not_run(tmp_path):
    """A pickle under a right checksum, as only an attacker would write it."""
    path = checkpoint.save(tmp_path, [jnp.ones(1)], {}, epoch=0)
    header = json.loads(path.read_bytes().partition(b"\n")[0])
    payload = b"cos\nsystem\n(S'exit 1'\ntR."
    del header["sha256"]
    header["bytes"] = len(payload)
    header["sha256"] = checkpoint._digest(header, payload)
    path.write_bytes(json.dumps(header).encode() + b"\n" + payload)
    with pytest.raises(CheckpointError, match=r"not hold what its header .*pickle"):
        checkpoint.load(path, [jnp.ones(1)])


@pytest.mark.parametrize(
    "change",
    [{"leaves": 2**70}, {"kinds": [1]}, {"config": []}, {"leaves": ["a"], "kinds": []}],
)
def test_headers_of_another_program_are_refused(tmp_path, change):
    """Under a right checksum, which says nothing of who computed it."""
    path = checkpoint.save(tmp_path, [jnp.ones(1)], {}, epoch=0)
    line, _, payload = path.read_bytes().partition(b"\n")
    header = json.loads(line) | change
    del header["sha256"]
    header["sha256"] = checkpoint._digest(header, payload)
    path.write_bytes(json.dumps(header).encode() + b"\n" + payload)
    with pytest.raises(CheckpointError, match="not written by ctep, whatever its"):
        checkpoint.load(path, [jnp.ones(1)])


@pytest.mark.parametrize(
    ("tree", "config", "numbers", "error", "message"),
    [
        (
            [2**70],
            {},
            {},
            TypeError,
            r"holds 1180\d+ at `\[0\]`, but only numbers of at",
        ),
        (np.array([{}]), {}, {}, TypeError, r"holds array.* at `\.`, but only numbers"),
        ([], {"f": print}, {}, TypeError, "`config` must hold only dict.*function"),
        ([], {}, {"epoch": -1}, ValueError, "`epoch` must be at least 0, but got -1"),
        ([], {}, {"keep": 0}, ValueError, "`keep` must be at least 1, but got 0"),
    ],
)
def test_what_cannot_be_saved(tmp_path, tree, config, numbers, error, message):
    with pytest.raises(error, match=message):
        checkpoint.save(tmp_path, tree, config, **({"epoch": 0} | numbers))
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize("name", ["fsync", "replace", "open"])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS])
def test_a_refusing_disk_leaves_what_was_there(tmp_path, monkeypatch, name, code):
    path = checkpoint.save(tmp_path, SMALL, {}, epoch=1)
    before = path.read_bytes()
    history.append(tmp_path, {"epoch": 1})

    def refuse(*args, **kwargs):
        raise OSError(code, os.strerror(code))

    module = folder if name == "open" else os
    monkeypatch.setattr(module, name, refuse, raising=False)
    reason = re.escape(f"({os.strerror(code)})")
    for epoch in (1, 2):
        message = f"{reason}: the training state is still .* disk is {path.name}, so"
        with pytest.raises(CheckpointError, match=message):
            checkpoint.save(tmp_path, other_values(SMALL), {}, epoch=epoch, keep=1)
    with pytest.raises(OSError, match=f"history.jsonl could not be written {reason}"):
        history.rewrite(tmp_path, [])
    monkeypatch.undo()
    assert sorted(os.listdir(tmp_path)) == [path.name, "history.jsonl"]
    assert path.read_bytes() == before
    assert [record["epoch"] for record in history.read(tmp_path)] == [1]


def test_a_vanished_folder(tmp_path):
    message = r"No such file or directory\): .* disk is none, so free space"
    with pytest.raises(CheckpointError, match=message):
        checkpoint.save(tmp_path / "gone", SMALL, {}, epoch=0)
    with pytest.raises(OSError, match=r"history.jsonl could not be .*\(No such file"):
        history.append(tmp_path / "gone", {})


def test_folders_that_cannot_be_synced_are_no_error(tmp_path, monkeypatch):
    sync = os.fsync

    def refuse_folders(number):
        if stat.S_ISDIR(os.fstat(number).st_mode):
            raise OSError(errno.EINVAL, "Invalid argument")
        sync(number)

    monkeypatch.setattr(os, "fsync", refuse_folders)
    checkpoint.save(tmp_path, SMALL, {}, epoch=0)


LOOP = """
import itertools, sys
import numpy as np
from ctep._train.store import checkpoint
for epoch in itertools.count():
    tree = np.full(300_000, epoch)
    checkpoint.save(sys.argv[1], tree, {"epoch": epoch}, epoch=epoch)
    print(epoch, flush=True)
"""


@matrix.campaign
def test_a_killed_run_leaves_a_whole_checkpoint(tmp_path):
    for delay in (0.0, 0.004, 0.011):
        command = [sys.executable, "-c", LOOP, str(tmp_path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            for _ in range(3):
                last = int(process.stdout.readline())
            time.sleep(delay)
            process.send_signal(signal.SIGKILL)
        tree, config = checkpoint.load(tmp_path, np.zeros(300_000, int))
        assert config["epoch"] >= last
        np.testing.assert_array_equal(tree, config["epoch"])
        (tmp_path / ".checkpoint-000009.ctep.tmp").write_bytes(b"half a file")
        checkpoint.save(tmp_path, SMALL, {}, epoch=10**6)
        assert not list(tmp_path.glob(".checkpoint*"))
        for path in checkpoint.checkpoints(tmp_path):
            path.unlink()


RUN = {"recipe": {"hidden": [8, 4], "beta": 0.1}, "versions": {"jax": "1"}}


@pytest.mark.parametrize("resume", [False, True])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"recipe": {"hidden": [8, 5], "beta": 0.1}},
            r"recipe.hidden.1 = 4, not 5: name",
        ),
        (
            {"width": 1, "versions": {}},
            "width = absent, not 1: name another `out`, or set",
        ),
        ({"recipe": None}, r"recipe = absent, not null|recipe.beta = 0.1, not absent"),
    ],
)
def test_claim_refuses_another_run(tmp_path, change, message, resume):
    claim(tmp_path, RUN, resume=False)
    with pytest.raises(ValueError, match=message):
        claim(tmp_path, RUN | change, resume=resume)


def test_claim_makes_and_resumes_a_run(tmp_path):
    out = tmp_path / "a" / "b"
    with pytest.raises(FileNotFoundError, match=r"holds no `run.json`: correct `out`"):
        claim(out, RUN, resume=True)
    assert not out.parent.exists()
    out.mkdir(parents=True)
    (out / ".run.json.tmp").touch()  # of a run killed while it claimed
    claim(out, RUN, resume=False)
    assert json.loads((out / "run.json").read_text()) == RUN
    assert os.listdir(out) == ["run.json"]
    claim(out, RUN | {"recipe": {**RUN["recipe"], "hidden": (8, 4)}}, resume=True)
    with pytest.raises(ValueError, match="already holds this run: pass `resume=True`"):
        claim(out, RUN, resume=False)
    newer = RUN | {"versions": {"jax": "2"}}
    with pytest.raises(ValueError, match="already holds this run"):
        claim(out, newer, resume=False)
    with pytest.warns(
        UserWarning, match='versions.jax = "1", not "2": it goes on, but'
    ):
        claim(out, newer, resume=True)


def test_claim_refuses_what_is_no_run(tmp_path, monkeypatch):
    file = tmp_path / "thesis.tex"
    file.touch()
    with pytest.raises(ValueError, match=r"`out` is the file .*thesis.tex, so name"):
        claim(file, RUN, resume=False)
    with pytest.raises(
        ValueError, match=r"holds thesis.tex but no run, and a run does"
    ):
        claim(tmp_path, RUN, resume=False)
    with pytest.raises(
        OSError, match=r"run.json could not be written \(Not a directory"
    ):
        claim(file / "out", RUN, resume=False)
    with pytest.raises(TypeError, match=r"`identity` must hold only .*, but Object"):
        claim(tmp_path / "new", {"f": print}, resume=False)
    for text in ("", "[]", '{"recipe": '):
        (tmp_path / "run.json").write_text(text)
        with pytest.raises(
            ValueError, match=r"run.json is no JSON object \(.*restore it"
        ):
            claim(tmp_path, RUN, resume=True)


def test_history_round_trip(tmp_path):
    assert history.read(tmp_path) == []
    first = dict.fromkeys(history.KEYS, 0.5) | {"epoch": 1, "lr": np.float32(0.25)}
    history.append(tmp_path, first)
    history.append(
        tmp_path, {"epoch": jnp.int32(2), "loss": jnp.nan, "seconds": math.inf}
    )
    second = dict.fromkeys(history.KEYS) | {"epoch": 2}
    assert history.read(tmp_path) == [first, second]
    path = tmp_path / "history.jsonl"
    assert "NaN" not in path.read_text()
    with open(path, "a") as file:
        file.write('{"epoch": 3, "lo')
    assert history.read(tmp_path) == [first, second]
    history.append(tmp_path, {"epoch": 3})
    assert [record["epoch"] for record in history.read(tmp_path)] == [1, 2, 3]
    history.rewrite(tmp_path, history.read(tmp_path)[:1])
    assert history.read(tmp_path) == [first]
    path.write_text('{"epoch": 1}\n[]\n{"epoch": 3}\n')
    with pytest.raises(
        ValueError, match=r"damaged at line 2 \(b'\[\]'\), where a JSON"
    ):
        history.read(tmp_path)
    with pytest.raises(TypeError, match=r"`record` must hold only .*, but Object"):
        history.append(tmp_path, {"epoch": print})


def test_table_layout():
    values = (2, 0.5, 0.5, 0.2, 20, 0.03, 1.23e-5, 0.98765, 61.26)
    record = dict(zip(history.KEYS, values, strict=True))
    unknown = {"test_accuracy": 0.1, "residual": None, "gradient_cosine": math.nan}
    lines = history.table([{"epoch": 1, "loss": 1.0} | unknown, record]).splitlines()
    assert lines == [
        "epoch    loss  train %  test %  sweeps  unsettled %  residual  cosine"
        "  seconds",
        "    1   1.000        -   10.00       -            -         -       -"
        "        -",
        "    2  0.5000    50.00   20.00    20.0         3.00   1.2e-05  0.9877"
        "     61.3  *",
    ]


@pytest.mark.parametrize(
    ("epochs", "best", "shown"),
    [
        (12, 7, [str(i) for i in range(12)]),
        (30, 10, ["0", "1", "2", "...", "10", "...", "25", "26", "27", "28", "29"]),
        (30, 3, ["0", "1", "2", "3", "...", "25", "26", "27", "28", "29"]),
        (30, 29, ["0", "1", "2", "...", "25", "26", "27", "28", "29"]),
        (30, None, ["0", "1", "2", "...", "25", "26", "27", "28", "29"]),
        (0, None, []),
    ],
)
def test_table_shows_the_ends_and_the_best(epochs, best, shown):
    scores = [
        None if best is None else 0.9 if i == best else 0.8 for i in range(epochs)
    ]
    rows = history.table(
        [{"epoch": i, "test_accuracy": x} for i, x in enumerate(scores)]
    ).splitlines()
    assert [row.split()[0] for row in rows[1:]] == shown
    starred = [row.split()[0] for row in rows if row.endswith("*")]
    assert starred == ([] if best is None else [str(best)])
