"""Classifies one image: model, decoding, micro-batch, predictions."""

from collections.abc import Iterable
from functools import partial

import numpy as np
from numpy.typing import NDArray

from image_categorizer_server.domain.classification import (
    Caller,
    Category,
    Classification,
    ClassifyOptions,
    Prediction,
    Timing,
)
from image_categorizer_server.errors import CategoryNotFound, ModelFailing, quoted
from image_categorizer_server.inference.engine.entry import Outcome, Request
from image_categorizer_server.inference.engine.microbatcher import BatcherStopped
from image_categorizer_server.inference.models.loader import LoadedModel
from image_categorizer_server.inference.models.registry import Registry


class Classifier:
    """Classifies images with the models of a registry."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    async def classify(
        self, content: bytes, options: ClassifyOptions, caller: Caller
    ) -> Classification:
        """Returns the predictions for one encoded image.

        Model and filters are checked before the image is decoded.  A caller that is cancelled while
        waiting causes no further work.

        Raises:
            ModelNotFound: there is no such model or version.
            ModelLoading: the model is being loaded.
            CategoryNotFound: the model lacks a category of a filter.
            InvalidRequest: the image cannot be decoded; see `Decoder.decode`.
            UnclassifiableImage: the model fails on this image.
            Overloaded: too many images are waiting for the model.
            DeadlineUnreachable: the answer would be late.
            DeadlineExceeded: the deadline passed while the image waited.
            ModelFailing: the model fails on every image.
        """
        with self._registry.using(options.model, options.version, content) as model:
            allowed = allowed_indices(model, options)
            outcome = await self._outcome(model, content, options, caller)
            predictions = top_predictions(
                outcome.confidences,
                model.categories,
                options.top_k,
                options.confidence_threshold,
                allowed,
            )
            heat_map = b""
            if model.localizer is not None and outcome.features is not None:
                predictions, heat_map = await model.localizer.locate(
                    content, outcome.features, outcome.input, predictions, model.indices, options
                )
            return Classification(
                predictions,
                model.ref,
                timing_of(outcome),
                heat_map,
                warnings=outcome.input.warnings,
            )

    @staticmethod
    async def _outcome(
        model: LoadedModel, content: bytes, options: ClassifyOptions, caller: Caller
    ) -> Outcome:
        request = Request(
            partial(model.preprocessor.prepare, content),
            len(content),
            caller.deadline_s,
            caller.lane,
            caller.tenant_id,
            options.bounding_boxes or options.explain,
        )
        try:
            return await model.batcher.submit(request)
        except BatcherStopped:
            raise ModelFailing("the model failed and is being reloaded") from None


def timing_of(outcome: Outcome) -> Timing:
    """Returns the times of one image."""
    return Timing(
        decode_ms=outcome.input.decode_ms,
        queue_ms=outcome.queue_ms,
        inference_ms=outcome.inference_ms,
        batch_size=outcome.batch_size,
        batch_close_reason=outcome.close_reason,
    )


def allowed_indices(model: LoadedModel, options: ClassifyOptions) -> NDArray[np.intp] | None:
    """Returns the sorted indices of the outputs that pass the filters; None without filters.

    Raises:
        CategoryNotFound: the model lacks a category of a filter.
    """
    if not options.include_categories and not options.exclude_categories:
        return None
    included = _indices(model, options.include_categories) or set(range(len(model.categories)))
    allowed = included - _indices(model, options.exclude_categories)
    return np.array(sorted(allowed), dtype=np.intp)


def _indices(model: LoadedModel, names: Iterable[str]) -> set[int]:
    missing = [name for name in names if name not in model.indices]
    if missing:
        raise CategoryNotFound(f"the model '{model.ref.name}' has no category {quoted(missing[0])}")
    return {model.indices[name] for name in names}


def top_predictions(
    confidences: NDArray[np.float32],
    categories: tuple[Category, ...],
    top_k: int,
    threshold: float,
    allowed: NDArray[np.intp] | None,
) -> list[Prediction]:
    """Returns up to `top_k` predictions that reach `threshold`, by descending confidence.

    Predictions of equal confidence are in the model's order of categories.

    Args:
        confidences: float32 (C,).
        categories: the model's, C of them.
        top_k: maximum number of predictions.
        threshold: minimum confidence.
        allowed: indices from `allowed_indices`; None allows all.
    """
    values = confidences if allowed is None else confidences[allowed]
    count = min(top_k, len(values))
    if count == 0:
        return []
    best = values.argpartition(-count)[-count:]
    ranked = sorted(zip((-values[best]).tolist(), best.tolist(), strict=True))
    return [
        Prediction(categories[i if allowed is None else allowed[i]], min(-negated, 1.0))
        for negated, i in ranked
        if -negated >= threshold
    ]
