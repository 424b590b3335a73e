"""What is cached, for which tenant, and under which fingerprint."""

from dataclasses import dataclass, field, replace

import pytest
from image_categorizer_server.domain.classification import (
    BatchCloseReason,
    Box,
    CacheStatus,
    Category,
    Classification,
    ClassifyOptions,
    Digests,
    ModelRef,
    Neighbour,
    Prediction,
    Source,
    Timing,
)
from image_categorizer_server.errors import DependencyDown
from image_categorizer_server.services.result_cache import Query, ResultCache
from image_categorizer_server.settings.database import CacheSettings

CAT, DOG = Category("cat", "n02121620", ("mammal",)), Category("dog")
TIMING = Timing(1.25, 0.5, 3.0, 2, BatchCloseReason.FULL)
MODEL = ModelRef("pets", 1, f"sha256:{'a' * 64}")
DIGESTS = Digests("sha256:1", "sha256:2", "sha256:3")
QUERY = Query(
    tenant_id="acme",
    image_sha256="1" * 64,
    model=MODEL,
    categories=(CAT, DOG),
    positions={"cat": 0, "dog": 1},
    runtime="onnx cpu fp32",
    digests=DIGESTS,
    options=ClassifyOptions(),
    corrections="",
)
ANSWER = Classification(
    [
        Prediction(DOG, 0.1 + 0.2, (Box(1, 2, 30, 40), Box(5, 6, 7, 8)), 0.7 + 0.1),
        Prediction(CAT, 1e-9, source=Source.CORRECTION),
    ],
    MODEL,
    TIMING,
    digests=DIGESTS,
    options=ClassifyOptions(),
    neighbours=(Neighbour("i-1", 0.9),),
)


@dataclass
class MemoryStore:
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
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def results(store) -> ResultCache:
    return ResultCache(store, CacheSettings())


def changed(**options) -> Query:
    return replace(QUERY, options=ClassifyOptions(**options))


async def test_a_cached_answer_comes_back_unchanged(results):
    assert await results.find(QUERY) is None
    assert await results.put(QUERY, ANSWER)
    assert await results.find(QUERY) == replace(ANSWER, cache=CacheStatus.HIT)


@pytest.mark.parametrize(
    "other",
    [
        replace(QUERY, tenant_id="other"),
        replace(QUERY, image_sha256="2" * 64),
        replace(QUERY, model=ModelRef("pets", 1, f"sha256:{'b' * 64}")),
        replace(QUERY, runtime="torch cuda bf16"),
        replace(QUERY, digests=replace(DIGESTS, preprocessing="sha256:4")),
        replace(QUERY, digests=replace(DIGESTS, calibration="sha256:4")),
        replace(QUERY, digests=replace(DIGESTS, taxonomy="sha256:4")),
        replace(QUERY, corrections="5" * 64),
        changed(confidence_threshold=0.5),
        changed(top_k=1),
        changed(include_categories=("cat",)),
        changed(exclude_categories=("cat",)),
        changed(bounding_boxes=True),
        changed(roll_up=True),
        changed(raw_confidence=True),
    ],
    ids=[
        "tenant",
        "image",
        "model",
        "runtime",
        "preprocessing",
        "calibration",
        "taxonomy",
        "corrections",
        "threshold",
        "top_k",
        "include",
        "exclude",
        "boxes",
        "roll_up",
        "raw",
    ],
)
async def test_everything_that_changes_the_answer_changes_the_fingerprint(results, other):
    await results.put(QUERY, ANSWER)
    assert await results.find(other) is None


async def test_what_does_not_change_the_answer_does_not_change_the_fingerprint(results):
    await results.put(changed(include_categories=("cat", "dog")), ANSWER)
    assert await results.find(changed(include_categories=("dog", "cat", "dog")))
    renamed = replace(
        changed(include_categories=("dog", "cat")),
        model=replace(MODEL, name="animals", version=7),
    )
    found = await results.find(renamed)
    assert found is not None
    assert found.model == renamed.model


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
async def test_a_damaged_answer_counts_as_none_and_is_replaced(results, store, damage):
    await results.put(QUERY, ANSWER)
    ((key, value),) = store.values.items()
    store.values[key] = damage(value)
    assert store.values[key] != value
    assert await results.find(QUERY) is None
    await results.put(QUERY, ANSWER)
    assert store.values == {key: value}


async def test_a_tenant_has_a_limited_number_of_slots(store):
    results = ResultCache(store, CacheSettings(max_entries=3))
    queries = [replace(QUERY, image_sha256=f"{n:064x}") for n in range(20)]
    for query in queries:
        await results.put(query, ANSWER)
    assert set(store.values) == {f"result:acme:{slot}" for slot in range(3)}
    assert sum([await results.find(query) is not None for query in queries]) == 3


async def test_tenants_never_share_keys(results, store):
    await results.put(replace(QUERY, tenant_id="a:b*"), ANSWER)
    assert next(iter(store.values)).startswith("result:a%3Ab%2A:")


async def test_a_large_answer_is_not_cached(store):
    results = ResultCache(store, CacheSettings(max_value_bytes=256))
    assert not await results.put(QUERY, replace(ANSWER, predictions=ANSWER.predictions * 9))
    assert store.values == {}


async def test_a_store_that_is_down_fails_find_but_not_put():
    results = ResultCache(MemoryStore(is_down=True), CacheSettings())
    with pytest.raises(DependencyDown):
        await results.find(QUERY)
    assert not await results.put(QUERY, ANSWER)
