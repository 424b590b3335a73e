"""Measures an installation and the raw limit in alternating rounds. Reports medians."""

import json
import statistics
import tempfile
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import psutil
from image_categorizer import AsyncImageCategorizationClient

from image_categorizer_server.bench.load import (
    Ask,
    Sample,
    batch_speed,
    drive,
    endless,
    grpc_clients,
    rest_clients,
)
from image_categorizer_server.bench.prepare import MODEL, pictures
from image_categorizer_server.bench.stage import Raw, installation, prepare, raw_limit
from image_categorizer_server.settings import Settings

MANY_CLIENTS = 32
RAW, BATCH = "raw", "batch"
# Many short rounds: on a shared machine, speed drifts from one second to the next.
ROUNDS = 7
ONE_CLIENT_S, MANY_CLIENTS_S, WARM_UP_S = 1.0, 3.0, 0.4
Say = Callable[[str], None]
Clients = Callable[[int], AbstractAsyncContextManager[list[Ask]]]
Figures = dict[str, float]


@dataclass
class Row:
    """One way with one number of clients: medians over the rounds."""

    name: str
    clients: int
    """Number of concurrent clients; 0 for a batch, which the workers process."""
    images_per_s: float = 0.0
    ratio_to_raw: float | None = None
    p50_ms: float | None = None
    p99_ms: float | None = None
    mean_batch_size: float | None = None
    peak_memory_mb: float | None = None
    cpu_ms_per_image: float | None = None
    """Core time of the server or of the raw process; None for a batch, which uses workers too."""


async def run(settings: Settings, folder: Path | None, say: Say) -> list[Row]:
    """Returns the rows of the table. Takes about four minutes.

    Args:
        settings: settings of the server.
        folder: model to measure, a Hugging Face folder; None for MobileNetV2 with random weights.
        say: receives progress messages.

    Raises:
        OperatorError: the installation does not start.
    """
    with tempfile.TemporaryDirectory(prefix="image-categorizer-bench-") as temporary:
        data = Path(temporary)
        say("Preparing pictures and the model")
        model, onnx = await prepare(data, settings, folder)
        async with installation(data) as (address, key, server), raw_limit(model, onnx) as raw:
            direct = f"unix:{data}/run/server.sock"
            ways: dict[str, Clients] = {
                "gRPC": partial(grpc_clients, direct, key, MODEL),
                "gRPC through Envoy": partial(grpc_clients, address, key, MODEL),
                "REST, bytes": partial(rest_clients, address, key, MODEL, as_json=False),
                "REST, JSON": partial(rest_clients, address, key, MODEL, as_json=True),
            }
            async with AsyncImageCategorizationClient(key, address) as client:
                return await _measure(ways, client, server, raw, say)


async def _measure(
    ways: dict[str, Clients],
    client: AsyncImageCategorizationClient,
    server: psutil.Process,
    raw: Raw,
    say: Say,
) -> list[Row]:
    given = pictures()
    contents = endless(given)
    rows = [(name, clients) for clients in (1, MANY_CLIENTS) for name in [RAW, *ways]]
    rounds: dict[tuple[str, int], list[Figures]] = {row: [] for row in [*rows, (BATCH, 0)]}
    for turn in range(ROUNDS + 1):  # the first is a warm-up and does not count
        say(f"Round {turn} of {ROUNDS}" if turn else "Warming up")
        for (name, clients), collected in rounds.items():
            seconds = ONE_CLIENT_S if clients == 1 or not turn else MANY_CLIENTS_S
            if name == RAW:
                figures = await raw(clients, seconds)
            elif name == BATCH:
                figures = {"images_per_s": await batch_speed(client, MODEL, given, seconds)}
            else:
                async with ways[name](clients) as asks:
                    used_s = partial(cpu_s, server)
                    sample = await drive(asks, contents, seconds, WARM_UP_S, used_s)
                figures = _figures_of(sample, server)
            if turn:
                collected.append(figures)
    for (_, clients), collected in rounds.items():
        of_raw = rounds[RAW, clients or MANY_CLIENTS]
        for ours, theirs in zip(collected, of_raw, strict=True):
            ours["ratio_to_raw"] = ours["images_per_s"] / theirs["images_per_s"]
    return [
        Row(name, clients, **_medians(collected)) for (name, clients), collected in rounds.items()
    ]


def cpu_s(process: psutil.Process) -> float:
    """Returns the core-seconds that the process has used."""
    return float(sum(process.cpu_times()[:2]))


def _figures_of(sample: Sample, server: psutil.Process) -> Figures:
    percentiles = statistics.quantiles(sample.times_ms, n=100, method="inclusive")
    return {
        "images_per_s": sample.images_per_s,
        "p50_ms": percentiles[49],
        "p99_ms": percentiles[98],
        "mean_batch_size": statistics.fmean(sample.batch_sizes),
        "peak_memory_mb": _peak_memory_mb(server),
        "cpu_ms_per_image": sample.cpu_ms_per_image,
    }


def _medians(rounds: Sequence[Figures]) -> Figures:
    """Returns the median of each figure, and the maximum of the memory."""
    return {
        key: round(
            (max if key == "peak_memory_mb" else statistics.median)([f[key] for f in rounds]), 3
        )
        for key in rounds[0]
    }


def _peak_memory_mb(process: psutil.Process) -> float:
    """Returns the peak memory of a process. Outside Linux, returns its current memory."""
    status = Path(f"/proc/{process.pid}/status")
    if not status.exists():
        return float(process.memory_info().rss) / 2**20
    line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) / 1024


def as_json(rows: list[Row]) -> str:
    """Returns the rows as a JSON list."""
    return json.dumps([asdict(row) for row in rows], indent=1) + "\n"
