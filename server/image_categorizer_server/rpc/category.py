"""CategoryService."""

import grpc
from image_categorizer.v1 import category_pb2, category_pb2_grpc

from image_categorizer_server.domain.category import HeadState, HeadTrial, NewExamples, OwnCategory
from image_categorizer_server.domain.classification import Caller, Lane
from image_categorizer_server.errors import CategoryNotFound
from image_categorizer_server.paging import Page
from image_categorizer_server.rpc import convert, pages
from image_categorizer_server.rpc.call import current_call, current_tenant
from image_categorizer_server.rpc.validation import (
    MAX_NAME_CHARACTERS,
    image_id_of,
    raise_if_any,
    version_or_alias,
)
from image_categorizer_server.services.category import CategoryBook

Context = grpc.aio.ServicerContext
MAX_CATEGORY_CHARACTERS = 128
MAX_EXAMPLES = 100
NOT_IN_NAMES = "/:"
"""What separates parts of a path."""
Examples = category_pb2.CreateCategoryRequest | category_pb2.AddCategoryExamplesRequest


class CategoryServicer(category_pb2_grpc.CategoryServiceServicer):
    """Serves CategoryService."""

    def __init__(self, categories: CategoryBook, max_page_bytes: int) -> None:
        self._categories = categories
        self._max_page_bytes = max_page_bytes

    async def CreateCategory(
        self,
        request: category_pb2.CreateCategoryRequest,
        context: Context[category_pb2.CreateCategoryRequest, category_pb2.OwnCategory],
    ) -> category_pb2.OwnCategory:
        wrong: list[tuple[str, str]] = []
        _check_name(request.category, wrong)
        new = _examples(request, wrong)
        await _charge(new)
        return _to_wire(await self._categories.create(request.category, new, _caller()))

    async def ListOwnCategories(
        self,
        request: category_pb2.ListOwnCategoriesRequest,
        context: Context[
            category_pb2.ListOwnCategoriesRequest, category_pb2.ListOwnCategoriesResponse
        ],
    ) -> category_pb2.ListOwnCategoriesResponse:
        page = await pages.read(request, self._read, _to_wire, self._max_page_bytes)
        return category_pb2.ListOwnCategoriesResponse(
            categories=page.messages, next_page_token=page.next_page_token
        )

    async def _read(self, page_size: int, page_token: str) -> Page[OwnCategory]:
        return await self._categories.list_page(current_tenant(), page_size, page_token)

    async def GetOwnCategory(
        self,
        request: category_pb2.GetOwnCategoryRequest,
        context: Context[category_pb2.GetOwnCategoryRequest, category_pb2.OwnCategory],
    ) -> category_pb2.OwnCategory:
        name = _name_of(request.category)
        return _to_wire(await self._categories.get(current_tenant(), name))

    async def AddCategoryExamples(
        self,
        request: category_pb2.AddCategoryExamplesRequest,
        context: Context[category_pb2.AddCategoryExamplesRequest, category_pb2.OwnCategory],
    ) -> category_pb2.OwnCategory:
        name = _name_of(request.category)
        new = _examples(request, [])
        await _charge(new)
        return _to_wire(await self._categories.add(name, new, _caller()))

    async def RemoveCategoryExample(
        self,
        request: category_pb2.RemoveCategoryExampleRequest,
        context: Context[
            category_pb2.RemoveCategoryExampleRequest, category_pb2.RemoveCategoryExampleResponse
        ],
    ) -> category_pb2.RemoveCategoryExampleResponse:
        name, image_id = _name_of(request.category), image_id_of(request.image_id)
        await self._categories.remove_example(current_tenant(), name, image_id)
        return category_pb2.RemoveCategoryExampleResponse()

    async def DeleteCategory(
        self,
        request: category_pb2.DeleteCategoryRequest,
        context: Context[category_pb2.DeleteCategoryRequest, category_pb2.DeleteCategoryResponse],
    ) -> category_pb2.DeleteCategoryResponse:
        await self._categories.delete(current_tenant(), _name_of(request.category))
        return category_pb2.DeleteCategoryResponse()

    async def GetCategoryHead(
        self,
        request: category_pb2.GetCategoryHeadRequest,
        context: Context[category_pb2.GetCategoryHeadRequest, category_pb2.CategoryHead],
    ) -> category_pb2.CategoryHead:
        wrong: list[tuple[str, str]] = []
        if len(request.model) > MAX_NAME_CHARACTERS:
            wrong.append(("model", f"must have at most {MAX_NAME_CHARACTERS} characters"))
        version = version_or_alias(request.version, wrong)
        raise_if_any(wrong)
        state = await self._categories.head(current_tenant(), request.model, version)
        return _head_to_wire(state)


