"""Calls a model so that what fails alone fails alone.

    the call raises      a blank image is tried: where that fails too, the model is at fault;
                         else the micro-batch is halved until only the guilty images are left
    no memory            halves, and never again micro-batches as large
    not a number         as if the call had raised for those images only
    the model at fault   three times in a row, or by an error that a GPU does not recover from:
                         it is broken, and the registry loads it anew

Costs nothing while all is well but one look at the confidences.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from image_categorizer_server.errors import (
    CategorizerError,
    ModelFailing,
    UnclassifiableImage,
)
from image_categorizer_server.inference.runtimes import Answer
from image_categorizer_server.telemetry import get_log

log = get_log(__name__)
MOST_FAILURES = 3
BLANK = 127
# torch.OutOfMemoryError, MemoryError, and what ONNX Runtime says.
MEMORY_WORDS = "outofmemory", "out of memory", "memoryerror", "failed to allocate", "bad_alloc"
# After these every further call of the process's CUDA context fails.
STICKY_WORDS = "cuda error", "device-side assert", "illegal memory access", "cublas_status"

Predict = Callable[[Sequence[NDArray[np.uint8]], bool], Answer]


@dataclass(frozen=True, slots=True)
class Row:
    """What one image got."""

    confidences: NDArray[np.float32]
    """float32 (C,)."""
    features: NDArray[np.float32] | None
    """float32 (K, h, w), where asked for."""


Result = Row | CategorizerError


class Guard:
    """Stands between the micro-batcher and one model; its runners may call it at once."""

    def __init__(self, predict: Predict, max_size: int) -> None:
        """Guards `predict`.

        Args:
            predict: maps N inputs and whether features are wanted to the answer.
            max_size: largest N.
        """
        self._predict = predict
        self._failures = 0
        self.max_size = max_size
        """Largest micro-batch; shrinks where memory does not suffice."""
        self.is_broken = False
        """Whether the model is beyond help; nothing but loading it anew mends that."""

    def run(self, inputs: Sequence[NDArray[np.uint8]], with_features: bool) -> list[Result]:
        """Returns a result for each of N inputs uint8 (H, W, 3), in their order; never raises."""
        try:
            results = self._attempt(inputs, with_features)
        except Exception as error:  # noqa: BLE001 - whatever a runtime may raise
            if not self._is_to_blame(error, inputs):
                return self._halves(inputs, with_features, self._isolate)
            self._count_failure(error)
            return [ModelFailing("the model cannot answer at the moment") for _ in inputs]
        self._failures = 0
        return results

    def _attempt(self, inputs: Sequence[NDArray[np.uint8]], with_features: bool) -> list[Result]:
        try:
            answer = self._predict(inputs, with_features)
        except Exception as error:
            if not _is_out_of_memory(error) or len(inputs) == 1:
                raise
            self.max_size = min(self.max_size, len(inputs) // 2)
            log.warning("no memory for a micro-batch", size=len(inputs), now=self.max_size)
            return self._halves(inputs, with_features, self._attempt)
        if len(answer.confidences) != len(inputs):
            raise ValueError(f"{len(answer.confidences)} rows for {len(inputs)} inputs")
        if np.isfinite(answer.confidences.sum()):
            return _rows(answer)
        if not self._answers_blank(inputs[0]):
            raise ValueError("confidences that are no numbers")
        rows = zip(_rows(answer), answer.confidences, strict=True)
        return [row if np.isfinite(values).all() else _unclassifiable() for row, values in rows]

    def _isolate(self, inputs: Sequence[NDArray[np.uint8]], with_features: bool) -> list[Result]:
        """Halves until each failing image stands alone."""
        try:
            return self._attempt(inputs, with_features)
        except Exception as error:  # noqa: BLE001 - whatever a runtime may raise
            if len(inputs) == 1:
                log.warning("the model fails on an image", error=type(error).__name__)
                return [_unclassifiable()]
            return self._halves(inputs, with_features, self._isolate)

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

    def _is_to_blame(self, error: Exception, inputs: Sequence[NDArray[np.uint8]]) -> bool:
        return _is_sticky(error) or _is_out_of_memory(error) or not self._answers_blank(inputs[0])

    def _answers_blank(self, like: NDArray[np.uint8]) -> bool:
        try:
            answer = self._predict([np.full_like(like, BLANK)], False)
        except Exception:  # noqa: BLE001 - that it fails is the finding
            return False
        return len(answer.confidences) == 1 and bool(np.isfinite(answer.confidences).all())

    def _count_failure(self, error: Exception) -> None:
        self._failures += 1
        log.error("the model fails", error=f"{type(error).__name__}: {error}", row=self._failures)
        self.is_broken = _is_sticky(error) or self._failures >= MOST_FAILURES


def _rows(answer: Answer) -> list[Result]:
    if answer.features is None:
        return [Row(confidences, None) for confidences in answer.confidences]
    pairs = zip(answer.confidences, answer.features, strict=True)
    return [Row(confidences, features) for confidences, features in pairs]


def _unclassifiable() -> UnclassifiableImage:
    return UnclassifiableImage("the model has no answer for this image")


def _is_out_of_memory(error: Exception) -> bool:
    return _mentions(error, MEMORY_WORDS)


def _is_sticky(error: Exception) -> bool:
    return _mentions(error, STICKY_WORDS) and not _is_out_of_memory(error)


def _mentions(error: Exception, words: Sequence[str]) -> bool:
    text = f"{type(error).__name__}: {error}".lower()
    return any(word in text for word in words)
