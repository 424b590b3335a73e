"""Embeddings of images: made on demand, kept with stored images, compared with each other."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import numpy as np

from image_categorizer_server.db import embedding as rows
from image_categorizer_server.db import image as image_rows
from image_categorizer_server.domain.classification import Caller, Neighbour
from image_categorizer_server.domain.embedding import (
    Embedding,
    SimilarImage,
    SimilarImages,
    Vector,
)
from image_categorizer_server.domain.usage import Usage
from image_categorizer_server.errors import (
    DeadlineExceeded,
    EmbeddingMissing,
    ImageNotFound,
    InvalidRequest,
)
from image_categorizer_server.inference.classifier import Classifier
from image_categorizer_server.inference.embedding import check_embeds
from image_categorizer_server.inference.models.registry import Registry
from image_categorizer_server.services.crashing_images import CrashingImages
from image_categorizer_server.services.gathered import Gathered
from image_categorizer_server.services.neighbours import STORED, Neighbours, rows_of
from image_categorizer_server.services.usage import UsageMeter
from image_categorizer_server.tasks import TaskOwner

DEFAULT_LIMIT = 10
MAX_LIMIT = 100
Fetch = Callable[[str], Awaitable[bytes]]


class KeptEmbeddings:
    """The embeddings of stored images.  Each tenant sees its own."""

    def __init__(self, neighbours: Neighbours, tasks: TaskOwner) -> None:
        """Configures the service.

        Args:
            neighbours: has the indexes.
            tasks: owns the transactions.
        """
        self._neighbours = neighbours
        self._kept = Gathered(_keep_all, tasks, "writer of embeddings")

    async def keep(self, tenant_id: str, image_id: str, embedding: Embedding) -> None:
        """Keeps the embedding of a stored image, unless it is kept or the image is gone.

        Raises:
            DependencyDown: the database does not answer.
        """
        await self._kept.answer(tenant_id, (image_id, embedding))

    async def of_image(self, tenant_id: str, image_id: str, model_digest: str) -> Vector | None:
        """Returns the embedding of a stored image by a model; None if none is kept.

        Raises:
            DependencyDown: the database does not answer.
        """
        found = await rows.find(tenant_id, image_id, model_digest)
        if found is None:
            return None
        vector = np.frombuffer(found, STORED).astype(np.float32)
        return vector / max(float(np.linalg.norm(vector)), float(np.finfo(np.float32).tiny))

    async def neighbours(
        self, tenant_id: str, model_digest: str, vector: Vector, limit: int
    ) -> list[Neighbour]:
        """Returns the stored images most similar to an embedding; see `Neighbours.nearest`.

        Raises:
            FailedPrecondition: the tenant has more images than the memory for indexes holds.
            DependencyDown: the database does not answer.
        """
        return await self._neighbours.nearest(tenant_id, model_digest, vector, limit)


async def _keep_all(tenant_id: str, new: Sequence[tuple[str, Embedding]]) -> Sequence[None]:
    # The first code of a size takes milliseconds to make.
    await rows.add(tenant_id, await asyncio.to_thread(rows_of, new))
    return [None] * len(new)


class Embeddings:
    """What callers can do with embeddings."""

    def __init__(
        self,
        classifier: Classifier,
        registry: Registry,
        kept: KeptEmbeddings,
        crashing: CrashingImages,
        meter: UsageMeter,
        fetch: Fetch,
    ) -> None:
        """Configures the service.

        Args:
            classifier: makes embeddings.
            registry: of the models.
            kept: those of stored images.
            crashing: refuses images that crash processes.
            meter: counts what callers use.
            fetch: returns the image that a URI names.
        """
        self._classifier = classifier
        self._registry = registry
        self.kept = kept
        self._crashing = crashing
        self._meter = meter
        self._fetch = fetch

    async def fetch(self, uri: str) -> bytes:
        """Returns the image that an https, s3, gs or az URI names.

        Raises:
            CategorizerError: see `Fetcher.fetch`.
        """
        return await self._fetch(uri)

    async def embed(
        self, content: bytes, model: str, version: int | str | None, caller: Caller
    ) -> Embedding:
        """Returns the embedding of one encoded image.

        Raises:
            InvalidRequest: the model makes no embeddings, or the image cannot be decoded.
            CrashingImage: the image crashes the process that decodes it.
            CategorizerError: see `Classifier.classify`, and `Registry.demand`.
        """
        used = Usage(images=1, failed=1, bytes=len(content))
        try:
            await self._registry.demand(model, version, content, caller)
            async with self._crashing.guarding(content, is_repeated=caller.is_repeated):
                found = await self._classifier.embed(content, model, version, caller)
        except (InvalidRequest, DeadlineExceeded):  # about the image, not the server
            self._meter.count(caller, model or self._registry.default, used)
            raise
        used = Usage(images=1, bytes=len(content))
        self._meter.count(caller, found.model.name, used)
        return found

    async def similar_to_image(
        self, tenant_id: str, image_id: str, model: str, version: int | str | None, limit: int
    ) -> SimilarImages:
        """Returns the stored images most similar to a stored one, without itself.

        Raises:
            ImageNotFound: the tenant has no such image.
            EmbeddingMissing: the model has not seen the image.
            InvalidRequest: the model makes no embeddings.
            FailedPrecondition: the tenant has more images than the memory for indexes holds.
            DependencyDown: the database does not answer.
        """
        loaded = self._registry.get(model, version)
        check_embeds(loaded)
        vector = await self.kept.of_image(tenant_id, image_id, loaded.ref.digest)
        if vector is None:
            if await image_rows.get(tenant_id, image_id) is None:
                raise ImageNotFound("no such image")
            raise EmbeddingMissing(
                f"the image was not classified by '{loaded.ref.name}' and stored: "
                "classify it with store"
            )
        embedding = Embedding(vector, loaded.ref)
        return await self._similar(tenant_id, embedding, limit, without=image_id)

    async def similar_to(self, tenant_id: str, embedding: Embedding, limit: int) -> SimilarImages:
        """Returns the stored images most similar to an embedding.

        Raises:
            FailedPrecondition: the tenant has more images than the memory for indexes holds.
            DependencyDown: the database does not answer.
        """
        return await self._similar(tenant_id, embedding, limit, without="")

    async def _similar(
        self, tenant_id: str, embedding: Embedding, limit: int, *, without: str
    ) -> SimilarImages:
        digest = embedding.model.digest
        found = await self.kept.neighbours(tenant_id, digest, embedding.vector, limit + 1)
        near = {n.image_id: n.similarity for n in found if n.image_id != without}
        # Those deleted since are not among them.
        images = await image_rows.get_many(tenant_id, list(near)[:limit])
        return SimilarImages(
            tuple(SimilarImage(images[i], near[i]) for i in near if i in images), embedding.model
        )
