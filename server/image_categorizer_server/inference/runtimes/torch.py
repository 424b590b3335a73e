"""The torch runtime: on a GPU, or on a CPU for networks whose export to ONNX is rejected.

    inputs ─▶ page-locked memory ─▶ GPU memory ─▶ recorded calls of a bucket ─▶ confidences

Python takes longer to launch the kernels of a small micro-batch than the GPU takes to run them.
So the kernels are recorded once for each of a few sizes, the buckets, and replayed with one call
(CUDA graphs).  A micro-batch uses the smallest bucket that it fits into; the rest of the bucket
keeps old data.

Import this module late: torch and transformers take seconds to import.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from image_categorizer_server.inference.images.preprocess import InputSpec
from image_categorizer_server.inference.runtimes import Answer, Precision, Wanted
from image_categorizer_server.inference.runtimes.features import WithFeatures, find_features
from image_categorizer_server.inference.runtimes.network import Network
from image_categorizer_server.telemetry import get_log

log = get_log(__name__)
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
# Largest accepted difference of a confidence from fp32, on synthetic inputs.  MobileNetV2 has 0.11
# in bf16 and 0.018 in fp16, DeiT-tiny 0.0004 and 0.0001; on 48 photographs 0.20 and 0.033, and
# 0.022 and 0.002.
MAX_DIFFERENCE = 0.02
CALLS_BEFORE_RECORDING = 3  # in the first calls, libraries select kernels and allocate memory


class TorchRuntime:
    """Runs a network with torch; see `Runtime`."""

    name = "torch"
    runners = 1
    for_single = None

    def __init__(
        self,
        network: Network,
        device: str,
        precision: Precision = "fp32",
        located: WithFeatures | None = None,
    ) -> None:
        """Moves the network to the device; blocks.

        Args:
            network: in float32, on the CPU.
            device: `cpu` or `cuda`.
            precision: the number format for computing; not int8.
            located: the same network with its features, if it has any.
        """
        self.device = device
        self.precision: Precision = precision
        self.located = located
        network.compute_in(DTYPES[precision])
        self._network = network.to(device)
        if device == "cuda":  # inputs are NHWC in memory, and convolutions are faster on that
            network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._stream: torch.cuda.Stream | None = None
        if device == "cuda":
            self._stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        self._buckets: list[_Bucket] = []

    def use_buckets(self, sizes: Sequence[int], spec: InputSpec) -> None:
        """Makes buckets for micro-batches, recorded on a GPU; blocks.

        If memory runs out, or a network cannot be recorded, larger micro-batches run without one.

        Args:
            sizes: ascending.
            spec: the shape of the inputs.
        """
        pool = torch.cuda.graph_pool_handle() if self._stream else None
        for size in sizes:
            try:
                bucket = _Bucket(self._network, (size, spec.height_px, spec.width_px, 3))
                if self._stream is not None:
                    bucket.record(self._stream, pool)
            except RuntimeError as error:
                reason = str(error).splitlines()[0]
                log.warning("micro-batches run unrecorded", from_size=size, reason=reason)
                return
            self._buckets.append(bucket)

    def predict(
        self, inputs: Sequence[NDArray[np.uint8]], *, with_features: bool = False
    ) -> Answer:
        """Returns the answer; see `Runtime.predict`."""
        with torch.inference_mode(), torch.cuda.stream(self._stream):
            if with_features and self.located is not None:
                confidences, features = self.located(self._moved(inputs))
                return Answer(confidences.cpu().numpy(), features.cpu().numpy())
            for bucket in self._buckets:
                if len(inputs) <= bucket.size:
                    return Answer(bucket.run(inputs))
            return Answer(self._network(self._moved(inputs)).cpu().numpy())

    def _moved(self, inputs: Sequence[NDArray[np.uint8]]) -> torch.Tensor:
        return torch.from_numpy(np.stack(inputs)).to(self.device)


class _Bucket:
    """Calls of one size, with buffers at fixed addresses; recorded on a GPU."""

    def __init__(self, network: Network, shape: tuple[int, ...]) -> None:
        """Allocates memory for inputs uint8 of `shape`, (N, H, W, 3)."""
        self.size = shape[0]
        self._network = network
        self._graph: torch.cuda.CUDAGraph | None = None
        self._inputs = torch.zeros(shape, dtype=torch.uint8, device=network.scale.device)
        self._host = torch.zeros(shape, dtype=torch.uint8, pin_memory=self._inputs.is_cuda)
        self._view = self._host.numpy()

    @torch.inference_mode()
    def record(self, stream: torch.cuda.Stream, pool: "torch.cuda._POOL_HANDLE | None") -> None:
        """Records the call.

        Args:
            stream: the stream that replays it.
            pool: memory that all buckets share.  They never run at the same time, and answers are
                copied out before the next call.
        """
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(CALLS_BEFORE_RECORDING):
                self._network(self._inputs)
        stream.synchronize()
        graph = torch.cuda.CUDAGraph()
        # Other threads may run other models meanwhile; only this thread must do nothing else.
        with torch.cuda.graph(graph, pool, stream, capture_error_mode="thread_local"):
            self._outputs = self._network(self._inputs)
        self._graph = graph

    def run(self, inputs: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Returns confidences float32 (N, C) for N inputs, N at most `size`; blocks."""
        count = len(inputs)
        np.stack(inputs, out=self._view[:count])
        self._inputs.copy_(self._host, non_blocking=True)
        if self._graph is None:
            self._outputs = self._network(self._inputs)
        else:
            self._graph.replay()
        # Waits for the GPU; afterwards both buffers are free.
        confidences: NDArray[np.float32] = self._outputs[:count].cpu().numpy()
        return confidences


def open_runtime(
    load: Callable[[], Network],
    device: str,
    precisions: Sequence[Precision],
    samples: Sequence[NDArray[np.uint8]],
    spec: InputSpec,
) -> TorchRuntime:
    """Returns a runtime with the first precision whose confidences equal those of fp32; blocks.

    Args:
        load: returns the network, in float32, on the CPU.
        device: `cpu` or `cuda`.
        precisions: in the order of preference; the last is used without comparison.
        samples: inputs to compare with.
        spec: the shape of the inputs.
    """
    for precision in precisions:
        network = load()
        located = find_features(network, samples, spec)
        expected = TorchRuntime(network, "cpu").predict(samples).confidences
        runtime = TorchRuntime(network, device, precision, located)
        difference = float(np.abs(runtime.predict(samples).confidences - expected).max())
        if difference <= MAX_DIFFERENCE:
            break
        log.warning("confidences differ from fp32", precision=precision, difference=difference)
    return runtime


def precisions_for(wanted: Wanted, device: str) -> list[Precision]:
    """Returns the precisions to try, the best first.

    On a GPU `auto` tries bf16, which has the range of fp32, then fp16, which is eight times as
    precise: some networks need the range, some the precision.
    """
    if wanted != "auto":
        return [wanted]
    if device != "cuda":
        return ["fp32"]
    has_bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
    return ["bf16", "fp16", "fp32"] if has_bf16 else ["fp16", "fp32"]


def buckets_up_to(max_size: int) -> list[int]:
    """Returns the powers of two below `max_size`, and `max_size`."""
    doubling = [1 << power for power in range(max_size.bit_length())]
    return sorted({*(size for size in doubling if size < max_size), max_size})
