"""Runs a real installation beside the raw limit, in rounds that take turns; tells medians."""

import json
import statistics
import tempfile
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

import psutil
from image_categorizer import AsyncImageCategorizationClient

from image_categorizer_server.bench.batch import batch_speed
from image_categorizer_server.bench.load import (
    Ask,
    Sample,
    drive,
    endless,
    grpc_clients,
    rest_clients,
)
from image_categorizer_server.bench.prepare import MODEL, pictures
from image_categorizer_server.bench.stage import Raw, installation, prepare, raw_limit
from image_categorizer_server.settings import Settings

MANY = 32
BATCH = "batch"
# Many short rounds: on a shared machine the speed drifts from one second to the next.
ROUNDS = 7
ALONE_S, TOGETHER_S, WARM_UP_S = 1.0, 3.0, 0.4
Say = Callable[[str], None]
Clients = Callable[[int], AbstractAsyncContextManager[list[Ask]]]


@dataclass
class Row:
    """One way at one number of clients: medians over the rounds."""

    name: str
    clients: int
    """How many ask at once; 0 where the workers do, for one batch."""
    images_per_s: float = 0.0
    ratio_to_raw: float | None = None
    p50_ms: float | None = None
    p99_ms: float | None = None
    mean_batch_size: float | None = None
    peak_memory_mb: float | None = None
    cpu_ms_per_image: float | None = None
    """Core time of the server's process, or of the raw limit's; None where workers use some."""


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
    """Returns the table's rows; takes about four minutes.

    Args:
        settings: those that the server will run with.
        folder: a Hugging Face folder to measure in place of MobileNetV2 with random weights.
        say: takes a line for the person who waits.

    Raises:
        OperatorError: the installation does not start.
    """
    with tempfile.TemporaryDirectory(prefix="image-categorizer-bench-") as temporary:
        data = Path(temporary)
        say("Preparing pictures and the model")
        model, onnx = await prepare(data, settings, folder)
        async with installation(data) as (address, key, server), raw_limit(model, onnx) as raw:
            return await _measure(address, key, f"unix:{data}/run/server.sock", server, raw, say)


async def _measure(
    address: str, key: str, direct: str, server: psutil.Process, raw: Raw, say: Say
) -> list[Row]:
    ways: dict[str, Clients] = {
        "gRPC": partial(grpc_clients, direct, key, MODEL),
        "gRPC through Envoy": partial(grpc_clients, address, key, MODEL),
        "REST, bytes": partial(rest_clients, address, key, MODEL, as_json=False),
        "REST, JSON": partial(rest_clients, address, key, MODEL, as_json=True),
    }
    given = pictures()
    contents = endless(given)
    whats = [(name, clients) for clients in (1, MANY) for name in ["raw", *ways]]
    rounds = {what: _Rounds(Row(*what)) for what in [*whats, (BATCH, 0)]}
    for turn in range(ROUNDS + 1):  # the first warms up and does not count
        say(f"Round {turn} of {ROUNDS}" if turn else "Warming up")
        for (name, clients), collected in rounds.items():
            seconds = ALONE_S if clients == 1 or not turn else TOGETHER_S
            if name == "raw":
                figures = await raw(clients, seconds)
            elif name == BATCH:
                async with AsyncImageCategorizationClient(key, address) as client:
                    figures = await batch_speed(client, MODEL, given, seconds)
            else:
                async with ways[name](clients) as asks:
                    used_s = partial(cpu_s, server)
                    sample = await drive(asks, contents, seconds, WARM_UP_S, used_s)
                figures = figures_of(sample, server)
            if turn:
                collected.figures.append(figures)
    for (_, clients), collected in rounds.items():
        of_raw = rounds["raw", clients or MANY].figures
        for ours, theirs in zip(collected.figures, of_raw, strict=True):
            ours["ratio_to_raw"] = ours["images_per_s"] / theirs["images_per_s"]
    return [collected.settle() for collected in rounds.values()]


def cpu_s(process: psutil.Process) -> float:
    """Returns the core-seconds that the process has used."""
    return float(sum(process.cpu_times()[:2]))


def figures_of(sample: Sample, server: psutil.Process) -> dict[str, float]:
    """Returns the figures of one round."""
    percentiles = statistics.quantiles(sample.times_ms, n=100, method="inclusive")
    return {
        "images_per_s": sample.images_per_s,
        "p50_ms": percentiles[49],
        "p99_ms": percentiles[98],
        "mean_batch_size": statistics.fmean(sample.batch_sizes),
        "peak_memory_mb": _peak_memory_mb(server),
        "cpu_ms_per_image": sample.cpu_ms_per_image,
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
