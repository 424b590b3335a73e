"""Measures the performance page: `make bench-page`, or `python -m tests.bench.page --help`.

Writes the figures as JSON. `render.py`, which needs matplotlib, makes the page from them.
"""

import argparse
import asyncio
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import uvloop
from image_categorizer_server.bench.prepare import MODEL, pictures
from image_categorizer_server.bench.stage import (
    PROGRAM,
    Raw,
    installation,
    prepare,
    raw_limit,
)
from image_categorizer_server.errors import OperatorError
from image_categorizer_server.local.installation import Installation
from image_categorizer_server.settings import load_settings

from tests.bench.measure import Row, rows_of, run_rounds
from tests.bench.overload import Level, Target, overload
from tests.bench.servers import (
    ALL_PEERS,
    Server,
    Traffic,
    our_server,
    peer_server,
    start_paused,
)

OURS, OURS_INT8, OURS_NULL = "ours", "ours int8", "ours"
NULL_BYTES = 78_000
NULL_PROCESSES = 2
CLIENTS = (1, 8, 32)
APART_CLIENTS = (1, 4, 8, 16, 32, 64)
FACTORS = (2.0, 5.0, 10.0)
# 20 ms per micro-batch and 9 ms per image, asleep: generator and server have cores to spare.
SLEEPING_MODEL = "20,9"
PACKAGED_FAST = "CATEGORIZER_MODELS__PACKAGED_FAST"
PARTS = ("peers", "apart", "null", "overload")


@dataclass(frozen=True)
class Page:
    """All figures."""

    machine: dict[str, Any]
    seconds: float
    rounds: int
    peers: list[Row] = field(default_factory=list)
    apart: list[Row] = field(default_factory=list)
    """With the load generator on a core of its own."""
    null: list[Row] = field(default_factory=list)
    overload: list[Level] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    """Servers that were not measured, and why."""


@dataclass(frozen=True)
class Stage:
    """What all parts share: stores, a model, an API key."""

    key: str
    environment: dict[str, str]
    model: Path
    onnx: Path

    def peer(self, form: str) -> dict[str, str]:
        """Returns the environment of a peer's app."""
        folder, file = str(self.model), str(self.onnx)
        return {**self.environment, "PEER_FORM": form, "PEER_FOLDER": folder, "PEER_ONNX": file}


