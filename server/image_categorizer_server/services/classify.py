"""Classification of one image, from the result cache or by a model."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from functools import partial

from image_categorizer_server.domain.classification import (
    CacheStatus,
    Caller,
    Classification,
    ClassifyOptions,
    ModelRef,
)
from image_categorizer_server.domain.embedding import Embedding
from image_categorizer_server.domain.image import Image, ImageResult, NewImage
from image_categorizer_server.domain.usage import Usage
from image_categorizer_server.errors import (
    CategoryNotFound,
    DeadlineExceeded,
    DependencyDown,
    InvalidRequest,
)
from image_categorizer_server.inference.classifier import Classifier, filters_of, with_defaults
from image_categorizer_server.inference.embedding import has_embeddings
from image_categorizer_server.inference.models.loader import LoadedModel
from image_categorizer_server.inference.models.registry import Registry
from image_categorizer_server.services import correction, head
from image_categorizer_server.services.category_head import CategoryHeads
from image_categorizer_server.services.correction import Corrections, Examples
from image_categorizer_server.services.crashing_images import CrashingImages, digest_of
from image_categorizer_server.services.drift import PredictionMeter
from image_categorizer_server.services.embedding import KeptEmbeddings
from image_categorizer_server.services.head import Head
from image_categorizer_server.services.image import Images
from image_categorizer_server.services.result_cache import Query, ResultCache
from image_categorizer_server.services.usage import UsageMeter
from image_categorizer_server.telemetry.metrics import CACHE_LOOKUPS

Fetch = Callable[[str], Awaitable[bytes]]


@dataclass(frozen=True, slots=True)
class Origin:
    """Where an image comes from: what `ClassifyOptions.store` needs to know."""

    filename: str = ""
    image_id: str = ""
    """The stored image that it is; empty if it was sent."""


SENT = Origin()


@dataclass(frozen=True, slots=True)
class Accounting:
    """What is done about every image beside classifying it."""

    crashing: CrashingImages
    """Refuses images that crash processes."""
    meter: UsageMeter
    """Counts what callers use."""
    images: Images
    """Keeps images."""
    predictions: PredictionMeter
    """Counts what models predict."""
    embeddings: KeptEmbeddings
    """Keeps what models know about them."""
    corrections: Corrections
    """Corrects answers by what people said about earlier ones."""
    heads: CategoryHeads
    """Answers the categories of tenants."""


@dataclass(frozen=True, slots=True)
class Taught:
    """What a tenant has taught a model."""

    examples: Examples
    head: Head

    def __bool__(self) -> bool:
        return bool(self.examples) or bool(self.head)

    @property
    def revision(self) -> str:
        """A hash of all of it, the same on all servers; empty without anything."""
        return f"{self.examples.revision}/{self.head.fingerprint}" if self else ""


NOTHING = Taught(correction.NONE, head.NONE)


class Classifications:
    """Classifies images; answers from the result cache if it can."""

    def __init__(
        self,
        classifier: Classifier,
        registry: Registry,
        results: ResultCache | None,
        fetch: Fetch,
        accounting: Accounting,
    ) -> None:
        """Configures the service.

        Args:
            classifier: classifies the images that are not in the cache.
            registry: names the model that answers, which is part of the cache key.
            results: None disables the cache.
            fetch: returns the image that a URI names.
            accounting: of images that crash processes, and of usage.
        """
        self._fetch = fetch
        self._crashing = accounting.crashing
        self._meter = accounting.meter
        self._images = accounting.images
        self._predictions = accounting.predictions
        self._embeddings = accounting.embeddings
        self._corrections = accounting.corrections
        self._heads = accounting.heads
        self._classifier = classifier
        self._registry = registry
        self._results = results

    async def fetch(self, uri: str) -> bytes:
        """Returns the image that an https, s3, gs or az URI names.

        Raises:
            CategorizerError: see `Fetcher.fetch`.
        """
        return await self._fetch(uri)

    async def stored(self, tenant_id: str, image_id: str) -> bytes:
        """Returns what is stored of an image.

        Raises:
            CategorizerError: see `Images.content`.
        """
        return await self._images.content(tenant_id, image_id)

    def subject_key_of(self, tenant_id: str, subject_id: str) -> str:
        """Returns the key of a subject: see `Subjects.key_of`.

        Raises:
            InvalidRequest: the name is malformed.
            FailedPrecondition: the server keeps nothing about subjects.
        """
        return self._images.subject_key_of(tenant_id, subject_id)

    async def classify(
        self, content: bytes, options: ClassifyOptions, caller: Caller, origin: Origin = SENT
    ) -> Classification:
        """Returns the predictions for one encoded image, and whether they come from the cache.

        Errors are not cached, and heat maps are too large to be.  While Redis is down, every image
        is classified.

        Args:
            content: the encoded image.
            options: how to classify it, and whether to keep it.
            caller: who asks.
            origin: where the image comes from.

        Raises:
            CrashingImage: the image crashes the process that decodes it.
            FailedPrecondition: the server keeps nothing about subjects.
            CategorizerError: see `Classifier.classify`, and `Registry.demand`.
        """
        new = NewImage(content, origin.filename, subject_id=options.subject_id, blur=options.blur)
        is_new = options.store and not origin.image_id
        if is_new:
            self._images.check(new)
        try:
            await self._registry.demand(options.model, options.version, content, caller)
            async with self._crashing.guarding(content, is_repeated=caller.is_repeated):
                answer = await self._answer(
                    content, options, caller, with_stored=is_new and not new.blur
                )
        except (InvalidRequest, DeadlineExceeded):  # about the image, not the server
            model = options.model or self._registry.default
            self._count(caller, model, Usage(images=1, failed=1, bytes=len(content)))
            raise
        is_hit = answer.cache is CacheStatus.HIT
        used = Usage(images=1, cached_images=int(is_hit), bytes=len(content))
        self._count(caller, answer.model.name, used)
        self._predictions.count(caller.tenant_id, answer, options)
        return await self._kept(new, answer, caller, origin) if options.store else answer

    async def _kept(
        self, new: NewImage, answer: Classification, caller: Caller, origin: Origin
    ) -> Classification:
        """Returns an answer once it is kept with its stored image.

        Raises:
            ImageNotFound: the image was deleted meanwhile.
            DependencyDown: the database does not answer.
        """
        result: ImageResult | None = None
        if origin.image_id:
            image = await self._images.get(caller.tenant_id, origin.image_id)
        else:
            image, result = await self._images.store_classified(caller.tenant_id, new, answer)
        if result is None:
            result = await self._kept_again(image, new, answer)
        return replace(answer, image_id=image.image_id, result_id=result.result_id, picture=None)

    async def _kept_again(self, image: Image, new: NewImage, answer: Classification) -> ImageResult:
        """Returns the result that is kept of an image that was stored before.

        Raises:
            ImageNotFound: the image was deleted meanwhile.
            DependencyDown: the database does not answer.
        """
        # That of the whole image knows what is blurred.
        if answer.embedding is not None and not new.blur:
            embedding = Embedding(answer.embedding, answer.model)
            await self._embeddings.keep(image.tenant_id, image.image_id, embedding)
        return await self._images.keep_result(image, answer, await digest_of(new.content))

    def _count(self, caller: Caller, model: str, used: Usage) -> None:
        if not caller.is_batch_item:
            self._meter.count(caller, model, used)

    async def _answer(
        self, content: bytes, options: ClassifyOptions, caller: Caller, *, with_stored: bool
    ) -> Classification:
        results = self._results
        model = self._registry.get(options.model, options.version, content)
        taught = NOTHING
        if has_embeddings(model):
            taught = await self._taught(caller.tenant_id, model.ref)
            taught = await self._knowing_filters(caller.tenant_id, model, options, taught)
        answered = partial(
            self._by_model, content, options, caller, (model, taught), with_stored=with_stored
        )
        if results is None or options.no_cache or options.explain:
            return await answered()
        query = await _query(model, content, options, caller.tenant_id, taught)
        # What is cached has no embedding to keep.
        must_see = options.store and has_embeddings(model)
        try:
            found = None if must_see else await results.find(query)
        except DependencyDown:
            CACHE_LOOKUPS.labels("DOWN").inc()
            return await answered()
        CACHE_LOOKUPS.labels("HIT" if found else "MISS").inc()
        if found:
            return found
        answer = await answered()
        # If an alias has moved meanwhile, another model has answered.
        is_cached = answer.model == query.model and await results.put(query, answer)
        return replace(answer, cache=CacheStatus.MISS) if is_cached else answer

    async def _by_model(
        self,
        content: bytes,
        options: ClassifyOptions,
        caller: Caller,
        expected: tuple[LoadedModel, Taught],
        *,
        with_stored: bool,
    ) -> Classification:
        """Returns the answer of a model, with what the tenant has taught it."""
        model, taught = expected
        answer = await self._classifier.classify(
            content,
            options,
            caller,
            with_embedding=options.store or bool(taught),
            with_stored=with_stored,
            own=taught.head.names,
        )
        if answer.model != model.ref:  # an alias has moved meanwhile
            moved = self._registry.get(answer.model.name, answer.model.version)
            expected = moved, await self._taught(caller.tenant_id, answer.model)
            return await self._by_model(content, options, caller, expected, with_stored=with_stored)
        if taught.head:
            answer = self._heads.answered(answer, model, options, taught.head)
        if taught.examples:
            own = taught.head.names
            answer = self._corrections.corrected(answer, model, options, taught.examples, own)
        return answer

    async def _knowing_filters(
        self, tenant_id: str, model: LoadedModel, options: ClassifyOptions, taught: Taught
    ) -> Taught:
        """Returns what a tenant has taught, with the categories that filters name.

        A category may be younger than what this server has heard of, and older than what is cached.

        Raises:
            CategoryNotFound: neither model nor tenant has a category of a filter.
            DependencyDown: the database does not answer.
        """
        try:
            filters_of(model.ref.name, model.tree, options, taught.head.names)
        except CategoryNotFound:
            names = await self._heads.names(tenant_id)
            filters_of(model.ref.name, model.tree, options, names)
            return replace(taught, head=replace(taught.head, names=names))
        return taught

    async def _taught(self, tenant_id: str, model: ModelRef) -> Taught:
        return Taught(
            await self._corrections.examples(tenant_id, model.digest),
            await self._heads.head(tenant_id, model),
        )


async def _query(
    model: LoadedModel,
    content: bytes,
    options: ClassifyOptions,
    tenant_id: str,
    taught: Taught,
) -> Query:
    return Query(
        tenant_id=tenant_id,
        image_sha256=await digest_of(content),
        model=model.ref,
        categories=model.tree.categories,
        positions=model.tree.positions,
        digests=model.digests,
        runtime=f"{model.runtime.name} {model.runtime.device} {model.runtime.precision}",
        options=with_defaults(model, options),
        corrections=taught.revision,
    )
