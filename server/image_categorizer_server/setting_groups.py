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
    model_threads: int = Field(
        0, ge=0, le=256, description="Cores of one model call on a CPU; 0: a quarter of all."
    )
    runners: int = Field(
        0,
        ge=0,
        le=256,
        description="Model calls at a time on a CPU; 0: one more than cores hold.",
    )
    decode_threads: int = Field(
        0, ge=0, le=256, description="Images decoded at the same time; 0: one per core."
    )
    max_batch_size: int = Field(
        16,
        ge=1,
        le=512,
        description="Most images in one micro-batch; each model finds its best.",
    )
    max_queued: int = Field(
        256, ge=1, le=1_000_000, description="Most images per model between arrival and answer."
    )

    def threads_and_runners(self) -> tuple[int, int]:
        """Returns the cores of one model call on a CPU, and how many calls run at once.

        A call that shares its work among threads waits for the slowest: on two cores, two calls
        with one thread each do a fifth more images than one call with two.  A quarter of the cores
        for a call keeps a lone image fast on large machines; one call more than the cores hold
        fills what a call leaves idle while it waits for the interpreter.
        """
        threads = self.model_threads or max(1, cores() // 4)
        return threads, self.runners or cores() // threads + 1


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


class SecuritySettings(Group):
    """Credentials."""

    key_cache_s: float = Field(
        5.0,
        ge=0,
        le=300,
        description="How long a key's validity is remembered; a revoked key works that long.",
    )


class GatewaySettings(Group):
    """Envoy, as `image-categorizer up` configures it."""

    host: str = Field(
        "127.0.0.1", description="Address the public port listens on; 0.0.0.0 for all interfaces."
    )
    cors_origins: tuple[str, ...] = Field(
        (), description='Origins whose pages may call, as a JSON list; ["*"] for all.'
    )
    threads: int = Field(1, ge=1, le=256, description="Worker threads of Envoy.")


class ClientSettings(Group):
    """The command line as a client of a server elsewhere."""

    base_url: str = Field(
        "", description="Address of the server, such as localhost:8080; empty: the embedded one."
    )
    api_key: str = Field(
        "",
        repr=False,
        description="API key to call it with; empty: the embedded installation's own.",
    )


def cores() -> int:
    """Returns how many cores this process may use, at least 1."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
