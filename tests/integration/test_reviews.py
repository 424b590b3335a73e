"""The queue of images that nobody has judged, and what takes them out of it."""

import asyncio
from datetime import timedelta

import numpy as np
import pytest
from image_categorizer import AsyncImageCategorizationClient, ImageNotFound, InvalidRequest
from image_categorizer_server import clock, errors
from image_categorizer_server.db.database import connected
from image_categorizer_server.domain.access import Role
from image_categorizer_server.domain.classification import (
    BatchCloseReason,
    Category,
    Classification,
    ModelRef,
    Prediction,
    Timing,
)
from image_categorizer_server.domain.embedding import Embedding
from image_categorizer_server.domain.image import NewImage
from image_categorizer_server.domain.review import ReviewFilter

from tests.support.pictures import jpeg

pytestmark = pytest.mark.usefixtures("every_tenant")
TIMING = Timing(0, 0, 0, 1, BatchCloseReason.IDLE)
SMALL = "small"


class Gallery:
    """Stores pictures with results that a test makes up."""

    def __init__(self, server):
        self._backend = server.backend
        self._count = 0
        self.ref = server.backend.registry.get(SMALL, None).ref

    async def add(self, *confidences, category="cat", model=None, vector=None, content=b""):
        """Stores a picture with a result; returns its id."""
        self._count += 1
        new = NewImage(content or jpeg(16, 16, self._count))
        image = await self._backend.images.store("default", new)
        await self.classify(image.image_id, *confidences, category=category, model=model)
        if vector is not None:
            unit = np.array(vector, np.float32)
            embedding = Embedding(unit / np.linalg.norm(unit), self.ref)
            await self._backend.embeddings.kept.keep("default", image.image_id, embedding)
        return image.image_id

    async def classify(self, image_id, *confidences, category="cat", model=None):
        image = await self._backend.images.get("default", image_id)
        names = [category, "ant", "bee"]
        predictions = [
            Prediction(Category(name, "", ("animal",)), confidence, ())
            for name, confidence in zip(names, confidences, strict=False)
        ]
        ref = ModelRef(model, 1, "sha256:0") if model else self.ref
        await self._backend.images.keep_result(
            image, Classification(predictions, ref, TIMING), image.sha256
        )


@pytest.fixture
def gallery(server):
    return Gallery(server)


async def queue(client, *arguments, **filters):
    return [item.image.image_id async for item in client.reviews.list(*arguments, **filters)]


async def found(client, state):
    return {image.image_id async for image in client.images.list(review_state=state)}


async def test_the_most_uncertain_is_first_and_filters_hold_together(client, gallery):
    sure = await gallery.add(0.9, 0.1)
    unsure = await gallery.add(0.5, 0.45, category="dog")
    other = await gallery.add(0.6, 0.2, model="other")
    lonely = await gallery.add(0.75)
    empty = await gallery.add()
    await client.images.upload(jpeg(16, 16, 99))  # without a result
    items = [item async for item in client.reviews.list()]
    assert [i.image.image_id for i in items] == [empty, unsure, other, lonely, sure]
    assert [round(i.uncertainty, 4) for i in items] == [1, 0.95, 0.6, 0.5, 0.2]
    assert items[1].image.result.category == "dog"
    assert {i.disagreement for i in items} == {i.skip_time for i in items} == {None}
    assert await queue(client, category="dog") == [unsure]
    assert await queue(client, category="animal") == [unsure, other, lonely, sure]
    assert await queue(client, model="other") == [other]
    assert await queue(client, model="other", category="dog") == []
    hour = timedelta(hours=1)
    assert await queue(client, start_time=clock.now() + hour) == []
    assert len(await queue(client, start_time=clock.now() - hour, end_time=clock.now() + hour)) == 5
    with pytest.raises(InvalidRequest, match="category"):
        await queue(client, category="a\0")


async def test_pages_follow_one_another_also_past_equal_scores(server, gallery):
    ids = [await gallery.add(0.4, 0.3) for _ in range(4)] + [await gallery.add(1 / 3, 1 / 7)]
    reviews = server.backend.reviews
    read, token = [], ""
    for _ in range(5):
        page = await reviews.list_page("default", ReviewFilter(), 1, token)
        read += [item.image.image_id for item in page.items]
        token = page.next_page_token
    assert not token
    assert sorted(read[:4], reverse=True) == read[:4]
    assert set(read[:4]) == set(ids[:4])
    assert read[4] == ids[4]
    with pytest.raises(errors.InvalidRequest, match="page_token"):
        await reviews.list_page("default", ReviewFilter(), 1, "bm9uc2Vuc2U")


async def test_a_judgement_takes_an_image_out_until_it_is_undone(client, gallery):
    ids = [await gallery.add(0.5, 0.4) for _ in range(4)]
    right, wrong, none, left = ids
    await client.feedback.confirm(right)
    corrected = await client.images.correct(wrong, "dog")
    await client.feedback.reject(none)
    assert await queue(client) == [left]
    for state, expected in [
        ("UNREVIEWED", {left}),
        ("RIGHT", {right}),
        ("CORRECTED", {wrong}),
        ("NOT_IN_LIST", {none}),
        ("REVIEWED", {right, wrong, none}),
    ]:
        assert await found(client, state) == expected, state
    # A new result does not make people look again.
    await gallery.classify(wrong, 0.3, 0.3)
    assert await queue(client) == [left]
    again = await client.feedback.confirm(wrong)
    assert wrong in await found(client, "RIGHT")
    await client.feedback.undo(again.feedback_id)
    assert await found(client, "CORRECTED") == {wrong}
    await client.feedback.undo(corrected.feedback_id)
    assert await queue(client) == [wrong, left]
    assert await found(client, "UNREVIEWED") == {wrong, left}
    assert await found(client, "REVIEWED") == {right, none}
    for image_id in ids:
        await client.images.delete(image_id)
    async with connected() as connection:
        assert await connection.fetchval("SELECT count(*) FROM review_queue") == 0


