"""The entry point of processes that end with their parent."""

import os
import pwd
import signal
import subprocess
import sys

import pytest
from image_categorizer_server.local.child import command_of


def run(parent: int, *command: str, user: str | None = None) -> subprocess.CompletedProcess[str]:
    words = command_of(parent, signal.SIGTERM, user, list(command))
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


# Another user has no rights to give away: there is nothing to test.
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_child_of_root_keeps_no_group_of_root():
    entry = pwd.getpwnam("nobody")
    print_ids = "grep -E '^(Uid|Gid|Groups):' /proc/self/status"
    shown = run(os.getpid(), "/bin/sh", "-c", print_ids, user="nobody").stdout.split("\n")
    assert [line.split() for line in shown[:3]] == [
        ["Uid:", *[str(entry.pw_uid)] * 4],
        ["Gid:", *[str(entry.pw_gid)] * 4],
        ["Groups:"],
    ]
