"""How many images a second the networks classify, by size of micro-batch.  Random weights suffice.

`forward` has its inputs on the device; `runtime` is the runtime of the server, from inputs in
memory to confidences in memory, with recorded calls on a GPU.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from image_categorizer_server.inference.images.preprocess import InputSpec
from image_categorizer_server.inference.runtimes import Precision
from image_categorizer_server.inference.runtimes.efficientnet_lite import VARIANTS
from image_categorizer_server.inference.runtimes.efficientnet_lite_torch import EfficientNetLite
from image_categorizer_server.inference.runtimes.network import Network
from image_categorizer_server.inference.runtimes.torch import TorchRuntime

CATEGORIES = 1000
PROFILED_CALLS = 5


def body(name: str) -> torch.nn.Module:
    """Returns a network with random weights."""
    if name == "efficientnet_lite0":
        return EfficientNetLite(VARIANTS[name], CATEGORIES)
    from transformers import ResNetConfig, ResNetForImageClassification

    return ResNetForImageClassification(ResNetConfig())  # ResNet-50


def measure(words: argparse.Namespace, report: Callable[[dict[str, Any]], None]) -> None:
    """Reports a row for each network and size; writes a profile of the largest size."""
    precision: Precision = "bf16" if words.device == "cuda" else "fp32"
    for name in words.networks:
        side_px = words.side_px
        spec = InputSpec(
            width_px=side_px,
            height_px=side_px,
            resize="exact",
            resample="bilinear",
            scale=(1 / 255,) * 3,
            bias=(0, 0, 0),
        )
        network = Network(body(name), spec, "softmax").eval()
        runtime = TorchRuntime(network, words.device, precision)
        if words.device == "cuda":
            runtime.use_buckets(words.sizes, spec)
        random = np.random.default_rng(0)
        for size in words.sizes:
            inputs = list(random.integers(0, 256, (size, side_px, side_px, 3), dtype=np.uint8))
            moved = torch.from_numpy(np.stack(inputs)).to(words.device)
            forward_s = call_s(lambda: forward(network, moved), words.seconds)  # noqa: B023
            runtime_s = call_s(lambda: runtime.predict(inputs), words.seconds)  # noqa: B023
            report(
                {
                    "network": name,
                    "precision": precision,
                    "size": size,
                    "forward_images_per_s": round(size / forward_s),
                    "runtime_images_per_s": round(size / runtime_s),
                    "runtime_ms": round(runtime_s * 1000, 3),
                }
            )
        profile(name, lambda: runtime.predict(inputs), words.device, words.out)  # noqa: B023


@torch.inference_mode()
def forward(network: Network, inputs: torch.Tensor) -> None:
    """Runs the network and waits for it."""
    network(inputs)
    if inputs.is_cuda:
        torch.cuda.synchronize()


def call_s(call: Callable[[], object], seconds: float) -> float:
    """Returns the seconds of one call: the median of those that fit into `seconds`."""
    call()
    times_s: list[float] = []
    end_s = time.perf_counter() + seconds
    while not times_s or time.perf_counter() < end_s:
        start_s = time.perf_counter()
        call()
        times_s.append(time.perf_counter() - start_s)
    return float(np.median(times_s))


def profile(name: str, call: Callable[[], object], device: str, out: Path) -> None:
    """Writes where the time of some calls goes: a table, and a trace for a browser."""
    kinds = [torch.profiler.ProfilerActivity.CPU]
    if device == "cuda":
        kinds.append(torch.profiler.ProfilerActivity.CUDA)
    with torch.profiler.profile(activities=kinds) as profiled:
        for _ in range(PROFILED_CALLS):
            call()
    key = "self_device_time_total" if device == "cuda" else "self_cpu_time_total"
    table = profiled.key_averages().table(sort_by=key, row_limit=25)
    (out / f"profile-{name}.txt").write_text(table)
    profiled.export_chrome_trace(str(out / f"profile-{name}.json"))
