"""A server in this process that answers as the tests say, and both clients of it."""

# ruff: noqa: N802 - gRPC names the methods

import asyncio
import inspect
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest
from google.api.httpbody_pb2 import HttpBody
from google.rpc.status_pb2 import Status
from image_categorizer import AsyncImageCategorizationClient, ImageCategorizationClient
from image_categorizer.v1 import (
    admin_pb2,
    admin_pb2_grpc,
    batch_pb2,
    batch_pb2_grpc,
    classify_pb2,
    classify_pb2_grpc,
    metadata_pb2,
    metadata_pb2_grpc,
    types_pb2,
)

NEW: Any = 99  # an enum value without a name
Outcome = Callable[[classify_pb2.ClassifyStreamItem], classify_pb2.ClassifyStreamResponse]


def response(category: str) -> classify_pb2.ClassifyResponse:
    """An answer with values that only a newer server knows."""
    timing = types_pb2.Timing(batch_close_reason=NEW)
    prediction = types_pb2.Prediction(category=category, confidence=0.5)
    return classify_pb2.ClassifyResponse(predictions=[prediction], timing=timing, cache=NEW)


def classified(item: classify_pb2.ClassifyStreamItem) -> classify_pb2.ClassifyStreamResponse:
    return classify_pb2.ClassifyStreamResponse(key=item.key, response=response(item.image.decode()))


class Services(
    classify_pb2_grpc.ClassifyServiceServicer,
    metadata_pb2_grpc.MetadataServiceServicer,
    batch_pb2_grpc.BatchServiceServicer,
    admin_pb2_grpc.AdminServiceServicer,
):
    """Remembers requests; the category of an image is its bytes."""

    def __init__(self, outcome: Outcome = classified) -> None:
        self.outcome = outcome
        self.requests: list[object] = []
        self.headers: dict[str, str] = {}
        self.uploads: list[list[batch_pb2.UploadBatchRequest]] = []
        self.watches = 0

    def Classify(self, request, context):
        self.requests.append(request)
        self.headers = dict(context.invocation_metadata())
        return response(request.image.decode(errors="replace"))

    def ClassifyStream(self, request_iterator, context):
        context.send_initial_metadata((("x-request-id", "r1"),))
        self.requests.append(next(request_iterator))
        for request in request_iterator:
            yield self.outcome(request.item)

    def GetServerInfo(self, request, context):
        return metadata_pb2.ServerInfo(limits=metadata_pb2.Limits(max_image_bytes=1000))

    def ListModels(self, request, context):
        """Two pages of one model each."""
        names = ["first", "second"]
        number = int(request.page_token or 0)
        models = [metadata_pb2.Model(name=names[number], state=99, aliases=["stable"])]
        token = "" if number else "1"
        return metadata_pb2.ListModelsResponse(models=models, next_page_token=token)

    def ListCategories(self, request, context):
        self.requests.append(request)
        categories = [metadata_pb2.Category(category="cat", ancestors=["animal"])]
        return metadata_pb2.ListCategoriesResponse(categories=categories)

    def GetModel(self, request, context):
        self.requests.append(request)
        return metadata_pb2.Model(name=request.model, version=request.version)

    LoadModel = UnloadModel = SetModelAlias = GetModel

    def UploadBatch(self, request_iterator, context):
        """Breaks off the first time."""
        self.uploads.append(list(request_iterator))
        if len(self.uploads) == 1:
            context.abort(grpc.StatusCode.UNAVAILABLE, "stopping")
        return batch_pb2.Batch(batch_id="b1", state=batch_pb2.Batch.QUEUED)

    def CreateBatch(self, request, context):
        self.requests.append(request)
        return batch_pb2.Batch(batch_id="b1")

    def GetBatch(self, request, context):
        self.requests.append(request)
        return batch_pb2.Batch(batch_id=request.batch_id, state=99)

    CancelBatch = RetryBatch = GetBatch

    def DeleteBatch(self, request, context):
        self.requests.append(request)
        return batch_pb2.DeleteBatchResponse()

    def ListBatches(self, request, context):
        self.requests.append(request)
        return batch_pb2.ListBatchesResponse(batches=[batch_pb2.Batch(batch_id="b1")])

    def WatchBatch(self, request, context):
        """Breaks off the first time; ends in a state that only a newer server knows."""
        self.watches += 1
        yield batch_pb2.WatchBatchResponse(batch=batch_pb2.Batch(batch_id="b1"))
        if self.watches == 1:
            context.abort(grpc.StatusCode.UNAVAILABLE, "stopping")
        ended = batch_pb2.Batch(batch_id="b1", state=batch_pb2.Batch.COMPLETED)
        yield batch_pb2.WatchBatchResponse(batch=ended, done=True)

    def ListBatchResults(self, request, context):
        model = types_pb2.ModelRef(name="first")
        found = batch_pb2.BatchClassification(model=model, predictions=response("cat").predictions)
        good = batch_pb2.BatchResult(item_id="0", filename="a.jpg", classification=found)
        bad = batch_pb2.BatchResult(item_id="1", filename="b.jpg", status=Status(code=NEW))
        return batch_pb2.ListBatchResultsResponse(results=[good, bad])

    def ExportBatchResults(self, request, context):
        yield from (HttpBody(data=piece) for piece in (b"a\n", request.format.encode()))

    def CreateWebhook(self, request, context):
        self.requests.append(request)
        return admin_pb2.Webhook(webhook_id="w1", secret="whsec_x", state=99)

    GetWebhook = UpdateWebhook = RotateWebhookSecret = CreateWebhook

    def DeleteWebhook(self, request, context):
        self.requests.append(request)
        return admin_pb2.DeleteWebhookResponse()

    def ListWebhooks(self, request, context):
        return admin_pb2.ListWebhooksResponse(webhooks=[admin_pb2.Webhook(webhook_id="w1")])

    def ListWebhookDeliveries(self, request, context):
        self.requests.append(request)
        attempts = [admin_pb2.WebhookAttempt(status_code=204)]
        delivery = admin_pb2.WebhookDelivery(delivery_id="d1", state=99, attempts=attempts)
        return admin_pb2.ListWebhookDeliveriesResponse(deliveries=[delivery])

    def RedeliverWebhook(self, request, context):
        return admin_pb2.WebhookDelivery(delivery_id=request.delivery_id)


