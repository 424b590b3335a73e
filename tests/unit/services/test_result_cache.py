"""What is remembered, for whom, and under which fingerprint."""

from dataclasses import dataclass, field, replace

import pytest
from image_categorizer_server.domain.classification import (
    BatchCloseReason,
    CacheStatus,
    Category,
    Classification,
    ClassifyOptions,
    ModelRef,
    Prediction,
    Timing,
)
from image_categorizer_server.errors import DependencyDown
from image_categorizer_server.services.result_cache import Question, ResultCache
from image_categorizer_server.settings.database import CacheSettings

CAT, DOG = Category("cat", "n02121620", ("mammal",)), Category("dog")
TIMING = Timing(1.25, 0.5, 3.0, 2, BatchCloseReason.FULL)
MODEL = ModelRef("pets", 1, f"sha256:{'a' * 64}")
QUESTION = Question(
    "acme", "1" * 64, MODEL, (CAT, DOG), {"cat": 0, "dog": 1}, "onnx cpu fp32", ClassifyOptions()
)
ANSWER = Classification(
    [Prediction(DOG, 0.1 + 0.2, (1, 2, 30, 40)), Prediction(CAT, 1e-9)], MODEL, TIMING
)


@dataclass
class Shelf:
    """A store in memory."""

    values: dict[str, bytes] = field(default_factory=dict)
    is_down: bool = False

    async def get(self, key: str) -> bytes | None:
        if self.is_down:
            raise DependencyDown("down")
        return self.values.get(key)

    async def put(self, key: str, value: bytes, ttl_s: float) -> None:
        if self.is_down:
            raise DependencyDown("down")
        self.values[key] = value


@pytest.fixture
def shelf() -> Shelf:
    return Shelf()


@pytest.fixture
def results(shelf) -> ResultCache:
    return ResultCache(shelf, CacheSettings())


def changed(**options) -> Question:
    return replace(QUESTION, options=ClassifyOptions(**options))


async def test_what_is_remembered_comes_back_as_it_was(results):
    assert await results.find(QUESTION) is None
    assert await results.remember(QUESTION, ANSWER)
    assert await results.find(QUESTION) == replace(ANSWER, cache=CacheStatus.HIT)


@pytest.mark.parametrize(
    "other",
    [
        replace(QUESTION, tenant_id="other"),
        replace(QUESTION, image_sha256="2" * 64),
        replace(QUESTION, model=ModelRef("pets", 1, f"sha256:{'b' * 64}")),
        replace(QUESTION, runtime="torch cuda bf16"),
        changed(confidence_threshold=0.5),
        changed(top_k=1),
        changed(include_categories=("cat",)),
        changed(exclude_categories=("cat",)),
        changed(bounding_boxes=True),
    ],
    ids=[
        "tenant",
        "image",
        "model",
        "runtime",
        "threshold",
        "top_k",
        "include",
        "exclude",
        "boxes",
    ],
)
async def test_whatever_changes_the_answer_is_another_question(results, other):
    await results.remember(QUESTION, ANSWER)
    assert await results.find(other) is None


async def test_what_does_not_change_the_answer_is_the_same_question(results):
    await results.remember(changed(include_categories=("cat", "dog")), ANSWER)
    assert await results.find(changed(include_categories=("dog", "cat", "dog")))
    renamed = replace(
        changed(include_categories=("dog", "cat")),
        model=replace(MODEL, name="animals", version=7),
    )
    found = await results.find(renamed)
    assert found is not None
    assert found.model == renamed.model


async def test_a_new_taxonomy_names_remembered_categories_anew(results):
    await results.remember(QUESTION, ANSWER)
    renamed = replace(QUESTION, categories=(CAT, Category("dog", ancestors=("pet",))))
    found = await results.find(renamed)
    assert found is not None
    assert found.predictions[0].category.ancestors == ("pet",)


@pytest.mark.parametrize(
    "damage",
    [
        lambda value: b"",
        lambda value: b"\xff\x00",
        lambda value: value[:-3],
        lambda value: value.replace(b"FULL", b"SOON"),
        lambda value: value.replace(b'"position":1', b'"position":2'),
        lambda value: value.replace(b'"position":1', b'"position":-1'),
        lambda value: value.replace(b"0.3", b"1.3"),
        lambda value: value.replace(b"{", b'{"more":1,', 1),
    ],
    ids=["empty", "binary", "cut", "reason", "beyond", "negative", "confidence", "unknown"],
)
async def test_a_damaged_answer_counts_as_none_and_is_written_anew(results, shelf, damage):
    await results.remember(QUESTION, ANSWER)
    ((key, value),) = shelf.values.items()
    shelf.values[key] = damage(value)
    assert shelf.values[key] != value
    assert await results.find(QUESTION) is None
    await results.remember(QUESTION, ANSWER)
    assert shelf.values == {key: value}


async def test_a_tenant_has_so_many_places_and_no_more(shelf):
    results = ResultCache(shelf, CacheSettings(max_entries=3))
    questions = [replace(QUESTION, image_sha256=f"{n:064x}") for n in range(20)]
    for question in questions:
        await results.remember(question, ANSWER)
    assert set(shelf.values) == {f"result:acme:{place}" for place in range(3)}
    assert sum([await results.find(question) is not None for question in questions]) == 3


async def test_one_tenants_keys_cannot_be_anothers(results, shelf):
    await results.remember(replace(QUESTION, tenant_id="a:b*"), ANSWER)
    assert next(iter(shelf.values)).startswith("result:a%3Ab%2A:")


async def test_what_is_too_large_is_not_remembered(shelf):
    results = ResultCache(shelf, CacheSettings(max_value_bytes=256))
    assert not await results.remember(QUESTION, replace(ANSWER, predictions=ANSWER.predictions * 9))
    assert shelf.values == {}


async def test_a_lost_store_is_told_when_asked_and_swallowed_when_told(results, shelf):
    shelf.is_down = True
    with pytest.raises(DependencyDown):
        await results.find(QUESTION)
    assert not await results.remember(QUESTION, ANSWER)
