"""Feedback about stored results changes the next answers of the tenant."""

import pytest
from image_categorizer import (
    AsyncImageCategorizationClient,
    CategoryNotFound,
    FeedbackNotFound,
    ImageNotFound,
    InvalidRequest,
    ResultNotFound,
)
from image_categorizer_server.domain.access import DEFAULT_TENANT, Role
from image_categorizer_server.domain.classification import NO_CATEGORY
from image_categorizer_server.settings.correction import CorrectionSettings
from image_categorizer_server.settings.database import CacheSettings

from tests.integration.conftest import running_server
from tests.support.pictures import jpeg
from tests.support.polling import eventually

pytestmark = pytest.mark.usefixtures("every_tenant")
CATEGORIES = {"ant", "bee", "cat", "dog"}
PICTURES = [jpeg(64, 48, seed) for seed in range(3)]
# The network of these tests is untrained: different pictures have similar embeddings.
SAME = CorrectionSettings(min_similarity=0.99999)
SEEN_WITHIN_S = 1.0


@pytest.fixture
def settings(settings):
    cache = CacheSettings(ttl_s=60, timeout_s=5)
    return settings.model_copy(update={"correction": SAME, "cache": cache})


def at(settings, name):
    """The settings of another server of the same installation."""
    bind = settings.server.bind.replace("test.sock", f"{name}.sock")
    return settings.model_copy(update={"server": settings.server.model_copy(update={"bind": bind})})


async def answer_until(client, is_expected, **options):
    """The first answer that is as expected, which comes within a second."""
    answers = []

    async def is_seen():
        answers.append(await client.classify_image(PICTURES[0], **options))
        return is_expected(answers[-1])

    await eventually(is_seen, within_s=SEEN_WITHIN_S)
    return answers[-1]


def is_corrected(answer):
    return bool(answer.predictions) and answer.predictions[0].source == "CORRECTION"


def is_plain(answer):
    return not is_corrected(answer)


async def test_a_correction_is_seen_by_all_servers_within_a_second_until_it_is_undone(settings):
    async with running_server(settings) as one, running_server(at(settings, "other")) as other:
        key = await one.key(Role.CLASSIFIER)
        stranger = await one.key(Role.CLASSIFIER, "stranger")
        async with (
            AsyncImageCategorizationClient(key, one.address) as client,
            AsyncImageCategorizationClient(key, other.address) as there,
            AsyncImageCategorizationClient(stranger, one.address) as elsewhere,
        ):
            before = await client.classify_image(PICTURES[0], store=True)
            another = await client.classify_image(PICTURES[1])
            plain = [await c.classify_image(PICTURES[0]) for c in (client, there, elsewhere)]
            assert not any(map(is_corrected, [before, another, *plain]))
            right = min(CATEGORIES - {before.category})
            said = await client.images.correct(before.image_id, right)
            assert (said.judgement, said.category, said.undo_time) == ("WRONG", right, None)
            assert said.result_id == before.result_id
            assert await client.images.correct(before.image_id, right) == said
            for each in (client, there):
                answer = await answer_until(each, is_corrected)
                assert answer.category == right
                assert answer.confidence == pytest.approx(1, abs=1e-3)
                assert [n.image_id for n in answer.neighbours] == [before.image_id]
                assert answer.predictions[1:] == before.predictions
                cached = await each.classify_image(PICTURES[0])
                assert cached.cache == "HIT"
                assert cached.predictions == answer.predictions
                assert cached.neighbours == answer.neighbours
            assert (await client.classify_image(PICTURES[1])).predictions == another.predictions
            assert is_plain(await elsewhere.classify_image(PICTURES[0]))
            undone = await client.feedback.undo(said.feedback_id)
            assert undone.undo_time is not None
            assert await client.feedback.undo(said.feedback_id) == undone
            for each in (client, there):
                assert (await answer_until(each, is_plain)).predictions == before.predictions
            assert [f async for f in client.feedback.list()] == [undone]
            assert [f async for f in elsewhere.feedback.list()] == []
            with pytest.raises(FeedbackNotFound):
                await elsewhere.feedback.undo(said.feedback_id)


