"""One image through the whole path: model, decoding, micro-batch, the best predictions."""

from collections.abc import Iterable
from functools import partial

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

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

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
        outcome = await model.batcher.submit(partial(model.preprocessor.prepare, content))
        timing = Timing(
            decode_ms=outcome.decode_ms,
            queue_ms=outcome.queue_ms,
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
