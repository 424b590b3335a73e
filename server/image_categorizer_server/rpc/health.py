"""HealthService and grpc.health.v1.

Live means that this process answers and that none of its model calls hangs.  Ready means that a
classification would succeed.  Without its database a server is not ready but live: a restart would
not help.  The service `model/<name>` of grpc.health.v1 is SERVING if a request that names the model
would be answered.
"""

import asyncio

import grpc
from grpc_health.v1 import health, health_pb2
from image_categorizer.v1 import health_pb2 as our_health_pb2
from image_categorizer.v1 import health_pb2_grpc

from image_categorizer_server.backend import Backend
from image_categorizer_server.errors import CategorizerError, ModelFailing, ModelLoading
from image_categorizer_server.telemetry import get_log

log = get_log(__name__)
READY, LIVE, MODEL = "", "live", "model/"
CHECK_INTERVAL_S = 1.0
Serving = health_pb2.HealthCheckResponse


class HealthServicer(health_pb2_grpc.HealthServiceServicer):
    """Serves HealthService."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    async def GetLiveness(
        self,
        request: our_health_pb2.GetLivenessRequest,
        context: grpc.aio.ServicerContext[
            our_health_pb2.GetLivenessRequest, our_health_pb2.GetLivenessResponse
        ],
    ) -> our_health_pb2.GetLivenessResponse:
        self._backend.check_live()
        return our_health_pb2.GetLivenessResponse(live=True)

    async def GetReadiness(
        self,
        request: our_health_pb2.GetReadinessRequest,
        context: grpc.aio.ServicerContext[
            our_health_pb2.GetReadinessRequest, our_health_pb2.GetReadinessResponse
        ],
    ) -> our_health_pb2.GetReadinessResponse:
        return our_health_pb2.GetReadinessResponse(
            ready=True, degraded=await self._backend.check_ready()
        )


async def report_health(
    backend: Backend, servicer: health.aio.HealthServicer, interval_s: float = CHECK_INTERVAL_S
) -> None:
    """Keeps grpc.health.v1 equal to the backend's state, until cancelled.

    If it fails, every service becomes NOT_SERVING and stays so: nobody looks any more.

    Args:
        backend: is asked.
        servicer: receives the answers.
        interval_s: the pause between two checks.
    """
    try:
        before: str | None = None
        models: set[str] = set()
        while True:
            await _set(servicer, LIVE, _is_live(backend))
            takes_requests, cause = True, None
            try:
                degraded = await backend.check_ready()
                now = f"ready, without {', '.join(degraded)}" if degraded else "ready"
            except CategorizerError as error:
                now = f"not ready: {error.message}"
                takes_requests = isinstance(error, ModelLoading | ModelFailing)
                cause = error.__cause__
            if now != before:
                log.info(now, cause=repr(cause) if cause else None)
                before = now
            await _set(servicer, READY, now.startswith("ready"))
            models = await _report_models(backend, servicer, models, takes_requests)
            await asyncio.sleep(interval_s)
    except Exception:
        await servicer.enter_graceful_shutdown()
        raise


def _is_live(backend: Backend) -> bool:
    try:
        backend.check_live()
    except CategorizerError:
        return False
    return True


async def _report_models(
    backend: Backend, servicer: health.aio.HealthServicer, known: set[str], takes_requests: bool
) -> set[str]:
    """Reports each model; returns their names, the argument `known` of the next call."""
    names = backend.registry.names()
    for name in names:
        await _set(servicer, f"{MODEL}{name}", takes_requests and backend.registry.answers(name))
    for name in known - names:
        await servicer.set(f"{MODEL}{name}", Serving.SERVICE_UNKNOWN)
    return names


async def _set(servicer: health.aio.HealthServicer, service: str, is_serving: bool) -> None:
    await servicer.set(service, Serving.SERVING if is_serving else Serving.NOT_SERVING)
