"""Categories that tenants teach by examples."""

import time

from image_categorizer_server import clock
from image_categorizer_server.db import category as rows
from image_categorizer_server.domain.category import HeadState, NewExamples, OwnCategory
from image_categorizer_server.domain.classification import Caller, Lane, ModelRef
from image_categorizer_server.domain.embedding import Embedding
from image_categorizer_server.domain.image import NewImage
from image_categorizer_server.errors import (
    CategoryExists,
    CategoryNotFound,
    ExampleNotFound,
    ImageNotFound,
)
from image_categorizer_server.inference.embedding import check_embeds
from image_categorizer_server.inference.models.registry import Registry
from image_categorizer_server.paging import Page, limit_of, page_from, text_of, token_of
from image_categorizer_server.services.category_head import CategoryHeads
from image_categorizer_server.services.embedding import Embeddings
from image_categorizer_server.services.image import Images
from image_categorizer_server.settings.category import CategorySettings

SEE_S = 60.0
"""How long a model may take to see an example in the background."""


class CategoryBook:
    """What callers can do with categories.  Each sees and changes only those of its own tenant."""

    def __init__(
        self,
        images: Images,
        embeddings: Embeddings,
        registry: Registry,
        heads: CategoryHeads,
        settings: CategorySettings,
    ) -> None:
        """Configures the service.

        Args:
            images: stores the examples.
            embeddings: makes theirs.
            registry: names the model that sees them.
            heads: decide.
            settings: how many there may be.
        """
        self._images = images
        self._embeddings = embeddings
        self._registry = registry
        self._heads = heads
        self._most = rows.Most(settings.max_categories, settings.max_examples)

    async def create(self, category: str, new: NewExamples, caller: Caller) -> OwnCategory:
        """Creates a category from examples.

        Raises:
            CategoryExists: the tenant has a category of this name.
            CategorizerError: see `_stored`, and `db.category.create`.
        """
        if await rows.exists(caller.tenant_id, category):
            raise CategoryExists("the tenant has a category of this name")
        image_ids = await self._stored(new, caller)
        await rows.create(caller.tenant_id, category, image_ids, clock.now(), self._most)
        return await self._changed(caller.tenant_id, category)

    async def add(self, category: str, new: NewExamples, caller: Caller) -> OwnCategory:
        """Adds examples to a category.

        Raises:
            CategoryNotFound: the tenant has no such category.
            CategorizerError: see `_stored`, and `db.category.add`.
        """
        if not await rows.exists(caller.tenant_id, category):
            raise CategoryNotFound("the tenant has no such category")
        image_ids = await self._stored(new, caller)
        await rows.add(caller.tenant_id, category, image_ids, clock.now(), self._most)
        return await self._changed(caller.tenant_id, category)

    async def _changed(self, tenant_id: str, category: str) -> OwnCategory:
        """Returns a category that was changed, once this server knows it."""
        self._heads.forget_tenant(tenant_id)
        await self._heads.head(tenant_id, self._registry.get("", None).ref)
        return await self.get(tenant_id, category)

    async def _stored(self, new: NewExamples, caller: Caller) -> list[str]:
        """Returns the images of examples, stored and seen by the default model.

        Nothing is stored unless all can be decoded and found.

        Raises:
            InvalidRequest: an example cannot be decoded, or the model makes no embeddings.
            ImageNotFound: the tenant has no such image.
            CategorizerError: see `Images.store`, and `Embeddings.embed`.
        """
        model = self._registry.get("", None)
        check_embeds(model)
        for image_id in new.image_ids:
            await self._images.get(caller.tenant_id, image_id)
        seen: list[tuple[NewImage, Embedding]] = []
        for content in new.contents:
            made = await self._embeddings.embed(content, model.ref.name, model.ref.version, caller)
            seen.append((NewImage(content, subject_id=new.subject_id), made))
        image_ids = list(new.image_ids)
        for image, embedding in seen:
            stored = await self._images.store(caller.tenant_id, image)
            await self._embeddings.kept.keep(caller.tenant_id, stored.image_id, embedding)
            image_ids.append(stored.image_id)
        for image_id in new.image_ids:
            await self._see(caller, image_id, model.ref)
        return image_ids

    async def _see(self, caller: Caller, image_id: str, model: ModelRef) -> None:
        """Lets a model see a stored image, unless it has."""
        kept = self._embeddings.kept
        if await kept.of_image(caller.tenant_id, image_id, model.digest) is not None:
            return
        content = await self._images.content(caller.tenant_id, image_id)
        made = await self._embeddings.embed(content, model.name, model.version, caller)
        await kept.keep(caller.tenant_id, image_id, made)

    async def list_page(
        self, tenant_id: str, page_size: int = 0, page_token: str = ""
    ) -> Page[OwnCategory]:
        """Returns a page of the tenant's categories, by name.

        Args:
            tenant_id: the tenant.
            page_size: see `paging.limit_of`.
            page_token: the token of the previous page; empty for the first page.

        Raises:
            InvalidRequest: `page_size` or `page_token` is not valid.
            DependencyDown: the database does not answer.
        """
        limit = limit_of(page_size)
        found = await rows.list_categories(tenant_id, text_of(page_token) or "", limit + 1)
        return page_from(found, limit, lambda one: token_of(one.category))

    async def get(self, tenant_id: str, category: str) -> OwnCategory:
        """Returns a category with its newest examples.

        Raises:
            CategoryNotFound: the tenant has no such category.
            DependencyDown: the database does not answer.
        """
        found = await rows.get(tenant_id, category)
        if found is None:
            raise CategoryNotFound("the tenant has no such category")
        return found

    async def remove_example(self, tenant_id: str, category: str, image_id: str) -> None:
        """Removes an example from a category; the image remains.

        Raises:
            ExampleNotFound: the image is no example of the category.
            DependencyDown: the database does not answer.
        """
        if not await rows.remove_example(tenant_id, category, image_id):
            raise ExampleNotFound("the image is no example of the category")

    async def delete(self, tenant_id: str, category: str) -> None:
        """Deletes a category; its images remain.

        Raises:
            CategoryNotFound: the tenant has no such category.
            DependencyDown: the database does not answer.
        """
        if not await rows.delete(tenant_id, category, clock.now()):
            raise CategoryNotFound("the tenant has no such category")

    async def head(self, tenant_id: str, model: str, version: int | str | None) -> HeadState:
        """Returns what decides between the categories, for one model version.

        Raises:
            InvalidRequest: the model makes no embeddings.
            ModelNotFound: there is no such model or version.
            ModelLoading: the model is being loaded.
            DependencyDown: the database does not answer.
        """
        loaded = self._registry.get(model, version)
        check_embeds(loaded)
        return await self._heads.state(tenant_id, loaded.ref)


async def see_stored(
    images: Images, embeddings: Embeddings, tenant_id: str, image_id: str, model: ModelRef
) -> None:
    """Lets a model see a stored example in the background; one that is gone is passed over.

    Raises:
        CategorizerError: see `Embeddings.embed`.
    """
    caller = Caller(tenant_id, Lane.BATCH, time.monotonic() + SEE_S)
    try:
        content = await images.content(tenant_id, image_id)
    except ImageNotFound:
        return
    made = await embeddings.embed(content, model.name, model.version, caller)
    await embeddings.kept.keep(tenant_id, image_id, made)
