import contextlib
import dataclasses
import io
import json
import os
import re
import shlex
import shutil
import signal
import sys
import warnings
from importlib import metadata

import equinox as eqx
import jax
import matrix
import numpy as np
import optax
import pytest

import ctep
from ctep import cli, recipes
from ctep._train.progress import Reporter
from ctep.data import images


@pytest.fixture
def run(monkeypatch, capsys, tmp_path):
    """Run `ctep ...` in this process; return its exit code and what it printed."""
    # The entry point sets how warnings are shown, for good.
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    monkeypatch.setenv("CTEP_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "tfds"))
    monkeypatch.setenv("TERMINAL_WIDTH", "200")
    monkeypatch.setattr(images, "_online", lambda: False)

    def run(*args):
        monkeypatch.setattr(sys, "argv", ["ctep", *map(str, args)])
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        out = capsys.readouterr()
        return stopped.value.code, out.out, out.err

    return run


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder of `ctep fit --epochs 1 --out ...`, and what it printed."""
    out = tmp_path_factory.mktemp("cli") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["ctep", "fit", "--epochs", "1", "--out", str(out)])
        patch.setattr(warnings, "showwarning", warnings.showwarning)
        with contextlib.redirect_stdout(io.StringIO()) as said:
            with pytest.raises(SystemExit) as stopped:
                cli.main()
    assert stopped.value.code == 0
    return out, said.getvalue()


@pytest.fixture
def out(trained, tmp_path):
    """A copy of the folder of that run."""
    return shutil.copytree(trained[0], tmp_path / "run")


def rows(out):
    return [json.loads(x) for x in (out / "history.jsonl").read_text().splitlines()]


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


# ---------------------------------------------------------------- fit


@pytest.mark.smoke
def test_fit_prints_equations_table_and_evidence(trained):
    """In this order: the system, the data, the epochs, the evidence."""
    out, text = trained
    (record,) = rows(out)
    wanted = [
        "digits: 2 tanh layers of 128",
        "tanh(W0_1 x + 0.1 W1_2' s2 + b1)",
        "dataset: Dataset('digits': 1437 training and 360 test examples",
        "train %  test %  sweeps",
        f"{100 * record['test_accuracy']:.2f}",
        f"Test accuracy: {100 * record['test_accuracy']:.2f} % at the final epoch",
        "Rest: every example came to rest, in every epoch.",
        f"Cosine with the exact gradient: {record['gradient_cosine']:.4f} in epoch 1",
        "completed in ",
        f"Checkpoints and history are in {out}.",
    ]
    places = [text.index(part) for part in wanted]
    assert places == sorted(places)
    assert record["test_accuracy"] > 0.8
    assert record["gradient_cosine"] > 0.999
    assert "Published" not in text


@matrix.campaign
def test_progress_is_on_stderr_and_the_result_on_stdout(run):
    """One line per epoch; the same seed gives the same figures."""
    code, text, progress = run("fit", "--epochs", 2, "--seed", 3)
    assert code == 0
    said, *lines = progress.splitlines()
    assert said.startswith("Trains 26,122 numbers in b1, b2, W0_1, ")
    assert [line[:9] for line in lines] == ["epoch 1/2", "epoch 2/2"]
    table = re.findall(r"^ +[12] +[\d.]+ +[\d.]+ +[\d.]+", text, re.MULTILINE)
    again = run("fit", "--epochs", 2, "--seed", 3)[1]
    other = run("fit", "--epochs", 2, "--seed", 4)[1]
    assert len(table) == 2
    assert all(row in again for row in table)
    assert not any(row in other for row in table)


def test_fit_resumes(run, tmp_path):
    """One more epoch is trained, and none twice; the first is as it was."""
    out = tmp_path / "run"
    # A recipe whose rate does not follow the number of epochs.
    fit = ("fit", "fre-2x512", "--dataset", "digits", "--scale", 0.03, "--out", out)
    assert run(*fit, "--epochs", 1)[0] == 0
    first = rows(out)
    code, text, progress = run(*fit, "--epochs", 2, "--resume")
    assert code == 0
    assert [line[:9] for line in progress.splitlines()[1:]] == ["epoch 2/2"]
    assert rows(out)[:1] == first
    assert [record["epoch"] for record in rows(out)] == [1, 2]
    # As many as it was asked for last, if nothing is said.
    for epochs in (("--epochs", 2), ()):
        code, again, progress = run(*fit, *epochs, "--resume")
        assert code == 0
        assert progress == (
            "The run was complete, after 2 epochs: nothing is left to do.\n"
        )
        assert again == text


def interrupt(monkeypatch, number, times=1):
    """Send `number` to this process after the third batch or a later one."""
    report = Reporter.batch

    def spy(reporter, epoch, done):
        report(reporter, epoch, done)
        if done > 2:
            for _ in range(times):
                os.kill(os.getpid(), number)

    monkeypatch.setattr(Reporter, "batch", spy)


@matrix.parametrize(
    "options", [[], ["--seed", "2"], ["--data-dir", "my data"]], [["--seed", "2"]]
)
def test_interrupted_fit_says_how_to_go_on(run, tmp_path, monkeypatch, options):
    """The printed command holds every option, quoted for a shell; it goes on."""
    out = tmp_path / "my runs" / "it's"
    with monkeypatch.context() as patch:
        interrupt(patch, signal.SIGTERM)
        code, text, _ = run("fit", "--epochs", 1, "--out", out, *options)
    assert code == 143
    *_, last = text.splitlines()
    prefix, command = last[:15], shlex.split(last[15:])
    assert prefix == "Continue with: "
    assert command[:2] == ["ctep", "fit"]
    assert "--resume" in command
    assert set(options) <= set(command)
    code, _, err = run(*command[1:])
    assert code == 0, err
    assert [record["epoch"] for record in rows(out)] == [1]


def test_second_ctrl_c_ends_at_once(run, monkeypatch):
    """With 130, and without a traceback."""
    interrupt(monkeypatch, signal.SIGINT, times=2)
    code, _, err = run("fit")
    assert code == 130
    assert "Traceback" not in err


def test_diverged_fit_fails(run, monkeypatch):
    """Exit code 1, and the reason by name."""

    def fit(network, *args, nudge, **options):
        return ctep.Result(network, nudge, [], "diverged", "Too bold.", 1.0, None)

    monkeypatch.setattr(recipes.run, "fit", fit)
    code, text, _ = run("fit")
    assert code == 1
    assert "diverged in 1.0 s. Too bold." in text


# ---------------------------------------------------------------- recipes, evaluate


@pytest.mark.smoke
def test_recipes_lists_all(run):
    """A name and a summary for each, within 80 columns."""
    code, text, err = run("recipes")
    assert (code, err) == (0, "")
    *lines, _, last = text.splitlines()
    assert max(map(len, lines)) <= 80
    assert "`ctep recipes NAME`" in last
    named = [line for line in lines if not line.startswith(" ")]
    assert [line.split()[0] for line in named] == list(recipes.RECIPES)
    said = " ".join(text.split())
    for recipe in recipes.RECIPES.values():
        assert f"{recipe.name} {recipe.summary}" in said


@pytest.mark.parametrize("name", ["digits", "fre-10x64-agt", "vgg7-kd"])
def test_recipes_shows_one(run, name):
    """All that a recipe says of itself, within 80 columns."""
    code, text, err = run("recipes", name)
    assert (code, err) == (0, "")
    assert max(map(len, text.splitlines())) <= 80
    recipe, said = recipes.get(name), " ".join(text.split())
    parts = recipe.summary, recipe.published, recipe.ours, recipe.source, recipe.dataset
    for part in (*parts, f"{recipe.epochs} of batches of {recipe.batch_size}"):
        assert " ".join(part.split()) in said
    assert_refused(run("recipes", "zzz"), "`recipe` is 'zzz', which .*: see `ctep rec")


def test_version(run):
    """Oracle: the metadata of the package."""
    assert run("--version") == (0, f"ctep {metadata.version('ctep')}\n", "")


def test_evaluate(run, out):
    """Oracle: the test accuracy that the run recorded."""
    code, text, err = run("evaluate", out)
    assert (code, err) == (0, "")
    wanted = f"accuracy {100 * rows(out)[-1]['test_accuracy']:.2f} %, loss "
    assert f"digits on the test set of digits: {wanted}" in text
    assert "unsettled 0.00 % of 360 examples" in text
    *_, last = text.split("they were given:\n")
    table = [[int(n) for n in line.split()[1:]] for line in last.splitlines()]
    assert table[0] == list(range(10))
    assert np.sum(table[1:]) == 360
    right = round(360 * rows(out)[-1]["test_accuracy"])
    assert np.trace(np.array(table[1:])) == right


@pytest.fixture(scope="module")
def mine(tmp_path_factory):
    """The folder of a run of `ctep.fit`: a network, a solver, a nudge of one's own."""
    out = tmp_path_factory.mktemp("own") / "mine"
    network = ctep.mlp((64, 12, 8, 10), feedback=0.2, key=jax.random.key(0))
    result = ctep.fit(
        network,
        "digits",
        nudge=ctep.OutputError() + ctep.linear(0.1, 3) * ctep.LocalError((1,)),
        solver=ctep.Sweeps(50, order=ctep.Forward()),
        pipeline=ctep.data.Pipeline(mean=0.3, std=0.5),
        epochs=1,
        out=out,
        probe=0,
        progress=False,
    )
    return out, result


def test_a_network_of_ones_own_is_evaluated(run, mine, monkeypatch):
    """Oracle: the accuracy that its run recorded, and its weights."""
    out, result = mine
    code, text, err = run("evaluate", out)
    assert (code, err) == (0, "")
    accuracy = f"accuracy {100 * result.history[-1]['test_accuracy']:.2f} %"
    assert f"mine on the test set of digits: {accuracy}" in text
    given = {}

    def report(network, x, y, folder, **how):
        given.update(how, network=network, x=x)

    monkeypatch.setattr(cli, "report", report)
    code, text, err = run("analyse", out, "--examples", 3)
    assert (code, err) == (0, "")
    assert eqx.tree_equal(given["network"], result.network)
    assert eqx.tree_equal(given["nudge"], result.nudge)
    assert given["rule"] == ctep.OneSided()
    digits = ctep.data.load("digits").x_test[:3].reshape(3, 64)
    np.testing.assert_allclose(given["x"], (digits - 0.3) / 0.5, rtol=1e-5)
    assert [record["epoch"] for record in given["history"]] == [1]


def test_arrays_are_not_kept(run, mine, tmp_path):
    """And a rule of one's own, or a recipe's run with another rule, is as good."""
    out = shutil.copytree(mine[0], tmp_path / "copy")
    who = json.loads((out / "run.json").read_text())
    changes = {"dataset": "arrays, 9 training examples"}
    (out / "run.json").write_text(json.dumps(who | changes))
    wanted = "trained on arrays in memory that no run keeps: pass .* in Python"
    assert_refused(run("evaluate", out), wanted)
    assert run("evaluate", out, "--dataset", "digits")[0] == 0
    changes = {"recipe": "digits", "rule_name": "Centered"}
    (out / "run.json").write_text(json.dumps(who | changes))
    assert run("evaluate", out)[0] == 0


def test_analyse_takes_the_run_as_it_was(run, out, tmp_path, monkeypatch):
    """Oracle: the checkpoint's weights, the test set and the history of the run."""
    given = {}

    def report(network, x, y, folder, **how):
        given.update(how, network=network, x=x, y=y, folder=folder)

    monkeypatch.setattr(cli, "report", report)
    code, said, _ = run("analyse", out, "--examples", "4")
    assert code == 0
    assert f"Figures and numbers are in {out / 'analysis'}" in said
    assert given["folder"] == out / "analysis"
    digits = ctep.data.load("digits")
    np.testing.assert_allclose(given["x"], digits.x_test[:4].reshape(4, 64), rtol=1e-6)
    np.testing.assert_array_equal(given["y"], digits.y_test[:4])
    assert [record["epoch"] for record in given["history"]] == [1]
    fresh, how = recipes.get("digits").setup(digits, seed=0, epochs=1)
    trained, _ = ctep.restore(out, fresh, optimizer=how["optimizer"])
    same = jax.tree_util.tree_map(np.array_equal, given["network"], trained)
    assert all(jax.tree_util.tree_leaves(same))
    code, _, err = run("analyse", out, "--examples", "0")
    assert (code, "`--examples` is 0" in err) == (2, True)
    run("analyse", out, "--out", tmp_path / "elsewhere")
    assert given["folder"] == tmp_path / "elsewhere"


@matrix.campaign
def test_evaluate_knows_recipe_dataset_and_seed(run, tmp_path):
    """A recipe of another dataset; the figure is that of the run again."""
    out = tmp_path / "run"
    options = ["--dataset", "digits", "--seed", 5, "--epochs", 1, "--out", out]
    code, text, err = run("fit", "fre-2x512", *options)
    assert code == 0, err
    assert "Published: nothing of this run, with other dataset, epochs." in text
    assert "98.30" not in text
    assert "tanh(W0_1 x + 0.01 W1_2' s2)" in text
    text = run("evaluate", out)[1]
    accuracy = f"accuracy {100 * rows(out)[-1]['test_accuracy']:.2f} %"
    assert f"fre-2x512 on the test set of digits: {accuracy}" in text


@matrix.campaign
def test_numbers_of_a_recipe_are_changed_and_restored(run, tmp_path):
    """Oracle: `setup`'s own rule, solver and network, and the run's last accuracy."""
    out = tmp_path / "run"
    options = ["--beta", 0.02, "--rate", 3e-3, "--solver-tol", 0.01, "--feedback", 0.2]
    options += ["--batch-size", 200, "--validation", 0.2, "--epochs", 1, "--out", out]
    code, text, err = run("fit", *options)
    assert code == 0, err
    changed = "epochs, feedback, beta, rate, solver_tol, batch_size, validation"
    assert f"not the recipe itself, but with other {changed}" in text
    assert "0.2 W1_2' s2" in text
    found = recipes.restore(out)
    assert found.options["rule"] == dataclasses.replace(
        recipes.get("digits").rule, beta=0.02
    )
    assert found.options["solver"].rtol == found.options["solver"].atol == 0.01
    assert (found.options["batch_size"], found.options["validation"]) == (200, 0.2)
    accuracy = f"accuracy {100 * rows(out)[-1]['test_accuracy']:.2f} %"
    assert accuracy in run("evaluate", out)[1]
    options[1] = 0.03
    match = "holds a run with changes.beta = 0.02, not 0.03: name another `--out`"
    assert_refused(run("fit", *options, "--resume"), match)
    who = json.loads((out / "run.json").read_text())
    (out / "run.json").write_text(json.dumps(who | {"changes": {"dropout": 1}}))
    assert_refused(run("evaluate", out), r"run\.json names no recipe and seed")


@matrix.campaign
def test_a_narrower_run_says_so(run, tmp_path):
    """And is evaluated as it was trained: narrower, with rounded products."""
    out = tmp_path / "run"
    options = ["--epochs", 1, "--scale", 0.25, "--precision", "bfloat16", "--out", out]
    code, text, err = run("fit", "digits", *options)
    assert code == 0, err
    assert "not the recipe itself, but with other scale, precision, epochs" in text
    who = json.loads((out / "run.json").read_text())
    assert (who["scale"], who["precision"]) == (0.25, "bfloat16")
    code, text, err = run("evaluate", out)
    assert code == 0, err
    assert f"accuracy {100 * rows(out)[-1]['test_accuracy']:.2f} %" in text


# ---------------------------------------------------------------- bad input


def assert_refused(answer, match):
    """Exit code 2 and one sentence on stderr, of ours or of the option parser."""
    code, _, err = answer
    assert code == 2
    assert "Traceback" not in err
    sentence = " ".join(re.sub("[╭╮╰╯│─]", " ", err).split())
    assert re.search(match, sentence), sentence
    if err.startswith("error: "):
        assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("args", "match"),
    [
        (["fit", "fre-2x51"], r"`recipe` is 'fre-2x51'.*did you mean fre-2x512 or"),
        (["fit", "--dataset", "digitz"], "got 'digitz'; did you mean 'digits'"),
        (["fit", "--dataset", "mnits"], "got 'mnits'; did you mean 'mnist'"),
        (["fit", "--dataset", "a b"], "must be a name such as 'mnist', not a path"),
        (["fit", "--epochz", "1"], "No such option: --epochz.*--epochs"),
        (["fitt"], "No such command 'fitt'.*'fit'"),
        (["fit", "--epochs", "0"], "`--epochs` is 0, but .*: pass for example `10`"),
        (["fit", "--epochs", "-3"], "`--epochs` is -3, but must be a whole number of"),
        (["fit", "--rate", "-1"], "`--rate` is -1.0, but must be positive and finite"),
        (["fit", "--beta", "nan"], "`--beta` is nan, but must be positive and finite"),
        (["fit", "--solver-tol", "0"], "`--solver-tol` is 0.0, but must be positive"),
        (["fit", "--feedback", "inf"], "`--feedback` is inf, but must be positive"),
        (["fit", "--batch-size", "0"], "`--batch-size` is 0, but must be a whole numb"),
        (
            ["fit", "--validation", "2"],
            "`--validation` is 2.0, but a fraction",
        ),
        (["fit", "--rule", "backprop", "--beta", "1"], "`--beta` is 1.0, but Backprop"),
        (["fit", "--epochs", "many"], "'--epochs': .*integer"),
        (["fit", "--seed", str(2**70)], "seed"),
        (["fit", "--resume"], "`--resume` is True but `--out` is None: pass the fold"),
        (["fit", "--out", "nowhere", "--resume"], "nowhere. holds no `run.json`: corr"),
        (["evaluate", "nowhere"], r"`run` is nowhere, which holds no run\.json: pass"),
        (["evaluate"], "Missing argument 'run'"),
    ],
)
def test_bad_input_is_one_sentence(run, tmp_path, monkeypatch, args, match):
    """Nothing is trained, and nothing is left behind."""
    monkeypatch.chdir(tmp_path)
    assert_refused(run(*args), f"(?i){match}")
    assert not (tmp_path / "nowhere").exists()


