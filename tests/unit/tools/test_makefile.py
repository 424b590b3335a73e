"""What `make` installs, and when: with a Python that notes how it is called."""

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
PYTHON = """#!/bin/sh
echo "$@" >> "{log}"
if [ "$2" = venv ]; then
  mkdir -p "$3/bin" && cp "$0" "$3/bin/python" && cp "$0" "$3/bin/image-categorizer"
fi
if [ "$1" = tools/docs.py ]; then
  mkdir -p "$2/docs" && touch "$2/docs/index.html"
fi
"""


@pytest.fixture
def make(tmp_path):
    """Runs `make` for a virtual environment that does not exist yet; returns what Python ran."""
    log, python = tmp_path / "log", tmp_path / "python"
    python.write_text(PYTHON.format(log=log))
    python.chmod(0o755)
    # The variables of the `make` that runs the tests.
    inherited = ("MAKEFLAGS", "MAKEOVERRIDES", "MFLAGS", "MAKELEVEL")
    environment = {name: value for name, value in os.environ.items() if name not in inherited}

    def make(*words):
        log.write_text("")
        command = [
            "make",
            *words,
            f"VENV={tmp_path}/venv",
            f"PYTHON={python}",
            f"SITE={tmp_path}/site",
            f"DASHBOARD_SITE={tmp_path}/dashboard",
            "DASHBOARD=true",
            "JS=true",
        ]
        subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True)
        return log.read_text().splitlines()

    return make


def installed(lines):
    """The extras that were installed, one item for each time."""
    return [line.rpartition(".[")[2].rstrip("]") for line in lines if "-m pip install" in line]


def test_running_installs_only_what_running_needs(make):
    lines = make("run")
    assert lines[0].startswith("-m venv")
    assert installed(lines) == ["embedded,docs,dashboard"]
    assert lines[-1] == "up"
    assert installed(make("test")) == ["embedded,docs,dashboard,dev"]
    for target in ("run", "test", "run"):
        assert installed(make(target)) == []


def test_after_the_tests_running_installs_nothing(make):
    lines = make("test")
    assert installed(lines) == ["embedded,docs,dashboard,dev"]
    assert lines[-1].startswith("-m pytest")
    assert make("run") == ["up"]
    assert all(line.startswith("-m pytest") for line in make("test"))


@pytest.mark.parametrize("file", ["pyproject.toml", "clients/python/pyproject.toml"])
def test_changed_requirements_are_installed(make, file):
    make("test")
    assert installed(make("run", "-W", file)) == ["embedded,docs,dashboard"]
    assert installed(make("test", "-W", file)) == ["embedded,docs,dashboard,dev"]
