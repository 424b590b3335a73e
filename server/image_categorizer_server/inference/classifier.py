"""Classifies one image: model, decoding, micro-batch, predictions."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from image_categorizer_server.domain.classification import (
    NO_CATEGORY,
    Caller,
    Category,
    Classification,
    ClassifyOptions,
    Prediction,
    Timing,
)
from image_categorizer_server.domain.embedding import Embedding, Vector
from image_categorizer_server.domain.model import Localization
from image_categorizer_server.errors import CategoryNotFound, InvalidRequest, ModelFailing
from image_categorizer_server.inference.embedding import (
    check_embeds,
    embedding_of,
    has_embeddings,
)
from image_categorizer_server.inference.engine.entry import Outcome, Request
from image_categorizer_server.inference.engine.microbatcher import BatcherStopped
from image_categorizer_server.inference.images.localize import Features, Located
from image_categorizer_server.inference.images.preprocess import MAX_PICTURE_BYTES
from image_categorizer_server.inference.models.category_tree import CategoryTree, Filters
from image_categorizer_server.inference.models.loader import LoadedModel
from image_categorizer_server.inference.models.registry import Registry
from image_categorizer_server.quoting import quoted
from image_categorizer_server.telemetry.tracing import recorded_span, timed

ChargeModel = Callable[[Caller, str, float], None]
"""Takes the caller, the name of the model, and milliseconds of it; called in any thread."""


class Classifier:
    """Classifies images with the models of a registry."""

    def __init__(self, registry: Registry, charge_model: ChargeModel | None = None) -> None:
        """Configures the classifier.

        Args:
            registry: of the models.
            charge_model: attributes the time of models to callers; None for nobody.
        """
        self._registry = registry
        self._charge_model = charge_model

    async def classify(
        self,
        content: bytes,
        options: ClassifyOptions,
        caller: Caller,
        *,
        with_embedding: bool = False,
        with_stored: bool = False,
        own: Collection[str] = (),
    ) -> Classification:
        """Returns the predictions for one encoded image, with its embedding if the model makes one.

        Args:
            content: the encoded image.
            options: how to classify it.
            caller: tenant, lane and deadline.
            with_embedding: whether to return its embedding, if the model makes one.
            with_stored: whether to return what is stored of it, if no further decoding makes it.
            own: categories of the tenant, which filters may name, too.

        Raises:
            ModelNotFound: there is no such model or version.
            ModelLoading: the model is being loaded.
            CategoryNotFound: the model lacks a category of a filter.
            InvalidRequest: the image cannot be decoded; see `Decoder.decode`. Or a heat map is
                asked of a detector.
            UnclassifiableImage: the model fails on this image.
            Overloaded: too many images are waiting for the model.
            DeadlineUnreachable: the answer would be late.
            DeadlineExceeded: the deadline passed while the image waited.
            ModelFailing: the model fails on every image.
        """
        with self._registry.using(options.model, options.version, content) as model:
            check_explainable(model, options)
            options = with_defaults(model, options)
            predicting = partial(
                predicted, model, options, filters_of(model.ref.name, model.tree, options, own)
            )
            with_embedding = with_embedding and has_embeddings(model)
            request = request_for(
                model, content, options, caller, predicting, with_stored=with_stored
            )
            if with_embedding:
                request = replace(request, with_features=True, keeps_features=True)
            outcome = await self._submitted(model, request, caller)
            located = outcome.located or Located(predicting(outcome), b"")
            return Classification(
                located.predictions,
                model.ref,
                timing_of(outcome),
                located.heat_map,
                warnings=outcome.input.warnings,
                digests=model.digests,
                options=options,
                embedding=_embedding(outcome) if with_embedding else None,
                picture=outcome.input.stored,
            )

    async def embed(
        self, content: bytes, model: str, version: int | str | None, caller: Caller
    ) -> Embedding:
        """Returns the embedding of one encoded image; it costs one model call.

        Args:
            content: the encoded image.
            model: the name; empty for the default.
            version: a number or an alias; None for the default.
            caller: tenant, lane and deadline.

        Raises:
            InvalidRequest: the model makes no embeddings, or the image cannot be decoded.
            CategorizerError: see `classify`.
        """
        with self._registry.using(model, version, content) as loaded:
            check_embeds(loaded)
            prepare = partial(loaded.preprocessor.prepare, content)
            request = Request(
                prepare,
                len(content),
                caller.deadline_s,
                caller.lane,
                caller.tenant_id,
                with_features=True,
            )
            outcome = await self._submitted(loaded, request, caller)
            return Embedding(_embedding(outcome), loaded.ref)

    async def _submitted(self, model: LoadedModel, request: Request, caller: Caller) -> Outcome:
        """Returns the outcome of a request, whose time is charged to the caller.

        Raises:
            ModelFailing: the model fails on every image.
            CategorizerError: see `MicroBatcher.submit`.
        """
        if self._charge_model:
            charge = partial(self._charge_model, caller, model.ref.name)
            request = replace(request, charge=charge)
        if span := recorded_span():
            request = replace(request, span=span, prepare=timed("decode", span, request.prepare))
        try:
            outcome = await model.batcher.submit(request)
        except BatcherStopped:
            raise ModelFailing("the model failed and is being reloaded") from None
        if span:
            span.note({"categorizer.queue_ms": outcome.queue_ms})
        return outcome


def request_for(
    model: LoadedModel,
    content: bytes,
    options: ClassifyOptions,
    caller: Caller,
    predicting: Callable[[Outcome], list[Prediction]],
    *,
    with_stored: bool = False,
) -> Request:
    """Returns what the micro-batcher does for one image.

    Args:
        model: the model that answers.
        content: the encoded image.
        options: whether to make boxes or a heat map.
        caller: tenant, lane and deadline.
        predicting: returns the predictions to locate.
        with_stored: whether to make what is stored of the image, too.
    """
    localizer = model.localizer
    is_located = localizer is not None and (options.bounding_boxes or options.explain)
    is_drawn = is_located and options.explain
    whole_bytes = model.whole_bytes if options.bounding_boxes else 0
    features_bytes = model.features_bytes if is_located else 0

    def locate(outcome: Outcome) -> Located:
        assert localizer is not None
        assert outcome.features is not None
        predictions = predicting(outcome)
        if predictions and predictions[0].category.name == NO_CATEGORY:
            return Located(predictions, b"")
        strongest = model.tree.strongest(outcome.confidences, predictions)
        features = Features(outcome.features, outcome.whole_features)
        return localizer.locate(features, outcome.input, predictions, strongest, options)

    kept_bytes = len(content) if with_stored else 0
    return Request(
        partial(
            model.preprocessor.prepare,
            content,
            with_picture=is_drawn,
            with_whole=whole_bytes > 0,
            with_stored=with_stored,
        ),
        len(content)
        + kept_bytes
        + (MAX_PICTURE_BYTES if is_drawn else 0)
        + whole_bytes
        + features_bytes,
        caller.deadline_s,
        caller.lane,
        caller.tenant_id,
        with_features=is_located,
        with_whole=whole_bytes > 0,
        locate=locate if is_located else None,
    )


def _embedding(outcome: Outcome) -> Vector:
    assert outcome.features is not None, "requested, of a model that has them"
    return embedding_of(outcome.features)


def check_explainable(model: LoadedModel, options: ClassifyOptions) -> None:
    """Passes options that ask for no heat map of a detector.

    Raises:
        InvalidRequest: they do.
    """
    is_detector = model.localizer and model.localizer.localization is Localization.DETECTION
    if options.explain and is_detector:
        why = f"the model {quoted(model.ref.name)} is a detector, which has no heat map"
        raise InvalidRequest.of([("explain", f"{why}: ask for bounding_boxes instead")])


def with_defaults(model: LoadedModel, options: ClassifyOptions) -> ClassifyOptions:
    """Returns the options with the model's defaults: `roll_up` is not None."""
    roll_up = model.roll_up.is_default if options.roll_up is None else options.roll_up
    threshold = options.confidence_threshold or (model.roll_up.threshold if roll_up else 0.0)
    return replace(options, roll_up=roll_up, confidence_threshold=threshold)


