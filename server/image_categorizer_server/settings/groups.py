"""The groups of settings, one class each; `settings.py` reads them."""

import os
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class Group(BaseModel):
    """Settings that belong together."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)


class ServerSettings(Group):
    """The gRPC server."""

    bind: str = Field(
        "127.0.0.1:50051", description="Address to listen on: host:port or unix:/path."
    )
    reflection: bool = Field(
        False, description="Whether clients may list the services (grpc.reflection)."
    )
    default_deadline_s: float = Field(
        10.0, gt=0, le=3600, description="Time for a request that states no deadline."
    )
    max_deadline_s: float = Field(60.0, gt=0, le=3600, description="Most time for any request.")
    max_stream_in_flight: int = Field(
        64, ge=1, le=10_000, description="Most unanswered images of one ClassifyStream call."
    )
    max_stream_in_flight_bytes: int = Field(
        64 * 2**20,
        ge=1,
        description="Most bytes that the unanswered images of one call may have, but for the last.",
    )
    upload_idle_s: float = Field(
        60.0, gt=0, le=3600, description="Time that an upload may bring nothing until it is ended."
    )
    processes: int = Field(
        1,
        ge=1,
        le=256,
        description="Server processes on this machine, each with its own copy of the models.",
    )
    drain_s: float = Field(
        20.0,
        ge=0,
        le=600,
        description="Time that requests in flight get to finish when the server stops.",
    )
    drain_notice_s: float = Field(
        0.0,
        ge=0,
        le=60,
        description="Time between saying not ready and refusing: twice a balancer's interval.",
    )


class DatabaseSettings(Group):
    """PostgreSQL."""

    pool_size: int = Field(8, ge=1, le=100, description="Connections of each process.")
    timeout_s: float = Field(
        5.0, gt=0, le=60, description="Most time for one statement or connection attempt."
    )


class RedisSettings(Group):
    """Redis."""

    timeout_s: float = Field(
        2.0, gt=0, le=60, description="Most time for one command or connection attempt."
    )
    pool_size: int = Field(16, ge=1, le=1000, description="Most connections of each process.")


class CacheSettings(Group):
    """Remembered answers, in Redis."""

    ttl_s: float = Field(
        3600.0, ge=0, le=2_592_000, description="How long an answer is remembered; 0: never."
    )
    timeout_s: float = Field(
        0.03,
        gt=0,
        le=10,
        description="How long a request waits for Redis before it goes on without.",
    )
    max_entries: int = Field(
        50_000, ge=1, le=100_000_000, description="Most answers remembered for one tenant."
    )
    max_value_bytes: int = Field(
        16_384, ge=256, le=1_048_576, description="Largest answer that is remembered."
    )


class LimitSettings(Group):
    """What an image and a request may measure; all inclusive."""

    max_image_pixels: int = Field(
        50_000_000, ge=1, le=2**31 - 1, description="Most pixels of one image, width times height."
    )
    max_side_px: int = Field(16_384, ge=1, le=65_535, description="Longest side of an image.")
    max_aspect_ratio: float = Field(
        100.0, ge=1, description="Most that one side may exceed the other, as a factor."
    )
    max_jpeg_scans: int = Field(
        100, ge=1, description="Most scans of a progressive JPEG; each costs a pass."
    )
    max_filter_categories: int = Field(
        1000, ge=1, description="Most names in an include or exclude filter."
    )


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
    max_batch_size: int = Field(
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
    batch_share: float = Field(
        0.1,
        ge=0,
        le=1,
        description="Share of the turns that lane BATCH gets while INTERACTIVE waits too.",
    )
    batch_queued_share: float = Field(
        0.5, gt=0, le=1, description="Share of max_queued that lane BATCH may fill."
    )
    stuck_s: float = Field(
        20.0,
        gt=0,
        le=3600,
        description="How long one model call may last before the server says it is not live.",
    )

    def largest_batch(self, device: str) -> int:
        """Returns the most images in one micro-batch on `cpu` or `cuda`."""
        return self.max_batch_size or (64 if device == "cuda" else 16)

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


class TestSettings(Group):
    """Hooks for tests; all off by default, and refused in production."""

    __test__ = False  # no test class, whatever its name

    fake_model: str = Field(
        "",
        description="'<ms per micro-batch>,<ms per item>': serves a model fake, of ten categories.",
    )
    trace: str = Field("", description="File that gets a JSON line for each step of each image.")
    failpoint: str = Field(
        "", description="'<name>:<n>': the process kills itself at the n-th pass of that point."
    )
    clock_offset_s: float = Field(
        0.0, ge=-1e9, le=1e9, description="Seconds by which the clock is ahead of the system's."
    )


class ModelSettings(Group):
    """The model repository."""

    default: str = Field(
        "starter", min_length=1, description="Model that answers a request which names none."
    )
    scan_interval_s: float = Field(
        2.0, gt=0, le=3600, description="How often MODEL_PATH is looked through for changes."
    )
    cache_path: Path = Field(
        Path("~/.cache/image-categorizer"),
        description="Folder for what follows from models (ONNX exports); may be deleted.",
    )
    export_timeout_s: float = Field(
        600.0, gt=0, le=86_400, description="Most time for one export to ONNX."
    )
    quantize_max_loss_points: float = Field(
        0.5,
        ge=0,
        le=100,
        description="Most accuracy that int8 may lose against fp32, in percent of the pictures.",
    )
    quantize_min_pictures: int = Field(
        16, ge=1, le=100_000, description="Fewest pictures to calibrate or to compare with."
    )
    quantize_max_pictures: int = Field(
        64, ge=1, le=100_000, description="Most pictures to calibrate with; more are thinned out."
    )


class SecuritySettings(Group):
    """Credentials."""

    key_cache_s: float = Field(
        5.0,
        ge=0,
        le=300,
        description="How long a key's validity is remembered; a revoked key works that long.",
    )


def cores() -> int:
    """Returns how many cores this process may use, at least 1."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
