"""Categories of one's own: taught by examples, answered beside the model's, for one tenant."""

import pytest
from image_categorizer import (
    AsyncImageCategorizationClient,
    CategoryExists,
    CategoryNotFound,
    ExampleNotFound,
    FailedPrecondition,
    ImageNotFound,
    InvalidRequest,
    UndecodableImage,
)
from image_categorizer_server.db.database import connected
from image_categorizer_server.domain.access import Role
from image_categorizer_server.settings.category import CategorySettings
from image_categorizer_server.settings.correction import CorrectionSettings
from image_categorizer_server.settings.database import CacheSettings

from tests.integration.conftest import running_server
from tests.support.pictures import jpeg
from tests.support.polling import eventually

pytestmark = pytest.mark.usefixtures("every_tenant")
PANDAS = [jpeg(64, 48, seed) for seed in range(5)]
OTHER = jpeg(48, 64, 77)
# The network of these tests is untrained: all pictures have similar embeddings, only the same one
# has the same.
SAME = CorrectionSettings(min_similarity=0.99999)
NEVER_BY_MEANS = CategorySettings(min_similarity=1, fit_delay_s=0.1)
ALWAYS_BY_MEANS = CategorySettings(min_similarity=0.01, fit_delay_s=0.1, max_categories=2)
SEEN_WITHIN_S = 1.0
FITTED_WITHIN_S = 20.0


@pytest.fixture
def settings(settings):
    cache = CacheSettings(ttl_s=60, timeout_s=5)
    changes = {"correction": SAME, "category": NEVER_BY_MEANS, "cache": cache}
    return settings.model_copy(update=changes)


def at(settings, name):
    """The settings of another server of the same installation."""
    bind = settings.server.bind.replace("test.sock", f"{name}.sock")
    return settings.model_copy(update={"server": settings.server.model_copy(update={"bind": bind})})


def is_own(answer):
    return bool(answer.predictions) and answer.predictions[0].source == "OWN_CATEGORY"


async def answer_until(client, picture, is_expected):
    """The first answer that is as expected, which comes within a second."""
    answers = []

    async def is_seen():
        answers.append(await client.classify_image(picture))
        return is_expected(answers[-1])

    await eventually(is_seen, within_s=SEEN_WITHIN_S)
    return answers[-1]


async def test_a_category_is_answered_by_all_servers_within_a_second_for_its_tenant_alone(settings):
    async with running_server(settings) as one, running_server(at(settings, "other")) as other:
        key = await one.key(Role.CLASSIFIER)
        stranger = await one.key(Role.CLASSIFIER, "stranger")
        async with (
            AsyncImageCategorizationClient(key, one.address) as client,
            AsyncImageCategorizationClient(key, other.address) as there,
            AsyncImageCategorizationClient(stranger, one.address) as elsewhere,
        ):
            before = [await c.classify_image(PANDAS[0]) for c in (client, there, elsewhere)]
            another = await client.classify_image(OTHER)
            assert not any(map(is_own, [*before, another]))
            made = await client.categories.create("red panda", PANDAS)
            assert (made.category, made.example_count) == ("red panda", 5)
            at_once = await client.classify_image(PANDAS[0])
            assert at_once.category == "red panda"
            for each in (client, there):
                answer = await answer_until(each, PANDAS[0], is_own)
                assert answer.category == "red panda"
                assert answer.confidence == pytest.approx(1, abs=1e-3)
                assert answer.neighbours[0].image_id in made.image_ids
                assert answer.predictions[1:] == before[0].predictions
                cached = await each.classify_image(PANDAS[0])
                assert cached.cache == "HIT"
                assert (cached.predictions, cached.neighbours) == (
                    answer.predictions,
                    answer.neighbours,
                )
            assert (await client.classify_image(OTHER)).predictions == another.predictions
            assert not is_own(await elsewhere.classify_image(PANDAS[0]))
            assert [c async for c in elsewhere.categories.list()] == []
            with pytest.raises(CategoryNotFound):
                await elsewhere.categories.get("red panda")
            sources = [(f"{n}.jpg", picture) for n, picture in enumerate((PANDAS[0], OTHER))]
            streamed = [r async for r in client.classify_stream(sources)]
            assert sorted(is_own(r.classification) for r in streamed) == [False, True]
            kept = await client.classify_image(PANDAS[0], store=True)
            assert is_own(kept)
            image = await client.images.get(kept.image_id)
            assert image.result.predictions[0].source == "OWN_CATEGORY"
            await client.categories.delete("red panda")
            for each in (client, there):
                await answer_until(each, PANDAS[0], lambda a: not is_own(a))
            with pytest.raises(CategoryNotFound):
                await client.categories.delete("red panda")


