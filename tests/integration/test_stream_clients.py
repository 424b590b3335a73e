"""The clients' streams on a real server: folders, failed files, memory, servers that stop."""

import asyncio
import threading
from collections import Counter
from itertools import count

import pytest
from image_categorizer import (
    ImageCategorizationClient,
    ImageTooLarge,
    ModelNotFound,
    UndecodableImage,
)
from image_categorizer_server.domain.access import Role

from tests.integration.conftest import collected, running_server
from tests.support.pictures import jpeg
from tests.support.polling import elapsed

PICTURE = jpeg(64, 48)


async def test_the_sdk_goes_on_where_a_server_stopped(settings):
    got = Counter()
    async with running_server(settings) as first:
        client = await first.client()
        results = client.classify_stream(
            [("bad", b"no image"), *((f"k{n}", PICTURE) for n in range(400))]
        )
        async for result in results:
            got[result.key] += 1
            if sum(got.values()) == 50:
                break
        first.backend.refusing.set()
        await elapsed(0.5)
    async with running_server(settings):
        async for result in results:
            got[result.key] += 1
    await client.close()
    assert len(got) == sum(got.values()) == 401


@pytest.fixture
def files(tmp_path):
    """A folder with two images, one of them below; a text, one named as an image."""
    (tmp_path / "below").mkdir()
    (tmp_path / "a.jpg").write_bytes(PICTURE)
    (tmp_path / "below" / "b.JPEG").write_bytes(PICTURE)
    (tmp_path / "broken.png").write_bytes(b"no image")
    (tmp_path / "notes.txt").write_text("hello")
    return tmp_path


async def test_a_folder_is_classified_by_either_client(server, files):
    key = await server.key(Role.CLASSIFIER)
    heard = []

    def ordinary():
        with ImageCategorizationClient(key, server.address) as client:
            found = client.classify_dir(files, on_progress=lambda *of: heard.append(of), top_k=2)
            results = {r.filename: r for r in found}
            flat = [r.filename for r in client.classify_dir(files, "*.jpg", recursive=False)]
            with pytest.raises(NotADirectoryError):
                client.classify_dir(files / "a.jpg")
        return results, flat

    results, flat = await asyncio.to_thread(ordinary)
    async with await server.client() as client:
        awaited = {r.filename: r async for r in client.classify_dir(files, top_k=2)}
    names = {str(files / name) for name in ("a.jpg", "below/b.JPEG", "broken.png")}
    assert set(results) == set(awaited) == names
    assert flat == [str(files / "a.jpg")]
    assert heard == [(1, 3), (2, 3), (3, 3)]
    for found in (results, awaited):
        assert isinstance(found[str(files / "broken.png")].error, UndecodableImage)
        good = found[str(files / "a.jpg")]
        assert (good.error, len(good.predictions)) == (None, 2)
        assert good.category == good.classification.category


async def test_unreadable_and_too_large_files_are_failed_results(server, files):
    sources = [files / "a.jpg", files / "missing.jpg", ("large", bytes((10 << 20) + 1)), str(files)]
    key = await server.key(Role.CLASSIFIER)

    def ordinary():
        with ImageCategorizationClient(key, server.address) as client:
            return {r.key: r.error for r in client.classify_stream(sources)}

    async with await server.client() as client:
        awaited = {r.key: r.error async for r in client.classify_stream(sources)}
    for errors in (awaited, await asyncio.to_thread(ordinary)):
        assert errors[str(files / "a.jpg")] is None
        assert isinstance(errors[str(files / "missing.jpg")], FileNotFoundError)
        assert isinstance(errors["large"], ImageTooLarge)
        assert isinstance(errors[str(files)], IsADirectoryError)


async def test_sources_are_taken_no_faster_than_results(server):
    taken = 0

    async def endless():
        nonlocal taken
        while True:
            taken += 1
            yield f"{taken}", PICTURE

    async with await server.client() as client:
        results = client.classify_stream(endless())
        assert (await anext(results)).error is None
        await elapsed(1)
        assert taken <= 130
        await results.aclose()
    key = await server.key(Role.CLASSIFIER)
    numbers = count(1)

    def ordinary():
        with ImageCategorizationClient(key, server.address) as client:
            results = client.classify_stream((str(n), PICTURE) for n in numbers)
            next(results)
            threading.Event().wait(1)
            results.close()

    await asyncio.to_thread(ordinary)
    assert next(numbers) <= 131


@pytest.mark.parametrize("wrong", [7, ("key",), (b"key", b"bytes"), None])
async def test_what_the_sources_raise_comes_after_the_results(server, wrong):
    key = await server.key(Role.CLASSIFIER)

    sources = [("a", PICTURE), wrong]
    ordinary, awaited = [], []

    def ordinary_call():
        with ImageCategorizationClient(key, server.address) as client:
            ordinary.extend(r.key for r in client.classify_stream(sources))

    with pytest.raises((TypeError, ValueError)):
        await asyncio.to_thread(ordinary_call)
    async with await server.client() as client:
        with pytest.raises((TypeError, ValueError)):
            await collected(client.classify_stream(sources), awaited)
    assert ordinary == awaited == ["a"]


async def test_the_same_file_twice_has_two_results(server, files):
    async with await server.client() as client:
        results = [r.filename async for r in client.classify_stream([files / "a.jpg"] * 2)]
    assert results == [str(files / "a.jpg")] * 2


async def test_no_sources_have_no_results(server):
    async with await server.client() as client:
        assert [r async for r in client.classify_stream([])] == []


async def test_a_wrong_model_fails_each_image(server):
    async with await server.client() as client:
        (result,) = [r async for r in client.classify_stream([("a", PICTURE)], model="nope")]
    assert isinstance(result.error, ModelNotFound)
    assert result.error.request_id
