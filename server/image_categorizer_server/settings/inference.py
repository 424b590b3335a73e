"""Settings of decoding, micro-batching and the model's device."""

import os
from pathlib import Path
from typing import Literal, Self

from pydantic import Field

from image_categorizer_server.settings.group import Group

NVIDIA_DEVICE = Path("/dev/nvidiactl")


class InferenceSettings(Group):
    """Decoding, micro-batching and the device."""

    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="Device that runs models. auto uses a GPU if there is one."
    )
    model_socket: str = Field(
        "",
        description="Socket of the process that runs the models; see "
        "CATEGORIZER_SERVER__MODEL_PROCESS, which sets it. Empty: the server runs them itself.",
    )
    cores: int = Field(
        0,
        ge=0,
        le=4096,
        description="Number of cores of each server process. 0: an equal part of the machine's.",
    )
    model_threads: int = Field(
        0, ge=0, le=256, description="Cores of one model call on a CPU. 0: a quarter of all."
    )
    single_image_threads: int = Field(
        0,
        ge=0,
        le=256,
        description="Cores of a model call on a CPU while no other image waits. 0: all. With more "
        "than `model_threads`, each network is loaded twice.",
    )
    runners: int = Field(
        0,
        ge=0,
        le=256,
        description="Number of concurrent model calls on a CPU. 0: as many as the cores allow.",
    )
    niceness: int = Field(
        5,
        ge=0,
        le=19,
        description="Nice value of model calls and decoding on Linux. Higher values favour the "
        "event loop.",
    )
    decode_threads: int = Field(
        0,
        ge=0,
        le=256,
        description="Threads that only decode. 0: one per core, or none if calls use one core.",
    )
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        "auto",
        description="Number format for torch. auto: bf16 or fp16 on a GPU if as accurate as fp32.",
    )
    max_micro_batch_size: int = Field(
        0,
        ge=0,
        le=512,
        description="Maximum size of a micro-batch; each model finds its best. 0: 16, GPU: 64.",
    )
    max_queued: int = Field(
        256,
        ge=1,
        le=1_000_000,
        description="Maximum number of images per model that wait or are being classified.",
    )
    max_queued_bytes: int = Field(
        256 * 2**20, ge=1, description="Maximum size of these images, in encoded bytes."
    )
    max_delay_ms: float = Field(
        0.0,
        ge=0,
        le=1000,
        description="Maximum time that a micro-batch waits for more images while a runner is free, "
        "in milliseconds.",
    )
    hold_ms: float = Field(
        80.0,
        ge=0,
        le=1000,
        description="Maximum time that answers are held under load, in milliseconds.",
    )
    lane_share: float = Field(
        0.1,
        ge=0,
        le=1,
        description="Share of the images taken from lane BATCH while INTERACTIVE waits too.",
    )
    lane_queued_share: float = Field(
        0.5, gt=0, le=1, description="Share of max_queued that lane BATCH may fill."
    )
    stuck_s: float = Field(
        20.0,
        gt=0,
        le=3600,
        description="Maximum seconds of one model call. After that the server is not live.",
    )

    def micro_batch_limit(self, device: str) -> int:
        """Returns the maximum size of a micro-batch on `cpu` or `cuda`."""
        return self.max_micro_batch_size or (64 if device == "cuda" else 16)

    def decoders(self, device: str) -> int:
        """Returns the number of threads that only decode.

        If a model call uses one core, the runners decode: an image then stays in one thread, and in
        the caches of one core.  If another process makes the calls, the runners wait for it.
        """
        if self.decode_threads:
            return self.decode_threads
        if self.model_socket:
            return self.cores or cores()
        threads, _ = self.threads_and_runners()
        return 0 if device == "cpu" and threads == 1 else self.cores or cores()

    def threads_and_runners(self) -> tuple[int, int]:
        """Returns the cores of one model call on a CPU, and the number of concurrent calls.

        A call with several threads waits for the slowest one: on two cores, two calls with one
        thread each classify a fifth more images than one call with two.  A quarter of the cores for
        a call keeps a single image fast on large machines.
        """
        own = self.cores or cores()
        threads = self.model_threads or max(1, own // 4)
        return threads, self.runners or own // threads

    def without_single_images(self) -> Self:
        """Returns settings for a process that never has a call while no other image waits."""
        return self.model_copy(update={"single_image_threads": 1})

    def threads_for_single(self) -> int:
        """Returns the cores of a model call on a CPU while no other image waits."""
        return self.single_image_threads or self.cores or cores()


def cores() -> int:
    """Returns the number of cores that this process may use, at least 1."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
