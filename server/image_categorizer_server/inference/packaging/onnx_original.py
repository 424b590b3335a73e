"""Runs a user's graph and the one that is served, in ONNX Runtime, and compares them."""

import itertools
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

from image_categorizer_server.domain.model import Activation
from image_categorizer_server.errors import OperatorError
from image_categorizer_server.inference.images.detect import Detection
from image_categorizer_server.inference.images.preprocess import InputSpec
from image_categorizer_server.inference.models.export import MAX_DIFFERENCE
from image_categorizer_server.inference.packaging.foreign import is_own
from image_categorizer_server.inference.packaging.onnx_graph import (
    LUMA,
    PictureInput,
    can_scan,
    scales_by_batch,
)
from image_categorizer_server.inference.runtimes.onnx import INPUT

FATAL_ONLY = 4
MAX_REASON = 300
RUNTIME_CODE = re.compile(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ")
MAX_BATCH, BATCH_BYTES = 8, 32 * 2**20


class Made(NamedTuple):
    """What is served of a user's graph."""

    spec: InputSpec
    activation: Activation
    detection: Detection | None
    """Of a detector."""
    is_batched: bool
    """Whether it takes all pictures of a batch together; else it is called once for each."""
    notes: list[str]
    """What was assumed."""
    test: str
    """How the self-test ended."""


@dataclass(frozen=True)
class Original:
    """The user's own graph in ONNX Runtime; it gets one picture at a time."""

    file: Path
    model: onnx.ModelProto
    source: PictureInput
    outputs: tuple[str, ...]

    @cached_property
    def _session(self) -> onnxruntime.InferenceSession:
        return session(self.model.SerializeToString())

    def input_of(self, scaled: NDArray[np.float32]) -> NDArray[np.generic]:
        """Returns the input of the graph for a scaled picture, float (H, W, 3)."""
        source, picture = self.source, scaled
        if source.channels == 1:
            picture = (picture @ np.array(LUMA, np.float32))[..., None]
            picture = picture + np.float32(0.5) if source.takes_bytes else picture
        elif source.is_bgr:
            picture = picture[..., ::-1]
        if source.layout == "NCHW":
            picture = picture.transpose(2, 0, 1)
        kind = onnx.helper.tensor_dtype_to_np_dtype(source.element)
        return np.repeat(picture[None].astype(kind), source.batch or 1, axis=0)

    def numbers(self, inputs: Iterable[NDArray[np.generic]]) -> NDArray[np.float32]:
        """Returns what the first output of the graph answers, a row for each input.

        Raises:
            OperatorError: it fails, answers no numbers, or rows of different lengths.
        """
        (first, *_) = self.answers(inputs)
        return first.reshape(len(first), -1)

    def answers(self, inputs: Iterable[NDArray[np.generic]]) -> list[NDArray[np.float32]]:
        """Returns what each output of the graph answers, a row for each input.

        Raises:
            OperatorError: it fails, answers no numbers, or rows of different shapes.
        """
        try:
            rows = [self._row(values) for values in inputs]
        except OperatorError:
            raise
        except Exception as error:  # ONNX Runtime's errors have no common class
            if is_own(error):
                raise
            raise OperatorError(
                f"ONNX Runtime cannot run {self.file}: {first_line(error)}"
            ) from None
        return [self._together(found) for found in zip(*rows, strict=True)]

    def _together(self, rows: Sequence[NDArray[np.generic]]) -> NDArray[np.float32]:
        if len({row.shape for row in rows}) != 1:
            raise OperatorError(f"{self.file} returns rows of different lengths.")
        numbers = np.stack(rows).astype(np.float32)
        if not np.isfinite(numbers).all():
            raise OperatorError(
                f"{self.file} returns numbers that are not finite (NaN or infinity): its weights "
                "are damaged, or it overflows."
            )
        return numbers

    def _row(self, values: NDArray[np.generic]) -> list[NDArray[np.generic]]:
        found = map(np.asarray, self._session.run(self.outputs, {self.source.name: values}))
        return [self._first(answer, len(values)) for answer in found]

    def _first(self, answer: NDArray[np.generic], batch: int) -> NDArray[np.generic]:
        if answer.ndim == 0 or answer.shape[0] != batch:
            shape = " x ".join(map(str, answer.shape)) or "one number"
            raise OperatorError(
                f"{self.file} returns {shape} for a batch of {batch}, not a row for each picture."
            )
        row: NDArray[np.generic] = answer[0]
        return row


class Served:
    """The graph that will be served, in ONNX Runtime."""

    def __init__(self, file: Path) -> None:
        self._session = session(file)
        self.names = [output.name for output in self._session.get_outputs()]

    def __call__(self, inputs: Sequence[NDArray[np.uint8]]) -> dict[str, NDArray[np.float32]]:
        """Returns each output for inputs (H, W, 3), a row for each."""
        found = self._session.run(self.names, {INPUT: np.stack(inputs)})
        return dict(zip(self.names, found, strict=True))


def write_served(
    original: Original,
    make: Callable[[bool], onnx.ModelProto],
    file: Path,
    samples: Sequence[NDArray[np.uint8]],
    expected: Mapping[str, NDArray[np.float32]],
) -> bool:
    """Writes a graph that answers like the original, for one image and for several.

    Args:
        original: the user's graph.
        make: returns the graph to serve; takes whether it calls the user's for one picture at a
            time.
        file: where to write it.
        samples: inputs of the graph to serve.
        expected: what each of its outputs should be for them.

    Returns:
        Whether it takes all pictures of a batch together; else it is called once for each.

    Raises:
        OperatorError: no graph does.
    """
    wrong: str | None = "the scale of its 8-bit numbers depends on the whole batch"
    if not scales_by_batch(original.model):
        onnx.save_model(make(False), file)
        wrong = _difference(file, samples, expected)
    if wrong is None:
        return True
    if can_scan(original.model, original.source):
        onnx.save_model(make(True), file)
        if (still := _difference(file, samples, expected)) is None:
            return False
        wrong = still
    batch = original.source.batch
    remedy = f"export it with a dynamic batch size instead of {batch}" if batch else wrong
    raise OperatorError(f"The graph cannot be served in batches of any size: {remedy}.")


def _difference(
    file: Path,
    samples: Sequence[NDArray[np.uint8]],
    expected: Mapping[str, NDArray[np.float32]],
) -> str | None:
    """Returns how a served graph differs from the original; None if it answers alike."""
    batch = min(max(BATCH_BYTES // samples[0].nbytes, 2), MAX_BATCH)
    starts = [0, *range(1, len(samples), batch), len(samples)]
    try:
        served = Served(file)
        parts = [served(samples[start:end]) for start, end in itertools.pairwise(starts)]
        answered = {name: np.concatenate([part[name] for part in parts]) for name in expected}
    except Exception as error:  # ONNX Runtime's errors have no common class
        if is_own(error):
            raise
        return first_line(error)
    for name, wanted in expected.items():
        if answered[name].shape != wanted.shape:
            return f"it answers {len(samples)} pictures with {answered[name].shape[0]} rows"
        difference = float(np.abs(answered[name] - wanted).max())
        if not difference <= MAX_DIFFERENCE:  # also where it is not a number
            return f"{name} differ by up to {difference:.2g} from those for one picture"
    return None


def session(graph: Path | bytes) -> onnxruntime.InferenceSession:
    """Returns a session that prints nothing to standard error: its exceptions say the same."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = FATAL_ONLY
    return onnxruntime.InferenceSession(
        graph, options, providers=["CPUExecutionProvider"], enable_fallback=0
    )


def first_line(error: Exception) -> str:
    """Returns the first line of an error's message, or the name of its class."""
    line = RUNTIME_CODE.sub("", (str(error).strip().splitlines() or [type(error).__name__])[0])
    return line if len(line) <= MAX_REASON else f"{line[:MAX_REASON]}…"
