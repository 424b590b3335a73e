"""Builds the gRPC server, runs it, and stops it without losing a request."""

import asyncio
import gc
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

import grpc
from google.protobuf.message import Message
from grpc_health.v1 import health, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from image_categorizer.v1 import (
    admin_pb2_grpc,
    batch_pb2_grpc,
    category_pb2_grpc,
    classify_pb2_grpc,
    embedding_pb2_grpc,
    feedback_pb2_grpc,
    image_pb2_grpc,
    metadata_pb2_grpc,
    page_pb2_grpc,
    review_pb2_grpc,
)
from image_categorizer.v1 import (
    health_pb2_grpc as our_health_pb2_grpc,
)

from image_categorizer_server.backend import Backend, open_backend
from image_categorizer_server.db.database import pool_in_use
from image_categorizer_server.errors import OperatorError
from image_categorizer_server.inference.images.decode import DECODING_LIBRARY
from image_categorizer_server.rpc.assembly import admin_servicer, image_servicer
from image_categorizer_server.rpc.audit import AuditServicer
from image_categorizer_server.rpc.batch.archive import ArchiveLimits
from image_categorizer_server.rpc.batch.servicer import BatchServicer
from image_categorizer_server.rpc.batch.validation import BatchLimits
from image_categorizer_server.rpc.caller import CallerServicer
from image_categorizer_server.rpc.category import CategoryServicer
from image_categorizer_server.rpc.classify import ClassifyLimits, ClassifyServicer
from image_categorizer_server.rpc.dataset import DatasetServicer
from image_categorizer_server.rpc.duplicate import DuplicateServicer
from image_categorizer_server.rpc.embedding import EmbeddingServicer
from image_categorizer_server.rpc.encryption import server_credentials
from image_categorizer_server.rpc.feedback import FeedbackServicer
from image_categorizer_server.rpc.health import HealthServicer, report_health
from image_categorizer_server.rpc.image import ImageServicer
from image_categorizer_server.rpc.image_content import ImageContentServicer
from image_categorizer_server.rpc.image_upload import ImageUploadServicer
from image_categorizer_server.rpc.interceptors import Edge
from image_categorizer_server.rpc.key import KeyServicer
from image_categorizer_server.rpc.legal_hold import LegalHoldServicer
from image_categorizer_server.rpc.model import MetadataServicer
from image_categorizer_server.rpc.page import PageServicer
from image_categorizer_server.rpc.receipt import ReceiptServicer
from image_categorizer_server.rpc.retention import RetentionServicer
from image_categorizer_server.rpc.review import ReviewServicer
from image_categorizer_server.rpc.services import access_by_method, our_services
from image_categorizer_server.rpc.sign_in import SignInServicer
from image_categorizer_server.rpc.statistics import StatisticsServicer
from image_categorizer_server.rpc.subject import SubjectServicer
from image_categorizer_server.rpc.tenant import TenantServicer
from image_categorizer_server.rpc.usage import UsageServicer
from image_categorizer_server.rpc.webhook import WebhookServicer
from image_categorizer_server.services.dashboard import Dashboard
from image_categorizer_server.services.look_alike import LookAlikes
from image_categorizer_server.services.page import Pages
from image_categorizer_server.services.pending import measure_pending
from image_categorizer_server.settings import Settings
from image_categorizer_server.settings.hops import warn_of_clear_hops
from image_categorizer_server.tasks import END_S, end_within, run_until, stop_on_signals
from image_categorizer_server.telemetry import get_log
from image_categorizer_server.telemetry.metrics import measure_lag, serving_metrics

log = get_log(__name__)
MAX_STREAMS = 1000
# More than the gateway accepts: gRPC answers with RESOURCE_EXHAUSTED, as if a quota were used up.
MAX_METADATA_BYTES = 128 * 1024
# When a server stops, grpc.aio cancels calls that have arrived but not started. This time lets
# them start, so that they are refused with a status of ours.
ACCEPT_PENDING_S = 0.2
# Allocations before the garbage collector looks at the youngest objects. Reference counting frees
# the objects of a call.
COLLECT_AFTER = 10_000
if TYPE_CHECKING:
    Handler = grpc.RpcMethodHandler[Message, Message]  # not subscriptable at run time