def predicted(
    model: LoadedModel, options: ClassifyOptions, filters: Filters, outcome: Outcome
) -> list[Prediction]:
    """Returns the predictions that the options ask for.

    See `CategoryTree.roll_up`, `top_predictions` and `CategoryTree.with_raw_confidences`.
    """
    threshold, top_k, answer = options.confidence_threshold, options.top_k, outcome.confidences
    if options.roll_up:
        predictions = model.tree.roll_up(answer, threshold, top_k, filters)
    else:
        allowed = filters.indices(len(model.categories))
        predictions = top_predictions(answer, model.categories, top_k, threshold, allowed)
    if not options.raw_confidence:
        return predictions
    raw = answer if outcome.raw_confidences is None else outcome.raw_confidences
    return model.tree.with_raw_confidences(predictions, raw, is_rolled_up=bool(options.roll_up))


def timing_of(outcome: Outcome) -> Timing:
    """Returns the times of one image."""
    return Timing(
        decode_ms=outcome.input.decode_ms,
        queue_ms=outcome.queue_ms,
        inference_ms=outcome.inference_ms,
        batch_size=outcome.batch_size,
        batch_close_reason=outcome.close_reason,
    )


def filters_of(
    name: str, tree: CategoryTree, options: ClassifyOptions, own: Collection[str] = ()
) -> Filters:
    """Returns the filters of the model's outputs. A broader category stands for all below it.

    Args:
        name: the model.
        tree: its categories.
        options: names the categories.
        own: categories of the tenant.  Those that the model lacks choose none of its outputs.

    Raises:
        CategoryNotFound: the model lacks a category of a filter, and so does the tenant.
    """

    def outputs(names: Sequence[str]) -> frozenset[int]:
        return tree.outputs(n for n in names if n not in own or tree.is_known(n))

    try:
        return Filters(
            outputs(options.include_categories) if options.include_categories else None,
            outputs(options.exclude_categories),
        )
    except KeyError as error:
        category = quoted(error.args[0])
        raise CategoryNotFound(f"the model '{name}' has no category {category}") from None


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
        allowed: positions of the outputs that pass; None allows all.
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
