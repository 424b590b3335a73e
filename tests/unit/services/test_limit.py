"""Whose limits apply: those of the settings, or of the tenant."""

import pytest
from image_categorizer_server.domain.limit import Limits
from image_categorizer_server.errors import DependencyDown
from image_categorizer_server.services.limit import Limiter
from image_categorizer_server.settings.database import RedisSettings
from image_categorizer_server.settings.limit import QuotaSettings
from image_categorizer_server.stores.limiter import RedisLimiter
from image_categorizer_server.stores.redis import open_redis
from image_categorizer_server.tasks import TaskOwner


@pytest.fixture
async def limiter():
    """Returns a function that makes a limiter, of which nobody asks Redis."""
    async with open_redis("redis://localhost:1", RedisSettings()) as redis, TaskOwner() as tasks:

        def make(overrides, **quota):
            store = RedisLimiter(redis, 0.1, tasks)
            return Limiter(store, QuotaSettings(**quota), overrides)

        yield make


async def test_a_tenant_may_have_limits_of_its_own(limiter):
    asked = []

    async def overrides(tenant_id):
        asked.append(tenant_id)
        return {"requests_per_s": 0.5}

    ours = limiter(overrides, requests_per_s=1000, images_per_day=7)
    for _ in range(2):
        limits = await ours.limits_of("acme")
        assert (limits.requests_per_s, limits.images_per_day) == (0.5, 7)
    assert asked == ["acme"]


async def test_limits_that_cannot_be_read_are_those_of_the_settings(limiter):
    async def unreachable(tenant_id):
        raise DependencyDown("the database does not answer")

    async def nonsense(tenant_id):
        return {"requests_per_s": "many"}

    for overrides in (unreachable, nonsense, None):
        ours = limiter(overrides, requests_per_s=7)
        assert (await ours.limits_of("acme")).requests_per_s == 7


@pytest.mark.parametrize(
    "values",
    [
        {"requests": 1},
        {"requests_per_s": "1"},
        {"images_per_day": 1.5},
        {"images_per_day": -1},
        {"stored_bytes": True},
        {"requests_per_s": float("nan")},
    ],
)
def test_wrong_overrides_are_refused(values):
    with pytest.raises(ValueError, match=next(iter(values))):
        Limits().overridden(values)
