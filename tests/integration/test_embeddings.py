"""Embeddings: made on demand, kept with stored images, and compared within a tenant."""

import base64
import json

import grpc
import numpy as np
import pytest
from image_categorizer import (
    EmbeddingMissing,
    ImageNotFound,
    InvalidRequest,
    ModelNotFound,
    UndecodableImage,
)
from image_categorizer.v1 import embedding_pb2, embedding_pb2_grpc
from image_categorizer_server import errors
from image_categorizer_server.db.database import connected
from image_categorizer_server.domain.access import DEFAULT_TENANT, Role
from image_categorizer_server.domain.classification import ModelRef
from image_categorizer_server.domain.embedding import Embedding
from image_categorizer_server.domain.image import NewImage
from image_categorizer_server.services.neighbours import Neighbours
from image_categorizer_server.settings.database import CacheSettings
from image_categorizer_server.settings.embedding import EmbeddingSettings
from image_categorizer_server.settings.testing import TestSettings

from tests.integration.conftest import running_server
from tests.support.pictures import jpeg

pytestmark = pytest.mark.usefixtures("every_tenant")
PICTURES = [jpeg(64, 48, seed) for seed in range(6)]
MODEL = ModelRef("made", 1, "sha256:made")
DIMENSIONS = 32


@pytest.fixture
def kept(server):
    return server.backend.embeddings.kept


async def count():
    async with connected() as connection:
        return int(await connection.fetchval("SELECT count(*) FROM image_embeddings"))


def unit(vector):
    return (vector / np.linalg.norm(vector)).astype(np.float32)


async def stored(server, number, vector, tenant_id=DEFAULT_TENANT):
    """Stores a picture with a made-up embedding; returns its id."""
    image = await server.backend.images.store(tenant_id, NewImage(jpeg(20, 20, number)))
    embedding = Embedding(unit(vector), MODEL)
    await server.backend.embeddings.kept.keep(tenant_id, image.image_id, embedding)
    return image.image_id


async def test_a_stored_classification_keeps_the_embedding_that_embed_returns(client, kept):
    answer = await client.classify_image(PICTURES[0], store=True)
    embedding = await client.embed(PICTURES[0])
    assert embedding.model == answer.model
    assert sum(x * x for x in embedding.vector) == pytest.approx(1, abs=1e-5)
    found = await kept.of_image(DEFAULT_TENANT, answer.image_id, answer.model.digest)
    assert found == pytest.approx(np.array(embedding.vector), abs=2e-3)
    assert await kept.of_image(DEFAULT_TENANT, answer.image_id, "another") is None
    await client.classify_image(PICTURES[0], store=True)
    await client.classify_image(PICTURES[1])
    assert await count() == 1
    await client.images.delete(answer.image_id)
    assert await count() == 0


async def test_an_image_is_classified_and_embedded_in_one_model_call(settings, tmp_path):
    trace = tmp_path / "trace"
    traced = settings.model_copy(update={"test": TestSettings(trace=str(trace))})
    async with running_server(traced) as server, await server.client() as client:
        await client.classify_image(PICTURES[0], store=True)
        assert await count() == 1
    events = [json.loads(line)["event"] for line in trace.read_text().splitlines()]
    assert events.count("batch") == 1


async def test_what_is_cached_is_seen_again_where_an_embedding_is_to_be_kept(settings):
    cached = settings.model_copy(update={"cache": CacheSettings(ttl_s=60, timeout_s=5)})
    async with running_server(cached) as server, await server.client() as client:
        await client.classify_image(PICTURES[0])
        assert (await client.classify_image(PICTURES[0])).cache == "HIT"
        answer = await client.classify_image(PICTURES[0], store=True)
        assert answer.cache == "MISS"
        assert await count() == 1


async def test_similar_images_are_found_at_once_and_never_after_they_are_deleted(client):
    answers = [await client.classify_image(p, store=True) for p in PICTURES[:4]]
    ids = [answer.image_id for answer in answers]
    found = await client.images.similar(ids[0])
    assert {one.image.image_id for one in found} == set(ids[1:])
    similarities = [one.similarity for one in found]
    assert similarities == sorted(similarities, reverse=True)
    assert len(await client.images.similar(ids[0], limit=2)) == 2
    like = await client.images.like(PICTURES[0], limit=1)
    assert [one.image.image_id for one in like] == ids[:1]
    assert like[0].similarity == pytest.approx(1, abs=1e-3)
    assert like[0].image.result is not None
    newest = (await client.classify_image(PICTURES[4], store=True)).image_id
    assert newest in {one.image.image_id for one in await client.images.similar(ids[0])}
    await client.images.delete(newest)
    assert newest not in {one.image.image_id for one in await client.images.similar(ids[0])}