async def test_the_newest_feedback_about_an_image_counts(client):
    stored = await client.classify_image(PICTURES[0], store=True)
    ids = []
    for category in sorted(CATEGORIES - {stored.category})[:2]:
        ids.append((await client.images.correct(stored.image_id, category)).feedback_id)
        answer = await answer_until(client, is_corrected)
    assert (await answer_until(client, lambda a: a.category == category)).category == category
    said = await client.feedback.reject(stored.image_id)
    answer = await answer_until(client, lambda a: a.category == NO_CATEGORY)
    assert is_corrected(answer)
    await client.feedback.undo(said.feedback_id)
    await answer_until(client, lambda a: a.category == category)
    # The model's own category, confirmed: there is nothing to correct.
    confirmed = await client.feedback.confirm(stored.image_id, result_id=stored.result_id)
    assert confirmed.category == stored.category
    assert (await answer_until(client, is_plain)).neighbours == ()
    listed = [f async for f in client.feedback.list(image_id=stored.image_id)]
    assert [f.feedback_id for f in listed] == [
        confirmed.feedback_id,
        said.feedback_id,
        *reversed(ids),
    ]
    await client.images.correct(stored.image_id, category)
    await answer_until(client, is_corrected)
    await client.images.delete(stored.image_id)
    await answer_until(client, is_plain)
    assert [f async for f in client.feedback.list()] == []


async def test_the_options_of_a_call_apply_to_corrections(client):
    stored = await client.classify_image(PICTURES[0], store=True)
    right = min(CATEGORIES - {stored.category})
    await client.images.correct(stored.image_id, right)
    await answer_until(client, is_corrected, no_cache=True)
    one = await client.classify_image(PICTURES[0], top_k=1)
    assert [p.category for p in one.predictions] == [right]
    assert is_plain(await client.classify_image(PICTURES[0], exclude_categories=[right]))
    both = [right, stored.category]
    assert is_corrected(await client.classify_image(PICTURES[0], include_categories=both))
    assert is_plain(await client.classify_image(PICTURES[0], include_categories=both[1:]))
    drawn = await client.classify_image(PICTURES[0], explain=True, bounding_boxes=True)
    assert is_corrected(drawn)
    kept = await client.classify_image(PICTURES[2], store=True, bounding_boxes=True)
    assert kept.predictions[0].bounding_boxes
    sources = [(f"{n}.jpg", picture) for n, picture in enumerate(PICTURES[:2])]
    streamed = [r async for r in client.classify_stream(sources)]
    corrected = [r.classification for r in streamed if is_corrected(r.classification)]
    assert [(c.category, len(c.neighbours)) for c in corrected] == [(right, 1)]
    again = await client.classify_image(PICTURES[0], store=True)
    assert again.image_id == stored.image_id
    image = await client.images.get(stored.image_id)
    assert (image.result.category, image.result.predictions[0].source) == (right, "CORRECTION")


async def test_feedback_that_says_nothing_is_refused(client):
    stored = await client.classify_image(PICTURES[0], store=True)
    uploaded = await client.images.upload(PICTURES[1])
    with pytest.raises(CategoryNotFound, match="the model 'small' has no category 'lynx'"):
        await client.images.correct(stored.image_id, "lynx")
    with pytest.raises(CategoryNotFound):
        await client.images.correct(stored.image_id, NO_CATEGORY)
    with pytest.raises(InvalidRequest, match="category: is required for WRONG"):
        await client.images.correct(stored.image_id, "")
    with pytest.raises(ResultNotFound):
        await client.images.correct(uploaded.image_id, "cat")
    with pytest.raises(ResultNotFound):
        await client.feedback.confirm(stored.image_id, result_id="r-none")
    with pytest.raises(ImageNotFound):
        await client.feedback.reject("i-none")
    with pytest.raises(FeedbackNotFound):
        await client.feedback.undo("f-none")
    nothing = await client.classify_image(PICTURES[2], store=True, confidence_threshold=1)
    with pytest.raises(InvalidRequest, match="judgement: must not be RIGHT: nothing was predicted"):
        await client.feedback.confirm(nothing.image_id)


async def test_a_tenant_without_feedback_makes_no_embeddings_and_asks_the_database_once(
    server, client, monkeypatch
):
    seen = []
    classifier = server.backend.classifications._classifier
    classify = type(classifier).classify

    async def noting(self, *arguments, **options):
        seen.append(options)
        return await classify(self, *arguments, **options)

    monkeypatch.setattr(type(classifier), "classify", noting)
    for picture in PICTURES:
        await client.classify_image(picture, no_cache=True)
    assert seen == [{"with_embedding": False, "with_stored": False, "own": frozenset()}] * len(
        PICTURES
    )
    corrections = server.backend.classifications._corrections
    assert [key[0] for key in corrections._sets] == [DEFAULT_TENANT]
    assert corrections._size_bytes == 0
