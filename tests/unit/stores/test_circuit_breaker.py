"""The circuit breaker: it opens after repeated failures and closes by itself."""

import pytest
from image_categorizer_server.errors import DependencyDown
from image_categorizer_server.stores.circuit_breaker import FAILURES_TO_OPEN, CircuitBreaker
from image_categorizer_server.tasks import TaskOwner

from tests.support.polling import eventually


class Dependency:
    """Answers a probe, or fails to, or has a bug."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.probes = 0

    async def probe(self) -> None:
        self.probes += 1
        if self.error:
            raise self.error


async def test_failures_in_a_row_open_it_and_a_success_between_them_does_not():
    async with TaskOwner() as tasks:
        breaker = CircuitBreaker("Redis", Dependency().probe, tasks)
        for _ in range(FAILURES_TO_OPEN - 1):
            breaker.record_failure(OSError())
        breaker.record_success()
        for _ in range(FAILURES_TO_OPEN - 1):
            breaker.record_failure(OSError())
        breaker.check()
        breaker.record_failure(OSError())
        with pytest.raises(DependencyDown, match="Redis is not answering"):
            breaker.check()


async def test_it_closes_when_a_probe_succeeds():
    async with TaskOwner() as tasks:
        dependency = Dependency()
        breaker = CircuitBreaker("Redis", dependency.probe, tasks)
        for _ in range(FAILURES_TO_OPEN):
            breaker.record_failure(OSError())
        assert breaker.is_open
        await eventually(lambda: not breaker.is_open)
        assert dependency.probes == 1
        breaker.record_failure(OSError())
        breaker.check()


async def test_it_stays_open_while_the_dependency_does_not_answer():
    async with TaskOwner() as tasks:
        dependency = Dependency(DependencyDown("Redis does not answer"))
        breaker = CircuitBreaker("Redis", dependency.probe, tasks)
        for _ in range(FAILURES_TO_OPEN):
            breaker.record_failure(OSError())
        await eventually(lambda: dependency.probes == 2)
        assert breaker.is_open


async def test_a_probe_that_dies_of_a_bug_does_not_keep_it_open():
    async with TaskOwner() as tasks:
        breaker = CircuitBreaker("Redis", Dependency(ZeroDivisionError()).probe, tasks)
        for _ in range(FAILURES_TO_OPEN):
            breaker.record_failure(OSError())
        await eventually(lambda: not breaker.is_open)
        breaker.check()