async def test_examples_come_and_go_and_an_image_shows_one_category(client):
    stored = await client.images.upload(PANDAS[0])
    made = await client.categories.create("one", image_ids=[stored.image_id])
    assert made.image_ids == (stored.image_id,)
    assert is_own(await client.classify_image(PANDAS[0]))
    two = await client.categories.create("UNKNOWN", [PANDAS[1]], image_ids=[stored.image_id])
    assert two.example_count == 2
    assert [(c.category, c.example_count) async for c in client.categories.list()] == [
        ("UNKNOWN", 2),
        ("one", 0),
    ]
    assert (await client.classify_image(PANDAS[0])).category == "UNKNOWN"
    more = await client.categories.add_examples("one", [PANDAS[2]], image_ids=[stored.image_id])
    assert more.example_count == 2
    again = await client.categories.add_examples("one", [PANDAS[2]])
    assert again == more
    assert (await client.classify_image(PANDAS[0])).category == "one"
    await client.categories.remove_example("one", stored.image_id)
    await answer_until(client, PANDAS[0], lambda a: not is_own(a))
    with pytest.raises(ExampleNotFound):
        await client.categories.remove_example("one", stored.image_id)
    (image_id,) = (await client.categories.get("one")).image_ids
    await client.images.delete(image_id)
    await answer_until(client, PANDAS[2], lambda a: not is_own(a))


async def test_what_teaches_nothing_is_refused_and_leaves_nothing(settings):
    settings = settings.model_copy(update={"category": ALWAYS_BY_MEANS})
    async with running_server(settings) as server:
        key = await server.key(Role.CLASSIFIER)
        async with AsyncImageCategorizationClient(key, server.address) as client:
            for name in ("", " a", "a/b", "a:b", "a\nb", "x" * 129):
                with pytest.raises(InvalidRequest, match="category"):
                    await client.categories.create(name, [PANDAS[0]])
            with pytest.raises(InvalidRequest, match="examples: must be 1 to 100"):
                await client.categories.create("one")
            with pytest.raises(UndecodableImage):
                await client.categories.create("one", [PANDAS[0], b"no image"])
            with pytest.raises(ImageNotFound):
                await client.categories.create("one", [PANDAS[0]], image_ids=["i-none"])
            assert [i async for i in client.images.list()] == []
            with pytest.raises(CategoryNotFound):
                await client.categories.add_examples("one", [PANDAS[0]])
            for name in ("one", "two"):
                await client.categories.create(name, [PANDAS[0]])
            with pytest.raises(CategoryExists):
                await client.categories.create("one", [PANDAS[0]])
            with pytest.raises(FailedPrecondition, match="may have 2 categories"):
                await client.categories.create("three", [PANDAS[0]])
            everything = await client.classify_image(OTHER)
            assert everything.predictions[0].category == "two"
            assert 0 < everything.confidence < 1
            plain = await client.classify_image(OTHER, include_categories=["cat"])
            assert not is_own(plain)
            sure = await client.classify_image(OTHER, confidence_threshold=1)
            assert not is_own(sure)


