"""Images a second over gRPC, from JPEGs, by number of server processes before one model process.

The model that does nothing, `null`, shows what the processes serve without decoding and without a
network.  There are as many load generators as server processes, each with connections of its own.
"""

import argparse
import asyncio
import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import uvloop
from image_categorizer_server.bench.load import drive, endless, grpc_clients
from image_categorizer_server.bench.prepare import MODEL, pictures
from image_categorizer_server.bench.stage import free_port

from tests.bench.page import Stage, stage
from tests.bench.servers import Traffic, our_server

CLIENTS = 32
WARM_UP_S = 1.0
NULL = {"CATEGORIZER_TEST__FAKE_MODEL": "0,0,raw"}
ENDS_WITHIN_S = 60.0


def measure(words: argparse.Namespace, report: Callable[[dict[str, Any]], None]) -> None:
    """Reports a row for each model and number of server processes."""
    uvloop.run(_measure(words, report))


async def _measure(words: argparse.Namespace, report: Callable[[dict[str, Any]], None]) -> None:
    with tempfile.TemporaryDirectory(prefix="image-categorizer-gpu-") as folder:
        async with stage(Path(folder), argparse.Namespace(parts=(), model=None)) as on:
            for model, settings in ((MODEL, {}), ("fake", NULL)):
                for count in words.processes:
                    wanted = {**settings, "CATEGORIZER_INFERENCE__DEVICE": words.device}
                    rate = await served(on, model, count, wanted, words.seconds)
                    name = "null" if model == "fake" else model
                    report({"model": name, "server_processes": count, "images_per_s": round(rate)})


async def served(
    on: Stage, model: str, count: int, settings: dict[str, str], seconds: float
) -> float:
    """Returns the images a second of one arrangement."""
    address = f"127.0.0.1:{free_port()}"
    environment = {
        **on.environment,
        **settings,
        "CATEGORIZER_SERVER__PROCESSES": str(count),
        "CATEGORIZER_SERVER__MODEL_PROCESS": "true",
    }
    async with our_server(f"{model} {count}", on.key, environment, Traffic(model), address):
        words = [sys.executable, "-m", "tests.gpu.served", address, on.key, model, str(seconds)]
        generators = [
            await asyncio.create_subprocess_exec(*words, stdout=asyncio.subprocess.PIPE)
            for _ in range(count)
        ]
        async with asyncio.timeout(seconds + WARM_UP_S + ENDS_WITHIN_S):
            answers = [await generator.communicate() for generator in generators]
    return float(sum(json.loads(answer) for answer, _ in answers))


async def generate(address: str, key: str, model: str, seconds: float) -> float:
    """Returns the answers a second that one load generator gets."""
    async with grpc_clients(address, key, model, CLIENTS, connections=CLIENTS) as asks:
        sample = await drive(asks, endless(pictures()), seconds, WARM_UP_S)
    return sample.images_per_s


def main() -> None:
    """Prints the rate of one load generator."""
    address, key, model, seconds = sys.argv[1:]
    print(json.dumps(uvloop.run(generate(address, key, model, float(seconds)))))


if __name__ == "__main__":
    main()
