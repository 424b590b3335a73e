"""HealthService, and the state of grpc.health.v1.

Live means that this process answers and none of its model calls hangs; ready means that a
classification would succeed.  A lost database makes a server not ready, never dead: restarting it
would not help.
The service `model/<name>` of grpc.health.v1 is ready where a request that names the model would be
answered.
"""

import asyncio

import grpc
from grpc_health.v1 import health, health_pb2
from image_categorizer.v1 import health_pb2 as our_health_pb2
from image_categorizer.v1 import health_pb2_grpc

from image_categorizer_server.backend import Backend
from image_categorizer_server.errors import CategorizerError, ModelLoading
from image_categorizer_server.telemetry import get_log

log = get_log(__name__)
READY, LIVE, MODEL = "", "live", "model/"
CHECK_INTERVAL_S = 1.0
Serving = health_pb2.HealthCheckResponse


class HealthServicer(health_pb2_grpc.HealthServiceServicer):
    """Answers probes that speak HTTP."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    async def GetLiveness(
        self,
        request: our_health_pb2.GetLivenessRequest,
        context: grpc.aio.ServicerContext[
            our_health_pb2.GetLivenessRequest, our_health_pb2.GetLivenessResponse
        ],
    ) -> our_health_pb2.GetLivenessResponse:
        """Serves `GetLiveness` of health.proto."""
        self._backend.check_live()
        return our_health_pb2.GetLivenessResponse(live=True)

    async def GetReadiness(
        self,
        request: our_health_pb2.GetReadinessRequest,
        context: grpc.aio.ServicerContext[
            our_health_pb2.GetReadinessRequest, our_health_pb2.GetReadinessResponse
        ],
    ) -> our_health_pb2.GetReadinessResponse:
        """Serves `GetReadiness` of health.proto."""
        return our_health_pb2.GetReadinessResponse(
            ready=True, degraded=await self._backend.check_ready()
        )


async def report_health(backend: Backend, servicer: health.aio.HealthServicer) -> None:
    """Keeps grpc.health.v1 equal to the backend's state, until cancelled."""
    before: str | None = None
    models: set[str] = set()
    while True:
        await servicer.set(LIVE, Serving.SERVING if _is_live(backend) else Serving.NOT_SERVING)
        takes_requests = True
        try:
            degraded = await backend.check_ready()
            now = f"ready, without {', '.join(degraded)}" if degraded else "ready"
        except CategorizerError as error:
            now = f"not ready: {error.message}"
            takes_requests = isinstance(error, ModelLoading)
        if now != before:
            log.info(now)
            before = now
        await servicer.set(
            READY, Serving.SERVING if now.startswith("ready") else Serving.NOT_SERVING
        )
        models = await _report_models(backend, servicer, models, takes_requests)
        await asyncio.sleep(CHECK_INTERVAL_S)


def _is_live(backend: Backend) -> bool:
    try:
        backend.check_live()
    except CategorizerError:
        return False
    return True


async def _report_models(
    backend: Backend, servicer: health.aio.HealthServicer, known: set[str], takes_requests: bool
) -> set[str]:
    """Tells of each model; returns their names, which the next call is to be given."""
    names = backend.registry.names()
    for name in names:
        serves = takes_requests and backend.registry.answers(name)
        await servicer.set(f"{MODEL}{name}", Serving.SERVING if serves else Serving.NOT_SERVING)
    for name in known - names:
        await servicer.set(f"{MODEL}{name}", Serving.SERVICE_UNKNOWN)
    return names