def test_what_is_printed_cannot_command_the_terminal(run):
    """Escape sequences in a recipe's name, a dataset's and a folder's."""
    bell = "\x1b]0;owned\x07"
    for args in (("fit", bell), ("fit", "--dataset", bell), ("evaluate", bell)):
        code, out, err = run(*args)
        assert code == 2
        assert "\x1b" not in out + err
        assert "\\x1b" in err


def test_unprepared_dataset(run, monkeypatch):
    """What to install, or where to point the variable."""
    monkeypatch.setattr(images.importlib.util, "find_spec", lambda name: None)
    assert_refused(
        run("fit", "fre-2x512"),
        "'mnist', which is not prepared in .*tfds, and TensorFlow is not installed; "
        "point .*TFDS_DATA_DIR.* `pip install tensorflow`",
    )


def test_out_of_another_run(run, out, tmp_path):
    """It names what differs, or asks for `--resume`; no file changes."""
    before = {path: path.read_bytes() for path in out.iterdir()}
    again = run("fit", "--epochs", 1, "--out", out)
    assert_refused(again, "already holds this run: pass `--resume`")
    other = run("fit", "--out", out, "--seed", 1, "--epochs", 1)
    assert_refused(other, "holds a run with seed = 0, not 1: name another `--out`")
    longer = run("fit", "--out", out, "--epochs", 3, "--resume")
    begun = r"a run that was begun with \d epochs?, which its learning rate follows"
    assert_refused(
        longer, f"{begun} .*decay_steps = .*: pass `--epochs .` to go on, or"
    )
    resumed = run("fit", "fre-2x512", "--dataset", "digits", "--out", out, "--resume")
    assert_refused(resumed, "holds a run with .* = .*, not ")
    file = tmp_path / "file"
    file.touch()
    assert_refused(run("fit", "--out", file), "`--out` is the file .*file, so name")
    assert {path: path.read_bytes() for path in out.iterdir()} == before


