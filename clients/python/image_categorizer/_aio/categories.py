"""The asyncio client's categories of one's own."""

from collections.abc import AsyncIterator, Iterable

from image_categorizer import _category_wire, _inputs, _wire
from image_categorizer._aio.connection import AsyncConnection
from image_categorizer._aio.listing import listing
from image_categorizer._aio.runtime import in_thread
from image_categorizer._category_values import CategoryHead, OwnCategory
from image_categorizer._values import Image
from image_categorizer.v1 import category_pb2


class AsyncCategories:
    """The categories that the tenant teaches by examples: `client.categories`.

    `client.models.categories` lists those of a model.
    """

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def create(
        self,
        category: str,
        examples: "Iterable[Image]" = (),
        *,
        image_ids: Iterable[str] = (),
        subject_id: str = "",
    ) -> OwnCategory:
        """Creates a category: within a second, images like its examples are answered with it.

            await client.categories.create("red panda", ["1.jpg", "2.jpg", "3.jpg"])

        Args:
            category: its name, at most 128 characters, no `/` and no `:`. `UNKNOWN` teaches what
                belongs to no category.
            examples: images that show it, each as for `classify_image`. They are stored.
            image_ids: stored images that show it. At most 100 in all; `add_examples` adds more.
            subject_id: whose images `examples` are.

        Raises:
            OSError: a file cannot be read.
            CategoryExists: there is a category of this name.
            ImageNotFound: one of `image_ids` is no image of the tenant.
            FailedPrecondition: the tenant has as many categories or examples as it may have.
            CategorizerError: see `image_categorizer.errors`.
        """
        contents = [await self._content(example) for example in examples]
        request = _category_wire.create_request(category, contents, list(image_ids), subject_id)
        stub = self._connection.stubs.categories.CreateCategory
        return _category_wire.category(await self._connection.call(stub, request))

    async def add_examples(
        self,
        category: str,
        examples: "Iterable[Image]" = (),
        *,
        image_ids: Iterable[str] = (),
        subject_id: str = "",
    ) -> OwnCategory:
        """Adds examples to a category.

        Args:
            category: the category.
            examples: as for `create`.
            image_ids: as for `create`.
            subject_id: as for `create`.

        Raises:
            OSError: a file cannot be read.
            CategoryNotFound: there is no such category.
            ImageNotFound: one of `image_ids` is no image of the tenant.
            FailedPrecondition: the tenant has as many examples as it may have.
            CategorizerError: see `image_categorizer.errors`.
        """
        contents = [await self._content(example) for example in examples]
        request = _category_wire.add_request(category, contents, list(image_ids), subject_id)
        stub = self._connection.stubs.categories.AddCategoryExamples
        return _category_wire.category(await self._connection.call(stub, request))

    async def get(self, category: str) -> OwnCategory:
        """Returns a category, with its newest examples.

        Raises:
            CategoryNotFound: there is no such category.
        """
        request = category_pb2.GetOwnCategoryRequest(category=category)
        stub = self._connection.stubs.categories.GetOwnCategory
        return _category_wire.category(await self._connection.call(stub, request))

    @listing
    async def list(self) -> AsyncIterator[OwnCategory]:
        """Yields the categories by name, without their examples.

        Raises:
            CategorizerError: see `image_categorizer.errors`.
        """
        request = category_pb2.ListOwnCategoriesRequest(page_size=_wire.PAGE_SIZE)
        stub = self._connection.stubs.categories.ListOwnCategories
        async for page in self._connection.pages(stub, request):
            for wire in page.categories:
                yield _category_wire.category(wire)

    async def remove_example(self, category: str, image_id: str) -> None:
        """Removes an example from a category; the stored image remains.

        Raises:
            ExampleNotFound: the image is no example of the category.
        """
        request = category_pb2.RemoveCategoryExampleRequest(category=category, image_id=image_id)
        await self._connection.call(
            self._connection.stubs.categories.RemoveCategoryExample, request
        )

    async def delete(self, category: str) -> None:
        """Deletes a category; the stored images remain.

        Raises:
            CategoryNotFound: there is no such category.
        """
        request = category_pb2.DeleteCategoryRequest(category=category)
        await self._connection.call(self._connection.stubs.categories.DeleteCategory, request)

    async def head(self, *, model: str = "", version: int | str = "") -> CategoryHead:
        """Returns what decides between the categories, and how the last new head compared.

        Args:
            model: default: the server's default model.
            version: a number or an alias; default: the version that answers.

        Raises:
            ModelNotFound: there is no such model or version.
            InvalidRequest: the model makes no embeddings.
        """
        request = _category_wire.head_request(model, version)
        stub = self._connection.stubs.categories.GetCategoryHead
        return _category_wire.head(await self._connection.call(stub, request))

    async def _content(self, image: "Image") -> bytes:
        named = _inputs.in_memory(image)
        if named is None:
            named = await in_thread(_inputs.read, image)
        return named[1]
