"""What a peer does with an image, in three forms.

    eager   as its users run it: transformers' image processor and network, eager torch
    onnx    the toughest comparison: decoding, preprocessing and ONNX Runtime of our server
    null    nothing, to measure the cost of serving

Environment variables: `PEER_FORM`, `PEER_FOLDER` (the model's Hugging Face folder or version
folder), `PEER_ONNX` (the exported network), `PEER_PORT`.
"""

import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

EAGER_BATCH_SIZE, ONNX_BATCH_SIZE = 16, 3
"""Maximum size of a micro-batch. For ONNX Runtime, about what our warm-up finds for MobileNetV2,
2 to 4."""
WAIT_MS = 2
"""Maximum time that a micro-batch waits for more images."""
LABEL = "category 0"


class Work(Protocol):
    """Processes images. `prepare` may run concurrently."""

    def prepare(self, content: bytes) -> Any:
        """Returns the decoded image."""

    def predict(self, prepared: Sequence[Any]) -> list[str]:
        """Returns the best label of each image."""


class Eager:
    """Transformers and torch, as in their documentation."""

    def __init__(self, folder: Path) -> None:
        import torch
        from transformers import AutoImageProcessor, AutoModelForImageClassification

        self._torch = torch
        self._processor = AutoImageProcessor.from_pretrained(folder)
        self._network = AutoModelForImageClassification.from_pretrained(folder).eval()

    def prepare(self, content: bytes) -> Any:
        from PIL import Image

        return Image.open(io.BytesIO(content)).convert("RGB")

    def predict(self, prepared: Sequence[Any]) -> list[str]:
        inputs = self._processor(images=list(prepared), return_tensors="pt")
        with self._torch.inference_mode():
            best = self._network(**inputs).logits.argmax(-1).tolist()
        return [self._network.config.id2label[index] for index in best]


class Onnx:
    """Decoding and runtime of our server."""

    def __init__(self, folder: Path, file: Path, threads: int) -> None:
        from image_categorizer_server.inference.images.decode import Decoder, ImageLimits
        from image_categorizer_server.inference.images.preprocess import Preprocessor
        from image_categorizer_server.inference.models.manifest import read_manifest
        from image_categorizer_server.inference.runtimes.onnx import OnnxRuntime

        manifest = read_manifest(folder)
        limits = ImageLimits(10 * 2**20, 50_000_000, 16_384, 100.0, 100)
        self._preprocessor = Preprocessor(Decoder(limits), manifest.input)
        self._runtime = OnnxRuntime(file, threads, 1)
        self._labels = [category.name for category in manifest.domain_categories()]

    def prepare(self, content: bytes) -> Any:
        return self._preprocessor.prepare(content).array

    def predict(self, prepared: Sequence[Any]) -> list[str]:
        best = self._runtime.predict(prepared).confidences.argmax(1).tolist()
        return [self._labels[index] for index in best]


class Null:
    """Answers without looking at the image."""

    def prepare(self, content: bytes) -> Any:
        return len(content)

    def predict(self, prepared: Sequence[Any]) -> list[str]:
        return [LABEL] * len(prepared)


def form() -> str:
    """Returns the form of the work."""
    return os.environ["PEER_FORM"]


def port() -> int:
    """Returns the port to listen on, at 127.0.0.1."""
    return int(os.environ["PEER_PORT"])


def max_batch_size() -> int:
    """Returns the maximum size of a micro-batch."""
    return ONNX_BATCH_SIZE if form() == "onnx" else EAGER_BATCH_SIZE


def workers() -> int:
    """Returns the number of processes or instances: one per core, as in our server.

    Eager torch uses all cores for a single call. Two would only compete.
    """
    return 1 if form() == "eager" else len(os.sched_getaffinity(0))


def work() -> Work:
    """Returns the work for the form. Takes seconds."""
    if form() == "null":
        return Null()
    folder = Path(os.environ["PEER_FOLDER"])
    if form() == "eager":
        return Eager(folder)
    return Onnx(folder, Path(os.environ["PEER_ONNX"]), threads=1)