def test_evaluate_refuses_what_it_cannot_build(run, out):
    """Damaged checkpoints, a damaged description, an unknown recipe."""
    names = [path for path in out.iterdir() if path.suffix == ".ctep"]
    for path in names:
        path.write_bytes(path.read_bytes()[:100])
    assert_refused(run("evaluate", out), "too short for one.* restore a copy or train")
    who = json.loads((out / "run.json").read_text())
    for change, match in (
        ({"recipe": "digitz"}, "`recipe` is 'digitz'.*did you mean digits"),
        ({"seed": None}, r"run\.json names no recipe and seed.*`ctep\.restore`"),
    ):
        (out / "run.json").write_text(json.dumps(who | change))
        assert_refused(run("evaluate", out), match)
    for text in ("", "[]", "[" * 10**5):
        (out / "run.json").write_text(text)
        assert_refused(run("evaluate", out), r"run\.json is no JSON object")
    (out / "run.json").write_text("{}")
    assert_refused(run("evaluate", out), r"run\.json does not describe the network")


# ------------------------------------------------------------ teachers, other rules


@pytest.fixture
def pupil(monkeypatch):
    """Recipes on the digits: a pupil, and the master that teaches it for an epoch."""

    def nudge(epochs, teacher):
        return ctep.OutputError() + 0.5 * ctep.Distillation(teacher, ((2, 2),))

    # One object, at a rate that any number of epochs has.
    adam = optax.adam(2e-3)
    digits = dataclasses.replace(
        recipes.RECIPES["digits"], optimizer=lambda epochs, steps: adam
    )
    master = {"name": "master", "rule": ctep.Backprop(), "epochs": 1}
    pupil = {"name": "pupil", "nudge": nudge, "teacher": "master"}
    for changes in (master, pupil):
        changed = dataclasses.replace(digits, **changes)
        monkeypatch.setitem(recipes.RECIPES, changes["name"], changed)