async def test_judgements_and_results_at_once_leave_queue_and_states_as_they_should_be(
    client, gallery
):
    ids = [await gallery.add(0.5, 0.4) for _ in range(6)]

    async def judge(image_id):
        for _ in range(3):
            said = await client.feedback.confirm(image_id)
            await client.feedback.undo(said.feedback_id)
        if ids.index(image_id) % 2:
            await client.feedback.confirm(image_id)

    async with asyncio.TaskGroup() as tasks:
        for image_id in ids:
            tasks.create_task(judge(image_id))
            for _ in range(3):
                tasks.create_task(gallery.classify(image_id, 0.6, 0.4))
    assert set(await queue(client)) == await found(client, "UNREVIEWED") == set(ids[::2])
    assert await found(client, "REVIEWED") == set(ids[1::2])


async def test_a_skipped_image_is_listed_apart_until_it_has_a_new_result(client, gallery):
    one, other = [await gallery.add(0.5, 0.4) for _ in range(2)]
    skipped = await client.reviews.skip(one)
    assert skipped.image.image_id == one
    assert skipped.skip_time is not None
    assert (await client.reviews.skip(one)).skip_time == skipped.skip_time
    assert await queue(client) == [other]
    assert await queue(client, skipped=True) == [one]
    await gallery.classify(one, 0.5, 0.5)
    assert await queue(client) == [one, other]
    await client.feedback.confirm(one)
    with pytest.raises(ImageNotFound):
        await client.reviews.skip(one)


async def test_an_image_whose_neighbours_show_another_category_is_first(client, gallery):
    odd = await gallery.add(0.99, 0.01, category="cat", vector=[1, 0.1, 0])
    dogs = [await gallery.add(0.9, 0.1, category="dog", vector=[1, 0, n / 10]) for n in range(3)]
    bee = await gallery.add(0.5, 0.5, category="bee", vector=[0, 0, 1])
    assert await queue(client, "DISAGREEMENT", category="cat") == [odd]
    items = [item async for item in client.reviews.list("DISAGREEMENT")]
    assert items[0].image.image_id == odd
    assert items[0].disagreement == 1
    shares = {item.image.image_id: item.disagreement for item in items}
    assert all(0.2 < shares[dog] < 0.5 for dog in dogs)
    assert shares[bee] == 0  # without neighbours
    # What people say counts more than what models say.
    for dog in dogs:
        await client.images.correct(dog, "cat")
    await gallery.classify(odd, 0.99, 0.01)
    (item,) = [i async for i in client.reviews.list("DISAGREEMENT", category="cat")]
    assert (item.image.image_id, item.disagreement) == (odd, 0)


async def test_reviewers_are_kept_and_their_agreement_is_told(server, client, gallery):
    ids = [await gallery.add(0.5, 0.4) for _ in range(4)]
    key = await server.key(Role.CLASSIFIER)
    async with AsyncImageCategorizationClient(key, server.address) as second:
        first_said = await client.feedback.confirm(ids[0])
        assert await client.feedback.confirm(ids[0]) == first_said
        second_said = await second.feedback.confirm(ids[0])
        assert second_said.reviewer != first_said.reviewer != ""
        assert await second.feedback.confirm(ids[0]) == second_said
        await client.images.correct(ids[1], "dog")
        await second.feedback.confirm(ids[1])
        await client.images.correct(ids[1], "dog")  # it counts again, and once
        await client.images.correct(ids[2], "dog")
        await second.images.correct(ids[2], "dog")
        await client.feedback.confirm(ids[3])  # by one reviewer only
        assert await found(client, "RIGHT") == {ids[0], ids[3]}
    agreed = await client.reviews.agreement()
    assert (agreed.result_count, agreed.reviewer_count) == (3, 2)
    assert agreed.observed_agreement == pytest.approx(2 / 3)
    (pair,) = agreed.pairs
    assert {pair.reviewer, pair.other_reviewer} == {first_said.reviewer, second_said.reviewer}
    assert pair.cohen_kappa == pytest.approx(0.4)
    assert agreed.fleiss_kappa == pytest.approx(1 / 3)
    assert (await client.reviews.agreement(model="other")).result_count == 0
    later = await client.reviews.agreement(start_time=clock.now() + timedelta(hours=1))
    assert (later.fleiss_kappa, later.observed_agreement) == (None, None)


async def test_each_tenant_sees_its_own_queue(server, client, gallery):
    image_id = await gallery.add(0.5, 0.4)
    stranger = await server.key(Role.CLASSIFIER, "stranger")
    async with AsyncImageCategorizationClient(stranger, server.address) as other:
        assert await queue(other) == []
        assert (await other.reviews.agreement()).result_count == 0
        with pytest.raises(ImageNotFound):
            await other.reviews.skip(image_id)
