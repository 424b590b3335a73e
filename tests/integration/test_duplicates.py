"""Images that look alike: groups, search, and feedback about all of them."""

import io

import pytest
from image_categorizer import (
    AsyncImageCategorizationClient,
    FailedPrecondition,
    ImageNotFound,
    InvalidRequest,
)
from image_categorizer_server.db.database import connected
from image_categorizer_server.domain.access import Role
from image_categorizer_server.services.duplicate import MAX_LISTED, Duplicates
from PIL import Image

from tests.support.pictures import encoded, jpeg, scene

pytestmark = pytest.mark.usefixtures("every_tenant")
SET_HASH = "UPDATE images SET perceptual_hash = $2 WHERE image_id = $1"


def variants(seed):
    """A picture, smaller, and as a worse JPEG: their hashes differ by few bits."""
    picture = Image.open(io.BytesIO(jpeg(320, 240, seed)))
    small = encoded(picture.resize((160, 120)))
    return [encoded(picture), small, encoded(picture, quality=40)]


async def stored(client, contents, tags=()):
    return [(await client.images.upload(c, tags=tags)).image_id for c in contents]


async def groups(client, bits=4):
    return [set(g.image_ids) async for g in client.images.duplicates(max_distance_bits=bits)]


async def test_variants_of_a_picture_are_a_group_that_search_finds(server, client):
    first = await stored(client, variants(1), ["first"])
    second = await stored(client, variants(2)[:2])
    await stored(client, [jpeg(64, 64, 9)])
    assert await groups(client, 6) == [set(first), set(second)]
    like = {"near_duplicate_of": first[0], "max_distance_bits": 6}
    assert {i.image_id async for i in client.images.list(**like)} == set(first)
    assert [i async for i in client.images.list(**like, tags=["second"])] == []
    tagged = [i.image_id async for i in client.images.list(**like, tags=["first"])]
    assert tagged == first[::-1]
    stranger = await server.key(Role.CLASSIFIER, "stranger")
    async with AsyncImageCategorizationClient(stranger, server.address) as other:
        assert await groups(other, 10) == []
        with pytest.raises(ImageNotFound):
            assert [i async for i in other.images.list(near_duplicate_of=first[0])]
    for image_id in first[1:]:
        await client.images.delete(image_id)
    assert await groups(client, 6) == [set(second)]


async def test_a_chain_of_similar_images_is_one_group_and_pages_follow(client):
    ids = await stored(client, [jpeg(16, 16, seed) for seed in range(7)])
    far = 0x5555555555555555
    hashes = [0, 0b111, 0b111111, far, far ^ 1, -1, -2]
    async with connected() as connection:
        values = list(zip(ids, hashes, strict=True))
        await connection.executemany(SET_HASH, values)
    pairs = sorted([set(ids[3:5]), set(ids[5:])], key=min)
    assert await groups(client, 3) == [set(ids[:3]), *pairs]
    assert len(await groups(client, 2)) == 2
    assert await groups(client, 0) == []
    found = {i.image_id async for i in client.images.list(near_duplicate_of=ids[0])}
    assert found == {ids[0], ids[1]}
    duplicates = Duplicates()
    read, token = [], ""
    for _ in range(3):
        page = await duplicates.list_page("default", 3, 1, token)
        read += [set(group.image_ids) for group in page.items]
        token = page.next_page_token
    assert read == await groups(client, 3)
    assert not token
    with pytest.raises(InvalidRequest, match="max_distance_bits"):
        await groups(client, 11)


async def test_a_large_group_lists_some_of_its_images(server, client):
    (image_id,) = await stored(client, [jpeg(16, 16)])
    async with connected() as connection:
        await connection.execute(
            """
            INSERT INTO images SELECT (jsonb_populate_record(i, jsonb_build_object(
                'image_id', i.image_id || n, 'sha256', n))).*
            FROM images i, generate_series(1, 1500) n
            """
        )
    (group,) = [g async for g in client.images.duplicates(max_distance_bits=0)]
    assert group.image_count == 1501
    assert len(group.image_ids) == MAX_LISTED
    assert group.image_ids[0] == image_id


async def test_feedback_reaches_the_look_alikes_that_nobody_has_judged(client):
    contents = [*variants(1), jpeg(64, 64, 9)]
    answers = [await client.classify_image(c, store=True) for c in contents]
    ids = [answer.image_id for answer in answers]
    (unclassified,) = await stored(client, [encoded(scene(320, 240, 1), quality=60)])
    await client.feedback.reject(ids[1])
    right = min({"ant", "bee", "cat", "dog"} - {answer.category for answer in answers})
    said = await client.images.correct(ids[0], right, look_alike_bits=6)
    assert said.look_alike_image_ids == (ids[2],)
    labels = {f.image_id: f.category async for f in client.feedback.list()}
    assert labels == {ids[0]: right, ids[1]: "UNKNOWN", ids[2]: right}
    assert {f.reviewer async for f in client.feedback.list()} == {said.reviewer}
    again = await client.images.correct(ids[0], right, look_alike_bits=6)
    assert (again.feedback_id, again.look_alike_image_ids) == (said.feedback_id, ())
    with pytest.raises(InvalidRequest, match="look_alike_bits"):
        await client.feedback.confirm(ids[3], look_alike_bits=11)
    # What is not valid judges nothing.
    assert ids[3] not in {f.image_id async for f in client.feedback.list()}
    async with connected() as connection:
        await connection.execute(SET_HASH, unclassified, None)
    with pytest.raises(FailedPrecondition, match="hash"):
        assert [i async for i in client.images.list(near_duplicate_of=unclassified)]
