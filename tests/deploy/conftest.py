"""The container images, built once, and stand-ins for those of other projects."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
STAND_INS = Path(__file__).resolve().parent / "stand_ins"
COMPOSE = ROOT / "deploy" / "compose" / "compose.yaml"
OURS = ("server", "worker", "gateway")


def podman(*words: str | Path, check: bool = True) -> str:
    """Returns what a command of podman prints on standard output.

    What it says on standard error is of no use to a test: without systemd, podman complains about
    each health check, which a test runs itself.
    """
    done = subprocess.run(["podman", *words], check=False, capture_output=True, text=True)
    assert done.returncode == 0 or not check, done.stderr
    return done.stdout.strip()


@pytest.fixture(scope="session")
def images() -> dict[str, str]:
    """The names of our images, by target."""
    if not shutil.which("podman"):
        pytest.skip("podman is not installed")
    environment = {**os.environ, "ENGINE": "podman", "BUILD_OPTIONS": "--network host"}
    venv = Path(sys.executable).parent.parent
    built = subprocess.run(
        [ROOT / "tools" / "images.sh", venv], env=environment, check=True, stdout=subprocess.PIPE
    )
    return dict(zip(OURS, sorted(built.stdout.decode().split(), key=_order), strict=True))


def _order(name: str) -> int:
    return OURS.index(name.rpartition("/")[2].partition(":")[0])


@pytest.fixture(scope="session")
def others() -> Iterator[None]:
    """The images of other projects that compose needs.

    Those that are missing are made from Debian's packages, under the same names, and removed
    afterwards unless KEEP_STAND_INS is set: nobody should take them for the real ones.
    """
    made = []
    for name in {
        service["image"] for service in yaml.safe_load(COMPOSE.read_text())["services"].values()
    }:
        file = STAND_INS / f"{name.rpartition('/')[2].partition(':')[0]}.Dockerfile"
        exists = subprocess.run(["podman", "image", "exists", name], check=False).returncode == 0
        if exists or not file.exists():
            continue
        podman("build", "--quiet", "--network", "host", "--file", file, "--tag", name, STAND_INS)
        made.append(name)
    yield
    if made and not os.environ.get("KEEP_STAND_INS"):
        podman("rmi", "--force", *made)
