"""Both clients against a server that sends what only a newer one would."""

import asyncio
import inspect
import io
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import grpc
import image_categorizer.aio
import image_categorizer.client
import numpy as np
import PIL.Image
import pytest
from google.rpc.status_pb2 import Status
from image_categorizer import (
    AsyncImageCategorizationClient,
    CategorizerError,
    ImageCategorizationClient,
    Unavailable,
)
from image_categorizer._aio.stream import AsyncStream
from image_categorizer._ledger import Ledger
from image_categorizer._sync.stream import Stream
from image_categorizer._wire import stream_config
from image_categorizer.v1 import classify_pb2, classify_pb2_grpc

from tests.conftest import SLACK_S
from tests.unit.clients.conftest import Services, classified

MANY = 300


def test_an_image_is_classified_with_its_options_and_the_key(client, services):
    result = client.classify_image(b"cat", version=2, top_k=3, webhook_url="https://a.example")
    assert (result.category, result.confidence, result.filename) == ("cat", 0.5, "")
    (request,) = services.requests
    assert (request.options.version, request.options.top_k) == ("2", 3)
    assert request.webhook_url == "https://a.example"
    assert services.headers["authorization"] == "Bearer ic_x"


def test_values_that_only_a_newer_server_knows_are_their_numbers(client):
    result = client.classify_image(b"cat")
    assert (result.timing.batch_close_reason, result.cache) == ("99", "99")
    assert [m.state for m in client.models.list()] == ["99", "99"]
    assert client.batches.get("b1").state == "99"
    assert client.webhooks.get("w1").state == "99"
    assert next(iter(client.webhooks.deliveries("w1"))).state == "99"
    streamed = list(client.classify_stream([("a", b"cat"), ("b", b"dog")]))
    assert {r.classification.cache for r in streamed} == {"99"}


@pytest.mark.parametrize("kind", [bytearray, memoryview, io.BytesIO])
def test_images_may_be_any_bytes_or_file(client, services, kind):
    client.classify_image(kind(b"cat"))
    assert services.requests[0].image == b"cat"


def test_images_may_be_arrays_or_of_pillow(client, services):
    pixels = np.full((4, 6, 3), 7, np.uint8)
    client.classify_image(pixels)
    client.classify_image(PIL.Image.fromarray(pixels))
    for request in services.requests:
        decoded = PIL.Image.open(io.BytesIO(request.image))
        assert np.array_equal(np.asarray(decoded), pixels)


def test_wrong_images_are_refused_before_anything_is_sent(client, services, tmp_path):
    with pytest.raises(TypeError, match="uint8"):
        client.classify_image(np.zeros((4, 6, 3)))
    with pytest.raises(ValueError, match="shape"):
        client.classify_image(np.zeros((4, 6), np.uint8))
    with pytest.raises(TypeError, match="text mode"):
        client.classify_image(io.StringIO("cat"))
    with pytest.raises(FileNotFoundError):
        client.classify_image(tmp_path / "none.jpg")
    assert services.requests == []


@pytest.mark.parametrize("single", ["a.jpg", b"cat", ("a.jpg", b"cat")])
def test_a_single_image_where_many_are_expected_is_refused_at_once(client, single):
    with pytest.raises(TypeError, match="classify_batch takes many"):
        client.classify_batch(single)
    with pytest.raises(TypeError, match="classify_stream takes many"):
        client.classify_stream(single)
    with pytest.raises(TypeError, match=r"batches\.submit takes many"):
        client.batches.submit(single)


def test_a_single_uri_is_refused(client):
    with pytest.raises(TypeError, match=r"batches\.submit_uris takes many"):
        client.batches.submit_uris("https://example.com/a.jpg")


def test_a_stream_has_one_result_for_each_source(client):
    heard = []
    sources = [(str(number), b"%d" % number) for number in range(MANY)]
    results = list(client.classify_stream(sources, on_progress=lambda *of: heard.append(of)))
    assert {r.key: r.category for r in results} == {key: key for key, _ in sources}
    assert heard == [(number, MANY) for number in range(1, MANY + 1)]


def test_an_error_of_a_source_comes_after_the_results_before_it(client):
    def sources():
        yield "a", b"cat"
        raise ZeroDivisionError

    results = client.classify_stream(sources())
    assert next(results).key == "a"
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_an_image_that_is_too_large_fails_and_the_stream_continues(client):
    results = {r.key: r for r in client.classify_stream([("a", bytes(2000)), ("b", b"dog")])}
    assert "more than 1000 bytes" in str(results["a"].error)
    assert results["b"].category == "dog"


