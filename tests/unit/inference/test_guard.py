"""Failures are isolated, and the model's own failures are recognized."""

import asyncio

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from image_categorizer_server.errors import ModelFailing, UnclassifiableImage
from image_categorizer_server.inference.engine.guard import Guard, Row
from image_categorizer_server.inference.runtimes import Answer

from tests.support.batching import NOT_A_NUMBER, POISON, Device, batcher_of, image, values


def inputs(numbers):
    return [np.full((2, 2, 3), number, np.uint8) for number in numbers]


def shown(results):
    return [
        float(result.confidences[0]) if isinstance(result, Row) else result.reason
        for result in results
    ]


@settings(deadline=None, max_examples=200)
@given(st.lists(st.integers(0, 20), min_size=1, max_size=32))
def test_each_image_gets_its_own_answer_in_any_micro_batch(numbers):
    guard = Guard(Device().predict, 32)
    expected = [
        "IMAGE_UNCLASSIFIABLE" if number in (POISON, NOT_A_NUMBER) else number for number in numbers
    ]
    assert shown(guard.run(inputs(numbers), False)) == expected
    assert not guard.is_broken


@pytest.mark.parametrize("with_features", [False, True])
def test_each_image_gets_its_own_features_and_raw_confidences(with_features):
    def predict(inputs, with_features):
        numbers = np.array([[each[0, 0, 0]] for each in inputs], np.float32)
        features = numbers[:, :, None, None] + 10 if with_features else None
        return Answer(numbers, features, numbers + 100)

    rows = Guard(predict, 4).run(inputs([1, 2, 3]), with_features)
    assert [float(row.raw_confidences[0]) for row in rows] == [101, 102, 103]
    if with_features:
        assert [float(row.features[0, 0, 0]) for row in rows] == [11, 12, 13]
    else:
        assert [row.features for row in rows] == [None] * 3


@pytest.mark.parametrize("is_single", [False, True])
def test_a_single_image_is_answered_by_the_faster_call(is_single):
    usual, faster = Device(), Device()
    guard = Guard(usual.predict, 4, faster.predict)
    assert shown(guard.run(inputs([7]), False, is_single=is_single)) == [7]
    assert (usual.batches, faster.batches) == (([], [[7]]) if is_single else ([[7]], []))


def test_a_single_image_is_answered_although_the_faster_call_fails():
    guard = Guard(Device().predict, 4, Device(error=RuntimeError("no")).predict)
    assert shown(guard.run(inputs([7]), False, is_single=True)) == [7]


def test_one_poisoned_image_of_32_costs_few_calls():
    device = Device()
    results = Guard(device.predict, 32).run(inputs([1] * 20 + [POISON] + [1] * 11), False)
    assert shown(results) == [1] * 20 + ["IMAGE_UNCLASSIFIABLE"] + [1] * 11
    assert len(device.batches) <= 2 + 2 * 5


def test_one_image_that_always_fails_is_not_the_models_fault():
    guard = Guard(Device().predict, 4)
    for _ in range(5):
        assert shown(guard.run(inputs([POISON]), False)) == ["IMAGE_UNCLASSIFIABLE"]
    assert not guard.is_broken


def test_running_out_of_memory_halves_later_micro_batches_too():
    device = Device(memory_images=3)
    guard = Guard(device.predict, 8)
    assert shown(guard.run(inputs(range(8)), False)) == list(range(8))
    assert device.sizes == [8, 4, 2, 2, 4, 2, 2]
    assert guard.max_size == 2


def test_a_model_that_fails_three_times_in_a_row_is_broken():
    device = Device(error=RuntimeError("no"))
    guard = Guard(device.predict, 4)
    assert shown(guard.run(inputs([1, 2]), False)) == ["MODEL_FAILING"] * 2
    device.repair()
    assert shown(guard.run(inputs([1]), False)) == [1]
    device.fail_with(RuntimeError("no"))
    for _ in range(3):
        assert not guard.is_broken
        guard.run(inputs([1]), False)
    assert guard.is_broken
    assert len(device.batches) == 2 + 1 + 3 * 2  # no halving if the model is at fault


def test_a_gpu_error_without_recovery_makes_the_model_broken_at_once():
    device = Device(error=RuntimeError("CUDA error: device-side assert triggered"))
    guard = Guard(device.predict, 4)
    assert shown(guard.run(inputs([1, 2]), False)) == ["MODEL_FAILING"] * 2
    assert guard.is_broken
    assert len(device.batches) == 1


def test_an_answer_of_the_wrong_length_is_the_models_fault():
    guard = Guard(lambda inputs, _: Answer(np.zeros((len(inputs) - 1, 1), np.float32)), 4)
    assert shown(guard.run(inputs([1, 2]), False)) == ["MODEL_FAILING"] * 2


async def test_a_broken_model_fails_waiting_and_new_requests():
    device = Device(error=RuntimeError("CUDA error: an illegal memory access was encountered"))
    batcher = batcher_of(device)
    tasks = [asyncio.create_task(batcher.submit(image(value))) for value in range(5)]
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} == {ModelFailing}
    assert batcher.is_broken
    await batcher.stop()


async def test_one_poisoned_image_does_not_fail_its_micro_batch():
    device = Device()
    batcher = batcher_of(device, max_size=8, max_queued=40)
    numbers = [*range(1, 9), POISON, *range(20, 30)]
    tasks = [asyncio.create_task(batcher.submit(image(number))) for number in numbers]
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    with pytest.raises(UnclassifiableImage):
        raise outcomes.pop(8)
    assert values(outcomes) == [*range(1, 9), *range(20, 30)]
    await batcher.stop()