class Blocking:
    """Shows the asyncio client as if it were the other one: runs a loop until each call ends."""

    def __init__(self, shown: object, runner: asyncio.Runner) -> None:
        self._shown = shown
        self._runner = runner

    def __getattr__(self, name):
        found = getattr(self._shown, name)
        return self._method(found) if callable(found) else Blocking(found, self._runner)

    def _method(self, method):
        def call(*args, **kwargs):
            result = method(*args, **kwargs)
            if inspect.isawaitable(result):
                return self._runner.run(_awaited(result))
            return self._iterated(result)

        return call

    def _iterated(self, results):
        try:
            while True:
                try:
                    yield self._runner.run(_awaited(anext(results)))
                except StopAsyncIteration:
                    return
        finally:
            self._runner.run(results.aclose())


async def _awaited(result):
    return await result


@pytest.fixture
def serve(tmp_path) -> Iterator[Callable[[Services], str]]:
    """Serves services on a unix socket; returns its address."""
    servers: list[grpc.Server] = []

    def start(services: Services) -> str:
        server = grpc.server(ThreadPoolExecutor(8))
        classify_pb2_grpc.add_ClassifyServiceServicer_to_server(services, server)
        metadata_pb2_grpc.add_MetadataServiceServicer_to_server(services, server)
        batch_pb2_grpc.add_BatchServiceServicer_to_server(services, server)
        admin_pb2_grpc.add_AdminServiceServicer_to_server(services, server)
        address = f"unix:{tmp_path}/{len(servers)}.sock"
        server.add_insecure_port(address)
        server.start()
        servers.append(server)
        return address

    yield start
    for server in servers:
        server.stop(0).wait()


@pytest.fixture
def services() -> Services:
    return Services()  # type: ignore[abstract]  # two methods are for the gateway only


@pytest.fixture(params=["threads", "asyncio"])
def connect(request) -> Iterator[Callable[[str], ImageCategorizationClient | Blocking]]:
    """Makes clients of a server: of either kind, with the methods of the one for threads."""
    with asyncio.Runner() as runner:
        made: list[ImageCategorizationClient | Blocking] = []

        def client_of(address: str):
            if request.param == "threads":
                made.append(ImageCategorizationClient("ic_x", address, timeout_s=5))
            else:
                client = AsyncImageCategorizationClient("ic_x", address, timeout_s=5)
                made.append(Blocking(client, runner))
            return made[-1]

        yield client_of
        for client in made:
            client.close()


@pytest.fixture
def client(connect, serve, services):
    return connect(serve(services))
