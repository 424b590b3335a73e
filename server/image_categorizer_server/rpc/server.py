"""The gRPC server: builds it, runs it, stops it without losing a request."""

import asyncio
import gc
import os
import signal
from collections.abc import Mapping
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from image_categorizer.v1 import (
    admin_pb2_grpc,
    batch_pb2_grpc,
    classify_pb2_grpc,
    metadata_pb2_grpc,
)
from image_categorizer.v1 import (
    health_pb2_grpc as our_health_pb2_grpc,
)

from image_categorizer_server.backend import Backend, open_backend
from image_categorizer_server.errors import OperatorError
from image_categorizer_server.rpc.admin import AdminServicer
from image_categorizer_server.rpc.batch.archive import ArchiveLimits
from image_categorizer_server.rpc.batch.servicer import BatchServicer
from image_categorizer_server.rpc.batch.validation import BatchLimits
from image_categorizer_server.rpc.classify import ClassifyServicer
from image_categorizer_server.rpc.health import HealthServicer, report_health
from image_categorizer_server.rpc.interceptors import Edge
from image_categorizer_server.rpc.model import MetadataServicer
from image_categorizer_server.rpc.services import access_by_method, our_services
from image_categorizer_server.settings import Settings
from image_categorizer_server.telemetry import get_log

log = get_log(__name__)
MOST_STREAMS = 1000
# A server that stops cancels calls that have arrived and that nobody took yet; in this time they
# are taken, and refused in our own words.
ARRIVED_S = 0.2
# Objects made and kept until the youngest are looked through; a call's own go without that.
COLLECT_AFTER = 10_000


def build_server(
    backend: Backend, *, shares_port: bool = False
) -> tuple[grpc.aio.Server, health.aio.HealthServicer]:
    """Returns the server, not yet listening, and the servicer of grpc.health.v1.

    Keep the reference: a server that nobody holds is collected and stops listening.

    Args:
        backend: what the servicers need.
        shares_port: whether other processes may listen on the same port.
    """
    settings = backend.settings
    services = our_services()
    server = grpc.aio.server(
        interceptors=[Edge(backend, access_by_method(services))],
        options=[
            ("grpc.max_receive_message_length", settings.max_message_bytes),
            ("grpc.max_concurrent_streams", MOST_STREAMS),
            ("grpc.so_reuseport", int(shares_port)),
            # The gateway asks every 30 s whether we live, also while a stream is silent.
            ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
            ("grpc.keepalive_permit_without_calls", 1),
        ],
    )
    # Generated code registers each method with gRPC's core, too; grpc.aio then awaits calls in a
    # task for each, and looks through all these tasks at every call.  Where methods are found by
    # name alone, a call costs the event loop half as many Python calls.
    server.add_registered_method_handlers = _not_registered  # type: ignore[method-assign]
    _add_services(backend, server)
    health_servicer = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(health_servicer, server)
    if settings.server.reflection:
        names = [service.full_name for service in services]
        reflection.enable_server_reflection(
            (*names, health.SERVICE_NAME, reflection.SERVICE_NAME), server
        )
    return server, health_servicer


def _not_registered(
    service_name: str, method_handlers: "Mapping[str, grpc.RpcMethodHandler[Any, Any]]"
) -> None:
    """Leaves the methods to those handlers that find them by name."""


def _add_services(backend: Backend, server: grpc.aio.Server) -> None:
    settings = backend.settings
    classify = ClassifyServicer(
        backend.classifications,
        backend.webhooks,
        settings.server,
        settings.limits.max_filter_categories,
        backend.refusing,
    )
    classify_pb2_grpc.add_ClassifyServiceServicer_to_server(classify, server)
    batch_pb2_grpc.add_BatchServiceServicer_to_server(batch_servicer(backend), server)
    admin_pb2_grpc.add_AdminServiceServicer_to_server(AdminServicer(backend.webhooks), server)
    metadata_pb2_grpc.add_MetadataServiceServicer_to_server(
        MetadataServicer(backend.models), server
    )
    our_health_pb2_grpc.add_HealthServiceServicer_to_server(HealthServicer(backend), server)


def batch_servicer(backend: Backend) -> BatchServicer:
    """Returns the servicer of batches, with the limits that the settings state."""
    settings = backend.settings
    limits = BatchLimits(
        max_items=settings.batch.max_items,
        max_filter_categories=settings.limits.max_filter_categories,
        max_url_characters=settings.fetch.max_url_characters,
        allow_http=settings.fetch.allow_http,
    )
    archives = ArchiveLimits(
        max_bytes=settings.batch.max_zip_bytes,
        max_entries=min(settings.batch.max_zip_items, settings.batch.max_items),
        max_unpacked_bytes=settings.batch.max_bytes,
        max_ratio=settings.batch.max_zip_ratio,
        max_image_bytes=settings.max_image_bytes,
    )
    return BatchServicer(backend.batches, limits, archives, backend.refusing)


async def serve(settings: Settings, *, one_of_many: bool = False) -> None:
    """Serves until SIGTERM or SIGINT, then drains; a second signal ends the process at once.

    Args:
        settings: of this process.
        one_of_many: whether others answer while this one loads its models: then it shares its port,
            and listens only when it can answer.

    Raises:
        OperatorError: the address is taken, or a model cannot serve.
    """
    stop = asyncio.Event()
    _on_signals(stop)
    async with open_backend(settings) as backend:
        server, health_servicer = build_server(backend, shares_port=one_of_many)
        if not one_of_many:
            await _listen(server, settings.server.bind)
        reporting = asyncio.create_task(report_health(backend, health_servicer))
        try:
            await _until(stop, backend.registry.load_all())
            if one_of_many and not stop.is_set():
                await _listen(server, settings.server.bind)
            # What lives now lives on: the collector need not look at it again.
            gc.freeze()
            gc.set_threshold(COLLECT_AFTER)
            backend.tasks.start(backend.registry.watch(), "model watcher")
            await stop.wait()
            await _drain(backend, server)
        finally:
            reporting.cancel()
            await asyncio.gather(reporting, return_exceptions=True)
            await server.stop(0)
    log.info("stopped")


async def _listen(server: grpc.aio.Server, address: str) -> None:
    try:
        server.add_insecure_port(address)
    except RuntimeError:
        raise OperatorError(
            f"Cannot listen on {address}: is it taken by another program?"
        ) from None
    await server.start()
    log.info("listening", address=address, pid=os.getpid())


async def _until(stop: asyncio.Event, work: "asyncio._CoroutineLike[None]") -> None:
    """Runs `work` to its end, or drops it when `stop` is set."""
    working, stopping = asyncio.create_task(work), asyncio.create_task(stop.wait())
    await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if not working.done():
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)
    else:
        await working


async def _drain(backend: Backend, server: grpc.aio.Server) -> None:
    """Says not ready, waits until balancers noticed, refuses new calls, ends the old."""
    log.info("stopping", grace_s=backend.settings.server.drain_s)
    backend.is_draining = True
    await asyncio.sleep(backend.settings.server.drain_notice_s)
    backend.refusing.set()
    await asyncio.sleep(ARRIVED_S)
    await server.stop(backend.settings.server.drain_s)


def _on_signals(stop: asyncio.Event) -> None:
    def stopped() -> None:
        if stop.is_set():
            os._exit(1)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped)