def build_server(
    backend: Backend, *, shares_port: bool = False
) -> tuple[grpc.aio.Server, health.aio.HealthServicer]:
    """Returns the server, not yet listening, and the servicer of grpc.health.v1.

    Keep a reference to the server: when it is garbage collected, it stops listening.

    Args:
        backend: does the work.
        shares_port: whether other processes may listen on the same port.

    Raises:
        ValueError: an RPC does not state which role it requires.
    """
    settings = backend.settings
    services = our_services()
    server = grpc.aio.server(
        interceptors=[Edge(backend, access_by_method(services))],
        options=[
            ("grpc.max_receive_message_length", settings.max_message_bytes),
            ("grpc.max_concurrent_streams", MAX_STREAMS),
            # Above the first, gRPC refuses some calls at random; above the second, all.
            ("grpc.max_metadata_size", MAX_METADATA_BYTES),
            ("grpc.absolute_max_metadata_size", MAX_METADATA_BYTES),
            ("grpc.so_reuseport", int(shares_port)),
            # The gateway pings every 30 s, also while a stream is silent.
            ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
            ("grpc.keepalive_permit_without_calls", 1),
        ],
    )
    # Generated code also registers each method with gRPC's core. grpc.aio then awaits calls in one
    # task per method, and looks through all these tasks at every call. Without it, a call costs
    # the event loop half as many Python calls.
    server.add_registered_method_handlers = _ignore_registered_handlers  # type: ignore[method-assign]
    _add_services(backend, server)
    health_servicer = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(health_servicer, server)
    if settings.server.reflection:
        names = [service.full_name for service in services]
        reflection.enable_server_reflection(
            (*names, health.SERVICE_NAME, reflection.SERVICE_NAME), server
        )
    return server, health_servicer


def _ignore_registered_handlers(
    service_name: str, method_handlers: "Mapping[str, Handler]"
) -> None:
    """Leaves the methods to the generic handlers, which find them by name."""


def _add_services(backend: Backend, server: grpc.aio.Server) -> None:
    settings = backend.settings
    limits = ClassifyLimits(
        max_body_bytes=settings.max_body_bytes,
        max_filter_categories=settings.limits.max_filter_categories,
        max_url_characters=settings.fetch.max_url_characters,
        allow_http=settings.fetch.allow_http,
    )
    classify = ClassifyServicer(
        backend.classifications, backend.webhooks, settings.server, limits, backend.refusing
    )
    classify_pb2_grpc.add_ClassifyServiceServicer_to_server(classify, server)
    batch_pb2_grpc.add_BatchServiceServicer_to_server(batch_servicer(backend), server)
    max_page_bytes = settings.server.max_page_bytes
    images = image_servicer(
        ImageServicer(backend.images, backend.contents.url_of, limits, max_page_bytes),
        ImageContentServicer(backend.contents),
        ImageUploadServicer(backend.uploads),
        ReceiptServicer(backend.receipts, backend.replays),
        DuplicateServicer(backend.duplicates, max_page_bytes),
        DatasetServicer(backend.datasets),
    )
    image_pb2_grpc.add_ImageServiceServicer_to_server(images, server)
    embedding_pb2_grpc.add_EmbeddingServiceServicer_to_server(
        EmbeddingServicer(backend.embeddings, limits), server
    )
    feedback_pb2_grpc.add_FeedbackServiceServicer_to_server(
        FeedbackServicer(
            backend.feedback,
            LookAlikes(backend.feedback, backend.duplicates.near),
            settings.server.max_page_bytes,
        ),
        server,
    )
    review_pb2_grpc.add_ReviewServiceServicer_to_server(
        ReviewServicer(backend.reviews, settings.server.max_page_bytes), server
    )
    category_pb2_grpc.add_CategoryServiceServicer_to_server(
        CategoryServicer(backend.categories, settings.server.max_page_bytes), server
    )
    admin = admin_servicer(
        AuditServicer(backend.audit, settings.server.max_page_bytes),
        WebhookServicer(backend.webhooks, settings.server.max_page_bytes),
        TenantServicer(),
        KeyServicer(backend.keys, settings.server.max_page_bytes),
        UsageServicer(),
        StatisticsServicer(),
        CallerServicer(),
        SignInServicer(backend.sign_ins),
        SubjectServicer(backend.erasures, backend.exports, settings.server.max_page_bytes),
        RetentionServicer(backend.retentions),
        LegalHoldServicer(backend.holds, settings.server.max_page_bytes),
    )
    admin_pb2_grpc.add_AdminServiceServicer_to_server(admin, server)
    metadata_pb2_grpc.add_MetadataServiceServicer_to_server(
        MetadataServicer(backend.models, settings.server.max_page_bytes, backend.drifts), server
    )
    our_health_pb2_grpc.add_HealthServiceServicer_to_server(HealthServicer(backend), server)
    dashboard = Dashboard(
        is_shown=settings.gateway.dashboard, can_sign_in=bool(settings.sign_in.issuer)
    )
    page_pb2_grpc.add_PageServiceServicer_to_server(PageServicer(Pages(), dashboard), server)


