"""Measures an installation and the raw limit in alternating rounds. Reports medians."""

import json
import statistics
import tempfile
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import psutil
from image_categorizer import AsyncImageCategorizationClient

from image_categorizer_server.bench.load import (
    Ask,
    Sample,
    batch_speed,
    callers,
    drive,
    endless,
    grpc_clients,
    rest_clients,
)
from image_categorizer_server.bench.prepare import MODEL, pictures
from image_categorizer_server.bench.stage import installation, packaged, prepare, raw_limit
from image_categorizer_server.inference.images.decode import DECODING_LIBRARY
from image_categorizer_server.inference.models.export import ONNX_FILE
from image_categorizer_server.inference.models.packaged import NAME
from image_categorizer_server.settings import Settings

MANY_CLIENTS = 32
RAW, PLAIN_RAW, BATCH = "raw", "raw, plain Pillow", "batch"
# What authentication, role and limits cost, beside a call that needs none of them.
PUBLIC, WITH_KEY, LIMITED = "call", "call with a key", "call with a key and limits"
LIVENESS = "/image_categorizer.v1.HealthService/GetLiveness"
INFO = "/image_categorizer.v1.MetadataService/GetServerInfo"
# So high that they refuse nothing.
LIMITS = {
    "CATEGORIZER_QUOTA__REQUESTS_PER_S": "1000000",
    "CATEGORIZER_QUOTA__KEY_REQUESTS_PER_S": "1000000",
}
# Many short rounds: on a shared machine, speed drifts from one second to the next.
ROUNDS = 7
ONE_CLIENT_S, MANY_CLIENTS_S, WARM_UP_S = 1.0, 3.0, 0.4
Say = Callable[[str], None]
Clients = Callable[[int], AbstractAsyncContextManager[list[Ask]]]
Figures = dict[str, float]


@dataclass(frozen=True, slots=True)
class Way:
    """A way to classify images."""

    name: str
    measure: Callable[[int, float], Awaitable[Figures]]
    """Measures a number of clients for a number of seconds."""
    raw: str = RAW
    """The row that it is compared with."""
    clients: int | None = None
    """The number of clients to show, where it is not that of the measurement."""


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
    """Core time of the server or of the raw process; None for a batch, which uses workers too.

    Of rows that are calls, not images: core time of one call.
    """


async def run(settings: Settings, folder: Path | None, say: Say) -> list[Row]:
    """Returns the rows of the table. Takes about seven minutes.

    Args:
        settings: settings of the server.
        folder: model to measure, a Hugging Face folder; None for MobileNetV2 with random weights,
            and the packaged model.
        say: receives progress messages.

    Raises:
        OperatorError: the installation does not start.
    """
    async with AsyncExitStack() as stack:
        data = Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="image-categorizer-bench-"))
        )
        say("Preparing pictures and the models")
        model, onnx = await prepare(data, settings, folder)
        versions = await packaged(settings) if folder is None else []
        address, key, server = await stack.enter_async_context(installation(data))
        client = await stack.enter_async_context(AsyncImageCategorizationClient(key, address))
        direct = f"unix:{data}/run/server.sock"
        raw = await stack.enter_async_context(raw_limit(model, onnx))
        clients: dict[str, Clients] = {
            "gRPC": partial(grpc_clients, direct, key, MODEL),
            "gRPC through Envoy": partial(grpc_clients, address, key, MODEL),
            "REST, bytes": partial(rest_clients, address, key, MODEL, as_json=False),
            "REST, JSON": partial(rest_clients, address, key, MODEL, as_json=True),
        }
        served = partial(_served, server, endless(pictures()))
        ways = [Way(RAW, raw)]
        ways += [Way(name, partial(served, asks)) for name, asks in clients.items()]
        many = [*ways, Way(BATCH, partial(_batch, client), clients=0)]
        if "simd" in DECODING_LIBRARY:
            plain = raw_limit(model, onnx, has_simd=False)
            many.append(Way(PLAIN_RAW, await stack.enter_async_context(plain)))
        for version in versions:
            await client.models.load(NAME, version.number)
            name = f"{NAME} {version.precision}"
            limit_name = f"{RAW}, {name}"
            limit = raw_limit(version.folder, version.folder / ONNX_FILE)
            many.append(Way(limit_name, await stack.enter_async_context(limit), limit_name))
            asks = partial(grpc_clients, direct, key, NAME, version=str(version.number))
            many.append(Way(f"gRPC, {name}", partial(served, asks), limit_name))
        (data / "limited").mkdir()
        limited = {"MODEL_PATH": str(data / "models"), **LIMITS}
        _, its_key, its_server = await stack.enter_async_context(
            installation(data / "limited", limited)
        )
        calls = {
            PUBLIC: (server, partial(callers, direct, key, LIVENESS)),
            WITH_KEY: (server, partial(callers, direct, key, INFO)),
            LIMITED: (
                its_server,
                partial(callers, f"unix:{data}/limited/run/server.sock", its_key, INFO),
            ),
        }
        for name, (process, asks) in calls.items():
            measure = partial(_served, process, endless([b""]), asks)
            ways.append(Way(name, measure, PUBLIC))
            many.append(Way(name, measure, PUBLIC))
        return await _measure(ways, many, say)


async def _served(
    server: psutil.Process,
    contents: Iterator[bytes],
    clients: Clients,
    count: int,
    seconds: float,
) -> Figures:
    """Measures the server with a number of clients."""
    async with clients(count) as asks:
        sample = await drive(asks, contents, seconds, WARM_UP_S, partial(cpu_s, server))
    return _figures_of(sample, server)


async def _batch(client: AsyncImageCategorizationClient, _clients: int, seconds: float) -> Figures:
    return {"images_per_s": await batch_speed(client, MODEL, pictures(), seconds)}


async def _measure(one: list[Way], many: list[Way], say: Say) -> list[Row]:
    """Returns the rows of the ways with one client, and with many."""
    rounds: dict[tuple[str, int], list[Figures]] = {}
    for turn in range(ROUNDS + 1):  # the first is a warm-up and does not count
        say(f"Round {turn} of {ROUNDS}" if turn else "Warming up")
        for clients, ways in ((1, one), (MANY_CLIENTS, many)):
            seconds = ONE_CLIENT_S if clients == 1 or not turn else MANY_CLIENTS_S
            for way in ways:
                figures = await way.measure(clients, seconds)
                collected = rounds.setdefault((way.name, clients), [])
                if turn:
                    collected.append(figures)
    rows = []
    for clients, ways in ((1, one), (MANY_CLIENTS, many)):
        for way in ways:
            ours = rounds[way.name, clients]
            for figures, limit in zip(ours, rounds[way.raw, clients], strict=True):
                figures["ratio_to_raw"] = figures["images_per_s"] / limit["images_per_s"]
            shown = clients if way.clients is None else way.clients
            rows.append(Row(way.name, shown, **_medians(ours)))
    return rows


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
