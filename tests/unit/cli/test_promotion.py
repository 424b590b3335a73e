"""models policy and models check, and what they mean for models alias."""

import json
import shutil

import pytest

from tests.support.colour_model import write_colours
from tests.unit.cli.test_evaluate import checked, models, pictures  # noqa: F401 - fixtures


@pytest.fixture
def commands(models, run, pictures):  # noqa: F811
    """Runs `models` commands. Version 1 has 6 of 8 pictures right, version 2 has 5."""
    return lambda *words: run("models", *words)


@pytest.fixture
def given(pictures):  # noqa: F811
    """The words that set a policy."""
    return ("policy", "mine", "--dataset", pictures)


def listed(commands):
    return [
        model["promotion"]
        for model in json.loads(commands("list", "--json").out)
        if model["name"] == "mine"
    ]


def test_a_version_is_checked_and_stable_moves_to_it(commands, given, tmp_path):
    assert listed(commands) == ["", ""]
    done = commands(*given, "--min-accuracy", 0.7)
    assert (done.status, "moves only to versions that pass" in done.err) == (0, True), done.err
    refused = commands("alias", "mine", "stable", 1)
    assert refused.status == 1
    assert "version 1 of model 'mine' has not passed the promotion policy: it was" in refused.err
    assert listed(commands) == ["not checked", "not checked"]
    report = tmp_path / "check.html"
    passed = commands("check", "mine", 1, "--html", report)
    assert (passed.status, "mine 1 has 6 of 8 pictures right." in passed.err) == (0, True)
    assert "lime/1-teal.png" in "".join(checked(report).texts)
    failed = commands("check", "mine")  # the newest
    assert failed.status == 1
    assert (
        "mine 2 does not pass: it has 5 of 8 pictures right, 62.5%, less than 70.0%" in failed.err
    )
    assert listed(commands) == ["passed", "not passed"]
    assert commands("alias", "mine", "stable", 1).status == 0
    assert commands("alias", "mine", "stable", 2).status == 1
    assert commands("alias", "mine", "canary", 2).status == 0
    removed = commands("alias", "mine", "stable", "--remove")
    assert (removed.status, "its newest version would answer" in removed.err) == (1, True)
    assert commands("policy", "mine", "--remove").status == 0
    assert commands("alias", "mine", "stable", 2).status == 0


def test_flips_are_counted_by_category_against_stable(commands, given, tmp_path):
    assert commands("alias", "mine", "stable", 1).status == 0
    assert commands(*given, "--min-accuracy", 0, "--max-flips-per-category", 1).status == 0
    report = tmp_path / "check.html"
    failed = commands("check", "mine", 2, "--html", report)
    assert failed.status == 1
    assert "5 of 8 pictures right, and 2 wrong that mine 1 has right." in failed.err
    assert "2 pictures of 'plum' wrong that version 1 has right, more than 1" in failed.err
    assert "plum/1-teal.png" in "".join(checked(report).texts)
    assert commands(*given, "--min-accuracy", 0, "--max-flips-per-category", 2).status == 0
    assert commands("check", "mine", 2).status == 0
    assert commands("alias", "mine", "stable", 2).status == 0


def test_a_check_needs_no_stable_whose_files_are_gone(commands, given, models):  # noqa: F811
    assert commands("alias", "mine", "stable", 1).status == 0
    commands(*given, "--min-accuracy", 0, "--max-flips-per-category", 0)
    shutil.rmtree(models.find("mine", "1").folder)
    done = commands("check", "mine", 2)
    assert (done.status, "It passes" in done.err) == (0, True), done.err
    assert commands("alias", "mine", "stable", 2).status == 0


def test_a_policy_is_shown(commands, given, pictures):  # noqa: F811
    none = commands("policy", "mine")
    assert (none.status, "has no promotion policy. Set one" in none.err) == (1, True)
    commands(*given, "--min-accuracy", 0.7, "--max-flips-per-category", 3)
    commands("check", "mine", 1)
    shown = commands("policy", "mine").out
    for words in (str(pictures), "70.0%", "at most 3", "6 of 8", "no: it was not checked"):
        assert words in shown
    found = json.loads(commands("policy", "mine", "--json").out)
    assert found["policy"]["min_accuracy"] == 0.7
    assert [(v["version"], v["passed"]) for v in found["versions"]] == [(1, True), (2, False)]
    assert found["versions"][0]["check"]["right"] == 6
    assert found["versions"][1]["check"] is None


def test_a_category_that_the_version_lacks_counts_as_wrong(commands, pictures):  # noqa: F811
    write_colours(pictures, {"kiwi": ["lime"] * 2})
    commands("policy", "mine", "--dataset", pictures, "--min-accuracy", 0.7)
    failed = commands("check", "mine", 1)
    assert (failed.status, "6 of 10 pictures right, 60.0%" in failed.err) == (1, True), failed.err


def test_pictures_that_have_changed_since_the_policy_was_set_are_refused(
    commands,
    given,
    pictures,  # noqa: F811
):
    commands(*given, "--min-accuracy", 0.7)
    (pictures / "tomato" / "2-lime.png").unlink()
    done = commands("check", "mine", 1)
    assert (done.status, "have changed since the policy was set" in done.err) == (1, True)
    assert "was not checked" in commands("alias", "mine", "stable", 1).err


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (["--min-accuracy", "0.5"], 2, "a policy needs both"),
        (["--dataset", "set"], 2, "a policy needs both"),
        (["--max-flips-per-category", "1"], 2, "a policy needs both"),
        (["--remove", "--min-accuracy", "0.5"], 2, "cannot be combined"),
        (["--dataset", "set", "--min-accuracy", "90"], 2, "0<=x<=1"),
        (["--dataset", "empty", "--min-accuracy", "0.5"], 1, "has no labelled pictures"),
        (["--dataset", "nowhere", "--min-accuracy", "0.5"], 1, "Cannot read nowhere"),
    ],
)
def test_an_incomplete_policy_is_refused(commands, tmp_path, words, status, message):
    (tmp_path / "empty").mkdir()
    done = commands("policy", "mine", *words)
    assert (done.status, message in done.err) == (status, True), done.err


def test_a_model_that_does_not_exist_has_no_policy(commands):
    for words in (["policy", "none"], ["check", "none"], ["check", "mine", "9"]):
        done = commands(*words)
        assert (done.status, "There is no model" in done.err) == (1, True)
