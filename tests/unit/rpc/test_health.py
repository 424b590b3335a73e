"""What grpc.health.v1 reports while the backend changes, and when the reporter dies."""

import pytest
from grpc_health.v1 import health, health_pb2
from image_categorizer_server.errors import DependencyDown, ModelFailing
from image_categorizer_server.rpc.health import LIVE, READY, report_health
from image_categorizer_server.tasks import TaskOwner

from tests.support.polling import eventually

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


class Registry:
    def names(self):
        return {"small"}

    def answers(self, name):
        return True


class Backend:
    """A backend that is as ready, and as live, as the test wants."""

    def __init__(self, live=None, registry=None):
        self._ready = []
        self._live = live
        self.registry = registry or Registry()

    def become(self, ready):
        """Sets what `check_ready` returns or raises."""
        self._ready = ready

    def check_live(self):
        if self._live:
            raise self._live

    async def check_ready(self):
        if isinstance(self._ready, Exception):
            raise self._ready
        return self._ready


class Broken:
    def names(self):
        raise RuntimeError("broken")


@pytest.fixture
def servicer():
    return health.aio.HealthServicer()


class Context:
    async def abort(self, code, details=""):
        raise LookupError(details)


async def statuses(servicer, *services):
    """Returns what is reported of each service; None before the first report."""
    found = []
    for service in services:
        try:
            request = health_pb2.HealthCheckRequest(service=service)
            found.append((await servicer.Check(request, Context())).status)
        except LookupError:
            found.append(None)
    return found


async def test_a_lost_database_is_not_serving_until_it_is_back(servicer):
    backend = Backend()

    async def reported(*expected):
        async def matches():
            return await statuses(servicer, LIVE, READY, "model/small") == list(expected)

        await eventually(matches)

    async with TaskOwner() as tasks:
        tasks.start(report_health(backend, servicer, interval_s=0.01), "health reporter")
        await reported(SERVING, SERVING, SERVING)
        backend.become(DependencyDown("the database does not answer"))
        await reported(SERVING, NOT_SERVING, NOT_SERVING)
        backend.become(["redis"])
        await reported(SERVING, SERVING, SERVING)
        tasks.check()


async def test_a_hanging_model_call_is_not_live(servicer):
    backend = Backend(live=ModelFailing("a model call does not end"))

    async def is_not_live():
        return await statuses(servicer, LIVE) == [NOT_SERVING]

    async with TaskOwner() as tasks:
        tasks.start(report_health(backend, servicer, interval_s=0.01), "health reporter")
        await eventually(is_not_live)


async def test_when_the_reporter_dies_nothing_is_serving_and_the_owner_says_so(servicer):
    async with TaskOwner() as tasks:
        tasks.start(report_health(Backend(registry=Broken()), servicer), "health reporter")
        await eventually(lambda: not len(tasks))
        assert await statuses(servicer, READY, LIVE) == [NOT_SERVING, NOT_SERVING]
        with pytest.raises(DependencyDown, match="the health reporter stopped working"):
            tasks.check()
