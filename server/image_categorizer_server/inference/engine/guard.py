"""Isolates failures: one bad image does not fail its micro-batch.

    the call raises      a blank image is tried; if it fails too, the model is at fault; otherwise
                         the micro-batch is halved until only the failing images remain
    out of memory        the micro-batch is halved, and later ones are no larger than the halves
    not a number         treated as if the call had raised for these images only
    the model at fault   three times in a row, or with an error from which a GPU does not recover,
                         or its process is gone: the model is broken, and the registry reloads it

Without failures the only cost is one check of the confidences.
"""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from image_categorizer_server.errors import (
    CategorizerError,
    ModelFailing,
    UnclassifiableImage,
)
from image_categorizer_server.inference.runtimes import Answer, RuntimeLost
from image_categorizer_server.telemetry import get_log

log = get_log(__name__)
MAX_FAILURES = 3
BLANK = 127
# Found in torch.OutOfMemoryError, MemoryError and the errors of ONNX Runtime.
MEMORY_WORDS = "outofmemory", "out of memory", "memoryerror", "failed to allocate", "bad_alloc"
# After these errors every further call in the process's CUDA context fails.
STICKY_WORDS = "cuda error", "device-side assert", "illegal memory access", "cublas_status"

Predict = Callable[[Sequence[NDArray[np.uint8]], bool], Answer]


@dataclass(frozen=True, slots=True)
class Row:
    """The model's answer for one image."""

    confidences: NDArray[np.float32]
    """float32 (C,)."""
    features: NDArray[np.float32] | None
    """float32 (K, h, w) if features were asked for."""
    raw_confidences: NDArray[np.float32] | None = None
    """float32 (C,), before the temperature; None if the model has none."""


Result = Row | CategorizerError


