"""Starts what is measured: a model, an installation, the process of the raw limit."""

import asyncio
import json
import os
import socket
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from image_categorizer_server.bench.prepare import MODEL, write_model
from image_categorizer_server.errors import OperatorError
from image_categorizer_server.inference.models.export import ensure_export
from image_categorizer_server.inference.models.manifest import read_manifest
from image_categorizer_server.inference.models.packaged import (
    NAME,
    ensure_fast_version,
    ensure_packaged,
    repository_of,
)
from image_categorizer_server.inference.models.repository import Repository
from image_categorizer_server.inference.packaging.huggingface import Labels, copy_model
from image_categorizer_server.settings import Settings

START_S = 120.0
READY_INTERVAL_S = 0.1
PROGRAM = [sys.executable, "-m", "image_categorizer_server"]
PLAIN_PILLOW = {"PLAIN_PILLOW": "1"}
"""Read by the line that `tools/simd.sh` adds to Python's path."""
Raw = Callable[[int, float], Awaitable[dict[str, float]]]
"""Measures the raw limit with a number of clients, for a number of seconds."""


@dataclass(frozen=True, slots=True)
class Packaged:
    """A version of the packaged model."""

    number: int
    precision: str
    folder: Path


async def prepare(data: Path, settings: Settings, folder: Path | None) -> tuple[Path, Path]:
    """Publishes the model to measure. Returns the folder of its version and the exported network.

    Args:
        data: data folder of the installation.
        settings: settings of the server.
        folder: a Hugging Face folder; None for MobileNetV2 with random weights.

    Raises:
        OperatorError: ONNX Runtime cannot run the model.
    """
    repository = Repository(data / "models")
    if folder is None:
        folder = data / "source"
        await asyncio.to_thread(write_model, folder)
    with repository.incoming() as incoming:
        manifest = copy_model(folder, incoming, Labels(MODEL, 1))
        model = repository.publish(incoming, manifest)
    models = settings.models
    file, export = await ensure_export(model, manifest, models.cache_path, models.export_timeout_s)
    if not export.accepted:
        raise OperatorError(f"ONNX Runtime cannot run the model: {export.reason}.")
    return model, file


async def packaged(settings: Settings) -> list[Packaged]:
    """Returns the versions of the packaged model that answer here, fp32 first.

    Args:
        settings: settings of the server.

    Raises:
        OperatorError: the model cannot be made.
    """
    await ensure_packaged(settings.models)
    await ensure_fast_version(settings)
    found = [f for f in repository_of(settings).scan() if f.is_packaged and f.name == NAME]
    manifests = [read_manifest(f.folder) for f in found]
    return sorted(
        (
            Packaged(manifest.version, manifest.precision, f.folder)
            for f, manifest in zip(found, manifests, strict=True)
        ),
        key=lambda version: version.number,
    )


@asynccontextmanager
async def installation(
    data: Path, settings: Mapping[str, str] | None = None
) -> AsyncIterator[tuple[str, str, psutil.Process]]:
    """Runs `up`. Yields its address, an admin key and the server's process.

    Args:
        data: its data folder, with the models.
        settings: environment variables, in addition to those of this process.

    Raises:
        OperatorError: it does not start.
    """
    port = free_port()
    environment = {**os.environ, "MODEL_PATH": str(data / "models"), **(settings or {})}
    command = [*PROGRAM, "up", "--port", str(port), "--data", str(data)]
    log = data / "up.log"
    with log.open("w") as output:
        up = await asyncio.create_subprocess_exec(*command, stderr=output, env=environment)
    try:
        deadline_s = time.monotonic() + START_S
        while "Try it" not in log.read_text():
            if up.returncode is not None or time.monotonic() > deadline_s:
                raise OperatorError(f"The installation did not start.\n{log.read_text()}")
            await asyncio.sleep(READY_INTERVAL_S)
        key = next(word for word in log.read_text().split() if word.startswith("ic_"))
        processes = json.loads((data / "run" / "processes.json").read_text())
        server = next(process["pid"] for process in processes if process["name"] == "server")
        yield f"127.0.0.1:{port}", key, psutil.Process(server)
    finally:
        if up.returncode is None:
            up.terminate()
        await up.wait()


@asynccontextmanager
async def raw_limit(model: Path, onnx: Path, *, has_simd: bool = True) -> AsyncIterator[Raw]:
    """Runs the process of the raw limit. Yields a function that runs one round.

    Args:
        model: folder of a version.
        onnx: its network.
        has_simd: whether to decode with pillow-simd, where `make simd` was run.
    """
    command = [sys.executable, "-m", "image_categorizer_server.bench.raw", str(model), str(onnx)]
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, **({} if has_simd else PLAIN_PILLOW)},
    )
    assert process.stdin is not None
    assert process.stdout is not None
    stdin, stdout = process.stdin, process.stdout

    async def ask(clients: int, seconds: float) -> dict[str, float]:
        stdin.write(f"{clients} {seconds}\n".encode())
        figures: dict[str, float] = json.loads(await stdout.readline())
        return figures

    try:
        yield ask
    finally:
        stdin.close()
        await process.wait()


def free_port() -> int:
    """Returns a port of 127.0.0.1 that no program listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
