"""What a server process says about itself over the API."""

import pytest
from image_categorizer import ModelNotFound, RoleInsufficient
from image_categorizer_server.domain.access import Role

from tests.support.pictures import jpeg

CLASSIFY = "/image_categorizer.v1.ClassifyService/Classify"


async def test_statistics_count_what_happens_between_two_answers(server):
    async with await server.client(Role.OPERATOR) as client:
        await client.classify_image(jpeg(64, 48), no_cache=True)
        before = await client.server_statistics()
        for seed in range(3):
            await client.classify_image(jpeg(64, 48, seed=seed), no_cache=True)
        with pytest.raises(ModelNotFound):
            await client.classify_image(jpeg(64, 48), model="unknown")
        after = await client.server_statistics()
    assert after.process_id == before.process_id
    assert before.start_time < before.read_time < after.read_time
    assert after.in_flight_count >= 1
    grown = {call: count - before.calls.get(call, 0) for call, count in after.calls.items()}
    assert (grown[CLASSIFY, "OK"], grown[CLASSIFY, "NOT_FOUND"]) == (3, 1)
    assert after.errors["MODEL_NOT_FOUND"] - before.errors.get("MODEL_NOT_FOUND", 0) == 1
    served = {(model.model, model.version): model for model in after.models}
    earlier = {(model.model, model.version): model for model in before.models}
    (changed,) = [key for key in served if served[key].images != earlier[key].images]
    model, then = served[changed], earlier[changed]
    assert model.images["OK"] - then.images["OK"] == 3
    assert model.queue_depth == 0
    for name in ("queue_s", "decode_s"):
        assert getattr(model, name).count - getattr(then, name).count == 3
    calls = model.inference_s.count - then.inference_s.count
    assert calls == sum(model.executions.values()) - sum(then.executions.values())
    assert model.micro_batch_images.sum - then.micro_batch_images.sum == 3
    assert model.inference_s.mean > 0
    assert len(model.queue_s.counts) == len(model.queue_s.upper_bounds) + 1


async def test_statistics_need_an_operator(server):
    async with await server.client(Role.CLASSIFIER) as client:
        with pytest.raises(RoleInsufficient):
            await client.server_statistics()