def arguments() -> argparse.Namespace:
    """Returns the arguments of the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, default=Path("bench-page.json"), help="output file")
    parser.add_argument("--model", type=Path, help="Hugging Face folder; random weights if not set")
    parser.add_argument("--calibrate", type=Path, help="pictures for int8; synthetic if not set")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=4.0, help="per server and round")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    return parser.parse_args()


async def measure(words: argparse.Namespace) -> Page:
    """Returns the page. Takes about 45 minutes for all parts."""
    missing: list[str] = []
    peers, apart, null, levels = [], [], [], []
    with tempfile.TemporaryDirectory(prefix="image-categorizer-page-") as temporary:
        async with stage(Path(temporary), words) as on:
            if "peers" in words.parts:
                peers = await compare_peers(on, words, missing)
            if "apart" in words.parts:
                apart = await compare_apart(on, words, missing)
            if "null" in words.parts:
                null = await compare_serving(on, words, missing)
            if "overload" in words.parts:
                levels = await overloaded(on, words)
    return Page(machine(), words.seconds, words.rounds, peers, apart, null, levels, missing)


@asynccontextmanager
async def stage(data: Path, words: argparse.Namespace) -> AsyncIterator[Stage]:
    """Runs an installation with its server paused. Servers to measure are started beside it."""
    model, onnx = await prepare(data, load_settings(), words.model)
    if {"peers", "apart"} & set(words.parts):
        await quantize(data, words.calibrate)
    async with installation(data) as (_, key, own_server):
        addresses = Installation(data).addresses()
        assert addresses is not None
        environment = {
            "DATABASE_URL": addresses.database_url,
            "REDIS_URL": addresses.redis_url,
            "MODEL_PATH": str(data / "models"),
            "CATEGORIZER_STORAGE__PATH": str(data / "images"),
            PACKAGED_FAST: "false",  # its making would take a core
            "BENCH_LOGS": str(data),
        }
        own_server.suspend()
        try:
            yield Stage(key, environment, model, onnx)
        finally:
            own_server.resume()


async def quantize(data: Path, folder: Path | None) -> None:
    """Adds version 2, int8, whatever its accuracy."""
    if folder is None:
        folder = data / "calibrate"
        folder.mkdir()
        for number, content in enumerate(pictures()):
            (folder / f"{number}.jpg").write_bytes(content)
    words = [*PROGRAM, "models", "quantize", MODEL, "--calibrate", str(folder), "--max-loss", "100"]
    environment = {**os.environ, "MODEL_PATH": str(data / "models")}
    words += ["--data", str(data)]
    process = await asyncio.create_subprocess_exec(
        *words, env=environment, stderr=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.DEVNULL
    )
    _, errors = await process.communicate()
    if process.returncode != 0:
        raise OperatorError(f"Cannot quantize the model: {errors.decode(errors='replace')}")


async def compare_peers(on: Stage, words: argparse.Namespace, missing: list[str]) -> list[Row]:
    """Measures MobileNetV2: the raw limit, our server in fp32 and int8, peers in two forms."""
    async with AsyncExitStack() as stack:
        started, raw = await start_all(stack, on, missing, ("eager", "onnx"))
        collected, reasons = await run_rounds(
            started, pictures(), CLIENTS, words.rounds, words.seconds, raw
        )
        missing += reasons
    return rows_of(collected, OURS, OURS_INT8)


async def compare_apart(on: Stage, words: argparse.Namespace, missing: list[str]) -> list[Row]:
    """Measures MobileNetV2 with the load generator on one core and the servers on the others.

    Peers have the form of ours.
    """
    every = os.sched_getaffinity(0)
    generator, *others = sorted(every)
    if not others:
        missing.append("load generator on a core of its own: there is only one core")
        return []
    try:
        os.sched_setaffinity(0, others)  # inherited by the processes that start now
        async with AsyncExitStack() as stack:
            started, raw = await start_all(stack, on, missing, ("onnx",))
            os.sched_setaffinity(0, {generator})
            collected, reasons = await run_rounds(
                started, pictures(), APART_CLIENTS, words.rounds, words.seconds, raw
            )
            missing += reasons
    finally:
        os.sched_setaffinity(0, every)
    return rows_of(collected, OURS, OURS_INT8)


async def start_all(
    stack: AsyncExitStack, on: Stage, missing: list[str], forms: tuple[str, ...]
) -> tuple[list[Server], Raw]:
    """Starts the process of the raw limit, our server in fp32 and int8, and peers in some forms."""
    servers = [
        our_server(OURS, on.key, on.environment, Traffic(MODEL, "1")),
        our_server(OURS_INT8, on.key, on.environment, Traffic(MODEL, "2")),
        *(
            peer_server(peer, f"{peer.name} {form}", on.peer(form))
            for form in forms
            for peer in ALL_PEERS
        ),
    ]
    started, reasons = await start_paused(stack, servers)
    missing += reasons
    return started, await stack.enter_async_context(raw_limit(on.model, on.onnx))


async def compare_serving(on: Stage, words: argparse.Namespace, missing: list[str]) -> list[Row]:
    """Measures serving without a model: no decoding, bodies of 78 kB."""
    environment = {
        **on.environment,
        "CATEGORIZER_TEST__FAKE_MODEL": "0,0,raw",
        "CATEGORIZER_SERVER__PROCESSES": str(NULL_PROCESSES),
    }
    traffic = Traffic("fake", connections=CLIENTS[-1])
    ours = our_server(OURS_NULL, on.key, environment, traffic)
    servers = [ours, *(peer_server(peer, peer.name, on.peer("null")) for peer in ALL_PEERS)]
    random = np.random.default_rng(0)
    bodies = [b"\xff\xd8\xff" + random.bytes(NULL_BYTES - 3) for _ in range(16)]
    async with AsyncExitStack() as stack:
        started, reasons = await start_paused(stack, servers)
        missing += reasons
        collected, reasons = await run_rounds(
            started, bodies, (CLIENTS[-1],), words.rounds, words.seconds
        )
        missing += reasons
    return rows_of(collected, OURS_NULL)


async def overloaded(on: Stage, words: argparse.Namespace) -> list[Level]:
    """Overloads an installation through its gateway.

    One model sleeps, and so leaves cores to the load generator; MobileNetV2 uses all of them.
    """
    seconds = max(10.0, 2 * words.seconds)
    levels = []
    for name, model, settings in (
        ("sleeping model", "fake", {"CATEGORIZER_TEST__FAKE_MODEL": SLEEPING_MODEL}),
        ("MobileNetV2", MODEL, {}),
    ):
        settings |= {key: on.environment[key] for key in ("MODEL_PATH", PACKAGED_FAST)}
        with tempfile.TemporaryDirectory(prefix="image-categorizer-overload-") as temporary:
            async with installation(Path(temporary), settings) as (address, key, _):
                target = Target(name, address, key, model, uses_cores=model == MODEL)
                levels += await overload(target, pictures(), FACTORS, seconds)
                print(f"overloaded: {name}", file=sys.stderr)
    return levels


def machine() -> dict[str, Any]:
    """Returns the machine and the commit."""
    cpu = next(
        (
            line.split(":")[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.processor(),
    )
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    )
    return {
        "cpu": cpu,
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "commit": commit.stdout.strip(),
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
    }


def main() -> None:
    """Measures and writes the figures."""
    words = arguments()
    page = uvloop.run(measure(words))
    words.json.parent.mkdir(parents=True, exist_ok=True)
    words.json.write_text(json.dumps(asdict(page), indent=1) + "\n")
    print(f"wrote {words.json}", file=sys.stderr)


if __name__ == "__main__":
    main()
