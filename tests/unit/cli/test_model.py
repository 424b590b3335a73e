"""The model repository by the command line."""

import json
import shutil

import pytest
from image_categorizer_server.local.installation import Installation

from tests.conftest import EXPORTS
from tests.support.tiny_model import write_tiny_model
from tests.unit.conftest import add


@pytest.fixture
def models(run, tmp_path, monkeypatch):
    """Runs `models` commands on the test's repository."""
    monkeypatch.setenv("MODEL_PATH", str(tmp_path / "models"))
    return lambda *words: run("models", *words)


def listed(models):
    return {(m["name"], m["version"]): m for m in json.loads(models("list", "--json").out)}


def test_added_versions_are_listed_and_removed(models, repository, tiny, tmp_path):
    add(repository, tiny)
    add(repository, write_tiny_model(tmp_path / "other", ["rose", "tulip"], seed=1))
    found = listed(models)
    assert found["tiny", 1]["categories"] == 3
    assert found["tiny", 2]["precision"] == "fp32"
    assert "tiny" in models("list").out
    assert models("remove", "tiny", "--version", 1).err.endswith("\nRemoved tiny, version 1.\n")
    assert ("tiny", 1) not in listed(models)


def test_verify_names_a_changed_file(models, repository, tiny, tmp_path):
    add(repository, tiny)
    assert "tiny 1: matches its manifest" in models("verify").out
    config = tmp_path / "models" / "tiny" / "1" / "config.json"
    config.write_text(config.read_text() + " ")
    done = models("verify")
    assert done.status == 1
    assert "tiny 1: config.json" in done.out
    assert "Damaged model versions: 1" in done.err


def test_damaged_versions_and_what_is_no_model_are_said_and_hide_no_others(
    models, repository, tiny, tmp_path
):
    add(repository, tiny)
    (add(repository, tiny) / "manifest.json").write_bytes(b"\xff")
    (tmp_path / "models" / "looped").symlink_to(tmp_path / "models" / "looped")
    done = models("list", "--json")
    assert [(m["name"], m["version"]) for m in json.loads(done.out)] == [
        ("efficientnet_lite0", 1),
        ("tiny", 1),
    ]
    assert "tiny version 2 cannot be used: " in done.err
    assert "models/looped: it cannot be read: Too many levels of symbolic links." in done.err
    verified = models("verify")
    assert verified.status == 1
    assert "tiny 1: matches its manifest" in verified.out
    assert "tiny 2: " in verified.out


def test_an_alias_points_to_a_version_until_removed(models, repository, tiny):
    add(repository, tiny)
    assert models("alias", "tiny", "stable", 1).err.endswith("\ntiny: stable is version 1\n")
    assert listed(models)["tiny", 1]["aliases"] == ["stable"]
    canary = models("alias", "tiny", "canary", 1, "--canary-percent", 5)
    assert canary.err.endswith("; canary gets 5 %\n")
    removed = models("alias", "tiny", "canary", "--remove")
    assert removed.err.endswith("\ntiny: stable is version 1\n")


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (["tiny", "Stable", "1"], 2, "lower-case letters"),
        (["tiny", "stable"], 2, "give either a version or --remove"),
        (["tiny", "stable", "1", "--canary-percent", "5"], 2, "applies to the alias canary"),
        (["tiny", "stable", "7"], 1, "There is no model tiny version 7"),
        (["none", "stable", "1"], 1, "There is no model none."),
    ],
)
def test_a_wrong_alias_is_refused(models, repository, tiny, words, status, message):
    add(repository, tiny)
    done = models("alias", *words)
    assert (done.status, message in done.err) == (status, True), done.err


def test_an_added_folder_is_compared_with_transformers(models, tiny, monkeypatch):
    monkeypatch.setenv("CATEGORIZER_MODELS__CACHE_PATH", str(EXPORTS))
    done = models("add", "mine", tiny, "--activation", "sigmoid")
    assert done.status == 0, done.err
    said = done.err.splitlines()
    assert said[1:3] == [
        "3 categories, input 32 x 32, sigmoid",
        next(line for line in said if line.startswith("Exported to ONNX.")),
    ]
    assert "Self-test on 7 pictures: 7 have the same first category as with transformers" in said[3]
    assert said[-1].startswith("Added mine, version 1, sha256:")
    assert ("mine", 1) in listed(models)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "preprocessor_config.json"])
def test_a_damaged_folder_is_refused_in_one_line(models, tiny, tmp_path, name):
    shutil.copytree(tiny, tmp_path / "source")
    (tmp_path / "source" / name).write_bytes(b"{")
    done = models("add", "mine", tmp_path / "source")
    assert done.status == 1
    assert "Traceback" not in done.err
    assert f"{tmp_path}/source" in done.err.splitlines()[-1]
    assert len(done.err.splitlines()) == 2
    assert ("mine", 1) not in listed(models)


def test_options_for_onnx_are_refused_for_other_models(models, tiny):
    done = models("add", "mine", tiny, "--resize", "exact")
    assert (done.status, "ONNX files only" in done.err) == (1, True)
    done = models("add", "mine", tiny, "--size", 32)
    assert (done.status, "ONNX files and detectors" in done.err) == (1, True)


def test_commands_say_which_repository_they_act_on(models, run, tmp_path, monkeypatch):
    said = models("list").err
    assert said == f"Model repository: {tmp_path}/models; servers with this MODEL_PATH read it.\n"
    monkeypatch.delenv("MODEL_PATH")
    said = run("models", "list").err
    assert said == f"Model repository: {tmp_path}/.data/models; no server is running.\n"
    installation = Installation(tmp_path / ".data")
    installation.prepare()
    with installation.locked():
        assert "the running server reads it" in run("models", "verify").err


@pytest.mark.parametrize(
    "words", [["add", "x", "folder"], ["remove", "x"], ["verify"], ["pull", "resnet50"]]
)
def test_files_of_a_server_elsewhere_are_out_of_reach(run, monkeypatch, words):
    monkeypatch.setenv("CATEGORIZER_CLIENT__BASE_URL", "https://api.example")
    done = run("models", *words)
    assert (done.status, done.out) == (1, "")
    assert "cannot reach those of the server https://api.example" in done.err
