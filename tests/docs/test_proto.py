"""`proto/` alone is enough for a client author."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.pages import ROOT

NODE_MODULES = ROOT / ".build" / "node" / "node_modules"
LOAD = """
const loader = require("@grpc/proto-loader");
for (const file of process.argv.slice(1)) loader.loadSync(file, { includeDirs: ["."] });
"""


@pytest.fixture
def proto(tmp_path) -> Path:
    """A copy of `proto/`, with nothing around it."""
    return Path(shutil.copytree(ROOT / "proto", tmp_path / "proto"))


def run(folder: Path, *command: str, **variables: str) -> None:
    ended = subprocess.run(
        command, cwd=folder, env=variables or None, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr


def files(proto: Path) -> list[str]:
    return sorted(str(file.relative_to(proto)) for file in proto.rglob("*.proto"))


def test_protoc_compiles_every_file(proto):
    protoc = [sys.executable, "-m", "grpc_tools.protoc", "-I.", "--descriptor_set_out=all.binpb"]
    run(proto, *protoc, *files(proto))


def test_buf_builds_it(proto):
    run(proto, str(Path(sys.executable).with_name("buf")), "build")


def test_the_loader_of_node_reads_every_file(proto):
    node = shutil.which("node")
    if node is None or not NODE_MODULES.exists():
        pytest.skip(
            "needs Node.js and `npm install --prefix .build/node @grpc/grpc-js @grpc/proto-loader`"
        )
    run(proto, node, "-e", LOAD, *files(proto), NODE_PATH=str(NODE_MODULES))