def batch_servicer(backend: Backend) -> BatchServicer:
    """Returns the servicer of BatchService with the limits from the settings."""
    settings = backend.settings
    limits = BatchLimits(
        max_items=settings.batch.max_items,
        max_filter_categories=settings.limits.max_filter_categories,
        max_url_characters=settings.fetch.max_url_characters,
        allow_http=settings.fetch.allow_http,
        max_page_bytes=settings.server.max_page_bytes,
    )
    archives = ArchiveLimits(
        max_bytes=settings.batch.max_zip_bytes,
        max_entries=min(settings.batch.max_zip_items, settings.batch.max_items),
        max_unpacked_bytes=settings.batch.max_bytes,
        max_ratio=settings.batch.max_zip_ratio,
        max_image_bytes=settings.max_image_bytes,
    )
    return BatchServicer(
        backend.batches, limits, archives, settings.max_message_bytes, backend.refusing
    )


async def serve(settings: Settings, *, one_of_many: bool = False) -> None:
    """Serves until SIGTERM or SIGINT, then drains. A second signal ends the process at once.

    Args:
        settings: of this process.
        one_of_many: whether other processes answer while this one loads its models. It then shares
            its port, and listens only once its default model answers, or cannot.

    Raises:
        OperatorError: the address is in use, or the model repository cannot be read.
    """
    stop = stop_on_signals()
    warn_of_clear_hops(settings)
    async with open_backend(settings) as backend:
        with serving_metrics(settings.telemetry.metrics_bind, pool_in_use()):
            await _serve(backend, stop, one_of_many=one_of_many)
    log.info("stopped")


async def _serve(backend: Backend, stop: asyncio.Event, *, one_of_many: bool) -> None:
    settings = backend.settings
    server, health_servicer = build_server(backend, shares_port=one_of_many)
    try:
        if not one_of_many:
            await _listen(server, settings)
        # What lives now stays alive: the garbage collector need not look at it again.  Not so the
        # models.
        gc.freeze()
        gc.set_threshold(COLLECT_AFTER)
        backend.tasks.start(report_health(backend, health_servicer), "health reporter")
        backend.tasks.start(measure_lag(), "meter of the event loop")
        if settings.telemetry.metrics_bind:
            interval_s = settings.telemetry.pending_interval_s
            backend.tasks.start(measure_pending(interval_s), "counter of what is pending")
        await run_until(stop, backend.load_models())
        if one_of_many and not stop.is_set():
            await _listen(server, settings)
        backend.tasks.start(backend.registry.watch(), "model watcher")
        await stop.wait()
        await _drain(backend, server)
    finally:
        end_within(END_S)
        await server.stop(0)


async def _listen(server: grpc.aio.Server, settings: Settings) -> None:
    address, internal_tls = settings.server.bind, settings.internal_tls
    credentials = server_credentials(internal_tls) if internal_tls.path else None
    try:
        if credentials is None:
            server.add_insecure_port(address)
        else:
            server.add_secure_port(address, credentials)
    except RuntimeError:
        raise OperatorError(f"Cannot listen on {address}. Does another program use it?") from None
    await server.start()
    log.info(
        "listening",
        address=address,
        tls=credentials is not None,
        pid=os.getpid(),
        decoder=DECODING_LIBRARY,
    )


async def _drain(backend: Backend, server: grpc.aio.Server) -> None:
    """Reports not ready, waits for load balancers, refuses new calls, finishes the others."""
    log.info("stopping", grace_s=backend.settings.server.drain_s)
    backend.draining.set()
    await asyncio.sleep(backend.settings.server.drain_notice_s)
    backend.refusing.set()
    await asyncio.sleep(ACCEPT_PENDING_S)
    await server.stop(backend.settings.server.drain_s)
