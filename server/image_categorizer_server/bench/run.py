"""Runs a real installation beside the raw limit, in rounds that take turns; tells medians."""

import asyncio
import json
import os
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

import psutil

from image_categorizer_server.bench.load import (
    Ask,
    Sample,
    drive,
    endless,
    grpc_clients,
    rest_clients,
)
from image_categorizer_server.bench.prepare import MODEL, pictures, write_model
from image_categorizer_server.embedded.installation import Installation
from image_categorizer_server.errors import OperatorError
from image_categorizer_server.inference.export import ensure_export
from image_categorizer_server.inference.importer import Labels, copy_model
from image_categorizer_server.inference.repository import Repository
from image_categorizer_server.settings import Settings

MANY = 32
# Many short rounds: on a shared machine the speed drifts from one second to the next.
ROUNDS = 7
ALONE_S, TOGETHER_S, WARM_UP_S = 1.0, 2.0, 1.0
START_S = 120.0
PROGRAM = [sys.executable, "-m", "image_categorizer_server"]
Say = Callable[[str], None]
Clients = Callable[[int], AbstractAsyncContextManager[list[Ask]]]
Raw = Callable[[int, float], Awaitable[dict[str, float]]]


@dataclass
class Row:
    """One way at one number of clients: medians over the rounds."""

    name: str
    clients: int
    images_per_s: float = 0.0
    ratio_to_raw: float | None = None
    p50_ms: float | None = None
    p99_ms: float | None = None
    mean_batch_size: float | None = None
    peak_memory_mb: float | None = None


@dataclass
class _Rounds:
    row: Row
    figures: list[dict[str, float]] = field(default_factory=list)

    def settle(self) -> Row:
        """Fills the row with the medians."""
        for key in self.figures[0]:
            middle = max if key == "peak_memory_mb" else statistics.median
            setattr(self.row, key, round(middle([f[key] for f in self.figures]), 3))
        return self.row


async def run(settings: Settings, folder: Path | None, say: Say) -> list[Row]:
    """Returns the table's rows; takes about two minutes.

    Args:
        settings: those that the server will run with.
        folder: a Hugging Face folder to measure in place of MobileNetV2 with random weights.
        say: takes a line for the person who waits.

    Raises:
        OperatorError: expected; the installation does not start.
    """
    with tempfile.TemporaryDirectory(prefix="image-categorizer-bench-") as temporary:
        data = Path(temporary)
        say("Preparing pictures and the model")
        model, onnx = await _prepare(Installation(data), settings, folder)
        async with _installation(data) as (address, key, server), _raw(model, onnx) as raw:
            return await _measure(address, key, f"unix:{data}/run/server.sock", server, raw, say)


async def _prepare(
    installation: Installation, settings: Settings, folder: Path | None
) -> tuple[Path, Path]:
    repository = Repository(installation.data / "models")
    if folder is None:
        folder = installation.data / "source"
        await asyncio.to_thread(write_model, folder)
    with repository.incoming() as incoming:
        manifest = copy_model(folder, incoming, Labels(MODEL, 1))
        model = repository.publish(incoming, manifest)
    models = settings.models
    file, verdict = await ensure_export(model, manifest, models.cache_path, models.export_timeout_s)
    if not verdict.accepted:
        raise OperatorError(f"The model cannot be measured with ONNX Runtime: {verdict.reason}.")
    return model, file


@asynccontextmanager
async def _installation(data: Path) -> AsyncIterator[tuple[str, str, psutil.Process]]:
    """Runs `up`; yields its address, an admin key, and the server's process."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {**os.environ, "MODEL_PATH": str(data / "models")}
    words = [*PROGRAM, "up", "--port", str(port), "--data", str(data)]
    log = data / "up.log"
    with log.open("w") as output:
        up = await asyncio.create_subprocess_exec(*words, stderr=output, env=environment)
    try:
        deadline_s = time.monotonic() + START_S
        while "Try it" not in log.read_text():
            if up.returncode is not None or time.monotonic() > deadline_s:
                raise OperatorError(f"The installation did not start.\n{log.read_text()}")
            await asyncio.sleep(0.1)
        key = next(w for w in log.read_text().split() if w.startswith("ic_"))
        parts = json.loads((data / "run" / "parts.json").read_text())
        server = next(part["pid"] for part in parts if part["name"] == "server")
        yield f"127.0.0.1:{port}", key, psutil.Process(server)
    finally:
        if up.returncode is None:
            up.terminate()
        await up.wait()


@asynccontextmanager
async def _raw(model: Path, onnx: Path) -> AsyncIterator[Raw]:
    """Runs the raw limit's process; yields what asks it for one round."""
    words = [sys.executable, "-m", "image_categorizer_server.bench.raw"]
    process = await asyncio.create_subprocess_exec(
        *(*words, str(model), str(onnx)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
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


async def _measure(
    address: str, key: str, direct: str, server: psutil.Process, raw: Raw, say: Say
) -> list[Row]:
    ways: dict[str, Clients] = {
        "gRPC": partial(grpc_clients, direct, key, MODEL),
        "gRPC through Envoy": partial(grpc_clients, address, key, MODEL),
        "REST, bytes": partial(rest_clients, address, key, MODEL, as_json=False),
        "REST, JSON": partial(rest_clients, address, key, MODEL, as_json=True),
    }
    contents = endless(pictures())
    rounds = {
        (name, clients): _Rounds(Row(name, clients))
        for clients in (1, MANY)
        for name in ["raw", *ways]
    }
    for turn in range(ROUNDS + 1):  # the first warms up and does not count
        say(f"Round {turn} of {ROUNDS}" if turn else "Warming up")
        for (name, clients), collected in rounds.items():
            seconds = (ALONE_S if clients == 1 else TOGETHER_S) if turn else WARM_UP_S
            if name == "raw":
                figures = await raw(clients, seconds)
            else:
                async with ways[name](clients) as asks:
                    figures = _figures(await drive(asks, contents, seconds), server)
            if turn:
                collected.figures.append(figures)
    for (_, clients), collected in rounds.items():
        of_raw = rounds["raw", clients].figures
        for ours, theirs in zip(collected.figures, of_raw, strict=True):
            ours["ratio_to_raw"] = ours["images_per_s"] / theirs["images_per_s"]
    return [collected.settle() for collected in rounds.values()]


def _figures(sample: Sample, server: psutil.Process) -> dict[str, float]:
    percentiles = statistics.quantiles(sample.times_ms, n=100, method="inclusive")
    return {
        "images_per_s": len(sample.times_ms) / sample.seconds,
        "p50_ms": percentiles[49],
        "p99_ms": percentiles[98],
        "mean_batch_size": statistics.fmean(sample.batch_sizes),
        "peak_memory_mb": _peak_memory_mb(server),
    }


def _peak_memory_mb(process: psutil.Process) -> float:
    """Returns the most memory that the process held; what it holds now where nobody tells."""
    status = Path(f"/proc/{process.pid}/status")
    if not status.exists():
        return float(process.memory_info().rss) / 2**20
    line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) / 1024


def as_json(rows: list[Row]) -> str:
    """Returns the rows as a JSON list."""
    return json.dumps([asdict(row) for row in rows], indent=1) + "\n"
