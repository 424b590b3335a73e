"""Brings one model version from disk to READY: check, export, open, warm up."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from image_categorizer_server.domain.classification import Category, ModelRef
from image_categorizer_server.errors import OperatorError
from image_categorizer_server.inference.engine.admission import Bounds
from image_categorizer_server.inference.engine.dispatcher import Policy
from image_categorizer_server.inference.engine.guard import Guard
from image_categorizer_server.inference.engine.latency import LatencyTable
from image_categorizer_server.inference.engine.microbatcher import MicroBatcher
from image_categorizer_server.inference.engine.trace import Trace
from image_categorizer_server.inference.images.decode import Decoder
from image_categorizer_server.inference.images.localize import Localizer
from image_categorizer_server.inference.images.preprocess import Input, Preprocessor, sample_inputs
from image_categorizer_server.inference.models.export import WEIGHTS_FILE, ensure_export
from image_categorizer_server.inference.models.manifest import Manifest, damage
from image_categorizer_server.inference.models.warmup import warm_up
from image_categorizer_server.inference.runtimes import Answer, Precision, Runtime
from image_categorizer_server.inference.runtimes.fake import (
    FakePreprocessor,
    FakeRuntime,
    FakeTimes,
)
from image_categorizer_server.settings.inference import InferenceSettings
from image_categorizer_server.settings.model import ModelSettings
from image_categorizer_server.telemetry import get_log

log = get_log(__name__)
NVIDIA_DEVICE = Path("/dev/nvidiactl")


class Preparing(Protocol):
    """Makes a model's inputs; see `Preprocessor`."""

    def prepare(self, content: bytes) -> Input:
        """Returns the input for one encoded image."""
        ...


@dataclass(slots=True)
class LoadedModel:
    """A model version that answers."""

    ref: ModelRef
    categories: tuple[Category, ...]
    indices: dict[str, int]
    """Position of each category among the network's outputs."""
    preprocessor: Preparing
    runtime: Runtime
    batcher: MicroBatcher
    localizer: Localizer | None = None
    """None where the network cannot tell where a category is."""


class Loader:
    """Loads models for one device."""

    def __init__(
        self,
        decoder: Decoder,
        inference: InferenceSettings,
        models: ModelSettings,
        fake: FakeTimes | None = None,
        trace: Trace | None = None,
    ) -> None:
        """Configures the loader.

        Args:
            decoder: shared by all models.
            inference: sizes and threads.
            models: where exports are kept.
            fake: how the model `fake` behaves, where tests ask for it.
            trace: where images' ways are written down.
        """
        self._decoder = decoder
        self._inference = inference
        self._models = models
        self._fake = fake
        self._trace = trace

    async def load(self, folder: Path, manifest: Manifest) -> LoadedModel:
        """Returns the model, warm and serving.

        Raises:
            OperatorError: its files are damaged, transformers cannot load it, or its
                warm-up fails.
        """
        if wrong := await asyncio.to_thread(damage, folder, manifest):
            raise OperatorError(f"Its files are damaged: {wrong}.")
        if manifest.format == "fake":
            return self._loaded_fake(manifest)
        runtime, localizer = await self._open_runtime(folder, manifest)
        most = self._inference.micro_batch_limit(runtime.device)
        max_size, table = await asyncio.to_thread(warm_up, runtime, manifest, most)
        log.info(
            "warm", name=manifest.name, version=manifest.version, max_micro_batch_size=max_size
        )
        preprocessor = Preprocessor(self._decoder, manifest.input)
        loaded = self._loaded(manifest, preprocessor, runtime, max_size, table)
        loaded.localizer = localizer
        return loaded

    def _loaded_fake(self, manifest: Manifest) -> LoadedModel:
        if self._fake is None:
            raise OperatorError("CATEGORIZER_TEST__FAKE_MODEL does not ask for it.")
        preprocessor = FakePreprocessor(self._decoder, raw=self._fake.raw)
        size = self._inference.micro_batch_limit("cpu")
        return self._loaded(
            manifest,
            preprocessor,
            FakeRuntime(self._fake),
            size,
            LatencyTable(self._fake.call_times_s(size)),
        )

    def _loaded(
        self,
        manifest: Manifest,
        preprocessor: Preparing,
        runtime: Runtime,
        max_size: int,
        table: LatencyTable,
    ) -> LoadedModel:
        def predict(inputs: Sequence[NDArray[np.uint8]], with_features: bool) -> Answer:
            return runtime.predict(inputs, with_features=with_features)

        guard = Guard(predict, max_size)
        batcher = MicroBatcher(guard, table, policy(self._inference, runtime), self._trace)
        categories = manifest.domain_categories()
        return LoadedModel(
            ref=ModelRef(manifest.name, manifest.version, manifest.digest),
            categories=categories,
            indices={category.name: index for index, category in enumerate(categories)},
            preprocessor=preprocessor,
            runtime=runtime,
            batcher=batcher,
        )

    async def _open_runtime(
        self, folder: Path, manifest: Manifest
    ) -> tuple[Runtime, Localizer | None]:
        device = await asyncio.to_thread(choose_device, self._inference.device)
        if manifest.format == "onnx" and device != "cpu":
            log.warning("ONNX Runtime serves a model on the CPU", name=manifest.name)
            device = "cpu"
        if device == "cpu":
            cache, timeout_s = self._models.cache_path, self._models.export_timeout_s
            file, report = await ensure_export(folder, manifest, cache, timeout_s)
            if report.accepted:
                threads, runners = self._inference.threads_and_runners()
                runtime = await asyncio.to_thread(
                    open_onnx, file, threads, runners, manifest.precision
                )
                weights = file.parent / WEIGHTS_FILE
                localizer = Localizer.read(
                    report.localization, weights, manifest.input, self._decoder
                )
                return runtime, localizer
            log.warning(
                "torch serves a model in ONNX Runtime's place",
                name=manifest.name,
                reason=report.reason,
            )
        return await asyncio.to_thread(
            open_torch, folder, manifest, device, self._decoder, self._inference
        )


