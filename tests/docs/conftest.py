"""An installation in whose folder the commands of the pages run as they stand."""

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.docs import pages
from tests.docs.pages import ROOT, Block
from tests.support.colour_model import GREENISH, write_colour_model, write_colours
from tests.support.tiny_model import write_tiny_model
from tests.support.tiny_onnx import TinyGraph, write_tiny_onnx
from tests.support.up import Up, environment, free_port

BLOCK_S = 90
# curl ends with 0 whatever the server answers; here a refused request is to fail its block.
CURLRC = "fail-with-body\nsilent\nshow-error\n"
LINKED = ("clients", "examples", "gateway", "proto", ".build")


@dataclass
class Terminal:
    """A reader's terminal: variables of one block are there in the next."""

    folder: Path
    addresses: dict[str, str]
    """What the pages say, and what it is here."""
    variables: dict[str, str] = field(default_factory=dict)

    def here(self, text: str) -> str:
        """Returns the text with the addresses of this installation."""
        for said, meant in self.addresses.items():
            text = text.replace(said, meant)
        return text

    def run(self, block: Block) -> None:
        """Runs a block of shell commands; the first that fails ends it."""
        state = self.folder / "variables"
        script = f"set -aeuo pipefail\n{self.here(block.text)}\nset +a\nenv -0 > {state}\n"
        ended = subprocess.run(
            ["bash", "-c", script],
            cwd=self.folder,
            env=self.variables,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=BLOCK_S,
            check=False,
        )
        where = f"{block.page}:{block.line}"
        assert ended.returncode == 0, f"{where}\n{block.text}\n{ended.stdout}\n{ended.stderr}"
        entries = state.read_text().rstrip("\0").split("\0")
        self.variables = dict(entry.split("=", 1) for entry in entries)


@pytest.fixture(scope="session")
def reader(clean_environment, tmp_path_factory) -> Iterator[Terminal]:
    """The terminal after the quick start, beside a running installation."""
    folder = tmp_path_factory.mktemp("reader")
    port, receiver_port = free_port(), free_port()
    for name in LINKED:
        if (ROOT / name).exists():
            (folder / name).symlink_to(ROOT / name)
    (folder / ".venv").symlink_to(sys.prefix)
    (folder / ".curlrc").write_text(CURLRC)
    write_tiny_model(folder / "my-model", ["rose", "tulip"])
    write_tiny_model(folder / "my-better-model", ["rose", "tulip"], seed=1)
    shape = ("n", 3, 224, 224)
    write_tiny_onnx(folder, ["robin", "wren", "owl"], TinyGraph(shape=shape), name="birds.onnx")
    fruit = ["tomato", "lime", "plum"]
    write_colour_model(folder / "fruit-model", fruit)
    write_colour_model(folder / "better-fruit-model", fruit, GREENISH)
    write_colours(
        folder / "fruit",
        {"tomato": ["tomato"] * 4, "lime": ["lime", "lime", "lime", "teal"], "plum": ["plum"] * 4},
    )
    variables = {
        "CATEGORIZER_FETCH__ALLOW_HTTP": "true",
        "CATEGORIZER_FETCH__ALLOWED_PORTS": f"[{receiver_port}]",
        "CATEGORIZER_FETCH__ALLOWED_NETWORKS": '["127.0.0.1/32"]',
        "CATEGORIZER_MODELS__SCAN_INTERVAL_S": "0.5",
        "CATEGORIZER_QUOTA__KEY_REQUESTS_PER_S": "1000",  # more than any page asks for
    }
    up = Up(folder / ".data", port, variables)
    up.start()
    addresses = {"localhost:8080": f"localhost:{port}"}
    for said in ("127.0.0.1:{}", "--port {}"):
        addresses[said.format(9000)] = said.format(receiver_port)
    terminal = Terminal(folder, addresses, environment(CURL_HOME=str(folder)))
    for block in pages.blocks("README.md"):
        if block.section == "Quick start" and block.is_command:
            terminal.run(block)
    yield terminal
    assert up.stop() == 0
