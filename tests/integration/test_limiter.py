"""Limits in a real Redis and in memory: both count by the same rules."""

import asyncio
import time

import pytest
from image_categorizer_server import clock
from image_categorizer_server.domain.limit import Charge, DailyQuota, Rate
from image_categorizer_server.errors import DependencyDown
from image_categorizer_server.settings.database import RedisSettings
from image_categorizer_server.stores.limiter import LocalLimiter, RedisLimiter
from image_categorizer_server.stores.redis import open_redis
from image_categorizer_server.tasks import TaskOwner

from tests.support.polling import elapsed

SLOW = Rate("tenant", "tenant:t", per_s=0.1, burst=20)
QUICK = Rate("key", "key:k", per_s=20.0, burst=5)
DAILY = DailyQuota("images", "images:t", quota=100)


@pytest.fixture
async def redis(stores):
    async with open_redis(stores.redis.url, RedisSettings()) as client:
        await client.commands.flushall()
        yield client


@pytest.fixture
async def in_redis(redis):
    async with TaskOwner() as tasks:
        yield RedisLimiter(redis, 2.0, tasks)


@pytest.fixture(params=["redis", "memory"])
async def take(request, in_redis):
    local = LocalLimiter(servers=1)

    async def taken(*charges):
        if request.param == "memory":
            return local.take(charges)
        return await in_redis.take(charges)

    return taken


async def allowed(take, count, *charges) -> int:
    decisions = [await take(*charges) for _ in range(count)]
    return sum(decision.refused_by is None for decision in decisions)


async def test_a_burst_passes_and_no_more(take):
    assert await allowed(take, 30, Charge(SLOW)) == 20


async def test_a_rate_refills_steadily(take):
    start_s = time.monotonic()
    count = await allowed(take, 5, Charge(QUICK))
    while time.monotonic() < start_s + 1.5:
        count += await allowed(take, 1, Charge(QUICK))
        await elapsed(0.005)
    lasted_s = time.monotonic() - start_s
    assert 0.9 * QUICK.per_s * lasted_s <= count <= QUICK.burst + QUICK.per_s * lasted_s


async def test_what_is_left_and_when_all_of_it_is_back(take):
    decision = await take(Charge(SLOW, 5), Charge(DAILY, 30))
    slow, daily = decision.standings
    assert (slow.limit, slow.remaining, daily.remaining) == (SLOW, 15, 70)
    assert slow.reset_s == pytest.approx(50, abs=1)
    to_midnight_s = 86_400 - time.time() % 86_400
    assert daily.reset_s == pytest.approx(to_midnight_s, abs=2)


async def test_a_call_takes_from_all_limits_or_from_none(take):
    assert (await take(Charge(SLOW, 18))).refused_by is None
    refused = await take(Charge(DAILY, 10), Charge(SLOW, 3))
    assert refused.refused_by == SLOW
    assert refused.retry_after_s == pytest.approx(10, abs=1)
    assert [standing.remaining for standing in refused.standings] == [100, 2]


async def test_of_several_limits_the_one_that_takes_longest_refuses(take):
    await take(Charge(SLOW, 20), Charge(DAILY, 100))
    decision = await take(Charge(SLOW), Charge(DAILY))
    assert decision.refused_by == DAILY
    assert decision.retry_after_s > 10 or time.time() % 86_400 > 86_380


async def test_a_daily_quota_is_exact_and_can_be_given_back(take):
    assert (await take(Charge(DAILY, 60))).refused_by is None
    assert (await take(Charge(DAILY, 41))).refused_by == DAILY
    assert (await take(Charge(DAILY, -20))).standings[0].remaining == 60
    assert (await take(Charge(DAILY, 60))).refused_by is None
    assert (await take(Charge(DAILY))).refused_by == DAILY


async def test_a_call_that_costs_more_than_the_burst_passes_when_nothing_was_taken(take):
    assert (await take(Charge(QUICK, 8))).refused_by is None
    assert (await take(Charge(QUICK))).refused_by == QUICK


async def test_whoever_waits_as_long_as_asked_succeeds(take):
    """Each refused call is told another time: together they would exceed the rate again."""
    await take(Charge(QUICK, 5))

    async def obedient() -> bool:
        refused = await take(Charge(QUICK))
        await elapsed(refused.retry_after_s)
        return (await take(Charge(QUICK))).refused_by is None

    succeeded = await asyncio.gather(*(obedient() for _ in range(40)))
    assert sum(succeeded) == 40


async def test_calls_at_once_share_a_round_trip_and_none_is_counted_twice(in_redis, redis):
    before = (await redis.commands.info("commandstats")).get("cmdstat_evalsha", {"calls": 0})
    decisions = await asyncio.gather(*(in_redis.take([Charge(SLOW)]) for _ in range(200)))
    after = (await redis.commands.info("commandstats"))["cmdstat_evalsha"]
    assert sum(decision.refused_by is None for decision in decisions) == 20
    assert after["calls"] - before["calls"] <= 6


async def test_several_servers_share_a_limit(redis):
    async with TaskOwner() as tasks:
        servers = [RedisLimiter(redis, 2.0, tasks) for _ in range(3)]
        takes = [server.take([Charge(SLOW)]) for server in servers for _ in range(20)]
        decisions = await asyncio.gather(*takes)
    assert sum(decision.refused_by is None for decision in decisions) == 20


async def test_the_clock_of_a_server_does_not_matter(in_redis):
    await in_redis.take([Charge(SLOW, 20), Charge(DAILY, 1)])
    try:
        clock.shift(86_400)
        decision = await in_redis.take([Charge(SLOW), Charge(DAILY)])
    finally:
        clock.shift(0)
    assert decision.refused_by == SLOW
    assert decision.standings[1].remaining == 99


async def test_redis_may_forget_the_script(in_redis, redis):
    await in_redis.take([Charge(SLOW)])
    await redis.commands.script_flush()
    assert (await in_redis.take([Charge(SLOW)])).standings[0].remaining == 18


async def test_what_is_given_back_needs_no_answer(in_redis):
    await in_redis.take([Charge(DAILY, 100)])
    in_redis.give_back([Charge(DAILY, 40)])
    assert (await in_redis.take([Charge(DAILY, 40)])).refused_by is None


async def test_keys_expire_once_they_say_nothing(in_redis, redis):
    await in_redis.take([Charge(QUICK)])
    await elapsed(0.1)
    assert await redis.commands.keys("*") == []


async def test_all_that_wait_learn_that_redis_is_gone():
    async with open_redis("redis://localhost:1", RedisSettings()) as gone, TaskOwner() as tasks:
        limiter = RedisLimiter(gone, 0.5, tasks)
        limiter.give_back([Charge(DAILY)])
        takes = [limiter.take([Charge(SLOW)]) for _ in range(100)]
        outcomes = await asyncio.gather(*takes, return_exceptions=True)
        assert {type(outcome) for outcome in outcomes} == {DependencyDown}


def test_a_process_allows_its_share():
    local = LocalLimiter(servers=4)
    rates = [local.take([Charge(SLOW)]).refused_by is None for _ in range(20)]
    assert sum(rates) == 5
    assert local.take([Charge(DAILY, 25)]).refused_by is None
    assert local.take([Charge(DAILY)]).refused_by is not None


def test_a_share_of_a_daily_quota_is_whole_again_after_midnight():
    local = LocalLimiter(servers=1)
    local.take([Charge(DAILY, 100)])
    assert local.take([Charge(DAILY)]).refused_by == DAILY
    try:
        clock.shift(86_400)
        assert local.take([Charge(DAILY)]).refused_by is None
    finally:
        clock.shift(0)
