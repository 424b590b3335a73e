"""Commands without a running installation."""

import sys

import pytest
from image_categorizer_server.cli import app
from image_categorizer_server.failpoints import NAMES
from typer.main import get_command


def test_failpoints_are_listed_with_their_moments(run):
    lines = run("failpoints").out.splitlines()
    assert [line.split()[0] for line in lines] == list(NAMES)
    assert all(line.endswith(moment) for line, moment in zip(lines, NAMES.values(), strict=True))


def test_up_without_its_packages_names_what_to_install(run, monkeypatch):
    monkeypatch.setitem(sys.modules, "image_categorizer_server.local.up", None)
    done = run("up")
    assert (done.status, done.out) == (1, "")
    assert "pip install 'image-categorizer-server[embedded]'" in done.err


def test_the_version_is_printed(run):
    done = run("--version")
    assert (done.status, done.out.count(".")) == (0, 2)


def commands_of(group) -> list[list[str]]:
    """Returns the words of each command, those of subcommands included."""
    found = []
    for name, command in group.commands.items():
        deeper = commands_of(command) if hasattr(command, "commands") else [[]]
        found += [[name, *words] for words in deeper]
    return found


COMMANDS = commands_of(get_command(app))


def test_all_commands_are_known():
    assert len(COMMANDS) == len(set(map(tuple, COMMANDS))) > 20


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_every_command_explains_itself(run, words):
    done = run(*words, "--help")
    assert done.status == 0
    assert "Usage" in done.out
    assert done.err == ""


@pytest.mark.parametrize(
    "words", [[], ["nope"], ["models", "nope"], ["up", "--port", "0"], ["batch", "submit"]]
)
def test_wrong_usage_exits_with_2(run, words):
    assert run(*words).status == 2
