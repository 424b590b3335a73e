"""The entry point of processes that end with their parent."""

import os
import signal
import subprocess
import sys

from image_categorizer_server.local.child import command_of


def run(parent: int, *command: str) -> subprocess.CompletedProcess[str]:
    words = command_of(parent, signal.SIGTERM, None, list(command))
    return subprocess.run(words, check=False, capture_output=True, text=True, timeout=30)


def test_a_child_becomes_the_command():
    shown = run(os.getpid(), sys.executable, "-c", "import sys; print(sys.argv[1:])", "a b", "")
    assert (shown.returncode, shown.stdout) == (0, "['a b', '']\n")


def test_a_child_without_its_parent_does_nothing():
    shown = run(os.getpid() + 1, sys.executable, "-c", "print('started')")
    assert (shown.returncode, shown.stdout) == (1, "")


def test_a_missing_command_is_named():
    shown = run(os.getpid(), "/nowhere/redis-server")
    assert shown.returncode == 1
    assert shown.stderr == "/nowhere/redis-server: No such file or directory\n"
