"""Loads a model version from disk: checks its files, exports, opens and warms it up."""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from image_categorizer_server.domain.classification import Category, ModelRef
from image_categorizer_server.domain.model import Localization
from image_categorizer_server.errors import OperatorError
from image_categorizer_server.inference.engine.admission import Bounds
from image_categorizer_server.inference.engine.dispatcher import Policy
from image_categorizer_server.inference.engine.guard import Guard
from image_categorizer_server.inference.engine.latency import LatencyTable
from image_categorizer_server.inference.engine.microbatcher import MicroBatcher, give_way
from image_categorizer_server.inference.engine.trace import Trace
from image_categorizer_server.inference.images.decode import Decoder
from image_categorizer_server.inference.images.localize import Localizer
from image_categorizer_server.inference.images.preprocess import Input, Preprocessor, sample_inputs
from image_categorizer_server.inference.models.category_tree import CategoryTree
from image_categorizer_server.inference.models.centres import measure_offset
from image_categorizer_server.inference.models.export import WEIGHTS_FILE, ensure_export
from image_categorizer_server.inference.models.manifest import Manifest, damage
from image_categorizer_server.inference.models.warmup import find_whole, warm_up
from image_categorizer_server.inference.runtimes import Answer, Precision, Runtime
from image_categorizer_server.inference.runtimes.calibrated import CalibratedRuntime
from image_categorizer_server.inference.runtimes.fake import (
    FakePreprocessor,
    FakeRuntime,
    FakeTimes,
)
from image_categorizer_server.inference.runtimes.heap import trim_heap
from image_categorizer_server.settings.inference import NVIDIA_DEVICE, InferenceSettings
from image_categorizer_server.settings.model import ModelSettings
from image_categorizer_server.telemetry import get_log

log = get_log(__name__)
Result = TypeVar("Result")


class Preparing(Protocol):
    """Makes inputs for a model; see `Preprocessor`."""

    def prepare(
        self, content: bytes, *, with_picture: bool = False, with_whole: bool = False
    ) -> Input:
        """Returns the input for an encoded image, and what else is requested."""
        ...