async def test_what_is_not_there_or_not_possible_is_refused(client):
    uploaded = await client.images.upload(PICTURES[0])
    with pytest.raises(EmbeddingMissing, match="was not classified by 'small' and stored"):
        await client.images.similar(uploaded.image_id)
    with pytest.raises(ImageNotFound):
        await client.images.similar("i-none")
    with pytest.raises(ModelNotFound):
        await client.images.similar(uploaded.image_id, model="none")
    with pytest.raises(InvalidRequest, match="limit: must be at least 0"):
        await client.images.similar(uploaded.image_id, limit=-1)
    with pytest.raises(ModelNotFound):
        await client.embed(PICTURES[0], model="none")
    with pytest.raises(UndecodableImage, match="the image is empty"):
        await client.embed(b"")


async def test_a_model_without_features_classifies_and_stores_but_makes_no_embeddings(settings):
    changes = {
        "test": TestSettings(fake_model="0,0"),
        "models": settings.models.model_copy(update={"default": "fake"}),
    }
    changed = settings.model_copy(update=changes)
    async with running_server(changed) as server, await server.client() as client:
        why = "model: 'fake' makes no embeddings: it has no layer whose features can be read"
        with pytest.raises(InvalidRequest, match=why):
            await client.embed(PICTURES[0])
        answer = await client.classify_image(PICTURES[0], store=True)
        assert await count() == 0
        with pytest.raises(InvalidRequest, match=why):
            await client.images.similar(answer.image_id)


async def test_neighbours_are_exact_and_of_the_same_tenant_and_model(server, kept):
    random = np.random.default_rng(1)
    vectors = [np.abs(random.standard_normal(DIMENSIONS)) for _ in range(30)]
    ids = [await stored(server, n, vector) for n, vector in enumerate(vectors)]
    await server.key(Role.CLASSIFIER, "acme")
    other = await stored(server, 100, vectors[0], "acme")
    query = unit(vectors[0])
    found = await kept.neighbours(DEFAULT_TENANT, MODEL.digest, query, 5)
    truth = sorted(
        ((float(unit(v) @ query), i) for v, i in zip(vectors, ids, strict=True)), reverse=True
    )
    assert [n.image_id for n in found] == [image_id for _, image_id in truth[:5]]
    assert [n.similarity for n in found] == pytest.approx([s for s, _ in truth[:5]], abs=2e-3)
    of_acme = await kept.neighbours("acme", MODEL.digest, query, 5)
    assert [n.image_id for n in of_acme] == [other]
    assert await kept.neighbours(DEFAULT_TENANT, "another", query, 5) == []


async def test_rows_of_transactions_that_end_out_of_order_are_all_found_once(server, kept):
    random = np.random.default_rng(2)
    vectors = [random.standard_normal(DIMENSIONS) for _ in range(3)]
    ids = [await stored(server, n, v) for n, v in enumerate(vectors[:2])]
    late = await server.backend.images.store(DEFAULT_TENANT, NewImage(jpeg(20, 20, 2)))

    async def neighbours():
        found = await kept.neighbours(DEFAULT_TENANT, MODEL.digest, unit(vectors[0]), 9)
        return sorted(n.image_id for n in found)

    async with connected() as slow:
        block = slow.transaction()
        await block.start()
        await slow.execute(
            "INSERT INTO image_embeddings (tenant_id, image_id, model_digest, code, vector)"
            " SELECT tenant_id, $1, model_digest, code, vector FROM image_embeddings LIMIT 1",
            late.image_id,
        )
        after = await stored(server, 3, vectors[2])
        assert await neighbours() == sorted([*ids, after])
        await block.commit()
    assert await neighbours() == sorted([*ids, after, late.image_id])
    assert await neighbours() == sorted([*ids, after, late.image_id])