def test_a_sender_that_dies_raises_in_the_caller(client):
    with pytest.raises(ValueError, match="null byte"):
        list(client.classify_stream(["a\0.jpg"]))


def test_an_unknown_outcome_is_the_error_of_its_image(connect, serve):
    services = Services(lambda item: classify_pb2.ClassifyStreamResponse(key=item.key))
    (result,) = connect(serve(services)).classify_stream([("a", b"cat")])
    assert isinstance(result.error, CategorizerError)
    assert result.error.request_id == "r1"


class BrokenLedger(Ledger):
    def answered(self, response, request_id):
        raise ZeroDivisionError


def test_a_receiver_that_dies_raises_in_the_caller(serve, services):
    config = stream_config({}, "BATCH", "")
    with ImageCategorizationClient("", serve(services)) as client:
        stream = Stream(
            client._connection, lambda: 100, [("a", b"cat")], BrokenLedger(config), None
        )
        with pytest.raises(ZeroDivisionError):
            list(stream.results())


def test_a_receiving_task_that_dies_raises_in_the_caller(serve, services):
    async def max_image_bytes():
        return 100

    async def run():
        async with AsyncImageCategorizationClient("", serve(services)) as client:
            ledger = BrokenLedger(stream_config({}, "BATCH", ""))
            stream = AsyncStream(client._connection, max_image_bytes, [("a", b"cat")], ledger, None)
            return [result async for result in stream.results()]

    with pytest.raises(ZeroDivisionError):
        asyncio.run(run())


def test_a_stream_of_a_client_that_is_closed_meanwhile_raises(client):
    def endless():
        while True:
            yield "a", b"cat"

    results = client.classify_stream(endless())
    next(results)
    client.close()
    with pytest.raises(RuntimeError, match="closed"):
        list(results)


def test_models_are_read_over_all_pages(client, services):
    first, second = client.models.list()
    assert (first.name, second.name, first.aliases) == ("first", "second", ("stable",))
    assert client.models.get("first", 2).version == "2"
    assert client.models.load("first", 3).version == "3"
    assert client.models.unload("first", 3).version == "3"
    assert client.models.set_alias("first", "canary", 3, canary_percent=5).version == "3"
    assert services.requests[-1].canary_percent == 5
    (category,) = client.models.categories("first", 2)
    assert (category.category, category.ancestors) == ("cat", ("animal",))
    assert services.requests[-1].version == "2"
    assert client.server_info().limits.max_image_bytes == 1000


def test_an_interrupted_upload_is_repeated_with_the_same_request_id(client, services):
    sources = [("a.jpg", b"cat"), ("b.jpg", b"dog")]
    assert client.batches.submit(sources, top_k=2, priority=3).state == "QUEUED"
    first, second = services.uploads
    assert first == second
    assert [m.file.filename for m in second[1:]] == ["a.jpg", "b.jpg"]
    config = second[0].config
    assert (config.options.top_k, config.priority, bool(config.request_id)) == (2, 3, True)


def test_a_batch_is_classified_to_its_end(client, services, tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"cat")
    heard = []
    good, bad = client.classify_batch(tmp_path, on_progress=heard.append)
    assert (good.filename, good.category, good.model.name) == ("a.jpg", "cat", "first")
    assert isinstance(bad.error, CategorizerError)
    assert heard[-1].has_ended
    assert services.watches == 2  # the first broke off


def test_batches_are_managed_by_their_id(client, services):
    assert [b.batch_id for b in client.batches.list("RUNNING")] == ["b1"]
    assert services.requests[-1].state == 2
    assert client.batches.submit_uris(["https://a.example/a.jpg"]).batch_id == "b1"
    for method in (client.batches.get, client.batches.cancel, client.batches.retry):
        assert method("b7").batch_id == "b7"
    assert client.batches.delete("b7") is None
    assert b"".join(client.batches.export("b1", "csv")) == b"a\ncsv"
    assert len(list(client.batches.results("b1"))) == 2


