"""What people say about results of stored images."""

import secrets

from image_categorizer_server import clock
from image_categorizer_server.db import category as category_rows
from image_categorizer_server.db import feedback as rows
from image_categorizer_server.db import image as image_rows
from image_categorizer_server.domain.classification import NO_CATEGORY
from image_categorizer_server.domain.feedback import Feedback, Judgement, NewFeedback
from image_categorizer_server.domain.image import ImageResult
from image_categorizer_server.errors import (
    CategoryNotFound,
    FeedbackNotFound,
    ImageNotFound,
    InvalidRequest,
    ResultNotFound,
)
from image_categorizer_server.inference.models.registry import Registry
from image_categorizer_server.paging import Page, limit_of, number_of, page_from, token_of
from image_categorizer_server.quoting import quoted

ID_BYTES = 18
AFTER_ALL = 2**63 - 1


class FeedbackBook:
    """What callers can do with feedback.  Each sees and changes only that of its own tenant."""

    def __init__(self, registry: Registry) -> None:
        """Configures the service; `registry` knows the categories of models."""
        self._registry = registry

    async def submit(self, tenant_id: str, new: NewFeedback) -> Feedback:
        """Keeps what somebody says about a result, unless they and the last one have said the same.

        Raises:
            InvalidRequest: there is a category where none is expected, or none where one is.
            ImageNotFound: the tenant has no such image.
            ResultNotFound: the image has no such result.
            CategoryNotFound: the model of the result lacks the category, and so does the tenant.
            CategorizerError: see `Registry.tree`.
            DependencyDown: the database does not answer.
        """
        if (new.judgement is Judgement.WRONG) != bool(new.category):
            text = "is required for WRONG, and must be empty otherwise"
            raise InvalidRequest.of([("category", text)])
        result = await rows.find_result(tenant_id, new.image_id, new.result_id)
        if result is None:
            if await image_rows.get(tenant_id, new.image_id) is None:
                raise ImageNotFound("no such image")
            raise ResultNotFound("the image has no such result: classify it with store")
        category = await self._shown(tenant_id, new, result)
        last = await rows.newest(tenant_id, new.image_id)
        own = await rows.newest(tenant_id, new.image_id, new.reviewer)
        said = result.result_id, new.judgement, category
        is_repeated = all(f and _said(f) == said for f in (last, own))
        if own and is_repeated:
            return own
        feedback = Feedback(
            feedback_id=f"f-{secrets.token_urlsafe(ID_BYTES)}",
            image_id=new.image_id,
            result_id=result.result_id,
            judgement=new.judgement,
            category=category,
            create_time=clock.now(),
            reviewer=new.reviewer,
            answered=result.predictions[0].category.name if result.predictions else "",
        )
        added = await rows.add(tenant_id, feedback)
        if added is None:
            raise ImageNotFound("the image was deleted meanwhile")
        return added

    async def _shown(self, tenant_id: str, new: NewFeedback, result: ImageResult) -> str:
        """Returns what the image shows, according to the feedback."""
        if new.judgement is Judgement.NOT_IN_LIST:
            return NO_CATEGORY
        if new.judgement is Judgement.RIGHT:
            if not result.predictions:
                raise InvalidRequest.of([("judgement", "must not be RIGHT: nothing was predicted")])
            return result.predictions[0].category.name
        if await category_rows.exists(tenant_id, new.category):
            return new.category
        tree = self._registry.tree(result.model.name, result.model.version)
        if new.category == NO_CATEGORY or new.category not in tree.positions:
            name, category = result.model.name, quoted(new.category)
            raise CategoryNotFound(f"the model '{name}' has no category {category}")
        return new.category

    async def list_page(
        self, tenant_id: str, image_id: str = "", page_size: int = 0, page_token: str = ""
    ) -> Page[Feedback]:
        """Returns a page of the tenant's feedback, newest first.

        Args:
            tenant_id: the tenant.
            image_id: only feedback about this image; empty for all.
            page_size: see `paging.limit_of`.
            page_token: the token of the previous page; empty for the first page.

        Raises:
            InvalidRequest: `page_size` or `page_token` is not valid.
            DependencyDown: the database does not answer.
        """
        limit = limit_of(page_size)
        before = number_of(page_token)
        found = await rows.list_feedback(
            tenant_id, image_id, AFTER_ALL if before is None else before, limit + 1
        )
        return page_from(found, limit, lambda feedback: token_of(feedback.number))

    async def undo(self, tenant_id: str, feedback_id: str) -> Feedback:
        """Undoes feedback, and returns it.

        Raises:
            FeedbackNotFound: the tenant has no such feedback.
            DependencyDown: the database does not answer.
        """
        undone = await rows.undo(tenant_id, feedback_id, clock.now())
        if undone is None:
            raise FeedbackNotFound("no such feedback")
        return undone


def _said(feedback: Feedback) -> tuple[str, Judgement, str]:
    return feedback.result_id, feedback.judgement, feedback.category