async def test_deleted_images_crowd_out_no_others(settings):
    few = settings.model_copy(update={"embedding": EmbeddingSettings(candidates=100)})
    async with running_server(few) as server:
        kept = server.backend.embeddings.kept
        random = np.random.default_rng(4)
        query = random.standard_normal(DIMENSIONS)
        far = [await stored(server, n, random.standard_normal(DIMENSIONS)) for n in range(3)]
        image_ids = [f"i-{n}" for n in range(450)]
        async with connected() as connection:
            await connection.execute(
                "INSERT INTO images SELECT tenant_id, id, '', '', id, object_key, 1, 'JPEG', 1, 1,"
                " '', '{}', now(), NULL FROM images, unnest($2::text[]) AS id WHERE image_id = $1",
                far[0],
                image_ids,
            )
        for image_id in image_ids:
            near = unit(query + 0.1 * random.standard_normal(DIMENSIONS))
            await kept.keep(DEFAULT_TENANT, image_id, Embedding(near, MODEL))
        found = await kept.neighbours(DEFAULT_TENANT, MODEL.digest, unit(query), 3)
        assert not {n.image_id for n in found} & set(far)
        async with connected() as connection:
            await connection.execute("DELETE FROM images WHERE image_id = ANY($1)", image_ids)
        found = await kept.neighbours(DEFAULT_TENANT, MODEL.digest, unit(query), 3)
        assert {n.image_id for n in found} == set(far)


async def test_indexes_are_bounded_in_memory(server):
    settings = EmbeddingSettings(index_mb=1)
    neighbours = Neighbours(settings)
    await stored(server, 0, np.arange(1.0, 33))
    query = unit(np.arange(1.0, 33))
    for number in range(20):  # an index has room for 256 codes at first, in 66 KB
        await neighbours.nearest(DEFAULT_TENANT, f"sha256:{number}", query, 1)
        assert neighbours.size_bytes <= settings.index_bytes
    assert len(await neighbours.nearest(DEFAULT_TENANT, MODEL.digest, query, 1)) == 1
    async with connected() as connection:
        await connection.execute(
            "INSERT INTO images SELECT tenant_id, 'x' || n, '', '', 'x' || n, object_key, 1,"
            " 'JPEG', 1, 1, '', '{}', now(), NULL FROM images, generate_series(1, 4000) AS n"
        )
        await connection.execute(
            "INSERT INTO image_embeddings (tenant_id, image_id, model_digest, code, vector)"
            " SELECT e.tenant_id, i.image_id, 'big', e.code, '' FROM image_embeddings e, images i"
            " WHERE i.image_id LIKE 'x%'"
        )
    with pytest.raises(errors.FailedPrecondition, match="more memory than CATEGORIZER_"):
        await neighbours.nearest(DEFAULT_TENANT, "big", query, 1)


async def test_input_as_of_openai_counts_each_image(server):
    key = await server.key(Role.CLASSIFIER)
    credentials = (("authorization", f"Bearer {key}"),)
    async with grpc.aio.insecure_channel(server.address) as channel:
        stub = embedding_pb2_grpc.EmbeddingServiceStub(channel)
        texts = [base64.b64encode(p).decode() for p in PICTURES[:3]]
        texts[1] = f"data:image/jpeg;base64,{texts[1]}"
        request = embedding_pb2.EmbedRequest(input=texts)
        answer = await stub.Embed(request, metadata=credentials)
        assert [one.index for one in answer.data] == [0, 1, 2]
        assert answer.object == "list"
        one = await stub.Embed(embedding_pb2.EmbedRequest(image=PICTURES[1]), metadata=credentials)
        assert list(one.data[0].embedding) == pytest.approx(answer.data[1].embedding, abs=1e-5)
        size = len(one.data[0].embedding)
        for wrong, text in (
            ({"input": texts * 6}, "at most 16"),
            ({"input": ["no image!"]}, "input: is not base64"),
            ({"image": PICTURES[0], "input": texts}, "excludes"),
            ({"image": PICTURES[0], "dimensions": size - 1}, f"dimensions: must be {size}"),
            ({"image": PICTURES[0], "encoding_format": "base64"}, "base64 is for REST"),
        ):
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await stub.Embed(embedding_pb2.EmbedRequest(**wrong), metadata=credentials)
            assert text in refused.value.details()