def test_webhooks_are_managed_by_their_id(client, services):
    assert client.webhooks.create("https://a.example").secret == "whsec_x"
    assert client.webhooks.rotate_secret("w1").secret == "whsec_x"
    assert client.webhooks.update("w1", enabled=False).webhook_id == "w1"
    assert (services.requests[-1].HasField("url"), services.requests[-1].enabled) == (False, False)
    assert [w.webhook_id for w in client.webhooks.list()] == ["w1"]
    (delivery,) = client.webhooks.deliveries("w1", state="FAILED")
    assert [a.status_code for a in delivery.attempts] == [204]
    assert client.webhooks.redeliver("w1", "d1").delivery_id == "d1"
    assert client.webhooks.delete("w1") is None


@pytest.fixture
def port(services):
    """The TCP port of a server without TLS."""
    server = grpc.server(ThreadPoolExecutor(2))
    classify_pb2_grpc.add_ClassifyServiceServicer_to_server(services, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield port
    server.stop(0).wait()


def test_a_server_on_this_machine_is_reached_without_the_proxy(connect, port, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    client = connect(f"localhost:{port}")
    assert client.classify_image(b"cat").category == "cat"


def test_a_server_without_tls_is_not_sent_the_key(connect, port, services):
    with pytest.raises(Unavailable, match="write http:// in base_url"):
        connect(f"https://127.0.0.1:{port}").classify_image(b"cat")
    assert services.requests == []


def test_a_closed_client_says_so(client):
    client.classify_image(b"cat")
    client.close()
    client.close()
    with pytest.raises(RuntimeError, match="the client is closed"):
        client.classify_image(b"cat")


def test_loops_use_a_client_one_after_the_other(serve, services):
    client = AsyncImageCategorizationClient("", serve(services))  # no loop runs

    async def classify():
        results = [r async for r in client.classify_stream([("a", b"cat")])]
        return [(await client.classify_image(b"cat")).category, results[0].category]

    for _ in range(3):
        assert asyncio.run(classify()) == ["cat", "cat"]
    asyncio.run(client.close())
    with pytest.raises(RuntimeError, match="the client is closed"):
        asyncio.run(classify())


def test_a_client_that_no_loop_used_can_be_closed():
    async def close():
        async with AsyncImageCategorizationClient("", "localhost:1"):
            pass

    asyncio.run(close())


class BusyAtFirst(Services):
    """Is too busy for the first image, but says so only when the source of the next one waits."""

    def __init__(self):
        super().__init__()
        self.source_waits = threading.Event()

    def ClassifyStream(self, requests, context):  # noqa: N802 - gRPC's name
        context.send_initial_metadata((("x-request-id", "mine"),))
        next(requests)
        first = next(requests)
        assert self.source_waits.wait(SLACK_S)
        status = Status(code=grpc.StatusCode.UNAVAILABLE.value[0])
        yield classify_pb2.ClassifyStreamResponse(key=first.item.key, status=status)
        yield from (classified(request.item) for request in requests)


def test_an_image_is_sent_again_while_the_source_of_the_next_one_waits(serve):
    services, has_result = BusyAtFirst(), threading.Event()
    waited = []

    def sources():
        yield "a", b"cat"
        services.source_waits.set()
        waited.append(has_result.wait(SLACK_S))
        yield "b", b"dog"

    with ImageCategorizationClient("", serve(services)) as client:
        keys = []
        for result in client.classify_stream(sources()):
            keys.append(result.key)
            has_result.set()
    assert (keys, waited) == (["a", "b"], [True])


def test_a_source_that_swallows_a_cancellation_does_not_hold_up_the_end_of_a_stream(
    serve, services
):
    async def sources():
        yield "a", b"cat"
        with suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        await asyncio.Event().wait()

    async def classify():
        async with AsyncImageCategorizationClient("", serve(services)) as client:
            results = client.classify_stream(sources())
            assert (await anext(results)).key == "a"
            async with asyncio.timeout(SLACK_S):
                await results.aclose()

    asyncio.run(classify())


@pytest.mark.parametrize("name", image_categorizer.client.__all__)
def test_both_clients_have_the_same_methods(name):
    ordinary = getattr(image_categorizer.client, name)
    awaited = getattr(image_categorizer.aio, f"Async{name}")
    public = [n for n in vars(ordinary) if not n.startswith("_")]
    assert public == [n for n in vars(awaited) if not n.startswith("_")]
    for method in public:
        ours, theirs = getattr(ordinary, method), getattr(awaited, method)
        assert list(inspect.signature(ours).parameters) == list(
            inspect.signature(theirs).parameters
        )
        assert "await" not in ours.__doc__