@matrix.campaign
@pytest.mark.usefixtures("pupil")
def test_a_teacher_is_trained_once_and_kept(run, tmp_path):
    """The second pupil finds the master of the first one, and learns the same."""
    out, kept = tmp_path / "run", tmp_path / "run-teacher"
    command = ("fit", "pupil", "--epochs", 1, "--out", out)
    code, said, _ = run(*command)
    assert code == 0
    assert f"teacher: master, to be trained in {kept}" in said
    assert len(rows(kept)) == len(rows(out)) == 1
    loss, before = rows(out)[0]["loss"], contents(kept)
    shutil.rmtree(out)
    code, said, _ = run(*command)
    assert code == 0
    assert f"teacher: master, found in {kept}" in said
    assert contents(kept) == before
    assert rows(out)[0]["loss"] == loss
    assert run("evaluate", out)[0] == 0


@matrix.campaign
@pytest.mark.usefixtures("pupil")
def test_a_teacher_is_trained_from_python(tmp_path):
    """Oracle: `ctep.fit` of one and of the other; both are found again."""
    out, kept = tmp_path / "run", tmp_path / "run-teacher"
    options = {"epochs": 1, "scale": 0.1, "out": out, "progress": False}
    found = recipes.train("pupil", **options)
    before, digits, teacher = contents(kept), ctep.data.load("digits"), None
    for name in ("master", "pupil"):
        network, how = recipes.get(name).setup(
            digits, epochs=1, scale=0.1, teacher=teacher
        )
        result = ctep.fit(network, digits, **how, progress=False)
        teacher = result.network
    assert eqx.tree_equal(found.network, result.network)
    alone = recipes.train("pupil", teacher=found.network, **options | {"out": None})
    assert alone.history[0]["loss"] != found.history[0]["loss"]
    more = recipes.train("pupil", **options | {"epochs": 2, "resume": True})
    assert more.history[:1] == found.history
    assert len(more.history) == 2
    assert contents(kept) == before