def _caller() -> Caller:
    call = current_call.get()
    return Caller(call.tenant_id, Lane.INTERACTIVE, call.deadline_s, call.is_repeated, call.key_id)


async def _charge(new: NewExamples) -> None:
    """Charges for the examples that are sent, as images.

    Raises:
        QuotaExceeded: the tenant has no images left.
    """
    charged = current_call.get().charged_image
    assert charged is not None, "every call can be charged"
    for _ in new.contents:
        async with charged():
            pass


def _check_name(name: str, wrong: list[tuple[str, str]]) -> None:
    if not 1 <= len(name) <= MAX_CATEGORY_CHARACTERS or not _is_name(name):
        text = f"must have 1 to {MAX_CATEGORY_CHARACTERS} characters, none of control, no / or :"
        wrong.append(("category", text))


def _is_name(name: str) -> bool:
    return name.isprintable() and name == name.strip() and not set(name) & set(NOT_IN_NAMES)


def _name_of(name: str) -> str:
    """Returns the name of a category that a request names.

    Raises:
        InvalidRequest: it is missing.
        CategoryNotFound: no category has such a name.
    """
    if not name:
        raise_if_any([("category", "is required")])
    if len(name) > MAX_CATEGORY_CHARACTERS or not _is_name(name):
        raise CategoryNotFound("the tenant has no such category")
    return name


def _examples(request: Examples, wrong: list[tuple[str, str]]) -> NewExamples:
    """Returns the examples of a request.

    Raises:
        InvalidRequest: names each field that is wrong, also those that are known to be.
    """
    count = len(request.examples) + len(request.image_ids)
    if not 1 <= count <= MAX_EXAMPLES:
        text = f"must be 1 to {MAX_EXAMPLES}, with image_ids, are {count}"
        wrong.append(("examples", text))
    if not all(request.examples):
        wrong.append(("examples", "must not be empty"))
    raise_if_any(wrong)
    image_ids = tuple(map(image_id_of, request.image_ids))
    return NewExamples(tuple(request.examples), image_ids, request.subject_id)


def _to_wire(value: OwnCategory) -> category_pb2.OwnCategory:
    return category_pb2.OwnCategory(
        category=value.category,
        example_count=value.example_count,
        image_ids=value.image_ids,
        create_time=convert.timestamp(value.create_time),
    )


def _head_to_wire(value: HeadState) -> category_pb2.CategoryHead:
    return category_pb2.CategoryHead(
        model=convert.model_ref(value.model),
        kind=category_pb2.CategoryHead.Kind.Value(value.kind.value),
        example_count=value.example_count,
        fitting=value.is_fitting,
        trial=_trial_to_wire(value.trial) if value.trial else None,
    )


def _trial_to_wire(value: HeadTrial) -> category_pb2.HeadTrial:
    return category_pb2.HeadTrial(
        create_time=convert.timestamp(value.create_time),
        total_count=value.total_count,
        right_count=value.right_count,
        baseline_right_count=value.baseline_right_count,
        promoted=not value.refusal,
        refusal=value.refusal,
    )