class Guard:
    """Calls one model for the micro-batcher; several runners may use it at once."""

    def __init__(
        self,
        predict: Predict,
        max_size: int,
        predict_single: Predict | None = None,
        on_broken: Callable[[], None] | None = None,
    ) -> None:
        """Wraps the model.

        Args:
            predict: returns the answer for N inputs; the second argument asks for features.
            max_size: largest N.
            predict_single: the same, faster, for calls while no other image waits.
            on_broken: is called in the thread of a runner when the model fails on every image.
        """
        self._predict = predict
        self._predict_single = predict_single or predict
        self._on_broken = on_broken
        self._failures = 0
        self._of_thread = threading.local()
        self.max_size = max_size
        """Size of the largest micro-batch; it shrinks when memory runs out."""
        self.is_broken = False
        """Whether the model has to be reloaded."""

    @property
    def model_s(self) -> float:
        """Seconds of the model that the last `run` of this thread took, all its calls together."""
        return float(getattr(self._of_thread, "model_s", 0.0))

    def mark_broken(self) -> None:
        """Makes the registry reload the model; thread-safe."""
        self.is_broken = True

    def run(
        self,
        inputs: Sequence[NDArray[np.uint8]],
        with_features: bool,
        *,
        is_single: bool = False,
    ) -> list[Result]:
        """Returns a result for each of N inputs uint8 (H, W, 3), in order; never raises.

        Args:
            inputs: at least one.
            with_features: whether to return the features too.
            is_single: whether no other image waits.
        """
        predict = self._predict_single if is_single else self._predict
        self._of_thread.model_s = 0.0
        try:
            results = self._attempt(inputs, with_features, predict)
        except Exception as error:  # noqa: BLE001 - a runtime may raise anything
            if not self._is_at_fault(error, inputs):
                return self._halves(inputs, with_features, self._isolate)
            self._count_failure(error)
            return self._failing(inputs)
        self._failures = 0
        return results

    def _attempt(
        self,
        inputs: Sequence[NDArray[np.uint8]],
        with_features: bool,
        predict: Predict | None = None,
    ) -> list[Result]:
        try:
            answer = self._called(predict or self._predict, inputs, with_features)
        except Exception as error:
            if not is_out_of_memory(error) or len(inputs) == 1:
                raise
            self.max_size = min(self.max_size, len(inputs) // 2)
            log.warning("out of memory", size=len(inputs), max_size=self.max_size)
            return self._halves(inputs, with_features, self._attempt)
        if len(answer.confidences) != len(inputs):
            raise ValueError(f"{len(answer.confidences)} rows for {len(inputs)} inputs")
        if np.isfinite(answer.confidences.sum()):
            return _rows(answer)
        if not self._answers_blank(inputs[0]):
            raise ValueError("confidences are not finite")
        rows = zip(_rows(answer), answer.confidences, strict=True)
        return [row if np.isfinite(values).all() else _unclassifiable() for row, values in rows]

    def _called(
        self, predict: Predict, inputs: Sequence[NDArray[np.uint8]], with_features: bool
    ) -> Answer:
        """Calls the model, and counts the time, also of a call that fails."""
        start_s, model_s = time.monotonic(), None
        try:
            answer = predict(inputs, with_features)
            model_s = answer.model_s
            return answer
        finally:
            took_s = time.monotonic() - start_s
            self._of_thread.model_s += took_s if model_s is None else model_s

    def _isolate(self, inputs: Sequence[NDArray[np.uint8]], with_features: bool) -> list[Result]:
        """Halves the micro-batch until each failing image is isolated."""
        try:
            return self._attempt(inputs, with_features)
        except Exception as error:  # noqa: BLE001 - a runtime may raise anything
            if is_sticky(error):  # meanwhile; no image is to blame
                self._count_failure(error)
                return self._failing(inputs)
            if len(inputs) == 1:
                log.warning("the model fails on an image", error=type(error).__name__)
                return [_unclassifiable()]
            return self._halves(inputs, with_features, self._isolate)

    @staticmethod
    def _failing(inputs: Sequence[NDArray[np.uint8]]) -> list[Result]:
        return [ModelFailing("the model cannot answer at the moment") for _ in inputs]

    @staticmethod
    def _halves(
        inputs: Sequence[NDArray[np.uint8]],
        with_features: bool,
        call: Callable[[Sequence[NDArray[np.uint8]], bool], list[Result]],
    ) -> list[Result]:
        if len(inputs) == 1:
            return call(inputs, with_features)
        half = len(inputs) // 2
        return call(inputs[:half], with_features) + call(inputs[half:], with_features)

    def _is_at_fault(self, error: Exception, inputs: Sequence[NDArray[np.uint8]]) -> bool:
        return is_sticky(error) or is_out_of_memory(error) or not self._answers_blank(inputs[0])

    def _answers_blank(self, like: NDArray[np.uint8]) -> bool:
        try:
            answer = self._called(self._predict, [np.full_like(like, BLANK)], False)
        except Exception:  # noqa: BLE001 - the failure is the result
            return False
        return len(answer.confidences) == 1 and bool(np.isfinite(answer.confidences).all())

    def _count_failure(self, error: Exception) -> None:
        self._failures += 1
        log.error(
            "the model fails", error=f"{type(error).__name__}: {error}", in_a_row=self._failures
        )
        if is_sticky(error) or self._failures >= MAX_FAILURES:
            self.is_broken = True
            if self._on_broken:
                self._on_broken()


def _rows(answer: Answer) -> list[Result]:
    nothing = [None] * len(answer.confidences)
    rows = zip(
        answer.confidences,
        nothing if answer.features is None else answer.features,
        nothing if answer.raw_confidences is None else answer.raw_confidences,
        strict=True,
    )
    return [Row(*row) for row in rows]


def _unclassifiable() -> UnclassifiableImage:
    return UnclassifiableImage("the model has no answer for this image")


def is_out_of_memory(error: Exception) -> bool:
    """Returns whether a smaller micro-batch may succeed."""
    return _mentions(error, MEMORY_WORDS)


def is_sticky(error: Exception) -> bool:
    """Returns whether no later call can succeed."""
    if isinstance(error, RuntimeLost):
        return True
    return _mentions(error, STICKY_WORDS) and not is_out_of_memory(error)


def _mentions(error: Exception, words: Sequence[str]) -> bool:
    text = f"{type(error).__name__}: {error}".lower()
    return any(word in text for word in words)
