"""Loads a model version from disk: checks its files, exports, opens and warms it up."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from image_categorizer_server.domain.classification import (
    Category,
    ClassifyOptions,
    Digests,
    ModelRef,
    Prediction,
)
from image_categorizer_server.domain.model import Localization
from image_categorizer_server.errors import OperatorError
from image_categorizer_server.inference.engine.admission import Bounds
from image_categorizer_server.inference.engine.dispatcher import Policy
from image_categorizer_server.inference.engine.guard import Guard
from image_categorizer_server.inference.engine.latency import LatencyTable
from image_categorizer_server.inference.engine.microbatcher import MicroBatcher, give_way
from image_categorizer_server.inference.engine.trace import Trace
from image_categorizer_server.inference.images.decode import Decoder
from image_categorizer_server.inference.images.detect import DetectionLocalizer
from image_categorizer_server.inference.images.localize import Features, Localizer, Located
from image_categorizer_server.inference.images.preprocess import Input, Preprocessor, sample_inputs
from image_categorizer_server.inference.models.category_tree import CategoryTree
from image_categorizer_server.inference.models.centres import measure_offset
from image_categorizer_server.inference.models.digests import digests_of
from image_categorizer_server.inference.models.export import WEIGHTS_FILE, ensure_export
from image_categorizer_server.inference.models.manifest import Manifest, damage
from image_categorizer_server.inference.models.warmup import check_detections, find_whole, warm_up
from image_categorizer_server.inference.runtimes import Answer, Precision, Runtime
from image_categorizer_server.inference.runtimes.calibrated import CalibratedRuntime
from image_categorizer_server.inference.runtimes.fake import (
    FakePreprocessor,
    FakeRuntime,
    FakeTimes,
)
from image_categorizer_server.inference.runtimes.heap import trim_heap
from image_categorizer_server.inference.runtimes.remote import RemoteRuntime, open_remote
from image_categorizer_server.inference.runtimes.slots import Hello
from image_categorizer_server.settings.inference import NVIDIA_DEVICE, InferenceSettings
from image_categorizer_server.settings.model import ModelSettings
from image_categorizer_server.telemetry import get_log
from image_categorizer_server.telemetry.metrics import ModelMeter

log = get_log(__name__)
WARM_UP_S = 120.0
"""How long a model process may take for a model, in addition to its export."""
Result = TypeVar("Result")


class Preparing(Protocol):
    """Makes inputs for a model; see `Preprocessor`."""

    def prepare(
        self,
        content: bytes,
        *,
        with_picture: bool = False,
        with_whole: bool = False,
        with_stored: bool = False,
    ) -> Input:
        """Returns the input for an encoded image, and what else is requested."""
        ...


class Locating(Protocol):
    """Makes boxes and heat maps; see `Localizer` and `DetectionLocalizer`."""

    localization: Localization

    def locate(
        self,
        features: Features,
        seen: Input,
        predictions: list[Prediction],
        indices: Mapping[str, int],
        options: ClassifyOptions,
    ) -> Located:
        """Returns the predictions with boxes, and the heat map, as `options` request; blocks."""
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
    localizer: Locating | None
    """None if the network cannot locate categories."""
    features_bytes: int
    """Size of what a detector answers for one image; 0 for other networks, whose features are
    small."""
    whole_bytes: int
    """About the size of an input with the whole picture; 0 if the network cannot see that."""
    tree: CategoryTree
    """Its categories, and the broader ones above them."""
    digests: Digests
    roll_up: RollUp
    """What requests mean that do not say."""
    close: Callable[[], None]
    """Frees what belongs to the model outside this process; call it once the batcher has
    stopped."""


@dataclass(frozen=True, slots=True)
class Warm:
    """A runtime that is warm, and what its warm-up has found."""

    runtime: Runtime
    max_size: int
    """Of a micro-batch."""
    table: LatencyTable
    localizer: Locating | None = None
    """None if the network cannot locate categories."""
    features_bytes: int = 0
    """See `LoadedModel`, as for `whole_bytes`."""
    whole_bytes: int = 0


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
        preprocessor = self._preprocessor(manifest)
        remote: RemoteRuntime | None = None
        if self._inference.model_socket:
            warm, remote = await self._handed_over(folder, manifest)
        else:
            warm = await self.warm(folder, manifest, niceness)
        runtime = warm.runtime
        guard = Guard(
            partial(_predict, runtime),
            warm.max_size,
            partial(_predict, runtime.for_single) if runtime.for_single else None,
            remote.report_broken if remote else None,
        )
        if remote:
            remote.watch(guard.mark_broken)
        categories = manifest.domain_categories()
        tree = CategoryTree(manifest.categories, manifest.activation)
        return LoadedModel(
            ref=ModelRef(manifest.name, manifest.version, manifest.digest),
            categories=categories,
            indices={category.name: index for index, category in enumerate(categories)},
            preprocessor=preprocessor,
            runtime=runtime,
            batcher=MicroBatcher(
                guard,
                warm.table,
                policy(self._inference, runtime),
                ModelMeter(manifest.name, str(manifest.version)),
                self._trace,
            ),
            localizer=warm.localizer,
            features_bytes=warm.features_bytes,
            whole_bytes=warm.whole_bytes,
            tree=tree,
            digests=digests_of(manifest, tree),
            roll_up=RollUp(
                self._models.roll_up if manifest.roll_up is None else manifest.roll_up,
                self._models.roll_up_threshold,
            ),
            close=remote.close if remote else _nothing,
        )

    def _preprocessor(self, manifest: Manifest) -> Preparing:
        if manifest.format == "fake":
            return FakePreprocessor(self._decoder, raw=self._fake_times().raw)
        return Preprocessor(self._decoder, manifest.input)

    def _fake_times(self) -> FakeTimes:
        if self._fake is None:
            raise OperatorError("CATEGORIZER_TEST__FAKE_MODEL is not set.")
        return self._fake

    async def _handed_over(self, folder: Path, manifest: Manifest) -> tuple[Warm, RemoteRuntime]:
        """Has the model process load the model.

        Raises:
            OperatorError: it cannot, or there is no model process.
        """
        opened = await open_remote(
            self._inference.model_socket,
            hello_for(folder, manifest),
            load_s=self._models.export_timeout_s + WARM_UP_S,
            # Longer than a server that waits for a call is live.
            call_s=2 * self._inference.stuck_s,
        )
        offer = opened.offer
        localizer: Locating | None = None
        if manifest.detection:
            localizer = DetectionLocalizer(manifest.detection, manifest.input)
        elif offer.localization is not Localization.NONE:
            localizer = Localizer(
                offer.localization, opened.weights, manifest.input, offer.cell_offset
            )
        warm = Warm(
            opened.runtime,
            offer.max_size,
            LatencyTable(offer.calls_s),
            localizer,
            offer.features_bytes,
            offer.whole_bytes,
        )
        return warm, opened.runtime

    async def warm(self, folder: Path, manifest: Manifest, niceness: int = 0) -> Warm:
        """Opens a runtime in this process and warms it up.

        Args:
            folder: of the version.
            manifest: the folder's.
            niceness: of the warm-up, see nice(2).

        Raises:
            OperatorError: the model cannot be loaded, or its warm-up fails.
        """
        if manifest.format == "fake":
            times = self._fake_times()
            runtime: Runtime = FakeRuntime(times)
            size = self._inference.micro_batch_limit(runtime.device)
            return Warm(runtime, size, LatencyTable(times.call_times_s(size)))
        runtime, localizer = await self.open_runtime(folder, manifest)
        limit = self._inference.micro_batch_limit(runtime.device)
        features_bytes = whole_bytes = 0
        try:
            size, table = await _at_niceness(niceness, partial(warm_up, runtime, manifest, limit))
            if localizer and localizer.localization is Localization.CLASS_ACTIVATION:
                whole_bytes = await _at_niceness(
                    niceness, partial(find_whole, runtime, manifest.input)
                )
            if manifest.detection:
                features_bytes = await _at_niceness(
                    niceness, partial(check_detections, runtime, manifest)
                )
        finally:
            # The largest size is often not the best one.
            await asyncio.to_thread(trim_heap)
        log.info("warm", name=manifest.name, version=manifest.version, max_micro_batch_size=size)
        return Warm(runtime, size, table, localizer, features_bytes, whole_bytes)

    async def open_runtime(
        self, folder: Path, manifest: Manifest
    ) -> tuple[Runtime, Locating | None]:
        """Opens ONNX Runtime on a CPU and torch on a GPU; torch also if the export is rejected.

        Raises:
            OperatorError: transformers cannot load the model, or ONNX Runtime its graph.
        """
        runtime, localizer = await self._open_raw(folder, manifest)
        if manifest.is_calibrated:
            temperatures = manifest.category_temperatures()
            runtime = CalibratedRuntime(runtime, temperatures, manifest.activation)
        return runtime, localizer

    async def _open_raw(self, folder: Path, manifest: Manifest) -> tuple[Runtime, Locating | None]:
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
                single = self._inference.threads_for_single()
                runtime = await asyncio.to_thread(
                    open_onnx, file, threads, runners, manifest.precision, single
                )
                if manifest.detection:
                    return runtime, DetectionLocalizer(manifest.detection, manifest.input)
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


def _predict(runtime: Runtime, inputs: Sequence[NDArray[np.uint8]], with_features: bool) -> Answer:
    return runtime.predict(inputs, with_features=with_features)


def hello_for(folder: Path, manifest: Manifest) -> Hello:
    """Returns what asks the model process for a version."""
    return Hello(folder=str(folder.resolve()), manifest_sha256=manifest.sha256())


def _nothing() -> None:
    """Frees nothing: the model is in this process."""


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


def open_onnx(
    file: Path, threads: int, runners: int, precision: Precision, single_image_threads: int = 0
) -> Runtime:
    """Returns a runtime on the CPU, see `OnnxRuntime`; blocks.

    Raises:
        OperatorError: this version of ONNX Runtime cannot run the graph.
    """
    from image_categorizer_server.inference.runtimes.onnx import OnnxRuntime

    try:
        return OnnxRuntime(file, threads, runners, precision, single_image_threads)
    except Exception as error:  # noqa: BLE001 - ONNX Runtime's errors have no common class
        # Clients see this message, so it omits the path that ONNX Runtime's own message contains.
        log.warning("ONNX Runtime cannot open a graph", file=str(file), error=str(error))
        raise OperatorError("ONNX Runtime cannot open its graph; the log says why.") from None


def open_torch(
    folder: Path, manifest: Manifest, device: str, inference: InferenceSettings
) -> tuple[Runtime, Locating | None]:
    """Returns a torch runtime, and a localizer if the network has features for it; blocks."""
    from image_categorizer_server.inference.runtimes import torch
    from image_categorizer_server.inference.runtimes.network import load_network

    spec = manifest.input
    runtime = torch.open_runtime(
        partial(
            load_network,
            folder,
            spec,
            manifest.activation,
            manifest.architecture,
            manifest.detection,
        ),
        device,
        torch.precisions_for(inference.precision, device),
        sample_inputs(spec),
        spec,
    )
    if device == "cuda":
        runtime.use_buckets(torch.buckets_up_to(inference.micro_batch_limit(device)), spec)
    if manifest.detection:
        return runtime, DetectionLocalizer(manifest.detection, spec)
    if runtime.located is None:
        return runtime, None
    located = runtime.located
    if located.category_weights is None:
        return runtime, Localizer(located.localization, None, spec)
    weights = located.category_weights.numpy()
    # Ours is known better than by measuring: see `Variant.cell_offset`.
    offset = manifest.cell_offset if manifest.architecture else measure_offset(runtime, spec)
    return runtime, Localizer(located.localization, weights, spec, offset)
