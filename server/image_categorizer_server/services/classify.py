"""Use case: one image's categories, remembered or found anew."""

import asyncio
import hashlib
from dataclasses import replace

from image_categorizer_server.domain.classification import (
    CacheStatus,
    Caller,
    Classification,
    ClassifyOptions,
)
from image_categorizer_server.errors import DependencyDown
from image_categorizer_server.inference.classifier import Classifier
from image_categorizer_server.inference.models.registry import Registry
from image_categorizer_server.services.result_cache import Question, ResultCache

# From here on hashing an image takes longer than handing it to a thread.
THREAD_FROM_BYTES = 2**20


class Classifications:
    """Answers from the result cache what it can, and asks the classifier for the rest."""

    def __init__(
        self, classifier: Classifier, registry: Registry, results: ResultCache | None
    ) -> None:
        """Configures the use case.

        Args:
            classifier: answers what is not remembered.
            registry: tells which model would.
            results: None where nothing is remembered.
        """
        self._classifier = classifier
        self._registry = registry
        self._results = results

    async def classify(
        self, content: bytes, options: ClassifyOptions, caller: Caller
    ) -> Classification:
        """Returns the predictions for one encoded image, and whether they were remembered.

        Errors are never remembered, and heat maps are too large to be.  Without Redis every image
        is classified.

        Raises:
            CategorizerError: as `Classifier.classify` says.
        """
        results = self._results
        if results is None or options.no_cache or options.explain:
            return await self._classifier.classify(content, options, caller)
        question = await self._question(content, options, caller.tenant_id)
        try:
            found = await results.find(question)
        except DependencyDown:
            return await self._classifier.classify(content, options, caller)
        if found:
            return found
        answer = await self._classifier.classify(content, options, caller)
        # An alias may have moved meanwhile: then another model answered.
        is_kept = answer.model == question.model and await results.remember(question, answer)
        return replace(answer, cache=CacheStatus.MISS) if is_kept else answer

    async def _question(self, content: bytes, options: ClassifyOptions, tenant_id: str) -> Question:
        model = self._registry.get(options.model, options.version, content)
        if len(content) < THREAD_FROM_BYTES:
            sha256 = hashlib.sha256(content).hexdigest()
        else:
            sha256 = (await asyncio.to_thread(hashlib.sha256, content)).hexdigest()
        return Question(
            tenant_id=tenant_id,
            image_sha256=sha256,
            model=model.ref,
            categories=model.categories,
            positions=model.indices,
            runtime=f"{model.runtime.name} {model.runtime.device} {model.runtime.precision}",
            options=options,
        )
