"""ClassifyStream through Envoy: thousands on one call, long and silent calls, restarts."""

import asyncio
import json
import signal
import time
from collections import Counter
from pathlib import Path

import grpc
import httpx
import psutil
import pytest
from image_categorizer import (
    AsyncImageCategorizationClient,
    ImageCategorizationClient,
    UndecodableImage,
    UnsupportedFormat,
)
from image_categorizer.v1 import classify_pb2, classify_pb2_grpc

from tests.support.pictures import jpeg
from tests.support.polling import elapsed
from tests.support.up import Up, command

pytestmark = pytest.mark.timeout(180)
PICTURES = [jpeg(64, 48, seed) for seed in range(20)]
MANY = 2000
PDF = b"%PDF-1.7 is no image"


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """2,000 small images, every twentieth of them none."""
    root: Path = tmp_path_factory.mktemp("many")
    for number in range(MANY):
        content = PDF if number % 20 == 7 else PICTURES[number % 20]
        (root / f"{number}.jpg").write_bytes(content)
    return root


def check(folder: Path, results) -> None:
    """Passes exactly one result for each file, bad for the bad ones and only for those."""
    results = list(results)
    assert Counter(r.filename for r in results) == Counter(str(f) for f in folder.iterdir())
    bad = [r for r in results if r.error is not None]
    assert {int(Path(r.filename).stem) % 20 for r in bad} == {7}
    assert len(bad) == MANY // 20
    assert all(isinstance(r.error, UndecodableImage | UnsupportedFormat) for r in bad)
    assert all(r.category for r in results if r.error is None)


@pytest.mark.slow
def test_thousands_of_files_each_get_their_result(up, admin_key, folder):
    with ImageCategorizationClient(admin_key, up.url) as client:
        check(folder, client.classify_dir(folder, no_cache=True))


async def test_the_asyncio_client_does_the_same(up, admin_key, folder):
    async with AsyncImageCategorizationClient(admin_key, up.url) as client:
        check(folder, [r async for r in client.classify_dir(folder)])


def test_the_command_line_takes_folders(up, folder):
    done = command("classify", folder, folder / "0.jpg", "--json", "--data", up.data)
    assert done.returncode == 1
    assert f"{MANY // 20} of {MANY + 1} images could not be classified." in done.stderr
    lines = [json.loads(line)["filename"] for line in done.stdout.splitlines()]
    files = sorted(str(file) for file in folder.iterdir())
    good = [file for file in files if int(Path(file).stem) % 20 != 7]
    assert lines == [*good, str(folder / "0.jpg")]


def test_an_empty_folder_is_said_to_be_empty(up, tmp_path):
    done = command("classify", tmp_path, "--data", up.data)
    assert (done.returncode, "No images found" in done.stderr) == (1, True)


@pytest.mark.slow
async def test_only_silence_ends_a_stream(hasty):
    key = hasty.shown_key()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{hasty.port}") as channel:
        stub = classify_pb2_grpc.ClassifyServiceStub(channel)
        call = stub.ClassifyStream(metadata=(("authorization", f"Bearer {key}"),))
        await call.write(config())
        start_s = time.monotonic()
        await elapsed(2)  # longer than any deadline, and nothing has been answered
        for number in range(2):
            await call.write(item(f"k{number}"))
            answer = await asyncio.wait_for(call.read(), 5)
            assert (answer.key, answer.response.success) == (f"k{number}", True)
            await elapsed(2)
        assert time.monotonic() - start_s > 5  # longer than a silence may last
        with pytest.raises(grpc.aio.AioRpcError):
            await asyncio.wait_for(call.read(), 30)


async def test_the_clients_open_a_stream_again_that_silence_ended(hasty):
    async def slowly():
        yield "a", PICTURES[0]
        await elapsed(6)
        yield "b", PICTURES[1]

    async with AsyncImageCategorizationClient(hasty.shown_key(), hasty.url) as client:
        assert [(r.key, r.error) async for r in client.classify_stream(slowly())] == [
            ("a", None),
            ("b", None),
        ]


def config():
    return classify_pb2.ClassifyStreamRequest(config=classify_pb2.ClassifyStreamConfig())


def item(key: str):
    item = classify_pb2.ClassifyStreamItem(key=key, image=PICTURES[0])
    return classify_pb2.ClassifyStreamRequest(item=item)


def server_of(running: Up) -> psutil.Process:
    parts = running.children()
    return next(part for part in parts if part.cmdline()[-1] == "serve")


@pytest.mark.parametrize(
    ("kind", "how"),
    [
        pytest.param("ordinary", signal.SIGTERM, marks=pytest.mark.slow),
        ("asyncio", signal.SIGKILL),
        pytest.param("ordinary", signal.SIGKILL, marks=pytest.mark.slow),
        pytest.param("asyncio", signal.SIGTERM, marks=pytest.mark.slow),
    ],
)
def test_a_restart_of_the_server_loses_and_repeats_nothing(up, admin_key, folder, how, kind):
    results = []
    signalled = []

    def progress(done, total):
        if done == 300:
            signalled.append(server_of(up))
            signalled[0].send_signal(how)

    async def awaited():
        async with AsyncImageCategorizationClient(admin_key, up.url) as client:
            async for result in client.classify_dir(folder, on_progress=progress):
                results.append(result)
                await elapsed(0.001)

    if kind == "asyncio":
        asyncio.run(awaited())
    else:
        with ImageCategorizationClient(admin_key, up.url) as client:
            results.extend(client.classify_dir(folder, on_progress=progress))
    check(folder, results)
    assert not signalled[0].is_running()
    assert httpx.get(f"{up.url}/readyz").status_code == 200


def test_a_caller_may_stop_half_way_and_go_on_with_other_calls(up, admin_key, folder):
    with ImageCategorizationClient(admin_key, up.url) as client:
        for result in client.classify_dir(folder):
            assert result.filename
            break
        assert client.classify_image(PICTURES[0]).category
