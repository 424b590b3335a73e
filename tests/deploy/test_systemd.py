"""`deploy/systemd`: the services are what systemd understands, and name commands that exist."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from image_categorizer_server.cli.commands import COMMANDS
from image_categorizer_server.settings import variable_names

from tests.deploy.conftest import ROOT

UNITS = sorted((ROOT / "deploy" / "systemd").glob("image-categorizer-*"))
PROGRAM = "/opt/image-categorizer/bin/image-categorizer"


def test_systemd_accepts_the_services(tmp_path):
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("systemd is not installed")
    # It looks whether the program is there, too.
    for unit in UNITS:
        (tmp_path / unit.name).write_text(unit.read_text().replace(PROGRAM, "/bin/true"))
    units = [tmp_path / unit.name for unit in UNITS]
    done = subprocess.run(
        [program, "verify", "--man=no", *units], check=False, capture_output=True, text=True
    )
    about_ours = [line for line in done.stderr.splitlines() if "image-categorizer" in line]
    assert about_ours == []


@pytest.mark.parametrize("unit", [unit for unit in UNITS if unit.suffix == ".service"], ids=str)
def test_services_run_commands_that_exist_with_settings_that_exist(unit):
    text = unit.read_text()
    commands = re.findall(rf"{PROGRAM} ([a-z-]+)", text)
    assert commands
    assert set(commands) <= set(COMMANDS)
    assert set(re.findall(r"^Environment=(CATEGORIZER_\w+)=", text, re.MULTILINE)) <= set(
        variable_names().values()
    )


def test_the_example_of_settings_has_settings_that_exist():
    lines = Path(UNITS[0].parent / "environment").read_text().splitlines()
    names = {line.partition("=")[0] for line in lines if not line.startswith("#")}
    assert names <= set(variable_names().values())
