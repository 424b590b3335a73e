"""The command as a process: its exit status, and what it prints when it cannot go on."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.up import COMMAND, command, environment


def test_a_full_disk_is_a_sentence():
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [*COMMAND, "failpoints"], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert done.returncode == 1
    assert done.stderr == "Cannot go on: No space left on device.\n"


def test_a_reader_that_has_seen_enough_ends_the_command_quietly():
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [*COMMAND, "failpoints"], stdout=writer, stderr=subprocess.PIPE, text=True, check=False
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (1, "")


def test_a_file_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "data").write_text("")
    # Not the default port: an installation may run beside the tests.
    done = command("up", "--port", "39871", "--data", tmp_path / "data")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert str(tmp_path / "data") in done.stderr.replace("\n", "")


def test_a_bug_shows_its_traceback_and_asks_for_a_report():
    program = """
import sys
from image_categorizer_server import cli

@cli.app.command()
def broken():
    return {}["of our own"]

sys.argv[1:] = ["broken"]
cli.main()
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert "KeyError: 'of our own'" in done.stderr
    assert "This is a bug in image-categorizer" in done.stderr
    assert "Please report it" in done.stderr


def test_nothing_is_imported_before_ctrl_c_has_its_handler():
    code = "import sys; before = set(sys.modules); import image_categorizer_server.__main__;"
    code += "print(*sorted(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["image_categorizer_server", "image_categorizer_server.__main__"]


def test_help_hides_what_only_tests_need():
    shown = command("--help").stdout
    assert "failpoints" not in shown
    assert "--install-completion" in shown
    assert "--show-completion" in shown
    assert command("failpoints").returncode == 0


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_complete_commands(shell):
    words = {
        "_IMAGE_CATEGORIZER_COMPLETE": f"complete_{shell}",
        "COMP_WORDS": "image-categorizer ba",
        "COMP_CWORD": "1",
        "_TYPER_COMPLETE_ARGS": "image-categorizer ba",
        "_TYPER_COMPLETE_FISH_ACTION": "get-args",
    }
    code = "import sys; sys.argv[0] = 'image-categorizer';"
    code += "from image_categorizer_server.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment(**words),
        capture_output=True,
        text=True,
        check=False,
    )
    assert "batch" in done.stdout, done.stderr
    assert "classify" not in done.stdout