@dataclass(frozen=True, slots=True)
class RollUp:
    """Defaults for requests; see `ClassifyOptions.roll_up` in classify.proto."""

    is_default: bool
    threshold: float


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model version that is ready to answer."""

    ref: ModelRef
    categories: tuple[Category, ...]
    indices: dict[str, int]
    """Position of each category among the network's outputs."""
    preprocessor: Preparing
    runtime: Runtime
    batcher: MicroBatcher
    localizer: Localizer | None
    """None if the network cannot locate categories."""
    whole_bytes: int
    """About the size of an input with the whole picture; 0 if the network cannot see that."""
    tree: CategoryTree
    """Its categories, and the broader ones above them."""
    roll_up: RollUp
    """What requests mean that do not say."""


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
            models: where exports are kept, and defaults of requests.
            fake: call times of the model `fake`; None if there is no such model.
            trace: records what happens to each image; None records nothing.
        """
        self._decoder = decoder
        self._inference = inference
        self._models = models
        self._fake = fake
        self._trace = trace
        self.bounds = bounds_of(inference)
        """On the images that wait for one model."""

    async def load(self, folder: Path, manifest: Manifest, niceness: int = 0) -> LoadedModel:
        """Returns the model, warmed up and with its threads running.

        Args:
            folder: of the version.
            manifest: of the version.
            niceness: of the warm-up; see `give_way`.

        Raises:
            OperatorError: its files are damaged, transformers cannot load it, or its warm-up fails.
        """
        try:
            wrong = await asyncio.to_thread(damage, folder, manifest)
        except OSError as error:
            raise OperatorError(f"Its files cannot be read: {error.strerror}.") from None
        if wrong:
            raise OperatorError(f"Its files are damaged: {wrong}.")
        localizer: Localizer | None = None
        whole_bytes = 0
        preprocessor: Preparing
        runtime: Runtime
        if manifest.format == "fake":
            if self._fake is None:
                raise OperatorError("CATEGORIZER_TEST__FAKE_MODEL is not set.")
            runtime = FakeRuntime(self._fake)
            preprocessor = FakePreprocessor(self._decoder, raw=self._fake.raw)
            size = self._inference.micro_batch_limit(runtime.device)
            table = LatencyTable(self._fake.call_times_s(size))
        else:
            runtime, localizer = await self.open_runtime(folder, manifest)
            preprocessor = Preprocessor(self._decoder, manifest.input)
            limit = self._inference.micro_batch_limit(runtime.device)
            try:
                size, table = await _at_niceness(
                    niceness, partial(warm_up, runtime, manifest, limit)
                )
                if localizer and localizer.localization is Localization.CLASS_ACTIVATION:
                    whole_bytes = await _at_niceness(
                        niceness, partial(find_whole, runtime, manifest.input)
                    )
            finally:
                # The largest size is often not the best one.
                await asyncio.to_thread(trim_heap)
            log.info(
                "warm", name=manifest.name, version=manifest.version, max_micro_batch_size=size
            )

        def predict(inputs: Sequence[NDArray[np.uint8]], with_features: bool) -> Answer:
            return runtime.predict(inputs, with_features=with_features)

        guard = Guard(predict, size)
        categories = manifest.domain_categories()
        return LoadedModel(
            ref=ModelRef(manifest.name, manifest.version, manifest.digest),
            categories=categories,
            indices={category.name: index for index, category in enumerate(categories)},
            preprocessor=preprocessor,
            runtime=runtime,
            batcher=MicroBatcher(guard, table, policy(self._inference, runtime), self._trace),
            localizer=localizer,
            whole_bytes=whole_bytes,
            tree=CategoryTree(manifest.categories, manifest.activation),
            roll_up=RollUp(
                self._models.roll_up if manifest.roll_up is None else manifest.roll_up,
                self._models.roll_up_threshold,
            ),
        )

    async def open_runtime(
        self, folder: Path, manifest: Manifest
    ) -> tuple[Runtime, Localizer | None]:
        """Opens ONNX Runtime on a CPU and torch on a GPU; torch also if the export is rejected.

        Raises:
            OperatorError: transformers cannot load the model, or ONNX Runtime its graph.
        """
        runtime, localizer = await self._open_raw(folder, manifest)
        if manifest.is_calibrated:
            temperatures = manifest.category_temperatures()
            runtime = CalibratedRuntime(runtime, temperatures, manifest.activation)
        return runtime, localizer

    async def _open_raw(self, folder: Path, manifest: Manifest) -> tuple[Runtime, Localizer | None]:
        """Opens a runtime without temperatures; see `open_runtime`."""
        device = await asyncio.to_thread(choose_device, self._inference.device)
        if manifest.format == "onnx" and not manifest.architecture and device != "cpu":
            log.warning("an ONNX model runs on the CPU", name=manifest.name)
            device = "cpu"
        if device == "cpu":
            cache, timeout_s = self._models.cache_path, self._models.export_timeout_s
            try:
                file, report = await ensure_export(folder, manifest, cache, timeout_s)
            except OperatorError as error:
                # Clients see the message of a failed load, so it omits the path.
                log.warning("a model cannot be exported", name=manifest.name, reason=str(error))
                raise OperatorError(
                    "transformers cannot load it, or its export took too long; the log says why."
                ) from None
            if report.accepted:
                threads, runners = self._inference.threads_and_runners()
                runtime = await asyncio.to_thread(
                    open_onnx, file, threads, runners, manifest.precision
                )
                weights = file.parent / WEIGHTS_FILE
                localizer = Localizer.read(
                    report.localization, weights, manifest.input, report.cell_offset
                )
                return runtime, localizer
            log.warning(
                "torch runs a model instead of ONNX Runtime",
                name=manifest.name,
                reason=report.reason,
            )
        return await asyncio.to_thread(open_torch, folder, manifest, device, self._inference)


async def _at_niceness(niceness: int, work: Callable[[], Result]) -> Result:
    """Returns what blocking work returns, done in a new thread: none regains its priority."""
    pool = ThreadPoolExecutor(1, initializer=give_way, initargs=(niceness,))
    try:
        return await asyncio.get_running_loop().run_in_executor(pool, work)
    finally:
        pool.shutdown(wait=False)


def policy(inference: InferenceSettings, runtime: Runtime) -> Policy:
    """Returns the policy of the micro-batcher for a model on this runtime."""
    return Policy(
        runners=runtime.runners,
        decoders=inference.decoders(runtime.device),
        niceness=inference.niceness,
        max_delay_s=inference.max_delay_ms / 1000,
        hold_s=inference.hold_ms / 1000,
        lane_share=inference.lane_share,
        bounds=bounds_of(inference),
    )


def bounds_of(inference: InferenceSettings) -> Bounds:
    """Returns the bounds on the images that wait for one model."""
    return Bounds(inference.max_queued, inference.max_queued_bytes, inference.lane_queued_share)


def choose_device(wanted: str) -> str:
    """Returns `cpu` or `cuda`; imports torch only if there may be a GPU.

    Raises:
        OperatorError: a GPU is required and there is none.
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
    except Exception as error:  # noqa: BLE001 - ONNX Runtime's errors have no common class
        # Clients see this message, so it omits the path that ONNX Runtime's own message contains.
        log.warning("ONNX Runtime cannot open a graph", file=str(file), error=str(error))
        raise OperatorError("ONNX Runtime cannot open its graph; the log says why.") from None


def open_torch(
    folder: Path, manifest: Manifest, device: str, inference: InferenceSettings
) -> tuple[Runtime, Localizer | None]:
    """Returns a torch runtime, and a localizer if the network has features for it; blocks."""
    from image_categorizer_server.inference.runtimes import torch
    from image_categorizer_server.inference.runtimes.network import load_network

    spec = manifest.input
    runtime = torch.open_runtime(
        partial(load_network, folder, spec, manifest.activation, manifest.architecture),
        device,
        torch.precisions_for(inference.precision, device),
        sample_inputs(spec),
        spec,
    )
    if device == "cuda":
        runtime.use_buckets(torch.buckets_up_to(inference.micro_batch_limit(device)), spec)
    if runtime.located is None:
        return runtime, None
    located = runtime.located
    if located.category_weights is None:
        return runtime, Localizer(located.localization, None, spec)
    weights = located.category_weights.numpy()
    # Ours is known better than by measuring: see `Variant.cell_offset`.
    offset = manifest.cell_offset if manifest.architecture else measure_offset(runtime, spec)
    return runtime, Localizer(located.localization, weights, spec, offset)
