"""Pages that are cut by bytes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from image_categorizer.v1.batch_pb2 import ListBatchResultsRequest
from image_categorizer.v1.metadata_pb2 import Category, ListCategoriesResponse
from image_categorizer_server.errors import InvalidRequest
from image_categorizer_server.paging import MAX_PAGE_SIZE, page_of
from image_categorizer_server.rpc import pages

MAX_BYTES = 1000


class Rows:
    """A list whose items are names, and how many of them were read at once."""

    def __init__(self, sizes):
        self.names = [f"{number:05}" + "x" * size for number, size in enumerate(sizes)]
        self.reads = []

    async def page(self, size, token):
        page = page_of(self.names, size, token)
        self.reads.append(len(page.items))
        return page


def category(name):
    return Category(category=name)


async def read_all(rows, page_size):
    token = ""
    while True:
        request = ListBatchResultsRequest(page_size=page_size, page_token=token)
        page = await pages.read(request, rows.page, category, MAX_BYTES)
        yield page
        if not (token := page.next_page_token):
            return


@given(st.lists(st.integers(0, 2000), max_size=60), st.integers(1, MAX_PAGE_SIZE))
async def test_pages_lead_to_every_item_once_and_fit(sizes, page_size):
    rows = Rows(sizes)
    found = []
    async for page in read_all(rows, page_size):
        answer = ListCategoriesResponse(categories=page.messages)
        assert answer.ByteSize() <= MAX_BYTES or len(page.messages) == 1
        assert len(page.messages) <= page_size
        found += [message.category for message in page.messages]
    assert found == rows.names


@given(st.lists(st.integers(0, 2000), max_size=60))
def test_a_list_in_memory_is_cut_alike(sizes):
    names, token, found = Rows(sizes).names, "", []
    while True:
        page = pages.cut(page_of(names, 50, token), category, MAX_BYTES)
        found += [message.category for message in page.messages]
        if not (token := page.next_page_token):
            break
    assert found == names


async def test_huge_items_are_not_read_a_thousand_at_once():
    rows = Rows([400] * 2000)
    async for page in read_all(rows, MAX_PAGE_SIZE):
        assert len(page.messages) == 2
        break
    assert sum(rows.reads) <= 2 * pages.FIRST_READ


async def test_small_items_fill_the_page_in_few_reads():
    rows = Rows([1] * 2000)
    request = ListBatchResultsRequest(page_size=MAX_PAGE_SIZE)
    page = await pages.read(request, rows.page, category, 2**20)
    assert (len(page.messages), len(rows.reads)) == (MAX_PAGE_SIZE, 2)


async def test_a_negative_page_size_is_refused():
    with pytest.raises(InvalidRequest, match="page_size"):
        await pages.read(ListBatchResultsRequest(page_size=-1), Rows([]).page, category, 1)
