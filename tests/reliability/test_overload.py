"""Overload: goodput stays the same, and the rest is refused at once.

    C    capacity: images a second, in a closed loop of more clients than a micro-batch holds
    L0   p99 at 0.7 C

Meanwhile lane BATCH uses the spare capacity.  See Beyer et al., "Site Reliability Engineering"
(2016), chapter 21, on graceful degradation.
"""

import asyncio
import os
import time

import httpx
import pytest
from image_categorizer_server.tasks import TaskOwner

from tests.support.memory import watching_memory
from tests.support.polling import elapsed
from tests.support.traffic import (
    OK,
    Answer,
    Caller,
    calling,
    closed_loop,
    good,
    open_loop,
    percentile_ms,
)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
# 16 images in 164 ms, without using a core: the load generator and the server need the cores.
FAKE = "20,9"
SECONDS = float(os.environ.get("RELIABILITY_SECONDS", "15"))
# For machines that other programs use as well.
TIME_FACTOR = float(os.environ.get("RELIABILITY_TIME_FACTOR", "1"))
DEADLINE_S = 2.0
WARM_UP_S = 2.0
RECOVERY_S = 10.0
# Measured by the client, which shares the cores; and the p99 of 140 answers is the slowest one.
SLACK_MS = 50


async def probe(url: str, answers: list[tuple[int, float]]) -> None:
    """Probes readiness through Envoy 10 times a second, until cancelled."""
    async with httpx.AsyncClient(base_url=url, timeout=5) as client:
        while True:
            asked_s = time.monotonic()
            status = (await client.get("/readyz")).status_code
            answers.append((status, (time.monotonic() - asked_s) * 1000))
            await elapsed(0.1)


async def at_level(
    caller: Caller, rate: float, calm_rate: float
) -> tuple[list[Answer], list[float], list[Answer], float]:
    """Overloads the server for `SECONDS`, then sends few requests.

    Returns the answers, the times of answers in lane BATCH, the answers afterwards, and the time of
    the start.
    """
    begun_s = time.monotonic()
    async with asyncio.TaskGroup() as group:
        bulk = group.create_task(caller.stream(SECONDS))
        loaded = group.create_task(open_loop(lambda: caller.ask(DEADLINE_S), rate, SECONDS))
        await elapsed(SECONDS)
        calm = await open_loop(lambda: caller.ask(DEADLINE_S), calm_rate, RECOVERY_S + 2)
    return loaded.result(), bulk.result(), calm, begun_s


def goodput(answers: list[Answer], bulk_s: list[float], begun_s: float) -> tuple[float, float]:
    """Returns successful answers per second with a full queue: of both lanes, of INTERACTIVE."""
    from_s, to_s = begun_s + WARM_UP_S, begun_s + SECONDS
    live = sum(from_s <= answer.answered_s < to_s for answer in good(answers))
    batch = sum(from_s <= at_s < to_s for at_s in bulk_s)
    return (live + batch) / (to_s - from_s), live / (to_s - from_s)


async def test_overload_does_not_reduce_goodput_and_the_rest_is_refused_at_once(installation):
    running = installation(CATEGORIZER_TEST__FAKE_MODEL=FAKE)
    async with calling(running) as caller:
        await closed_loop(caller.ask, 48, 2)
        begun_s = time.monotonic()
        measured = await closed_loop(caller.ask, 48, 6)
        capacity = sum(a.answered_s < begun_s + 6 for a in good(measured)) / 6
        calm = await open_loop(lambda: caller.ask(DEADLINE_S), 0.7 * capacity, 10)
        calm_ms = percentile_ms(good(calm))
        print(
            f"\nC {capacity:.0f}/s, L0 {calm_ms:.0f} ms, "
            f"at 0.7 C {len(good(calm))} of {len(calm)} good"
        )
        wrong: list[str] = []
        for factor in (2, 5, 10):
            wrong += await check_level(running, caller, factor, capacity, calm_ms)
    assert wrong == []


async def check_level(running, caller, factor, capacity, calm_ms) -> list[str]:
    """Overloads the server and returns the names of the checks that fail."""
    health: list[tuple[int, float]] = []
    with watching_memory(server=running.process_of("server")) as watch:
        async with TaskOwner() as tasks:
            tasks.start(probe(running.url, health), "probe")
            answers, bulk_s, calm, begun_s = await at_level(
                caller, factor * 0.8 * capacity, 0.7 * capacity
            )
            tasks.check()
    whole, live = goodput(answers, bulk_s, begun_s)
    accepted_ms = percentile_ms(good(answers))
    refused, late = of(answers, "UNAVAILABLE"), of(answers, "DEADLINE_EXCEEDED")
    others = {a.code for a in answers} - {OK, "UNAVAILABLE", "DEADLINE_EXCEEDED"}
    health_ms = sorted(ms for _, ms in health)[int(len(health) * 0.99)]
    again_s = recovered_after_s(calm, begun_s + SECONDS, 1.2 * calm_ms + SLACK_MS)
    figures = {
        "goodput of C": whole / capacity,
        "of it interactive": live / capacity,
        "accepted p99 ms": accepted_ms,
        "late after admission": len(late) / max(1, len(late) + len(good(answers))),
        "refused p99 ms": percentile_ms(refused),
        "health p99 ms": health_ms,
        "memory +MB": watch.grown_mb("server"),
        "recovered s": again_s,
    }
    show(factor, len(answers) / SECONDS / capacity, figures)
    checks = {
        "goodput": whole >= 0.9 * capacity,
        "interactive goodput": live >= 0.85 * capacity,
        "accepted p99": accepted_ms <= max(2 * calm_ms, DEADLINE_S * 1000) + SLACK_MS,
        "refusals are fast": percentile_ms(refused) <= 100 * TIME_FACTOR,
        "refusals carry a retry delay": all(a.retry_s > 0 for a in refused),
        "no other errors": not others,
        "readiness": health_ms <= 500 * TIME_FACTOR and {status for status, _ in health} == {200},
        "memory": watch.grown_mb("server") <= 256,
        "recovery": again_s <= RECOVERY_S,
    }
    return [f"{factor} C: {name}" for name, is_so in checks.items() if not is_so]


def show(factor: float, asked: float, figures: dict[str, float]) -> None:
    print(f"{factor:2} C ({asked:.1f} C live)", {k: round(v, 2) for k, v in figures.items()})


def of(answers: list[Answer], code: str) -> list[Answer]:
    return [answer for answer in answers if answer.code == code]


def recovered_after_s(calm: list[Answer], over_s: float, limit_ms: float) -> float:
    """Returns after how many seconds all succeed, with p99 within the limit, for 2 s."""
    for window in range(int(RECOVERY_S) + 1):
        inside = [a for a in calm if 0 <= a.asked_s - over_s - window < 2]
        if inside and len(good(inside)) == len(inside) and percentile_ms(inside) <= limit_ms:
            return float(window)
    return float("inf")
