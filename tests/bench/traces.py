"""What traces cost: `python -m tests.bench.traces FOLDER [RATIO]`.

Two servers with the fake model, which takes no time: what is measured is the rest of a call.  One
sends traces to a receiver in this process, RATIO (0.05) of them; the other does not.  They are
loaded in turns, so that a busy machine slows both.  Prints the processor time of each call, and
calls per second.  On a busy machine both vary by more than traces cost: so the processor time of
the spans of a call, and of sending them, is measured by itself too.
"""

import asyncio
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from subprocess import Popen

import psutil
from image_categorizer_server.bench.load import Sample, drive, endless, grpc_clients
from image_categorizer_server.rpc.probe import is_ready
from image_categorizer_server.telemetry.tracing import (
    begin_call,
    end_call,
    recorded_span,
    sending_traces,
    timed,
    traced_together,
)

from tests.support.cluster import SERVER, Cluster, open_cluster
from tests.support.pictures import jpeg
from tests.support.polling import eventually
from tests.support.traces import receiving_traces

ROUNDS, CLIENTS, WINDOW_S, WARM_UP_S = 12, 16, 1.5, 0.3
READY_S = 120.0
SPANNED_CALLS = 20_000


def spent_s(server: Popen[bytes]) -> float:
    """Returns the processor time of a server since its start."""
    times = psutil.Process(server.pid).cpu_times()
    return times.user + times.system


async def loaded(cluster: Cluster, address: str, server: Popen[bytes]) -> Sample:
    """Loads one of the servers for a while."""
    pictures = endless([jpeg(64, 48, seed) for seed in range(8)])
    async with grpc_clients(address, cluster.api_key, "fake", CLIENTS) as asks:
        return await drive(asks, pictures, WINDOW_S, WARM_UP_S, lambda: spent_s(server))


def cost_us(endpoint: str, ratio: float) -> float:
    """Returns the processor time of the spans that a call makes, and of sending them."""
    before_s = time.process_time()
    with sending_traces(endpoint, ratio, "bench"):
        for _ in range(SPANNED_CALLS):
            call = begin_call("/image_categorizer.v1.ClassifyService/Classify", {})
            if span := recorded_span():
                timed("decode", span, int)()
                with traced_together("micro-batch", [span], {"categorizer.model": "fake"}):
                    pass
                span.note({"categorizer.queue_ms": 1.0})
            end_call(call, "OK")
    return (time.process_time() - before_s) / SPANNED_CALLS * 1e6


async def measure(folder: Path, ratio: float) -> None:
    """Prints the medians of all rounds."""
    with receiving_traces() as traces:
        # The receiver is in this process: its part must not count.
        with ProcessPoolExecutor(1, get_context("spawn")) as pool:
            spans_us = pool.submit(cost_us, traces.endpoint, ratio).result()
        print(f"processor time of the spans of a call, with sending: {spans_us:.0f} µs")
        async with open_cluster(folder) as cluster:
            servers = {}
            for name, endpoint in (("off", ""), ("on", traces.endpoint)):
                address = f"unix:{cluster.sockets}/{name}.sock"
                variables = {
                    "CATEGORIZER_SERVER__BIND": address,
                    "CATEGORIZER_TELEMETRY__TRACES_ENDPOINT": endpoint,
                    "CATEGORIZER_TELEMETRY__TRACES_RATIO": str(ratio),
                }
                servers[name] = address, cluster.start(SERVER, name, **variables)
                await eventually(partial(is_ready, address), READY_S)
            samples: dict[str, list[Sample]] = {"off": [], "on": []}
            for number in range(ROUNDS + 1):
                for name in sorted(servers, reverse=bool(number % 2)):
                    sample = await loaded(cluster, *servers[name])
                    if number:  # the first round warms up
                        samples[name].append(sample)
        print(f"{len(traces.spans)} spans were received")
    cpu_ms = {n: median(s.cpu_ms_per_image for s in found) for n, found in samples.items()}
    per_s = {n: median(s.images_per_s for s in found) for n, found in samples.items()}
    for unit, figures in (("processor time of a call (ms)", cpu_ms), ("calls per second", per_s)):
        change = 100 * (figures["on"] / figures["off"] - 1)
        print(f"{unit}: {figures['off']:.3f} off, {figures['on']:.3f} on: {change:+.1f} %")


if __name__ == "__main__":
    asyncio.run(measure(Path(sys.argv[1]), float(sys.argv[2]) if len(sys.argv) > 2 else 0.05))
