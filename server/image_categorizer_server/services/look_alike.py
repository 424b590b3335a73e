"""Feedback about one image, applied to those that look alike."""

from collections.abc import Awaitable, Callable, Sequence

from image_categorizer_server.db import feedback as rows
from image_categorizer_server.db import image as image_rows
from image_categorizer_server.domain.classification import NO_CATEGORY
from image_categorizer_server.domain.feedback import Feedback, Judgement, NewFeedback
from image_categorizer_server.domain.image import Image
from image_categorizer_server.errors import CategoryNotFound, ImageNotFound
from image_categorizer_server.services.feedback import FeedbackBook

MAX_LOOK_ALIKES = 100
Near = Callable[[str, str, int, int], Awaitable[Sequence[str]]]
"""Returns the images of a tenant that look like another one; see `Duplicates.near`."""


class LookAlikes:
    """Judges the images that look like a judged one."""

    def __init__(self, feedback: FeedbackBook, near: Near) -> None:
        self._feedback = feedback
        self._near = near

    async def judge(self, tenant_id: str, said: Feedback, max_distance_bits: int) -> list[str]:
        """Says of look-alikes what was said of an image; returns those that it was said of.

        Passes over those that somebody has judged, that have no result, or whose model lacks the
        category.

        Args:
            tenant_id: the tenant.
            said: about the image.
            max_distance_bits: by how many bits the hashes may differ.

        Raises:
            InvalidRequest: `max_distance_bits` is not valid.
            ImageNotFound: the image is gone.
            FailedPrecondition: it has no hash.
            CategorizerError: see `FeedbackBook.submit`.
        """
        near = await self._near(tenant_id, said.image_id, max_distance_bits, MAX_LOOK_ALIKES)
        images = await image_rows.get_many(tenant_id, near)
        return [
            image.image_id
            for image in (images[i] for i in near if i in images)
            if await self._judge(tenant_id, image, said)
        ]

    async def _judge(self, tenant_id: str, image: Image, said: Feedback) -> bool:
        if image.result is None or await rows.newest(tenant_id, image.image_id):
            return False
        best = image.result.predictions[0].category.name if image.result.predictions else ""
        if said.category == NO_CATEGORY:
            judgement, category = Judgement.NOT_IN_LIST, ""
        elif said.category == best:
            judgement, category = Judgement.RIGHT, ""
        else:
            judgement, category = Judgement.WRONG, said.category
        new = NewFeedback(
            image.image_id, judgement, image.result.result_id, category, said.reviewer
        )
        try:
            await self._feedback.submit(tenant_id, new)
        except (CategoryNotFound, ImageNotFound):
            return False
        return True