def policy(inference: InferenceSettings, runtime: Runtime) -> Policy:
    """Returns how a model on this runtime is fed."""
    bounds = Bounds(inference.max_queued, inference.max_queued_bytes, inference.lane_queued_share)
    return Policy(
        runners=runtime.runners,
        decoders=inference.decoders(runtime.device),
        niceness=inference.niceness,
        max_delay_s=inference.max_delay_ms / 1000,
        hold_s=inference.hold_ms / 1000,
        lane_share=inference.lane_share,
        bounds=bounds,
    )


def choose_device(wanted: str) -> str:
    """Returns `cpu` or `cuda`; imports torch only where there may be a GPU.

    Raises:
        OperatorError: a GPU is asked for and there is none.
    """
    if wanted == "cpu" or (wanted == "auto" and not NVIDIA_DEVICE.exists()):
        return "cpu"
    import torch

    if torch.cuda.is_available():
        return "cuda"
    if wanted == "cuda":
        raise OperatorError("CATEGORIZER_INFERENCE__DEVICE is cuda, but torch finds no GPU.")
    return "cpu"


def open_onnx(file: Path, threads: int, runners: int, precision: Precision) -> Runtime:
    """Returns a runtime on the CPU; blocks.

    Raises:
        OperatorError: this version of ONNX Runtime cannot run the graph.
    """
    from image_categorizer_server.inference.runtimes.onnx import OnnxRuntime

    try:
        return OnnxRuntime(file, threads, runners, precision)
    except Exception as error:  # noqa: BLE001 - ONNX Runtime's errors share no class of their own
        # Its text goes to clients too, so without the path that ONNX Runtime puts there.
        log.warning("ONNX Runtime cannot open a graph", file=str(file), error=str(error))
        raise OperatorError("ONNX Runtime cannot open its graph; the log says why.") from None


def open_torch(
    folder: Path, manifest: Manifest, device: str, decoder: Decoder, inference: InferenceSettings
) -> tuple[Runtime, Localizer | None]:
    """Returns a runtime by torch, and what tells places, if the network has it; blocks."""
    from image_categorizer_server.inference.runtimes import torch
    from image_categorizer_server.inference.runtimes.network import load_network

    spec = manifest.input
    runtime = torch.open_runtime(
        partial(load_network, folder, spec, manifest.activation),
        device,
        torch.precisions_for(inference.precision, device),
        sample_inputs(spec),
        spec,
    )
    if device == "cuda":
        runtime.use_buckets(torch.buckets_up_to(inference.micro_batch_limit(device)), spec)
    if runtime.located is None:
        return runtime, None
    weights = runtime.located.category_weights
    by_category = None if weights is None else weights.numpy()
    return runtime, Localizer(runtime.located.localization, by_category, spec, decoder)
