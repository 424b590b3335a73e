"""Reviews: what people should look at next, and how far they agree."""

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime

from image_categorizer_server import clock
from image_categorizer_server.db import image as image_rows
from image_categorizer_server.db import review as rows
from image_categorizer_server.domain.agreement import agreement_of
from image_categorizer_server.domain.classification import Neighbour
from image_categorizer_server.domain.embedding import Vector
from image_categorizer_server.domain.image import Image, ImageFilter, ImageResult
from image_categorizer_server.domain.review import (
    Agreement,
    QueuedImage,
    ReviewFilter,
    ReviewItem,
    ReviewOrder,
    rounded,
)
from image_categorizer_server.errors import ImageNotFound
from image_categorizer_server.paging import (
    Page,
    limit_of,
    page_from,
    score_and_text_of,
    token_of_score,
)
from image_categorizer_server.services.image import check_search

COMPARED_AT_ONCE = 200
NEIGHBOURS = 10
MIN_SIMILARITY = 0.5
"""Less similar images say nothing about each other; see docs/corrections.md."""
MAX_RESULTS = 20_000
BEFORE_ALL = 2.0, ""
"""The position before all scores."""
VectorOf = Callable[[str, str, str], Awaitable[Vector | None]]
"""Returns the embedding of a tenant's image by a model; see `KeptEmbeddings.of_image`."""
Nearest = Callable[[str, str, Vector, int], Awaitable[Sequence[Neighbour]]]
"""Returns the images most similar to an embedding; see `KeptEmbeddings.neighbours`."""


class Reviews:
    """What callers can do with the queue.  Each sees and changes only that of its own tenant."""

    def __init__(self, vector_of: VectorOf, nearest: Nearest) -> None:
        self._vector_of = vector_of
        self._nearest = nearest

    async def list_page(
        self, tenant_id: str, wanted: ReviewFilter, page_size: int = 0, page_token: str = ""
    ) -> Page[ReviewItem]:
        """Returns a page of the images that nobody has judged.

        By disagreement, the first page compares some that are not compared with their neighbours.

        Args:
            tenant_id: the tenant.
            wanted: which ones, and in which order.
            page_size: see `paging.limit_of`.
            page_token: the token of the previous page; empty for the first page.

        Raises:
            InvalidRequest: a value is not valid.
            FailedPrecondition: the tenant has more images than the memory for indexes holds.
            DependencyDown: the database does not answer.
        """
        limit = limit_of(page_size)
        before = score_and_text_of(page_token)
        check_search(ImageFilter(category=wanted.category, model=wanted.model))
        by_neighbours = wanted.order is ReviewOrder.DISAGREEMENT
        if by_neighbours and before is None:
            await self._compare_some(tenant_id)
        places = await rows.list_queue(tenant_id, wanted, before or BEFORE_ALL, limit + 1)

        def token_of_place(place: QueuedImage) -> str:
            score = place.disagreement if by_neighbours else place.uncertainty
            return token_of_score(score or 0.0, place.image_id)

        page = page_from(places, limit, token_of_place)
        items = await _with_images(tenant_id, page.items)
        return Page(items, page.has_more, lambda index: token_of_place(items[index].place))

    async def skip(self, tenant_id: str, image_id: str) -> ReviewItem:
        """Puts an image aside, and returns it.

        Raises:
            ImageNotFound: no such image is in the queue.
            DependencyDown: the database does not answer.
        """
        place = await rows.skip(tenant_id, image_id, clock.now())
        found = await _with_images(tenant_id, [place] if place else [])
        if not found:
            raise ImageNotFound("no such image is in the queue")
        return found[0]

    async def agreement(
        self, tenant_id: str, model: str, start_time: datetime | None, end_time: datetime | None
    ) -> Agreement:
        """Returns how far reviewers agree about the results that two or more have judged.

        Args:
            tenant_id: the tenant.
            model: of the results; empty for all.
            start_time: of the judgements, at the earliest.
            end_time: before when they are.

        Raises:
            InvalidRequest: the name of the model is not valid.
            DependencyDown: the database does not answer.
        """
        check_search(ImageFilter(model=model))
        votes = await rows.list_votes(tenant_id, model, start_time, end_time, MAX_RESULTS)
        return agreement_of(votes)

    async def _compare_some(self, tenant_id: str) -> None:
        uncompared = await rows.list_uncompared(tenant_id, COMPARED_AT_ONCE)
        images = await image_rows.get_many(tenant_id, uncompared)
        results = [image.result for image in images.values() if image.result]
        near = [(result, await self._near(tenant_id, result)) for result in results]
        ids = list({n.image_id for _, found in near for n in found})
        shown = await _shown(tenant_id, ids)
        compared = [(result, disagreement_of(result, found, shown)) for result, found in near]
        await rows.set_disagreements(tenant_id, compared)

    async def _near(self, tenant_id: str, result: ImageResult) -> list[Neighbour]:
        digest = result.model.digest
        vector = await self._vector_of(tenant_id, result.image_id, digest)
        if vector is None:
            return []
        found = await self._nearest(tenant_id, digest, vector, NEIGHBOURS + 1)
        others = [n for n in found if n.image_id != result.image_id]
        return [n for n in others[:NEIGHBOURS] if n.similarity >= MIN_SIMILARITY]


def disagreement_of(result: ImageResult, near: Sequence[Neighbour], shown: dict[str, str]) -> float:
    """Returns the share of neighbours that show another category, weighed by their similarity.

    Args:
        result: with the first prediction that they are compared with.
        near: the neighbours.
        shown: what images show; those are missing of which it is not known.
    """
    own = best_of(result)
    known = [n for n in near if n.image_id in shown]
    total = sum(n.similarity for n in known)
    other = sum(n.similarity for n in known if shown[n.image_id] != own)
    return rounded(other / total) if total else 0.0


def best_of(result: ImageResult) -> str:
    """Returns the category of the first prediction; empty if there is none."""
    return result.predictions[0].category.name if result.predictions else ""


async def _shown(tenant_id: str, image_ids: Sequence[str]) -> dict[str, str]:
    """Returns what images show, as people say, or else as their first prediction says."""
    images = await image_rows.get_many(tenant_id, image_ids)
    predicted = {
        image_id: best_of(image.result)
        for image_id, image in images.items()
        if image.result and image.result.predictions
    }
    return predicted | await rows.find_labels(tenant_id, image_ids)


async def _with_images(tenant_id: str, places: Sequence[QueuedImage]) -> list[ReviewItem]:
    """Returns places with their images, without those that were deleted meanwhile."""
    ids = [place.image_id for place in places]
    images: dict[str, Image] = await image_rows.get_many(tenant_id, ids)
    return [ReviewItem(p, images[p.image_id]) for p in places if p.image_id in images]