@matrix.campaign
@pytest.mark.usefixtures("pupil")
def test_an_interrupted_teacher_goes_on(run, tmp_path, monkeypatch):
    """Its result comes back, nothing else is trained, and the command is the same."""
    out, kept = tmp_path / "run", tmp_path / "run-teacher"
    words = ("--epochs", 1, "--scale", 0.1, "--out", out)
    with monkeypatch.context() as patch:
        interrupt(patch, signal.SIGTERM)
        result = recipes.train(
            "pupil", epochs=1, scale=0.1, out=out, catch_signals=True
        )
        code, text, _ = run("fit", "pupil", *words)
    assert (result.status, result.out, code) == ("interrupted", kept, 143)
    command = shlex.split(text.splitlines()[-1].removeprefix("Continue with: "))
    assert command == ["ctep", "fit", "pupil", *map(str, words)]
    assert not out.exists()
    code, _, err = run(*command[1:])
    assert code == 0, err
    assert len(rows(kept)) == len(rows(out)) == 1


@matrix.campaign
@pytest.mark.parametrize("rule", ["alignment", "backprop"])
def test_other_rules_train_the_twin(run, rule, tmp_path):
    """The twin is at rest after one sweep, and nothing is nudged."""
    out = tmp_path / "run"
    words = ("fit", "fre-5x64-asymmetric", "--dataset", "digits", "--epochs", 1)
    assert run(*words, "--rule", rule, "--out", out)[0] == 0
    assert rows(out)[0]["sweeps"] == 1
    assert run("evaluate", out)[0] == 0


def test_the_twin_is_the_network_that_is_shown(run, monkeypatch):
    """Oracle: the equation of a layer, without what came back to it."""
    said = []

    def fit(*args, progress, **options):
        said.append(progress)
        raise ValueError("`out` is enough.")

    monkeypatch.setattr("ctep.recipes.run.fit", fit)
    run("fit")
    run("fit", "--rule", "backprop")
    settling, twin = said
    assert "s1     = tanh(W0_1 x + 0.1 W1_2' s2 + b1)" in settling
    assert "s1     = tanh(W0_1 x + b1)" in twin


def test_alignment_needs_fixed_feedback(run):
    code, _, err = run("fit", "--rule", "alignment")
    assert code == 2
    assert "feedback alignment needs fixed weights" in err
