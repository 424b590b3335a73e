"""Decoding in a child process that may die."""

import asyncio
import hashlib

import psutil
import pytest
from image_categorizer_server.inference.images.decode import ImageLimits
from image_categorizer_server.inference.images.trial import Trial

from tests.support.pictures import jpeg

LIMITS = ImageLimits(2**20, 10**6, 10**4, 100, 100)
HEALTHY, KILLER = jpeg(64, 48, 1), jpeg(64, 48, 2)
NAME = hashlib.sha256(KILLER).hexdigest()


@pytest.fixture
async def trial():
    trial = Trial(LIMITS, f"image.decoding@{NAME}:1")
    yield trial
    await trial.close()


def children() -> list[psutil.Process]:
    return psutil.Process().children()


async def test_only_the_image_that_kills_its_process_is_found(trial):
    contents = [HEALTHY, KILLER, b"no image", b"", HEALTHY]
    assert [await trial.kills(content) for content in contents] == [False, True] + [False] * 3


async def test_images_that_survive_share_one_process_and_none_is_left(trial):
    before = len(children())
    for _ in range(3):
        assert not await trial.kills(HEALTHY)
    assert len(children()) == before + 1
    await trial.close()
    assert len(children()) == before


async def test_a_single_death_is_not_blamed_on_the_image():
    # Each process of this trial dies at its fifth decoding; an image is decoded twice.
    trial = Trial(LIMITS, "image.decoding:5")
    assert [await trial.kills(HEALTHY) for _ in range(3)] == [False] * 3
    await trial.close()


async def test_a_process_that_ends_at_its_start_is_not_blamed_on_the_image():
    trial = Trial(LIMITS, "trial.started:1")
    assert not await trial.kills(HEALTHY)
    await trial.close()


async def test_a_caller_that_gives_up_leaves_no_process(trial):
    before = len(children())
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):  # a process takes longer to start
            await trial.kills(HEALTHY)
    assert len(children()) == before
    assert not await trial.kills(HEALTHY)
