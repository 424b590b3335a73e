"""One image through the whole path: model, decoding, micro-batch, the best predictions."""

import asyncio
import time
from collections.abc import Iterable
from concurrent.futures import Executor

import numpy as np
from numpy.typing import NDArray

from image_categorizer_server.domain import (
    Category,
    Classification,
    ClassifyOptions,
    Prediction,
    Timing,
)
from image_categorizer_server.errors import CategoryNotFound
from image_categorizer_server.inference.loader import LoadedModel
from image_categorizer_server.inference.registry import Registry


class Classifier:
    """Classifies images with whatever models the registry holds."""

    def __init__(self, registry: Registry, decode_pool: Executor) -> None:
        self._registry = registry
        self._decode_pool = decode_pool

    async def classify(self, content: bytes, options: ClassifyOptions) -> Classification:
        """Returns the predictions for one encoded image.

        The model and the filters are looked up first: a wrong name costs no decoding.  A caller who
        is cancelled while waiting costs nothing further.

        Raises:
            ModelNotFound, ModelLoading, CategoryNotFound: expected; as `options` says.
            InvalidRequest: expected; the image cannot be read, as `Decoder.decode` says.
            Overloaded: expected; too many images wait for this model.
        """
        model = self._registry.get(options.model, options.version)
        allowed = allowed_indices(model, options)
        loop = asyncio.get_running_loop()
        arrival_s = time.perf_counter()
        with model.batcher.place():
            prepared = await loop.run_in_executor(
                self._decode_pool, model.preprocessor.prepare, content
            )
            outcome = await model.batcher.submit(prepared.array)
        timing = Timing(
            decode_ms=prepared.decode_ms,
            queue_ms=max(0.0, (outcome.start_s - arrival_s) * 1000 - prepared.decode_ms),
            inference_ms=outcome.inference_ms,
            batch_size=outcome.batch_size,
            batch_close_reason=outcome.close_reason,
        )
        predictions = top_predictions(
            outcome.confidences,
            model.categories,
            options.top_k,
            options.confidence_threshold,
            allowed,
        )
        return Classification(predictions, model.ref, timing)


def allowed_indices(model: LoadedModel, options: ClassifyOptions) -> NDArray[np.intp] | None:
    """Returns which outputs the filters let pass, sorted; None where there is no filter.

    Raises:
        CategoryNotFound: expected; a filter names a category that the model does not have.
    """
    if not options.include_categories and not options.exclude_categories:
        return None
    included = _indices(model, options.include_categories) or set(range(len(model.categories)))
    allowed = included - _indices(model, options.exclude_categories)
    return np.array(sorted(allowed), dtype=np.intp)


def _indices(model: LoadedModel, names: Iterable[str]) -> set[int]:
    missing = [name for name in names if name not in model.indices]
    if missing:
        raise CategoryNotFound(f"the model '{model.ref.name}' has no category '{missing[0]}'")
    return {model.indices[name] for name in names}


def top_predictions(
    confidences: NDArray[np.float32],
    categories: tuple[Category, ...],
    top_k: int,
    threshold: float,
    allowed: NDArray[np.intp] | None,
) -> list[Prediction]:
    """Returns at most `top_k` predictions that reach `threshold`, the most confident first.

    Equal confidences keep the model's own order of categories.
    """
    candidates = np.arange(len(confidences)) if allowed is None else allowed
    values = confidences[candidates]
    order = np.argsort(-values, kind="stable")[:top_k]
    return [
        Prediction(categories[candidates[i]], min(float(values[i]), 1.0))
        for i in order
        if values[i] >= threshold
    ]
