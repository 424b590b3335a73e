"""Brings one model version from disk to READY: check, export, open, warm up."""

import asyncio
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path

from image_categorizer_server.domain import Category, ModelRef
from image_categorizer_server.errors import OperatorError
from image_categorizer_server.inference.decode import Decoder
from image_categorizer_server.inference.export import ensure_export
from image_categorizer_server.inference.manifest import Manifest, damage
from image_categorizer_server.inference.microbatcher import MicroBatcher
from image_categorizer_server.inference.preprocess import Preprocessor
from image_categorizer_server.inference.runtimes import Runtime
from image_categorizer_server.inference.warmup import warm_up
from image_categorizer_server.setting_groups import InferenceSettings, ModelSettings
from image_categorizer_server.telemetry import get_log

log = get_log(__name__)
NVIDIA_DEVICE = Path("/dev/nvidiactl")


@dataclass(slots=True)
class LoadedModel:
    """A model version that answers."""

    ref: ModelRef
    categories: tuple[Category, ...]
    indices: dict[str, int]
    """Position of each category among the network's outputs."""
    preprocessor: Preprocessor
    runtime: Runtime
    batcher: MicroBatcher


class Loader:
    """Loads models for one device."""

    def __init__(
        self,
        decoder: Decoder,
        inference: InferenceSettings,
        models: ModelSettings,
        decode_pool: Executor,
    ) -> None:
        """Configures the loader.

        Args:
            decoder: shared by all models.
            inference: sizes and threads.
            models: where exports are kept.
            decode_pool: where images become inputs.
        """
        self._decoder = decoder
        self._inference = inference
        self._models = models
        self._decode_pool = decode_pool

    async def load(self, folder: Path, manifest: Manifest) -> LoadedModel:
        """Returns the model, warm and serving.

        Raises:
            OperatorError: expected; its files are damaged, transformers cannot load it, or its
                warm-up fails.
        """
        if wrong := await asyncio.to_thread(damage, folder, manifest):
            raise OperatorError(f"Its files are damaged: {wrong}.")
        runtime = await self._open_runtime(folder, manifest)
        max_size = await asyncio.to_thread(
            warm_up, runtime, manifest, self._inference.max_batch_size
        )
        log.info("warm", name=manifest.name, version=manifest.version, max_batch_size=max_size)
        batcher = MicroBatcher(
            runtime.predict,
            self._decode_pool,
            max_size=max_size,
            max_queued=self._inference.max_queued,
            runners=runtime.runners,
        )
        categories = manifest.domain_categories()
        return LoadedModel(
            ref=ModelRef(manifest.name, manifest.version, manifest.digest),
            categories=categories,
            indices={category.name: index for index, category in enumerate(categories)},
            preprocessor=Preprocessor(self._decoder, manifest.input),
            runtime=runtime,
            batcher=batcher,
        )

    async def _open_runtime(self, folder: Path, manifest: Manifest) -> Runtime:
        device = await asyncio.to_thread(choose_device, self._inference.device)
        if device == "cpu":
            cache, timeout_s = self._models.cache_path, self._models.export_timeout_s
            file, verdict = await ensure_export(folder, manifest, cache, timeout_s)
            if verdict.accepted:
                threads, runners = self._inference.threads_and_runners()
                return await asyncio.to_thread(open_onnx, file, threads, runners)
            log.warning(
                "torch serves a model in ONNX Runtime's place",
                name=manifest.name,
                reason=verdict.reason,
            )
        return await asyncio.to_thread(open_torch, folder, manifest, device)


def choose_device(wanted: str) -> str:
    """Returns `cpu` or `cuda`; imports torch only where there may be a GPU.

    Raises:
        OperatorError: expected; a GPU is asked for and there is none.
    """
    if wanted == "cpu" or (wanted == "auto" and not NVIDIA_DEVICE.exists()):
        return "cpu"
    import torch

    if torch.cuda.is_available():
        return "cuda"
    if wanted == "cuda":
        raise OperatorError("CATEGORIZER_INFERENCE__DEVICE is cuda, but torch finds no GPU.")
    return "cpu"


def open_onnx(file: Path, threads: int, runners: int) -> Runtime:
    """Returns a runtime on the CPU; blocks."""
    from image_categorizer_server.inference.runtimes.onnx import OnnxRuntime

    return OnnxRuntime(file, threads, runners)


def open_torch(folder: Path, manifest: Manifest, device: str) -> Runtime:
    """Returns a runtime by torch; blocks."""
    from image_categorizer_server.inference.runtimes.torch import TorchRuntime, load_network

    return TorchRuntime(load_network(folder, manifest.input, manifest.activation), device)
