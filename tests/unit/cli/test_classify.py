"""How images are classified: files on streams, addresses one by one, results in their order."""

import threading
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from image_categorizer import AsyncImageCategorizationClient
from image_categorizer.v1 import (
    classify_pb2,
    classify_pb2_grpc,
    metadata_pb2,
    metadata_pb2_grpc,
    types_pb2,
)
from image_categorizer_server.cli.classify import MAX_FETCHES, Run
from image_categorizer_server.cli.output import reason_of
from image_categorizer_server.cli.pictures import Picture

# ruff: noqa: N802 - gRPC names the methods


def response(category):
    prediction = types_pb2.Prediction(category=category, confidence=0.5)
    return classify_pb2.ClassifyResponse(predictions=[prediction])


class Backwards(
    classify_pb2_grpc.ClassifyServiceServicer, metadata_pb2_grpc.MetadataServiceServicer
):
    """Answers at an image that ends with `!`, the last first. Categories are images' bytes."""

    def __init__(self):
        self.streams = 0
        self.fetching = self.most_fetching = 0
        self.lock = threading.Lock()
        self.enough = threading.Event()

    def GetServerInfo(self, request, context):
        return metadata_pb2.ServerInfo(limits=metadata_pb2.Limits(max_image_bytes=1000))

    def ClassifyStream(self, requests, context):
        self.streams += 1
        next(requests)
        unanswered = []
        for request in requests:
            unanswered.append(request.item)
            while unanswered and request.item.image.endswith(b"!"):
                item = unanswered.pop()
                answer = response(item.image.decode())
                yield classify_pb2.ClassifyStreamResponse(key=item.key, response=answer)

    def Classify(self, request, context):
        with self.lock:
            self.fetching += 1
            self.most_fetching = max(self.most_fetching, self.fetching)
            if self.fetching >= MAX_FETCHES:
                self.enough.set()
        self.enough.wait(10)
        with self.lock:
            self.fetching -= 1
        if request.image_uri.endswith("missing"):
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "it is missing")
        return response(f"fetched {request.image_uri}")


@pytest.fixture
def services():
    return Backwards()


@pytest.fixture
async def client(services, tmp_path):
    server = grpc.server(ThreadPoolExecutor(40))
    classify_pb2_grpc.add_ClassifyServiceServicer_to_server(services, server)
    metadata_pb2_grpc.add_MetadataServiceServicer_to_server(services, server)
    address = f"unix:{tmp_path}/server.sock"
    server.add_insecure_port(address)
    server.start()
    async with AsyncImageCategorizationClient("ic_x", address) as made:
        yield made
    server.stop(None).wait()


def image(name, content):
    return Picture(name, lambda _: content.encode())


def unreadable(name):
    def read(_):
        raise FileNotFoundError(2, "No such file")

    return Picture(name, read)


async def outcomes(client, *images):
    """The name of each image, and its category or its error."""
    shown = []
    await Run(client, {}, 1000, "BATCH").classify(iter(images), shown.append)
    return [(r.key, r.category or reason_of(r.error)) for r in shown]


async def test_results_have_the_order_of_the_images(client, services):
    images = (
        image("a", "1"),
        image("b", "2"),
        unreadable("gone"),
        image("a", "3!"),
        Picture("s3://b/x", None),
        Picture("s3://b/missing", None),
        *(Picture(f"s3://b/{number}", None) for number in range(MAX_FETCHES)),
        image("c", "4!"),
        unreadable("also gone"),
    )
    assert await outcomes(client, *images) == [
        ("a", "1"),
        ("b", "2"),
        ("gone", "No such file"),
        ("a", "3!"),
        ("s3://b/x", "fetched s3://b/x"),
        ("s3://b/missing", "it is missing"),
        *((f"s3://b/{n}", f"fetched s3://b/{n}") for n in range(MAX_FETCHES)),
        ("c", "4!"),
        ("also gone", "No such file"),
    ]
    assert services.streams == 2


async def test_only_so_many_addresses_are_fetched_at_a_time(client, services):
    count = 5 * MAX_FETCHES
    found = await outcomes(client, *(Picture(f"s3://b/{n}", None) for n in range(count)))
    assert [name for name, _ in found] == [f"s3://b/{n}" for n in range(count)]
    assert services.most_fetching == MAX_FETCHES


async def test_what_cannot_be_read_is_no_reason_to_wait(client):
    images = [unreadable(str(number)) for number in range(1000)]
    assert len(await outcomes(client, *images)) == 1000


async def test_what_printing_raises_ends_the_run(client):
    def full(_):
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        await Run(client, {}, 1000, "BATCH").classify(iter([image("a", "1!")]), full)
