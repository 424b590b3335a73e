"""Settings of decoding, micro-batching and the model's device."""

import os
from typing import Literal

from pydantic import Field

from image_categorizer_server.settings.group import Group


class InferenceSettings(Group):
    """Decoding, micro-batches and the device."""

    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="Where models run; auto takes a GPU if there is one."
    )
    cores: int = Field(
        0,
        ge=0,
        le=4096,
        description="Cores that one server process counts with; 0: its part of the machine's.",
    )
    model_threads: int = Field(
        0, ge=0, le=256, description="Cores of one model call on a CPU; 0: a quarter of all."
    )
    runners: int = Field(
        0,
        ge=0,
        le=256,
        description="Model calls at a time on a CPU; 0: as many as the cores hold.",
    )
    niceness: int = Field(
        10,
        ge=0,
        le=19,
        description="By how much model calls and decoding give way to the event loop, on Linux.",
    )
    decode_threads: int = Field(
        0,
        ge=0,
        le=256,
        description="Threads that only decode; 0: one a core, none if calls use a core each.",
    )
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        "auto",
        description="What torch computes in; auto: bf16 or fp16 on a GPU, if as right as fp32.",
    )
    max_micro_batch_size: int = Field(
        0,
        ge=0,
        le=512,
        description="Most images in one micro-batch, each model finds its best; 0: 16, GPU: 64.",
    )
    max_queued: int = Field(
        256, ge=1, le=1_000_000, description="Most images per model between arrival and answer."
    )
    max_queued_bytes: int = Field(256 * 2**20, ge=1, description="Most encoded bytes of them.")
    max_delay_ms: float = Field(
        0.0,
        ge=0,
        le=1000,
        description="Longest that a micro-batch waits for company while a runner is free.",
    )
    hold_ms: float = Field(
        80.0, ge=0, le=1000, description="Longest that answers wait for one another, under load."
    )
    lane_share: float = Field(
        0.1,
        ge=0,
        le=1,
        description="Share of the turns that lane BATCH gets while INTERACTIVE waits too.",
    )
    lane_queued_share: float = Field(
        0.5, gt=0, le=1, description="Share of max_queued that lane BATCH may fill."
    )
    stuck_s: float = Field(
        20.0,
        gt=0,
        le=3600,
        description="How long one model call may last before the server says it is not live.",
    )

    def micro_batch_limit(self, device: str) -> int:
        """Returns the most images in one micro-batch on `cpu` or `cuda`."""
        return self.max_micro_batch_size or (64 if device == "cuda" else 16)

    def decoders(self, device: str) -> int:
        """Returns how many threads only decode.

        Where a model call uses one core the runners decode themselves: images then stay in one
        thread, and in one core's caches.
        """
        if self.decode_threads:
            return self.decode_threads
        threads, _ = self.threads_and_runners()
        return 0 if device == "cpu" and threads == 1 else self.cores or cores()

    def threads_and_runners(self) -> tuple[int, int]:
        """Returns the cores of one model call on a CPU, and how many calls run at once.

        A call that shares its work among threads waits for the slowest: on two cores, two calls
        with one thread each do a fifth more images than one call with two.  A quarter of the cores
        for a call keeps a lone image fast on large machines.
        """
        own = self.cores or cores()
        threads = self.model_threads or max(1, own // 4)
        return threads, self.runners or own // threads


def cores() -> int:
    """Returns how many cores this process may use, at least 1."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