async def test_a_head_is_fitted_in_the_background_and_goes_with_the_first_of_its_images(client):
    thin = [jpeg(96, 16, seed) for seed in range(6)]
    tall = [jpeg(16, 96, seed) for seed in range(6)]
    assert (await client.categories.head()).kind == "KIND_UNSPECIFIED"
    made = await client.categories.create("thin", thin)
    await client.categories.create("tall", tall)
    state = await client.categories.head()
    assert (state.kind, state.example_count, state.model.name) == ("MEANS", 12, "small")

    async def is_tried():
        return (await client.categories.head()).trial is not None

    await eventually(is_tried, within_s=FITTED_WITHIN_S)
    state = await client.categories.head()
    assert state.trial.total_count == 12
    # Promoted if and only if it has more right, or all.
    better = state.trial.right_count > state.trial.baseline_right_count
    assert state.trial.promoted == (better or state.trial.right_count == 12)
    assert state.kind == ("LINEAR" if state.trial.promoted else "MEANS")
    assert bool(state.trial.refusal) != state.trial.promoted
    async with connected() as connection:
        assert await connection.fetchval("SELECT count(*) FROM category_heads") == 1
        await client.images.delete(made.image_ids[0])
        assert await connection.fetchval("SELECT count(*) FROM category_heads") == 0


async def test_feedback_may_name_a_category_of_ones_own_and_adds_an_example(client):
    await client.categories.create("one", [PANDAS[0]])
    stored = await client.classify_image(PANDAS[1], store=True)
    assert not is_own(stored)
    said = await client.images.correct(stored.image_id, "one")
    answer = await answer_until(client, PANDAS[1], is_own)
    assert answer.category == "one"
    await client.feedback.undo(said.feedback_id)
    await answer_until(client, PANDAS[1], lambda a: not is_own(a))


async def test_filters_may_name_categories_of_ones_own(server, client):
    model_only = await client.classify_image(PANDAS[0])
    with pytest.raises(CategoryNotFound, match="red panda"):
        await client.classify_image(PANDAS[0], include_categories=["red panda"])
    with pytest.raises(CategoryNotFound, match="red panda"):
        await client.batches.submit([("a", PANDAS[0])], exclude_categories=["red panda"])
    await client.categories.create("red panda", [PANDAS[0]])
    await client.categories.create("UNKNOWN", [PANDAS[1]])

    async def names(picture, **options):
        answer = await client.classify_image(picture, **options)
        return [p.category for p in answer.predictions]

    only = {"include_categories": ["red panda"]}
    assert await names(PANDAS[0], **only) == ["red panda"]
    assert await names(OTHER, **only) == []
    assert await names(PANDAS[1], **only) == []
    assert await names(PANDAS[1], include_categories=["UNKNOWN", "cat"]) == ["UNKNOWN", "cat"]
    both = ["cat", "red panda"]
    assert await names(PANDAS[0], include_categories=both) == ["red panda", "cat"]
    plain = [p.category for p in model_only.predictions]
    assert await names(PANDAS[0], exclude_categories=["red panda"]) == plain
    assert await names(PANDAS[0], include_categories=["cat"]) == ["cat"]
    stored = await client.classify_image(PANDAS[0], store=True, **only)
    corrected = await client.classify_image(OTHER, store=True)
    others = sorted({"ant", "bee", "cat", "dog"} - {corrected.category})
    await client.images.correct(corrected.image_id, others[0])
    wanted = [corrected.category, others[0], "red panda"]
    await eventually(lambda: is_corrected(client, wanted), within_s=SEEN_WITHIN_S)
    # What is stored is found by it, and can be judged and replayed.
    found = [i.image_id async for i in client.images.list(category="red panda")]
    assert found == [stored.image_id]
    queued = [r.image.image_id async for r in client.reviews.list(category="red panda")]
    assert queued == [stored.image_id]
    confirmed = await client.feedback.confirm(stored.image_id)
    assert confirmed.category == "red panda"
    await client.results.replay(stored.result_id)
    await client.batches.submit([("a", PANDAS[0])], **only)
    streamed = [r async for r in client.classify_stream([("a", PANDAS[0])], **only)]
    assert [r.classification.category for r in streamed] == ["red panda"]
    await client.categories.delete("red panda")
    await eventually(lambda: is_unknown(client, "red panda"), within_s=SEEN_WITHIN_S)


async def is_unknown(client, category):
    try:
        await client.classify_image(PANDAS[0], include_categories=[category])
    except CategoryNotFound:
        return True
    return False


async def is_corrected(client, include):
    answer = await client.classify_image(OTHER, include_categories=include)
    return answer.predictions[0].source == "CORRECTION"
